"""Sentences that a run translated, with pictures of where it looked, ready for the page."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.report.read import Run, dig, listed, read_json

__all__ = ["Sentence", "read_sentences"]

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**21  # bytes of a picture


@dataclass(frozen=True)
class Sentence:
    """A sentence, its translation by people and by the network, and what tokens look at: a title and a picture each."""

    source: str
    target: str
    prediction: str
    pictures: tuple[tuple[str, str], ...]


def read_sentences(run: Run) -> list[Sentence]:
    """Those that maps/sentences.json lists; none where there is no such file, or it cannot be read."""
    folder = run.path / "maps"
    found = []
    for entry in listed(dig(read_json(folder / "sentences.json"), "sentences")):
        texts = [str(dig(entry, name) or "") for name in ("source", "target", "prediction")]
        pictures = [_picture(folder, each) for each in listed(dig(entry, "pictures"))]
        found.append(Sentence(texts[0], texts[1], texts[2], tuple(each for each in pictures if each is not None)))
    return found


def _picture(folder: Path, entry: Any) -> tuple[str, str] | None:
    """The title and the content of a picture in the folder itself; None where there is none that a page should have."""
    name = str(dig(entry, "file"))
    path = folder / name
    try:
        if Path(name).name != name or path.is_symlink() or path.stat().st_size > LARGEST:
            return None
        content = path.read_bytes()
    except (OSError, ValueError):
        return None
    uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return (str(dig(entry, "title")), uri) if content.startswith(PNG) else None
