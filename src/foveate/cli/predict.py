"""foveate predict: the classes of new pictures."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Out

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Out,
) -> None:
    """Name the class of each picture, with its probabilities, in predictions.csv.

    Example: foveate predict runs/se holiday.jpg --out predictions
    """
    from foveate.tasks.run import predict as classify

    print(classify(run, inputs, out))
