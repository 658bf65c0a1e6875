"""The samples of a split with the files that hold them, to tell if data changed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.data.clip_folders import FolderClips, frame_files
from foveate.data.volumes import Case

__all__ = ["Content", "contents_of"]


@dataclass(frozen=True)
class Content:
    """A sample.

    Args:
        name: What it is called.
        label: The class or the objects of it, in plain text.
        files: The files that hold it; none if it is made by code or lies in memory.
        value: Its bytes in memory.
    """

    name: str
    label: str
    files: tuple[Path, ...] = ()
    value: bytes = b""


def contents_of(split: Any, classes: Sequence[str] = ()) -> Iterator[Content]:
    """Iterate over the samples of a split of any reader.

    Args:
        split: The split, or a list of cases or of pairs of sentences.
        classes: The names of the classes, to which labels are numbers.
    """
    names = list(classes)
    if isinstance(split, FolderClips):
        for index, place in enumerate(split.places):
            files = (place,) if place.is_file() else tuple(frame_files(place))
            yield Content(split.name(index), names[split.label(index)], files)
    elif hasattr(split, "files"):
        for index, path in enumerate(split.files):
            yield Content(split.name(index), names[split.label(index)], (path,))
    elif hasattr(split, "images"):
        for index in range(len(split)):
            yield Content(split.name(index), names[split.label(index)], value=split.images[index].tobytes())
    elif hasattr(split, "scenes"):
        yield from map(_of_scene, split.scenes)
    elif hasattr(split, "cases"):
        yield from map(_of_case, split.cases)
    elif hasattr(split, "runs"):
        yield from _of_runs(split)
    elif isinstance(split, list):
        yield from _of_list(split)
    else:  # made by code
        yield from (Content(split.name(index), "") for index in range(len(split)))


def _of_scene(scene: Any) -> Content:
    objects = (scene.boxes_xyxy, scene.categories, scene.crowd, scene.segmentations)
    return Content(scene.name, repr(objects), (scene.file,))


def _of_case(case: Case) -> Content:
    images = [file for path in case.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    held = [file for file in images if file.is_file() and not file.name.startswith(".")]
    return Content(case.name, "", (*held, *([case.label] if case.label else [])))


def _of_runs(split: Any) -> Iterator[Content]:
    """Runs of slices, which COCO json or the table of DeepLesion describes."""
    for index, run in enumerate(split.runs):
        if hasattr(run, "scenes"):
            parts = [_of_scene(scene) for scene in run.scenes]
            label = repr([part.label for part in parts])
            yield Content(split.name(index), label, tuple(file for part in parts for file in part.files))
        else:
            yield Content(split.name(index), repr(run))


def _of_list(items: Iterable[Any]) -> Iterator[Content]:
    for number, item in enumerate(items):
        yield _of_case(item) if isinstance(item, Case) else Content(str(number), "", value="\n".join(item).encode())
