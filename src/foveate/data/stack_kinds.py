"""Which kind of stacks data are, told from names and from keys in json files, before anything is read."""

import mmap
import os
import re
from pathlib import Path
from typing import Any, Literal

from foveate.data.coco_layout import split_files
from foveate.data.dicom import is_slice
from foveate.data.json_files import parse_json
from foveate.data.nifti import NIFTI, is_nifti
from foveate.errors import FoveateError
from foveate.rules import check_bytes

__all__ = ["INFO", "Kind", "stack_kind"]

Kind = Literal["lesions", "DeepLesion", "slices", "volumes"]
INFO = "DL_info.csv"
SLICE_KEYS = (re.compile(rb'"volume"\s*:'), re.compile(rb'"slice"\s*:'))
DESCRIBED = {"labels", "channel_names", "modality"}
PLACES = ("", "train", "training")


def stack_kind(data: str | Path) -> Kind | None:
    """What open_stacks() will read; None where data are none of it. Faults of files are left for it to find."""
    if data in ("lesions", "demo"):
        return "lesions" if data == "lesions" else None
    path = Path(data)
    try:
        if (path / INFO).is_file() or (path.suffix.lower() == ".csv" and path.is_file()):
            return "DeepLesion"
        if any(map(_has_slices, _json_files(path))):
            return "slices"
        return "volumes" if path.exists() and _has_volumes(path) else None
    except (FoveateError, OSError, ValueError):
        return None


def _json_files(path: Path) -> list[Path]:
    """The files that may be COCO json."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    try:
        return list(split_files(path).values())
    except FoveateError:
        return []


def _has_slices(path: Path) -> bool:
    """Whether the first picture of a json file has a volume and a slice; a file without these words is not parsed."""
    if not path.is_file():  # a pipe would be waited for
        return False
    check_bytes(path, path.stat().st_size, "takes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not all(key.search(content) for key in SLICE_KEYS):
            return False
        images = _parsed(path, content[:]).get("images")
    first = images[0] if isinstance(images, list) and images else None
    return isinstance(first, dict) and {"volume", "slice"} <= first.keys()


def _has_volumes(path: Path) -> bool:
    """Whether a folder, or that of a dataset.json, is in a layout of volumes."""
    root, said = (path, path / "dataset.json") if path.is_dir() else (path.parent, path)
    about = _parsed(said, said.read_bytes()) if said.suffix.lower() == ".json" and said.is_file() else {}
    if "file_ending" in about:
        return str(about["file_ending"]).lower() in NIFTI
    if isinstance(about.get("training"), list):
        entry = (about["training"] or [None])[0]
        image = entry.get("image") if isinstance(entry, dict) else None
        first = image[0] if isinstance(image, list) and image else image
        return isinstance(first, str) and is_nifti(Path(first))
    if path.is_file() and not about.keys() & DESCRIBED:
        return False
    labelled = any((root / place / name).is_dir() for place in PLACES for name in ("labels", "masks"))
    folders = [root / "imagesTr", *(root / place / "images" for place in PLACES if labelled)]
    return any(_starts_with_scan(folder) for folder in folders if folder.is_dir())


def _starts_with_scan(folder: Path) -> bool:
    """Whether the first file in a folder or below it is NIfTI, or a DICOM slice in a folder of its own."""
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                return is_nifti(Path(name)) or (Path(place) != folder and is_slice(Path(name)))
    return False


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    parsed = parse_json(path, content.decode("utf-8-sig"))
    return parsed if isinstance(parsed, dict) else {}
