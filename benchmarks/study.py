"""What a comparison costs beyond its training: the wall time of all runs beside the time that they spent in fit.

python benchmarks/study.py, or make bench. It runs `foveate compare classify` on the embedded data, each run for so many
seconds of training, several at a time; the rest is starting, evaluation, maps, explanations and the report.
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
        found = sorted(Path(folder).glob("runs/*/seed*/summary.json"))
        fits = [json.loads(file.read_text())["training_seconds"] for file in found]
    inside = sum(fits) / workers
    print(f"{len(fits)} runs, {workers} at a time: {wall:.1f} s, of which {inside:.1f} s in fit: {wall / inside:.3f}")
    what = f"compare, {len(fits)} runs of {seconds} s: wall time"
    ratio = Ratio(what, "time in fit", wall / inside, "<= 1.15")
    save(json_file, [ratio], workers=workers, wall_s=wall, training_s=fits)


if __name__ == "__main__":
    typer.run(main)
