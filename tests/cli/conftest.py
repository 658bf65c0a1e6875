"""Run the command line in this process, and make pictures for it."""

from pathlib import Path

import pytest
from PIL import Image

from foveate.cli import main


@pytest.fixture
def foveate(monkeypatch, capsys):
    """A function that runs `foveate` with arguments and gives (exit status, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["foveate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return run


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes that colour tells apart, in three splits."""
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for name, colour in (("blue", (10, 20, 200)), ("red", (200, 20, 10))):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (20, 20), tuple(part + index for part in colour)).save(folder / f"{index}.png")
    return tmp_path / "photos"
