"""foveate attend: what a run attends to in new pictures, videos and scans."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Out, Threshold, named, parse_point
from foveate.escaping import printable

__all__ = ["attend"]


def attend(
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
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="To detect: a pixel whose attention is drawn. Default: middles of boxes."),
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="To detect, to translate: a map for each head.")] = False,
    layer: Annotated[
        int | None, typer.Option(min=1, help="To detect, to translate: which layer. Default: the last.")
    ] = None,
) -> None:
    """Draw what a run's mechanism and its whole network attend to, a picture for each map; of videos all frames.

    A run that segments writes the maps of its gates as NIfTI too, to lay over the scan. A run that detects draws where
    the query of each found box looks, and what points look at and what looks at them; in volumes, which slices each
    lesion drew on. A run that translates draws what
    the tokens of each sentence and of its translation look at.

    Example: foveate attend runs/cbam holiday.jpg --out maps

    Example: foveate attend runs/gates scan.nii.gz --out maps

    Example: foveate attend runs/raccoons photo.jpg --out maps --point 120,80 --heads

    Example: foveate attend runs/german sentences.en --out maps
    """
    from foveate.tasks.run import attend as draw

    points = [parse_point(text) for text in point] if point else None
    options = named(threshold=threshold, points=points, heads=heads or None, layer=layer)
    for path in draw(run, inputs, out, **options):
        print(printable(str(path)))
