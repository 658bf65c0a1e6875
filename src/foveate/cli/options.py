"""Options that several commands share, and how their texts become values."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "AcceptChangedData",
    "Data",
    "Device",
    "Devices",
    "Epochs",
    "Json",
    "MaxTime",
    "Network",
    "Out",
    "Precision",
    "Settings",
    "Start",
    "Task",
    "TaskArgument",
    "Threshold",
    "check_budget",
    "given",
    "named",
    "parse_point",
    "parse_settings",
    "parse_time",
    "task_of",
]


class Task(StrEnum):
    """What a network is trained to do."""

    classify = "classify"
    segment = "segment"
    detect = "detect"
    translate = "translate"  # pyright: ignore[reportAssignmentType]  (texts have a method of that name)


class Start(StrEnum):
    """How a mechanism starts: as the identity, or as its paper starts it."""

    auto = "auto"
    identity = "identity"
    published = "published"


TaskArgument = Annotated[Task, typer.Argument(help="What to train for.")]
Data = Annotated[
    str,
    typer.Option(
        help="To classify: a folder of class folders, a MedMNIST .npz file, or demo: the handwriting that comes with "
        "Foveate; with a network of clips a folder of class folders of videos, or direction or mover. To segment: a "
        "folder of scans or pictures with labels, as Decathlon, nnU-Net or images/ and labels/. To detect: a folder "
        "with COCO json files, such a file, or demo; in volumes a folder of scans with labels, DeepLesion, or lesions. "
        "To translate: a folder of files such as train.en and train.de."
    ),
]
Network = Annotated[
    str | None,
    typer.Option(help="A name of `foveate list networks`; or timm/NAME, torchvision/NAME or, to segment, monai/NAME."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Train each run for this many epochs.")]
MaxTime = Annotated[str | None, typer.Option(help="Train each run for this long instead, such as 90s, 10m or 1h.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps or auto.")]
Devices = Annotated[
    int | None, typer.Option(min=1, help="Processes of one run, with distributed data parallel training.")
]
Precision = Annotated[str | None, typer.Option(help="32, or mixed: bf16 or 16.")]
Out = Annotated[Path, typer.Option(help="The folder to write to.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of a run, such as --set batch_size=32."),
]
Threshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="To detect: the least score of what is written and drawn, 0.5.")
]
AcceptChangedData = Annotated[
    bool,
    typer.Option("--accept-changed-data", help="Go on although the data changed since the run began."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def parse_time(text: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h or 1h30m; a bare number is seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"a time is written like 90s, 10m or 1h30m; got {text!r}")
    seconds = sum(float(number) * {"h": 3600, "m": 60, "s": 1, "": 1}[unit] for number, unit in parts)
    if seconds <= 0:
        raise ValueError(f"a time must be more than zero; got {text!r}")
    return seconds


def parse_point(text: str) -> tuple[float, float]:
    """Pixels written like 120,80: from the left, and from above."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"a point is written like 120,80: pixels from the left and from above; got {text!r}") from None
    return x, y


def named(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def check_budget(epochs: int | None, max_time: str | None) -> float | None:
    """The seconds of --max-time, of which and --epochs at most one may be given."""
    if epochs is not None and max_time is not None:
        raise ValueError(f"a run ends by --epochs or by --max-time, not both; got {epochs} and {max_time}")
    return None if max_time is None else parse_time(max_time)


def task_of(task: Task, data: str, network: str | None, settings: list[str] | None) -> str:
    """The task that is meant: to detect is another one in volumes than in pictures."""
    from foveate.tasks.config import task_for

    named = [text.partition("=")[2].strip() for text in settings or [] if text.partition("=")[0].strip() == "network"]
    return task_for(task.value, data, network or next(iter(named), None))


def parse_settings(settings: list[str] | None, task: str = "classify") -> dict[str, Any]:
    """KEY=VALUE texts as settings of a run, each value read as the kind that its key takes."""
    from foveate.tasks.config import kind_of_config, parse_setting

    values: dict[str, Any] = {}
    for setting in settings or []:
        key, value = parse_setting(setting, kind_of_config(task))
        if key in values:
            raise ValueError(f"--set names {key} twice: {values[key]!r} and {value!r}")
        values[key] = value
    return values


def given(settings: list[str] | None, **options: Any) -> dict[str, Any]:
    """The settings of --set and those options that were given; naming one in both ways is refused."""
    values = parse_settings(settings, options.get("task") or "classify")
    for key, value in options.items():
        if value is None:
            continue
        if key in values:
            raise ValueError(f"{key} is given twice: {value!r} by its option and {values[key]!r} by --set")
        values[key] = value
    return values
