"""What a comparison costs beyond its training: the wall time of all runs beside the time that they spent in fit.

python benchmarks/study.py, or make bench. It runs `foveate compare classify` on the embedded data, each run for so many
seconds of training, several at a time; the rest is starting, evaluation, maps, explanations and the report. Fit is
training with validation and checkpoints, from the first to the last event that a run writes for TensorBoard.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from timing import Ratio, save

COMMAND = [sys.executable, "-c", "from foveate.cli import main; main()", "compare", "classify"]


def main(
    mechanisms: Annotated[str, typer.Option(help="Arms, separated by commas.")] = "none,se",
    seeds: Annotated[int, typer.Option(help="Runs of each arm.")] = 2,
    seconds: Annotated[int, typer.Option(help="Of training, for each run.")] = 60,
    workers: Annotated[int, typer.Option(help="Runs at a time; as many should divide all runs.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what a comparison costs beyond its training, and print it."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"mechanisms": mechanisms, "seeds": seeds, "max-time": f"{seconds}s", "workers": workers}
        options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        start = time.perf_counter()
        subprocess.run([*COMMAND, *options, "--out", folder], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        runs = sorted(Path(folder).glob("runs/*/seed*"))
        training = [json.loads((run / "summary.json").read_text())["training_seconds"] for run in runs]
        fits = [seconds_in_fit(run) for run in runs]
    inside, trained = sum(fits) / workers, sum(training) / workers
    told = f"of which {inside:.1f} s in fit, {trained:.1f} s of training: {wall / inside:.3f}, {wall / trained:.3f}"
    print(f"{len(fits)} runs, {workers} at a time: {wall:.1f} s, {told}")
    what = f"compare, {len(fits)} runs of {seconds} s: wall time"
    ratios = [Ratio(what, "time in fit", wall / inside, "<= 1.15"), Ratio(what, "seconds of training", wall / trained)]
    save(json_file, ratios, workers=workers, wall_s=wall, training_s=training, fit_s=fits)


def seconds_in_fit(run: Path) -> float:
    """From the first to the last event of a run."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (file,) = (run / "tensorboard").iterdir()
    times = [event.wall_time for event in EventFileLoader(str(file)).Load()]
    return max(times) - min(times)


if __name__ == "__main__":
    typer.run(main)
