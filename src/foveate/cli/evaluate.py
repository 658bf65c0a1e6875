"""foveate evaluate: measure a finished run on a split of some data."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import Json

__all__ = ["evaluate"]


class Split(StrEnum):
    """A part of a data set."""

    train = "train"
    val = "val"
    test = "test"


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: Annotated[str | None, typer.Option(help="Other data than the run's own.")] = None,
    split: Annotated[Split, typer.Option(help="The part of the data to measure on.")] = Split.test,
    as_json: Json = False,
) -> None:
    """Measure a finished run on a split of its own or other data.

    Example: foveate evaluate runs/se --split test
    """
    from foveate.tasks.run import evaluate as measure

    metrics = measure(run, data, split.value)
    if as_json:
        print(json.dumps(metrics, indent=2))
        return
    width = max(map(len, metrics))
    for name, value in metrics.items():
        print(f"{name:<{width}}  {'not defined' if value is None else format(value, '.4f')}")
