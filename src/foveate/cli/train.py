"""foveate train: one run."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import (
    AcceptChangedData,
    Data,
    Device,
    Devices,
    Epochs,
    MaxTime,
    Network,
    Out,
    Precision,
    Settings,
    Start,
    Task,
    TaskArgument,
    check_budget,
    given,
    task_of,
)
from foveate.escaping import printable

__all__ = ["train"]

NEEDS_DATA = {
    Task.segment: "a folder of scans or pictures with labels",
    Task.translate: "a folder of files such as train.en and train.de",
}
MEASURES = {
    "classify": ("accuracy", "accuracy"),
    "segment": ("dice", "dice"),
    "detect": ("map", "mAP"),
    "lesions": ("sensitivity", "sensitivity at 0.5 false positives a slice"),
    "translate": ("bleu", "BLEU"),
}


def train(
    task: TaskArgument = Task.classify,
    data: Data = "demo",
    network: Network = None,
    mechanism: Annotated[
        str, typer.Option(help="A name of `foveate list mechanisms`, a chain by +, or none.")
    ] = "none",
    start: Annotated[Start | None, typer.Option(help="How the mechanism starts.")] = None,
    init: Annotated[Path | None, typer.Option(help="A checkpoint to start from.")] = None,
    epochs: Epochs = None,
    max_time: MaxTime = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Decides weights, order and augmentation. Default: 0.")
    ] = None,
    out: Out = Path("run"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, whatever the folder holds.")] = False,
    accept_changed_data: AcceptChangedData = False,
    device: Device = None,
    devices: Devices = None,
    precision: Precision = None,
    settings: Settings = None,
) -> None:
    """Train one network, with or without a mechanism, and write its run folder.

    The same command resumes an interrupted run and leaves a finished one alone.

    Example: foveate train classify --data photos --network resnet18 --mechanism cbam --epochs 20 --out runs/cbam

    Example: foveate train segment --data Task04_Hippocampus --network attention-unet --max-time 15m --out runs/gates

    Example: foveate train segment --data Task04_Hippocampus --set fold=0 --set folds=5 --out runs/fold0

    Example: foveate train translate --data multi30k --set source=en --set target=de --max-time 45m --out runs/german

    Example: foveate train detect --data raccoons --init detr-r50-e632da11.pth --epochs 50 --out runs/raccoons

    Example: foveate train detect --data Task03_Liver --mechanism volumetric --set bag_mm=5 --out runs/liver
    """
    seconds = check_budget(epochs, max_time)
    from foveate.cli.progress import run_progress
    from foveate.tasks.config import config_for
    from foveate.tasks.run import train as run

    if task in NEEDS_DATA and data == "demo":
        raise ValueError(f"{task.value} needs --data: {NEEDS_DATA[task]}; none was given")
    options = given(
        settings,
        task=task_of(task, data, network, settings),
        network=network,
        mechanism=mechanism,
        start=start.value if start else None,
        init=str(init) if init else None,
        epochs=epochs,
        max_time_s=seconds,
        seed=seed,
        device=device,
        devices=devices,
        precision=precision,
    )
    config = config_for(data, **options)
    with run_progress() as progress:
        summary = run(config, out, fresh=fresh, progress=progress, accept_changed_data=accept_changed_data)
    measure, words = MEASURES[summary.task]
    value = summary.metrics[measure]
    told = "nothing to test on" if value is None else f"test {words} {value:.4f}"
    print(printable(f"{summary.arm}, seed {summary.seed}: {told} after {summary.epochs:.3g} epochs"))
    print(printable(str(out)))
