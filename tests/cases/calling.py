"""Call the command line in this process."""

import contextlib
import io
import sys
from typing import NamedTuple
from unittest import mock

from foveate.cli import main


class Done(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    output: str
    errors: str

    @property
    def told(self) -> str:
        """All that was printed, in one line."""
        return " ".join((self.output + self.errors).split())


def foveate(*arguments: object) -> Done:
    """Run a command of the command line."""
    status = 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
        mock.patch.object(sys, "argv", ["foveate", *map(str, arguments)]),
    ):
        try:
            main()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Done(status, output.getvalue(), errors.getvalue())
