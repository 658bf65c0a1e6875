"""Progress on the terminal: bars with the time left, or a line now and then where nobody watches."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from foveate.escaping import printable

if TYPE_CHECKING:
    from foveate.tasks.summary import Progress as RunProgress

__all__ = ["Board", "board", "duration", "run_progress", "validation"]

SECONDS_BETWEEN_LINES = 30.0
VALIDATION = {
    "val_accuracy": "validation accuracy {:.3f}",
    "val_dice": "validation Dice {:.3f}",
    "val_bleu": "validation BLEU {:.1f}",
    "val_map": "validation mAP {:.3f}",
    "val_map50": "mAP50 {:.3f}",
    "val_unstable": "{:.0%} of matches new",
    "val_alike": "queries look {:.0%} alike",
}


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Board:
    """One bar for each piece of work under way, on standard error; plain lines where that is no terminal.

    Args:
        bars: The bars, or None for plain lines.
    """

    def __init__(self, bars: Progress | None) -> None:
        self.bars = bars
        self.rows = {}
        self.said = 0.0

    def show(self, key: str, fraction: float, seconds_left: float | None, note: str = "") -> None:
        """Move a piece of work's bar, making it at the first call."""
        left = f"{duration(seconds_left)} left" if seconds_left is not None else ""
        text = "  ".join(part for part in (left, note) if part)
        if self.bars is None:
            self.say(f"{key}: {fraction:.0%}  {text}")
            return
        if key not in self.rows:
            self.rows[key] = self.bars.add_task(escape(printable(key)), total=1.0, text=escape(printable(text)))
        self.bars.update(self.rows[key], completed=fraction, text=escape(printable(text)))

    def drop(self, key: str) -> None:
        """Take a finished piece of work off the board."""
        if self.bars is not None and key in self.rows:
            self.bars.remove_task(self.rows.pop(key))

    def note(self, line: str) -> None:
        """Say something that stays, above the bars."""
        if self.bars is None:
            print(printable(line), file=sys.stderr, flush=True)
        else:
            self.bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Say a passing line, unless one was said a moment ago."""
        if time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            print(printable(line), file=sys.stderr, flush=True)


def validation(measured: Mapping[str, float]) -> list[str]:
    """What the last validation found, in words."""
    return [VALIDATION[name].format(value) for name, value in measured.items() if name in VALIDATION]


@contextmanager
def board() -> Iterator[Board]:
    """A board while the block lasts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Board(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=console, transient=True) as bars:
        yield Board(bars)


@contextmanager
def run_progress() -> "Iterator[Callable[[RunProgress], None]]":
    """A callback that draws one run."""
    with board() as drawn:

        def show(state: "RunProgress") -> None:
            run = f"{state.arm}, seed {state.seed}"
            for line in state.notes:
                drawn.note(line)
            if state.stage in ("check", "prepare", "score"):
                drawn.show(f"{run}: {state.stage}", state.fraction, state.seconds_left)
                return
            epochs = f"epoch {state.epoch:.1f}" + (f" of {state.epochs}" if state.epochs else "")
            drawn.show(run, state.fraction, state.seconds_left, "  ".join([epochs, *validation(state.validation)]))

        yield show
