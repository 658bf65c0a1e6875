"""Class folders: a folder a class, below train, val and test, or split here where there are no such folders."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from foveate.data.pictures import SPLITS, Pictures
from foveate.data.reading import SUFFIXES, read_header, read_picture
from foveate.data.video import VIDEOS
from foveate.errors import DataError

__all__ = ["LOOKED_AT", "NOT_DATA", "FolderSplit", "class_folders", "open_folders"]

OTHER_NAMES = {"valid": "val", "validation": "val"}
NOT_DATA = {"thumbs.db", "desktop.ini"}
SHARES = (0.7, 0.85)  # of the samples of a class: where training ends, where validation ends
LOOKED_AT = 256  # samples from which grey or RGB, and a common size, are told


class FolderSplit:
    """Pictures in files, read when asked for.

    Args:
        root: The folder that names are relative to.
        files: The pictures.
        labels: The class of each.
        channels: 1 or 3, to which every picture is brought.
        bits: Bits of grey pictures of more than 8 bits; see `read_picture`.
    """

    def __init__(self, root: Path, files: list[Path], labels: list[int], channels: int, bits: int = 16) -> None:
        self.root, self.files, self.labels, self.channels, self.bits = root, files, labels, channels, bits

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Tensor:
        return read_picture(self.files[index], self.channels, self.bits)

    @property
    def paths(self) -> list[Path]:
        """The files of all pictures."""
        return self.files

    def label(self, index: int) -> int:
        return self.labels[index]

    def name(self, index: int) -> str:
        return self.files[index].relative_to(self.root).as_posix()

    def boxes_xyxy(self, index: int) -> None:
        return None

    def mask(self, index: int) -> None:
        return None


Sampler = Callable[[Path], list[Path]]  # from a class folder to the samples in it


def open_folders(root: Path) -> Pictures:
    """Open root/train/CLASS/picture.png and its like for val and test, or root/CLASS/picture.png, as class_folders."""
    classes, samples = class_folders(root, "picture", _pictures)
    channels, size = _look([path for name in SPLITS for path, _ in samples[name]])
    splits = {
        name: FolderSplit(root, [path for path, _ in samples[name]], [label for _, label in samples[name]], channels)
        for name in SPLITS
    }
    return Pictures(str(root), classes, channels, size, splits)


def class_folders(root: Path, noun: str, sampler: Sampler) -> tuple[list[str], dict[str, list[tuple[Path, int]]]]:
    """The classes, and the samples of each split with their labels.

    Without folders for the splits, each class is split 70/15/15 in the order of a hash of the samples' names: the same
    files are in the same splits on every machine.

    Args:
        root: A folder of class folders, or of train, val and test that hold them.
        noun: What a sample is called in errors.
        sampler: From a class folder to the samples in it, sorted.

    Raises:
        DataError: If a split or a class misses, or a class is too small to be split, or what `sampler` raises.
    """
    folders = {OTHER_NAMES.get(folder.name, folder.name): folder for folder in _subfolders(root)}
    if "train" in folders:
        parts = _given_splits(root, folders, sampler)
    else:
        parts = _own_splits(root, {folder.name: sampler(folder) for folder in _subfolders(root)}, noun)
    classes = sorted(parts["train"])
    samples = {
        name: [(path, label) for label, kind in enumerate(classes) for path in parts[name].get(kind, [])]
        for name in SPLITS
    }
    return classes, samples


def _given_splits(root: Path, folders: dict[str, Path], sampler: Sampler) -> dict[str, dict[str, list[Path]]]:
    missing = [name for name in SPLITS if name not in folders]
    if missing:
        raise DataError(f"{root} must hold train, val and test folders; {' and '.join(missing)} missing")
    parts = {name: {kind.name: sampler(kind) for kind in _subfolders(folders[name])} for name in SPLITS}
    for name in ("val", "test"):
        unknown = sorted(set(parts[name]) - set(parts["train"]))
        if unknown:
            raise DataError(f"{folders[name]} holds class {unknown[0]!r}, which {folders['train']} does not")
    return parts


def _own_splits(root: Path, classes: dict[str, list[Path]], noun: str) -> dict[str, dict[str, list[Path]]]:
    if not classes:
        raise DataError(f"{root} must hold a folder of {noun}s for each class; it holds no folder")
    parts: dict[str, dict[str, list[Path]]] = {name: {} for name in SPLITS}
    for kind, files in classes.items():
        if len(files) < 3:
            raise DataError(f"{root / kind} needs three {noun}s or more to be split in three; got {len(files)}")
        ordered = sorted(files, key=lambda path: _hash(path.relative_to(root).as_posix()))
        last = max(1, round(len(files) * (1 - SHARES[1])))
        second = max(1, round(len(files) * (SHARES[1] - SHARES[0])))
        first = len(files) - second - last
        parts["train"][kind] = sorted(ordered[:first])
        parts["val"][kind] = sorted(ordered[first : first + second])
        parts["test"][kind] = sorted(ordered[first + second :])
    return parts


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from None


def _pictures(folder: Path) -> list[Path]:
    """Every picture in a class folder and below it; a file of another kind is an error, lest it be left out unsaid."""
    files = []
    for place, below, names in os.walk(folder):
        for name in below:
            if Path(name).suffix.lower() in SUFFIXES:
                raise DataError(f"{Path(place) / name} must be a file, as its name ends like a picture; it is a folder")
        for name in names:
            if name.startswith(".") or name.lower() in NOT_DATA:
                continue
            path = Path(place) / name
            if path.suffix.lower() in VIDEOS and path.suffix.lower() not in SUFFIXES:
                raise DataError(
                    f"{path} is a video, for networks of clips such as c2d_resnet50; pictures are wanted here"
                )
            if path.suffix.lower() not in SUFFIXES:
                raise DataError(f"{path} is not a picture ({', '.join(SUFFIXES)}); class folders hold pictures only")
            files.append(path)
    if not files:
        raise DataError(f"the class folder {folder} is empty")
    return sorted(files)


def _look(files: list[Path]) -> tuple[int, tuple[int, int] | None]:
    """Channels and common size, from headers evenly spread over the files."""
    step = max(1, len(files) // LOOKED_AT)
    headers = [read_header(path) for path in files[::step]]
    channels = 1 if all(grey for grey, _ in headers) else 3
    sizes = {size for _, size in headers}
    return channels, sizes.pop() if len(sizes) == 1 else None
