import sys
from collections.abc import Callable

import pytest

from foveate.cli import main

Foveate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def foveate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Foveate:
    """Run a command; gives the exit status, and what is printed to standard output and to standard error."""

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["foveate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command
