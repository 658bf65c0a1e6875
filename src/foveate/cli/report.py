"""foveate report: write report.html again from the files of a study or a run."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.escaping import printable

__all__ = ["report"]


def report(folder: Annotated[Path, typer.Argument(help="The folder of a comparison or of a run.")]) -> None:
    """Write report.html again from what lies in a folder, and print its path.

    Example: foveate report demo
    """
    from foveate.report import write_report

    print(printable(str(write_report(folder))))
