"""foveate predict: the classes of new pictures and videos, the boxes in pictures, and the label maps of new scans."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Out, Threshold, named
from foveate.escaping import printable

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, videos, scans (NIfTI, or the folder of a DICOM series), or folders of them; a folder of "
            "frames is a video."
        ),
    ],
    out: Out,
    threshold: Threshold = None,
) -> None:
    """Name the class of each picture or video, with probabilities, in predictions.csv; or find boxes; or label scans.

    What cannot be read is told at the end, when all else is done, with exit status 2.

    A run that segments writes NAME.nii.gz in the scan's own space, the probability of each class, and an overlay. A run
    that detects writes predictions.json, as COCO has it, and NAME.found.png with the boxes; with masks panoptic.json
    and NAME.panoptic.png too; in volumes NAME.nii.gz and NAME.boxes.json. A run that translates writes NAME.TARGET, a
    line for each line of NAME.SOURCE.

    Example: foveate predict runs/se holiday.jpg --out predictions

    Example: foveate predict runs/gates scan.nii.gz --out labels

    Example: foveate predict runs/raccoons photos --out found --threshold 0.7

    Example: foveate predict runs/german sentences.en --out translations
    """
    from foveate.tasks.run import predict as apply

    print(printable(str(apply(run, inputs, out, **named(threshold=threshold)))))
