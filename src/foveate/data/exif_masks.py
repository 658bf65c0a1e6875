"""Masks beside pictures that their EXIF turns: whether a mask is turned too, only its own tag or its size can say."""

from collections.abc import Sequence
from pathlib import Path

from foveate.data.reading import SUFFIXES, read_orientation
from foveate.data.volumes import Case

__all__ = ["turned_beside", "turned_notes"]


def turned_beside(image: Path, mask: Path) -> str:
    """Return the end of a sentence on sizes that differ: which of two files EXIF turns; empty if both or none."""
    one, other = _orientation(image), _orientation(mask)
    if one == other:
        return ""
    return f", and EXIF turns {_told(image, one)} but {_told(mask, other)}"


def turned_notes(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return a line on pictures that EXIF turns or mirrors beside masks that have no such tag; none without any.

    Their sizes fit, or reading them would have failed, so that the masks are those of the upright pictures, or the turn
    is one that a size does not show.
    """
    turned = [case for case in cases if case.label is not None and _orientation(case.images[0]) != 1]
    bare = [case for case in turned if case.label is not None and _orientation(case.label) == 1]
    if not bare:
        return ()
    first = bare[0].images[0]
    told = f"{len(bare)} pictures are turned by EXIF and their masks have no such tag; the masks are taken as upright"
    return (f"{told}; the first: {first} (orientation {_orientation(first)})",)


def _orientation(path: Path) -> int:
    return read_orientation(path) if path.suffix.lower() in SUFFIXES and path.is_file() else 1


def _told(path: Path, orientation: int) -> str:
    name = f"{path.parent.name}/{path.name}"
    return f"{name} (orientation {orientation})" if orientation != 1 else f"not {name}"
