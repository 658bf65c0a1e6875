"""The group of commands, which ends one that is interrupted with a sentence."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from typer.core import TyperGroup

__all__ = ["INTERRUPTED", "Commands"]

INTERRUPTED = 130  # the exit status that a shell gives to what Ctrl-C ended
RESUMED = {"train": "the same command resumes the run", "compare": "the same command resumes the comparison"}


class Commands(TyperGroup):
    """Commands that Ctrl-C and SIGTERM end alike: with a sentence and exit status 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _terminated_as_interrupted():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            more = RESUMED.get(ctx.invoked_subcommand)
            print("interrupted" + (f"; {more}" if more else ""), file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt inside the block; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
