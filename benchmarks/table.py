"""One table of all ratios with a target: make bench.

python benchmarks/table.py. Each part is a script beside this one, in a process of its own, with two threads that do not
spin while they wait. A ratio above 1 means that ours is better where the target is a least value, below 1 where it is a
greatest one; ratios of time are of CPU time, with those of wall time beside them. A part whose peer is not installed
says so in the table.
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from timing import Ratio

HERE = Path(__file__).parent
PACKAGES = ("foveate", "torch", "torchvision", "timm", "monai", "transformers", "numpy")
HEADINGS = ("what", "against", "ratio", "by wall time", "peer", "limit", "target", "reached")


@dataclass(frozen=True)
class Part:
    """A script of the table.

    Args:
        script: Its name.
        options: What it is given.
        quick: What it is given beside them for a quick look.
        threads: Whether it takes a number of threads.
        warm: Whether its process keeps memory that was freed. Else the size of one map decides at random which form
            gives memory back, and pays for that in its next turn.
        needs: The peer's package, where the project itself does not need it.
    """

    script: str
    options: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--turns", "2")
    threads: bool = True
    warm: bool = False
    needs: str | None = None


FEW = ("--turns", "2", "--positions", "196,784,1568,3136", "--softmax-positions", "784,3136")
WARM = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**31)}
PARTS = (
    Part("gates", warm=True),
    Part("gates", ("--compile",), ("--turns", "2", "--sizes", "1024x14"), warm=True),
    Part("resnet_step"),
    Part("non_local", quick=FEW),
    Part("attention_gate", quick=("--turns", "2", "--size", "32", "--large", "32"), needs="monai"),
    Part("detr", quick=("--turns", "2", "--height", "128", "--width", "160"), needs="transformers"),
    Part("matcher"),
    Part("decoding", quick=("--turns", "2", "--length", "10"), needs="transformers"),
    Part("start", threads=False),
    Part("study", quick=("--seconds", "5", "--seeds", "1"), threads=False),
    Part("growth", quick=("--turns", "2", "--sides", "16,32", "--channels", "64,128")),
)


def main(
    only: Annotated[str | None, typer.Option(help="Scripts, separated by commas. Default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few turns at small sizes, to see whether all runs.")] = False,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    page: Annotated[
        Path | None, typer.Option(help="Put the table between <!-- table --> and <!-- end --> there.")
    ] = None,
) -> None:
    """Run all parts, and print their table."""
    chosen = [part for part in PARTS if only is None or part.script in only.split(",")]
    rows = [row for part in chosen for row in rows_of(part, quick, threads)]
    text = "\n".join([versions(threads), "", *markdown(rows)]) + "\n"
    print(text, end="")
    if page is not None:
        fill(page, text)


def fill(page: Path, text: str) -> None:
    """Put the table in its place on a page."""
    after, found = re.subn(
        r"(?s)(<!-- table -->\n).*?(<!-- end -->)", lambda match: match[1] + text + match[2], page.read_text()
    )
    if not found:
        raise ValueError(f"{page} must hold <!-- table --> and <!-- end -->")
    page.write_text(after)


def rows_of(part: Part, quick: bool, threads: int) -> Iterator[tuple[str, ...]]:
    """The lines of one part, or the one that says why it has none."""
    name = " ".join((part.script, *part.options))
    if part.needs is not None and find_spec(part.needs) is None:
        yield name, part.needs, "", "", "", "", "", f"{part.needs} is not installed"
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        given = [*part.options, *(part.quick if quick else ()), "--json", str(file)]
        given += ["--threads", str(threads)] * part.threads
        given += ["--out", folder] * (quick and part.script == "growth")  # the pictures of docs/ stay as they are
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
        environment |= WARM if part.warm else {}
        command = [sys.executable, str(HERE / f"{part.script}.py"), *given]
        if subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode:
            yield name, "", "", "", "", "", "", "failed; what it printed says why"
            return
        for each in json.loads(file.read_text())["ratios"]:
            yield row(Ratio(**each))


def row(ratio: Ratio) -> tuple[str, ...]:
    """The cells of one line."""
    numbers = [
        f"{value:.3g}" if value is not None else "" for value in (ratio.value, ratio.wall, ratio.peer, ratio.limit)
    ]
    reached = {True: "yes", False: "no", None: ""}[ratio.reached]
    if ratio.reached is False and ratio.possible is False:
        reached = "no: beyond the limit"
    return ratio.what, ratio.against, *numbers, ratio.target, reached


def markdown(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table that can be pasted into README.md."""
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [HEADINGS, tuple("-" * width for width in widths), *rows]
    return [f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines]


def versions(threads: int) -> str:
    """What was measured, and on what."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    return f"{', '.join(found)}; {machine}, {threads} thread{'s' * (threads > 1)}"


if __name__ == "__main__":
    typer.run(main)
