"""Pictures in class folders, which class_folders.py finds."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from foveate.data.class_folders import ClassFolders, Kind, class_folders, folder_split
from foveate.data.pictures import SPLITS, OneSplit, Pictures
from foveate.data.reading import SUFFIXES, read_header, read_picture
from foveate.data.split_names import JUNK
from foveate.data.video import VIDEOS
from foveate.errors import DataError

__all__ = ["LOOKED_AT", "FolderSplit", "open_folder_split", "open_folders"]

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

    def chosen(self, numbers: Sequence[int]) -> "FolderSplit":
        """Return some of the pictures as a split."""
        files, labels = ([held[number] for number in numbers] for held in (self.files, self.labels))
        return FolderSplit(self.root, files, labels, self.channels)  # pyright: ignore[reportArgumentType]

    def boxes_xyxy(self, index: int) -> None:
        return None

    def mask(self, index: int) -> None:
        return None


def open_folders(root: Path) -> Pictures:
    """Open root/train/CLASS/picture.png and its like for val and test, or root/CLASS/picture.png, as class_folders."""
    found = class_folders(root, PICTURES)
    channels, sizes = _look([path for name in SPLITS for path, _ in found.samples[name]])
    splits = {name: _split(root, found, name, channels) for name in SPLITS}
    size = sizes[0] if len(set(sizes)) == 1 else None
    return Pictures(str(root), found.classes, channels, size, splits, found.rule, found.notes, sizes)


def open_folder_split(root: Path, split: str) -> OneSplit:
    """Open one split alone, or all class folders if none is named after a split, as folder_split."""
    found = folder_split(root, split, PICTURES)
    channels, _ = _look([path for path, _ in found.samples[split]])
    return OneSplit(str(root), found.classes, _split(root, found, split, channels), found.rule, found.notes)


def _split(root: Path, found: ClassFolders, name: str, channels: int) -> FolderSplit:
    samples = found.samples[name]
    return FolderSplit(root, [path for path, _ in samples], [label for _, label in samples], channels)


def _pictures(folder: Path) -> list[Path]:
    """Every picture in a class folder and below it; a file of another kind is an error, lest it be left out unsaid."""
    files = []
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if name.lower() not in JUNK]
        for name in below:
            if Path(name).suffix.lower() in SUFFIXES:
                raise DataError(f"{Path(place) / name} must be a file, as its name ends like a picture; it is a folder")
        for name in names:
            if name.startswith(".") or name.lower() in JUNK:
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


def _holds_pictures(folder: Path) -> bool:
    """Tell if pictures lie in a folder itself, as they do in a class folder and not in that of a split."""
    return any(path.suffix.lower() in SUFFIXES and not path.name.startswith(".") for path in folder.iterdir())


PICTURES = Kind("picture", _pictures, _holds_pictures)


def _look(files: list[Path]) -> tuple[int, list[tuple[int, int]]]:
    """Return channels and sizes, from headers evenly spread over the files."""
    step = max(1, len(files) // LOOKED_AT)
    headers = [read_header(path) for path in files[::step]]
    channels = 1 if all(grey for grey, _ in headers) else 3
    return channels, [size for _, size in headers]
