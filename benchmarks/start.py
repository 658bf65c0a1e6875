"""How long `import foveate` takes beside `import torch`, and how long `foveate --help` takes.

python benchmarks/start.py, or make bench. Each start is that of a fresh process; they take turns, and wall time counts,
from a start that does nothing at all to the end of the process.
"""

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
    "import torch, foveate": ["-c", "import torch, foveate"],
    "import foveate": ["-c", "import foveate"],
    "foveate --help": ["-c", "from foveate.cli import main; main()", "--help"],
}


def main(
    turns: Annotated[int, typer.Option(help="Starts of each kind that count.")] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure starts, and print them."""
    times = interleaved({name: start(given) for name, given in STARTS.items()}, turns)
    for name, each in times.items():
        print(f"{name:<22} {each.wall_ms:>6.0f} ms")
    save(json_file, ratios(times), turns=turns, times=times)


def start(given: list[str]) -> Callable[[], object]:
    """What runs Python once, to its end."""
    return lambda: subprocess.run([sys.executable, *given], check=True, stdout=subprocess.DEVNULL)


def ratios(times: dict[str, Times]) -> list[Ratio]:
    """The lines of the table, in milliseconds."""
    more = times["import torch, foveate"].wall_ms - times["import torch"].wall_ms
    lines = [Ratio("import foveate after torch, ms more", "import torch", more, "<= 50")]
    return [*lines, Ratio("foveate --help, ms", "", times["foveate --help"].wall_ms, "<= 500")]


if __name__ == "__main__":
    typer.run(main)
