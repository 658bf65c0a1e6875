"""Summary: what a finished run says of itself, kept as summary.json, and Progress: what an unfinished one says."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.errors import RunError

__all__ = ["Progress", "Summary", "latest", "read_summary", "validated"]

VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, handed to the `progress` callback about twice a second.

    Args:
        stage: "train", then "attend" (the pass over the test pictures), then "done". Clips, and other tasks, go through
            "check" and "prepare" before, and those through "score" behind, each with a fraction of its own.
        epoch: Epochs begun and partly done, such as 1.5.
        epochs: Epochs there will be; None where only time ends the run.
        fraction: How much of the whole is done, 0 to 1.
        seconds_left: The estimated rest of the training; None before there is one.
        validation: The latest of each measure of validation, by its name in metrics.csv; empty before there is one.
        notes: What was chosen from the data, and what is odd about them, said once, in lines.
    """

    arm: str
    seed: int
    stage: str
    epoch: float
    epochs: int | None
    fraction: float
    seconds_left: float | None
    validation: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished run. Costs are None here: they are measured apart from training."""

    version: int = VERSION
    task: str
    arm: str
    mechanism: str
    network: str
    seed: int
    start: str
    metrics: dict[str, float | None]
    sites: list[dict[str, Any]]
    parameters: int
    macs: int | None = None
    latency_ms: float | None = None
    latency_p95_ms: float | None = None
    step_ms: float | None = None
    step_p95_ms: float | None = None
    memory_mib: float | None = None
    step_memory_mib: float | None = None
    epochs: float
    steps: int
    training_seconds: float
    stopped_by: str
    resumed: int
    train_size: int
    val_size: int
    test_size: int
    gate_health: dict[str, dict[str, Any]]
    pointing: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    command: str

    def to_json(self) -> str:
        """The text of summary.json."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"


def latest(rows: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    """The last number of a column of metrics.csv; None if it has none."""
    return next((row[name] for row in reversed(rows) if row.get(name) is not None), None)


def validated(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The last number of each measure of validation in metrics.csv."""
    names = [name for name in (rows[-1] if rows else {}) if name.startswith("val_")]
    return {name: value for name in names if (value := latest(rows, name)) is not None}


def read_summary(run: Path) -> Summary | None:
    """The summary of a finished run, None of an unfinished one; a damaged file is a RunError that names it."""
    path = Path(run) / "summary.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.get("version")
        if version != VERSION:
            raise RunError(f"{path} has version {version!r}; this foveate reads version {VERSION}")
        return Summary(**values)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it and run again to finish the run anew") from None
