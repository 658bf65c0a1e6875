"""COCO json: pictures, their objects with boxes and masks, and what of them cannot be used.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, https://arxiv.org/abs/1405.0312; the format is at
https://cocodataset.org/#format-data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.boxes import Objects
from foveate.data.coco_entries import as_id, as_number, as_whole, find_id, possible_names
from foveate.data.findings import Tally
from foveate.data.json_files import read_json
from foveate.data.masks import decode_masks, is_mask
from foveate.data.reading import read_header, read_orientation, read_picture
from foveate.errors import DataError
from foveate.rules import check_bytes

__all__ = ["CocoFile", "CocoSplit", "Scene", "read_coco"]

CHANNELS = 3
FAR = 1e9  # pixels


@dataclass(frozen=True)
class Scene:
    """A picture of a file and what is in it; ids of categories are the file's.

    Pictures that are slices of volumes say "volume", "slice" and perhaps "spacing", and of their objects which "lesion"
    they are of: as they stand in the file, None where nothing is said.
    """

    file: Path
    name: str
    image_id: int | str
    size: tuple[int, int]
    boxes_xyxy: list[tuple[float, float, float, float]] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    segmentations: list[Any] = field(default_factory=list)
    lesions: list[Any] = field(default_factory=list)
    volume: Any = None
    slice: Any = None
    spacing: Any = None


@dataclass(frozen=True)
class CocoFile:
    """What a file holds that can be used.

    Args:
        path: Of the file.
        categories: Names by id.
        scenes: The pictures, in the order of the file.
        stuff: Ids of the categories that cannot be counted.
    """

    path: Path
    categories: Mapping[int, str]
    scenes: list[Scene]
    stuff: frozenset[int]


class CocoSplit:
    """Scenes as a split whose labels count the classes from zero.

    Args:
        scenes: The pictures.
        category_ids: The class of each id is its place here.
        with_masks: Whether masks are given.
        bits: Bits of grey pictures of more than 8 bits; see `read_picture`.
    """

    def __init__(
        self, scenes: Sequence[Scene], category_ids: Sequence[int], with_masks: bool = False, bits: int = 16
    ) -> None:
        self.scenes, self.with_masks, self.bits = list(scenes), with_masks, bits
        self._labels = {category: label for label, category in enumerate(category_ids)}

    def __len__(self) -> int:
        return len(self.scenes)

    def image(self, index: int) -> Tensor:
        scene = self.scenes[index]
        picture = read_picture(scene.file, CHANNELS, self.bits)
        if tuple(picture.shape[1:]) != scene.size:  # as of a PNG that says its orientation after its pixels
            raise DataError(
                f"{scene.file} is {tuple(picture.shape[1:])} once it is decoded; its header says {scene.size}"
            )
        return picture

    @property
    def paths(self) -> list[Path]:
        """The files of all pictures."""
        return [scene.file for scene in self.scenes]

    def size(self, index: int) -> tuple[int, int]:
        return self.scenes[index].size

    def name(self, index: int) -> str:
        return self.scenes[index].name

    def image_id(self, index: int) -> int | str:
        return self.scenes[index].image_id

    def objects(self, index: int) -> Objects:
        scene = self.scenes[index]
        return Objects(
            torch.tensor(scene.boxes_xyxy, dtype=torch.float32).reshape(-1, 4),
            torch.tensor([self._labels[category] for category in scene.categories], dtype=torch.long),
            torch.tensor(scene.crowd, dtype=torch.bool),
            torch.tensor(scene.areas, dtype=torch.float32),
        )

    def masks(self, index: int) -> Tensor | None:
        if not self.with_masks:
            return None
        scene = self.scenes[index]
        check_bytes(scene.file, len(scene.segmentations) * scene.size[0] * scene.size[1], "has masks that unpack to")
        return decode_masks(scene.segmentations, *scene.size)


def read_coco(path: Path, folders: Sequence[Path], tally: Tally, *, masks: bool | None = False) -> CocoFile:
    """Read a file and the headers of its pictures; what cannot be used is left out and counted.

    Args:
        path: The json file.
        folders: Where its pictures may be: that which holds most of them counts for all.
        tally: Counts what is left out or put right.
        masks: Whether segmentations are kept; objects without one are left out, or, with None, kept and counted.

    Raises:
        DataError: If the file is not COCO json, or none of its pictures is there.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        held = content.get(key) if isinstance(content, dict) else None
        if not isinstance(held, list) or not all(isinstance(entry, dict) for entry in held):
            raise DataError(f"{path} must hold lists of images, annotations and categories as COCO does; {key} is none")
    categories: dict[int, str] = {}
    for entry in content["categories"]:
        number = _integer(entry, "id", path)
        if number in categories:
            raise DataError(f"{path} must give each category an id of its own; {number} is there twice")
        categories[number] = " ".join(str(entry.get("name", number)).split())
    scenes = _scenes(path, content["images"], folders, tally)
    for entry in content["annotations"]:
        image_id, category = find_id(entry.get("image_id"), scenes), as_whole(entry.get("category_id"))
        where = f"annotation {entry.get('id')} in {path.name}"
        if image_id is None:
            tally.add("annotations of a picture that is not listed, left out", where)
        elif category is None or category not in categories:
            tally.add("annotations of a category that is not listed, left out", where)
        elif (scene := scenes[image_id]) is not None:
            _add(scene, entry | {"category_id": category}, tally, masks)
    things = {_integer(entry, "id", path): as_whole(entry.get("isthing")) for entry in content["categories"]}
    stuff = frozenset(number for number, thing in things.items() if thing == 0)
    return CocoFile(path, categories, [scene for scene in scenes.values() if scene is not None], stuff)


def _integer(entry: Mapping[str, Any], key: str, path: Path) -> int:
    number = as_whole(entry.get(key))
    if number is None:
        raise DataError(f"{path} must give each category a whole number as {key}; got {str(entry)[:200]}")
    return number


def _scenes(
    path: Path, images: Sequence[Mapping[str, Any]], folders: Sequence[Path], tally: Tally
) -> dict[int | str, Scene | None]:
    """Pictures by id; None for those that cannot be used."""
    for entry in images:
        if as_id(entry.get("id")) is None or not isinstance(entry.get("file_name"), str):
            raise DataError(f"{path} must give each image an id and a file_name; got {str(entry)[:200]}")
    images = [{**entry, "id": as_id(entry["id"])} for entry in images]
    folder = _folder(path, [entry["file_name"] for entry in images], folders)
    scenes: dict[int | str, Scene | None] = {}
    for entry in images:
        if entry["id"] in scenes:
            raise DataError(f"{path} must give each image an id of its own; {entry['id']!r} is there twice")
        scenes[entry["id"]] = _scene(entry, folder, tally)
    return scenes


def _folder(path: Path, names: Sequence[str], folders: Sequence[Path]) -> Path:
    held = {folder: sum(_found(folder, name) is not None for name in names) for folder in folders}
    folder = max(held, key=held.__getitem__, default=path.parent)  # of equal ones the first
    if not names or held.get(folder):
        return folder
    looked = ", ".join(map(str, folders))
    raise DataError(f"none of the {len(names)} pictures that {path} lists is there, such as {names[0]}, in {looked}")


def _scene(entry: Mapping[str, Any], folder: Path, tally: Tally) -> Scene | None:
    name = _found(folder, entry["file_name"])
    if name is None:
        tally.add("pictures that are missing, left out", str(folder / entry["file_name"]))
        return None
    file = folder / name
    try:
        _, size = read_header(file)
    except DataError as error:
        tally.add("pictures that cannot be read, left out", str(error))
        return None
    said = (as_number(entry.get("height")) or size[0], as_number(entry.get("width")) or size[1])
    if said != size:
        found = f"{file} is {size[0]} high and {size[1]} wide, where {said[0]!r:.100} and {said[1]!r:.100} were said"
        tally.add("pictures of another size than said (turned by EXIF, maybe), left out", found)
        return None
    if _is_turned_unseen(file, size):
        tally.add("pictures that EXIF turns or mirrors, whose boxes are taken as of the upright picture", str(file))
    place = (entry.get("volume"), entry.get("slice"), entry.get("spacing"))
    return Scene(file, name, entry["id"], size, volume=place[0], slice=place[1], spacing=place[2])


def _is_turned_unseen(file: Path, size: tuple[int, int]) -> bool:
    """Return whether EXIF turns a picture and its size does not show whether the boxes were turned with it."""
    orientation = read_orientation(file)
    return orientation > 1 and (orientation < 5 or size[0] == size[1])


def _add(scene: Scene, entry: Mapping[str, Any], tally: Tally, masks: bool | None) -> None:
    """Put an object into its scene, cut at the picture's edge, if it can be used."""
    where = f"annotation {entry.get('id')} of {scene.name}"
    box = entry.get("bbox")
    box = list(map(as_number, box)) if isinstance(box, list) else box
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return tally.add("boxes that are not four finite numbers, left out", f"{where}: {str(box)[:100]}")
    height, width = scene.size
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if box[2] <= 0 or box[3] <= 0:
        return tally.add("boxes without area, left out", f"{where}: {box}")
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return tally.add("boxes outside their picture, left out", f"{where}: {box}")
    segmentation, crowd = entry.get("segmentation"), as_number(entry.get("iscrowd", 0))
    segmentation = _good_outlines(segmentation, height, width, where, tally) if masks is not False else segmentation
    usable = masks is not False and is_mask(segmentation, height, width)
    if masks and not usable:
        return tally.add("objects without a mask that can be used, left out", where)
    if masks is None and not usable and crowd != 1:
        tally.add("objects without a mask that can be used, so that boxes alone count", where)
    if any(abs(edge - cut) > 1 for edge, cut in zip((left, top, right, bottom), inside, strict=True)):
        tally.add("boxes that reach out of their picture, cut at its edge", f"{where}: {box}")
    scene.boxes_xyxy.append(inside)
    scene.categories.append(entry["category_id"])
    if crowd not in (0, 1, None):
        tally.add("objects whose iscrowd is neither 0 nor 1, taken for single ones", f"{where}: {str(crowd)[:100]}")
    scene.crowd.append(crowd == 1)
    area = as_number(entry.get("area", box[2] * box[3]))
    scene.areas.append(area if _is_finite(area) else box[2] * box[3])
    scene.segmentations.append(segmentation if usable else None)
    scene.lesions.append(entry.get("lesion"))
    return None


def _good_outlines(segmentation: Any, height: int, width: int, where: str, tally: Tally) -> Any:
    """Return an object's outlines without those that are none, as of two points, if any are left; else all."""
    if not isinstance(segmentation, list) or is_mask(segmentation, height, width):
        return segmentation
    good = [outline for outline in segmentation if is_mask([outline], height, width)]
    if not is_mask(good, height, width):
        return segmentation
    tally.add("objects with outlines that are none, whose other outlines count", where)
    return good


def _found(folder: Path, name: str) -> str | None:
    """Return the name of a picture in a folder, with slashes if the file has backslashes; None if it is not there."""
    return next((each for each in possible_names(name) if _is_file(folder / each)), None)


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < FAR


def _is_file(path: Path) -> bool:
    """Whether there is a file, also where no file could have such a name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
