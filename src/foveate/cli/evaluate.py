"""foveate evaluate: measure a finished run on a split of some data."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options import AcceptChangedData, Json
from foveate.escaping import printable

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
    out: Annotated[
        Path | None, typer.Option(help="A CSV file for a row of each picture or video, or of each case and class.")
    ] = None,
    accept_changed_data: AcceptChangedData = False,
    as_json: Json = False,
) -> None:
    """Measure a finished run on a split of its own or other data; scans with 95 % intervals over the cases.

    Other data without folders or files of splits are measured as a whole. How many samples of which split were measured
    is said first.

    Example: foveate evaluate runs/se --split test

    Example: foveate evaluate runs/gates --split val --out cases.csv
    """
    from foveate.tasks.run import evaluate as measure

    metrics = measure(run, data, split.value, rows=out, accept_changed_data=accept_changed_data)
    if as_json:
        print(json.dumps(metrics, indent=2))
        return
    counts = metrics.pop("samples")
    metrics = {"samples": ", ".join(f"{count} {name}" for name, count in counts.items()), **metrics}
    ends = {name for name in metrics if name.partition(".")[0].endswith(("_low", "_high"))}
    width = max(len(name) for name in metrics if name not in ends)
    for name, value in metrics.items():
        if name not in ends:
            print(printable(f"{name:<{width}}  {shown(value)}{interval(metrics, name)}"))


def shown(value: float | str | None) -> str:
    """Counts and texts as they are, measures to four digits."""
    return "not defined" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def interval(metrics: dict[str, Any], name: str) -> str:
    """The interval of a measure, as dice_low.CLASS and dice_high.CLASS hold that of dice.CLASS; nothing without one."""
    measure, dot, kind = name.partition(".")
    low, high = (metrics.get(f"{measure}_{end}{dot}{kind}") for end in ("low", "high"))
    return "" if low is None or high is None else f"  95 %: {low:.4f} to {high:.4f}"
