"""foveate train: one run."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options import (
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
)

__all__ = ["train"]


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
    device: Device = None,
    devices: Devices = None,
    precision: Precision = None,
    settings: Settings = None,
) -> None:
    """Train one network, with or without a mechanism, and write its run folder.

    The same command resumes an interrupted run and leaves a finished one alone.

    Example: foveate train classify --data photos --network resnet18 --mechanism cbam --epochs 20 --out runs/cbam
    """
    seconds = check_budget(epochs, max_time)
    from foveate.cli.progress import run_progress
    from foveate.tasks.config import config_for
    from foveate.tasks.run import train as run

    config = config_for(
        data,
        **given(
            settings,
            task=task.value,
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
        ),
    )
    with run_progress() as progress:
        summary = run(config, out, fresh=fresh, progress=progress)
    accuracy = summary.metrics["accuracy"]
    print(f"{summary.arm}, seed {summary.seed}: test accuracy {accuracy:.4f} after {summary.epochs:.3g} epochs")
    print(out)
