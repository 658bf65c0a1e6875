"""foveate attend: what a run attends to in new pictures."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Out

__all__ = ["attend"]


def attend(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Out,
) -> None:
    """Draw what a run's mechanism and its whole network attend to, a picture for each map.

    Example: foveate attend runs/cbam holiday.jpg --out maps
    """
    from foveate.tasks.run import attend as draw

    for path in draw(run, inputs, out):
        print(path)
