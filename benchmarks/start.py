"""How long `import foveate` takes beside `import torch`, and how long `foveate --help` takes.

python benchmarks/start.py, or make bench. Each start is that of a fresh process; they take turns, and wall time counts.
What foveate adds to torch is measured inside such a process, behind `import torch`: it is far less than what two
imports of torch differ by.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from timing import Ratio, Times, interleaved, save

STARTS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import foveate": ["-c", "import foveate"],
    "foveate --help": ["-c", "from foveate.cli import main; main()", "--help"],
}
ADDED = "import time, torch; start = time.perf_counter(); import foveate; print(1000 * (time.perf_counter() - start))"


def main(
    turns: Annotated[int, typer.Option(help="Starts of each kind that count.")] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure starts, and print them."""
    times = interleaved({name: start(given) for name, given in STARTS.items()}, turns)
    for name, each in times.items():
        print(f"{name:<22} {each.wall_ms:>6.0f} ms")
    added = added_ms(turns)
    print(f"{'foveate behind torch':<22} {added:>6.1f} ms")
    save(json_file, ratios(times, added), turns=turns, times=times)


def start(given: list[str]) -> Callable[[], object]:
    """What runs Python once, to its end."""
    return lambda: subprocess.run([sys.executable, *given], check=True, stdout=subprocess.DEVNULL)


def added_ms(turns: int) -> float:
    """The first quartile of what `import foveate` takes where torch is imported already."""
    told = [subprocess.run([sys.executable, "-c", ADDED], check=True, capture_output=True) for _ in range(turns)]
    return statistics.quantiles([float(each.stdout) for each in told], n=4, method="inclusive")[0]


def ratios(times: dict[str, Times], added: float) -> list[Ratio]:
    """The lines of the table, in milliseconds."""
    line = Ratio("import foveate behind torch, ms", "import torch", added, "<= 50")
    return [line, Ratio("foveate --help, ms", "", times["foveate --help"].wall_ms, "<= 500")]


if __name__ == "__main__":
    typer.run(main)
