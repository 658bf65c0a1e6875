"""Run the command line in this process."""

from typing import Any

import pytest

from foveate.cli import main


def run(monkeypatch: Any, capsys: Any, *arguments: object) -> tuple[int, str]:
    """Run `foveate` and return its exit status and all that it printed."""
    monkeypatch.setattr("sys.argv", ["foveate", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    return stopped.value.code or 0, " ".join((out + err).split())
