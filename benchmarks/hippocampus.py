"""Attention U-Net against MONAI's networks on the hippocampus of the Medical Segmentation Decathlon, in equal time.

python benchmarks/hippocampus.py DATA --out RUNS, where DATA has the Decathlon's layout. The first 128 cases by name are
learned from (but for one, on which validation is done at the end), the last 32 are tested on. Every network has the
same seeds, losses, patches, augmentation, learning rate and wall time of training, on one thread; as many train at once
as there are workers. Runs are taken up where they were left. Nothing is chosen by the test cases: what README.md says
was tried was tried on 16 of the 128, and the last weights count.
"""

import csv
import dataclasses
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from foveate.tasks.summary import Summary

TRAIN, TEST = 128, 32
OURS = "attention_unet"
RESIDUAL = {"channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2], "num_res_units": 2}
GATED = {"channels": [16, 32, 64, 128], "strides": [2, 2, 2]}
# Each in the layout in which it trains faster.
NETWORKS: dict[str, dict[str, Any]] = {
    OURS: {"network": OURS, "network_options": {"widths": [8, 16, 32, 64]}, "channels_last": True},
    "MONAI residual UNet": {"network": "monai/UNet", "network_options": RESIDUAL, "channels_last": False},
    "MONAI AttentionUnet": {"network": "monai/AttentionUnet", "network_options": GATED, "channels_last": True},
}
SHARED: dict[str, Any] = {
    "loss": "dice_ce",
    "augment": "flips",
    "flip_axes": [0],  # left and right: a mirrored hippocampus is the other side's
    "batch_size": 2,
    "learning_rate": 0.01,
    "patch_size": [32, 48, 32],
    "validate_every": 1_000_000,  # only at the end
    "device": "cpu",
    "threads": 1,
}
COLUMNS = ("dice", "dice.Anterior", "dice.Posterior", "hd95_mm", "false_positive_ml")


def main(
    data: Annotated[Path, typer.Argument(help="The folder with dataset.json.")],
    out: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path("hippocampus"),
    minutes: Annotated[float, typer.Option(help="Of training, for each run.")] = 15.0,
    seeds: Annotated[int, typer.Option(help="Runs of each network.")] = 3,
    workers: Annotated[int, typer.Option(help="Runs at once.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Train all networks for the same time, and print how they segment the test cases."""
    out.mkdir(parents=True, exist_ok=True)
    split = out.resolve() / "split.json"
    split.write_text(json.dumps(division(data)))
    jobs = [(name, seed) for seed in range(seeds) for name in NETWORKS]
    found: dict[str, dict[int, Summary]] = {name: {} for name in NETWORKS}
    given = str(data), str(split), minutes * 60
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        asked = {pool.submit(run, *job, *given, run_folder(out, *job)): job for job in jobs}
        for done in as_completed(asked):
            name, seed = asked[done]
            found[name][seed] = done.result()
            print(f"{name}, seed {seed}: Dice {found[name][seed].metrics['dice']:.4f}", flush=True)
    show(found, {name: [case_dice(run_folder(out, name, seed)) for seed in range(seeds)] for name in NETWORKS})
    if json_file is not None:
        runs = {name: [dataclasses.asdict(each[seed]) for seed in sorted(each)] for name, each in found.items()}
        json_file.write_text(json.dumps({"minutes": minutes, "cores": os.cpu_count(), "runs": runs}, indent=2) + "\n")


def division(data: Path) -> dict[str, list[str]]:
    """Who is learned from and who is tested on, by name."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").glob("*.nii.gz"))
    if len(names) != TRAIN + TEST:
        raise typer.BadParameter(f"the benchmark takes {TRAIN + TEST} cases; {data} has {len(names)}")
    # A run needs a case to validate with; nothing follows from it.
    return {"train": names[: TRAIN - 1], "val": names[TRAIN - 1 : TRAIN], "test": names[TRAIN:]}


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Of one network and seed."""
    return out / name.replace(" ", "-").lower() / f"seed{seed}"


def run(name: str, seed: int, data: str, split: str, seconds: float, folder: Path) -> "Summary":
    """Train one network; in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from foveate.tasks.run import train
    from foveate.tasks.segment.config import SegmentConfig

    settings = SHARED | NETWORKS[name] | {"data": data, "split_file": split, "seed": seed, "max_time_s": seconds}
    return train(SegmentConfig(**settings), folder)


def case_dice(folder: Path) -> dict[str, float]:
    """The Dice of each test case, the mean over its structures."""
    cases: dict[str, list[float]] = {}
    with (folder / "cases.csv").open() as file:
        for row in csv.DictReader(file):
            cases.setdefault(row["case"], []).append(float(row["dice"]))
    return {case: mean(values) for case, values in cases.items()}


def mean(values: list[float]) -> float:
    """The mean of some numbers."""
    return math.fsum(values) / len(values)


def show(found: dict[str, dict[int, "Summary"]], cases: dict[str, list[dict[str, float]]]) -> None:
    """Print the means over seeds, and how ours differs from the others, over seeds and cases."""
    from foveate.compare.statistics import compare_pairs_by_case

    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    table.add_column("network")
    for heading in ("parameters", "steps", "Dice of each seed", *COLUMNS):
        table.add_column(heading, justify="right")
    for name, runs in found.items():
        every = [runs[seed] for seed in sorted(runs)]
        each = " ".join(f"{run.metrics['dice']:.3f}" for run in every)
        steps = f"{mean([run.steps for run in every]):,.0f}"
        means = [f"{mean([run.metrics[column] or 0.0 for run in every]):.3f}" for column in COLUMNS]
        table.add_row(name, f"{every[0].parameters:,}", steps, each, *means)
    console = Console(width=200)
    console.print(table)
    pairs = [(OURS, name) for name in NETWORKS if name != OURS]
    values = {name: dict(enumerate(runs)) for name, runs in cases.items()}
    for (_, name), apart in zip(pairs, compare_pairs_by_case(values, pairs), strict=True):
        told = f"{apart.mean:+.4f}, {apart.remark}"
        if apart.p is not None:
            told = f"{apart.mean:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}], corrected p {apart.p:.2g}"
        over = f"over {apart.cases} cases and {apart.seeds} seeds"
        console.print(f"Dice of {OURS} less that of {name}, {over}: {told}", markup=False)


if __name__ == "__main__":
    typer.run(main)
