"""foveate predict: the classes of new pictures, and the label maps of new scans."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Out

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures, scans (NIfTI, or the folder of a DICOM series), or folders of them.")
    ],
    out: Out,
) -> None:
    """Name the class of each picture, with its probabilities, in predictions.csv; or draw the labels of each scan.

    A run that segments writes NAME.nii.gz in the scan's own space, the probability of each class, and an overlay.

    Example: foveate predict runs/se holiday.jpg --out predictions

    Example: foveate predict runs/gates scan.nii.gz --out labels
    """
    from foveate.tasks.run import predict as apply

    print(apply(run, inputs, out))
