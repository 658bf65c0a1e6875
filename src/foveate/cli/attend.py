"""foveate attend: what a run attends to in new pictures and scans."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Out

__all__ = ["attend"]


def attend(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures, scans (NIfTI, or the folder of a DICOM series), or folders of them.")
    ],
    out: Out,
) -> None:
    """Draw what a run's mechanism and its whole network attend to, a picture for each map.

    A run that segments writes the maps of its gates as NIfTI too, to lay over the scan.

    Example: foveate attend runs/cbam holiday.jpg --out maps

    Example: foveate attend runs/gates scan.nii.gz --out maps
    """
    from foveate.tasks.run import attend as draw

    for path in draw(run, inputs, out):
        print(path)
