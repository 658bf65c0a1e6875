"""foveate report: write report.html again from the files of a study or a run."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(folder: Annotated[Path, typer.Argument(help="The folder of a comparison or of a run.")]) -> None:
    """Write report.html again from what lies in a folder, and print its path.

    Example: foveate report demo
    """
    from foveate.report import write_report

    print(write_report(folder))
