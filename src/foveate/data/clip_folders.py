"""Class folders of clips: a video file is one, and so is a folder of pictures, its frames."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from foveate.data.class_folders import ClassFolders, Kind, class_folders, folder_split
from foveate.data.clips import Clips
from foveate.data.folders import LOOKED_AT
from foveate.data.pictures import SPLITS, OneSplit
from foveate.data.reading import SUFFIXES, read_header, read_picture
from foveate.data.split_names import JUNK
from foveate.data.video import VIDEOS, count_frames, read_frames, read_video_header
from foveate.errors import DataError
from foveate.files import irregular

__all__ = ["FolderClips", "clips_in", "frame_files", "holds_frames", "open_clip_folders"]
__all__ += ["open_clip_split"]

PICTURES = tuple(suffix for suffix in SUFFIXES if suffix not in VIDEOS)
WANTED = f"a clip is a video file ({', '.join(VIDEOS)}), or a folder of its frames below the class folder"


class FolderClips:
    """Videos in files and in folders of frames, read when asked for.

    Args:
        root: The folder that names are relative to.
        places: The files and folders.
        labels: The class of each.
        channels: 1 or 3, to which every frame is brought.
        bits: Bits of grey frames of more than 8 bits in files of their own; see `read_picture`.
    """

    def __init__(self, root: Path, places: list[Path], labels: list[int], channels: int, bits: int = 16) -> None:
        self.root, self.places, self.labels, self.channels, self.bits = root, places, labels, channels, bits
        self._lengths: dict[int, int] = {}
        self._frames: dict[int, list[Path]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def length(self, index: int) -> int:
        if index not in self._lengths:
            path = self.places[index]
            self._lengths[index] = count_frames(path) if path.is_file() else len(self._files(index))
        return self._lengths[index]

    def clip(self, index: int, frames: Sequence[int]) -> Tensor:
        path = self.places[index]
        if path.is_file():
            return read_frames(path, self.channels, frames)
        files = self._files(index)
        if not frames or min(frames) < 0:
            raise ValueError(f"frames must be one number or more, none below 0; got {list(frames)}")
        if max(frames) >= len(files):
            found = f"it has {len(files)} frames"
            raise DataError(f"{path} must have frame {max(frames)}, counted from 0, to be read; {found}")
        held = {number: self._frame(files, number) for number in sorted(set(frames))}
        return torch.stack([held[number] for number in frames], dim=1)

    def label(self, index: int) -> int:
        return self.labels[index]

    def name(self, index: int) -> str:
        return self.places[index].relative_to(self.root).as_posix()

    def chosen(self, numbers: Sequence[int]) -> "FolderClips":
        """Return some of the videos as a split."""
        places, labels = ([held[number] for number in numbers] for held in (self.places, self.labels))
        return FolderClips(self.root, places, labels, self.channels)  # pyright: ignore[reportArgumentType]

    def boxes_xyxy(self, index: int) -> None:
        return None

    @property
    def paths(self) -> list[Path]:
        """The files of all frames that have files of their own."""
        return [path for index, place in enumerate(self.places) if place.is_dir() for path in self._files(index)]

    def _files(self, index: int) -> list[Path]:
        if index not in self._frames:
            self._frames[index] = frame_files(self.places[index])
        return self._frames[index]

    def _frame(self, files: list[Path], number: int) -> Tensor:
        picture = read_picture(files[number], self.channels, self.bits)
        size, first = tuple(picture.shape[1:]), read_header(files[0])[1]
        if size != first:
            wanted = f"the size of {files[0].name}, {first[1]}x{first[0]} pixels, as a frame of the same clip"
            raise DataError(f"{files[number]} must have {wanted}; got {size[1]}x{size[0]}")
        return picture


def open_clip_folders(root: Path) -> Clips:
    """Open root/train/CLASS/video.mp4, root/train/CLASS/CLIP/0001.jpg and their like for val and test, or the same
    without folders for the splits, as class_folders.
    """
    found = class_folders(root, VIDEO)
    channels, sizes = _look([path for name in SPLITS for path, _ in found.samples[name]])
    splits = {name: _split(root, found, name, channels) for name in SPLITS}
    size = sizes[0] if len(set(sizes)) == 1 else None
    return Clips(str(root), found.classes, channels, size, splits, found.rule, found.notes, sizes)


def open_clip_split(root: Path, split: str) -> OneSplit:
    """Open one split alone, or all class folders if none is named after a split, as folder_split."""
    found = folder_split(root, split, VIDEO)
    channels, _ = _look([path for path, _ in found.samples[split]])
    return OneSplit(str(root), found.classes, _split(root, found, split, channels), found.rule, found.notes)


def _split(root: Path, found: ClassFolders, name: str, channels: int) -> FolderClips:
    samples = found.samples[name]
    return FolderClips(root, [path for path, _ in samples], [label for _, label in samples], channels)


def frame_files(folder: Path) -> list[Path]:
    """The frames of a clip in the order of their names, numbers in them by value: 2 before 10."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError as error:
        kind = irregular(folder)
        told = f"it is {kind}" if kind not in (None, "a folder") else error.strerror
        raise DataError(f"{folder} must be a video or a folder of frames; {told}") from None
    return sorted((folder / name for name in names if _is_data(name)), key=_by_numbers)


def holds_frames(folder: Path) -> bool:
    """Whether a folder is a clip: pictures are in it, and nothing else."""
    files = list(folder.iterdir())
    return any(path.suffix.lower() in PICTURES for path in files) and all(
        path.is_file() and path.suffix.lower() in PICTURES for path in files if _is_data(path.name)
    )


def _by_numbers(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)], path.name


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in JUNK


def clips_in(folder: Path) -> list[Path]:
    """Every clip in a class folder and below it; a file of another kind is an error, lest it be left out unsaid."""
    clips: list[Path] = []
    for at, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".") and name.lower() not in JUNK]
        place = Path(at)
        files = [place / name for name in sorted(names) if _is_data(name)]
        pictures = [path for path in files if path.suffix.lower() in PICTURES]
        others = [path for path in files if path not in pictures]
        if pictures and place == folder:
            raise DataError(f"{pictures[0]} is a picture in a class folder; {WANTED}")
        for path in others:
            if path.suffix.lower() not in VIDEOS:
                raise DataError(f"{path} is no video and no picture; {WANTED}")
        if pictures and others:
            raise DataError(f"{others[0]} is a video among pictures; a folder holds videos, or the frames of one clip")
        if pictures and below:
            raise DataError(f"{place} holds pictures and folders; a folder holds videos, or the frames of one clip")
        if not files and not below:
            kind = "class" if place == folder else "clip"
            raise DataError(f"the {kind} folder {place} is empty")
        clips += [place] if pictures else others
    return sorted(clips)


def _holds_clips(folder: Path) -> bool:
    """Tell if videos, or folders of frames, lie in a folder itself, as in a class folder and not in that of a split."""
    entries = [path for path in folder.iterdir() if _is_data(path.name)]
    return any(
        path.suffix.lower() in VIDEOS if path.is_file() else path.is_dir() and holds_frames(path) for path in entries
    )


VIDEO = Kind("video", clips_in, _holds_clips)


def _look(places: list[Path]) -> tuple[int, list[tuple[int, int]]]:
    """Return channels and sizes, from the first frames of clips evenly spread over all."""
    step = max(1, len(places) // LOOKED_AT)
    headers = [
        read_video_header(path) if path.is_file() else read_header(frame_files(path)[0]) for path in places[::step]
    ]
    channels = 1 if all(grey for grey, _ in headers) else 3
    return channels, [size for _, size in headers]
