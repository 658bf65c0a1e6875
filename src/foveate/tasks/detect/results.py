"""What was found as files of COCO: boxes and masks with their scores, and panoptic maps with their segments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from foveate.files import write_atomic
from foveate.tasks.detect.drawing import write_picture
from foveate.tasks.detect.found import Found
from foveate.tasks.detect.panoptic import Segment, as_png
from foveate.tasks.detect.preparation import Preparation

__all__ = ["PanopticResults", "Results"]


class Results:
    """Annotations in the layout of COCO's own files, each with a score; what tools read that read these.

    Args:
        preparation: Names the categories.
    """

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: str, size: tuple[int, int], found: Found, queries: Sequence[int]) -> None:
        """Take what some queries found in a picture of (height, width)."""
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        for query in queries:
            left, top, right, bottom = found.boxes_xyxy[query].tolist()
            entry = {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": self.preparation.category_ids[int(found.labels[query])],
                "bbox": [round(number, 2) for number in (left, top, right - left, bottom - top)],
                "area": round((right - left) * (bottom - top), 2),
                "iscrowd": 0,
                "score": round(float(found.scores[query]), 6),
            }
            if found.masks is not None:
                mask = found.masks[query]
                entry |= {"segmentation": run_lengths(mask), "area": int(mask.sum())}
            self.annotations.append(entry)

    def write(self, path: Path) -> Path:
        """Write them."""
        return _write(path, self.images, self.annotations, self.preparation)


class PanopticResults:
    """Panoptic maps in the layout of COCO's: a PNG for each picture, and the segments of all in one file.

    Args:
        preparation: Names the categories.
        folder: For the maps.
    """

    def __init__(self, preparation: Preparation, folder: Path) -> None:
        self.preparation, self.folder = preparation, folder
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: str, flat: str, numbers: Tensor, segments: Sequence[Segment]) -> None:
        """Write the map of a picture, and take its segments."""
        image_id, file = len(self.images) + 1, f"{flat}.panoptic.png"
        height, width = numbers.shape
        write_picture(self.folder / file, Image.fromarray(as_png(numbers)))
        self.images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        told = [
            {
                "id": each.id,
                "category_id": self.preparation.category_ids[each.label],
                "area": each.area,
                "bbox": list(each.box),
                "iscrowd": 0,
                "score": round(each.score, 6),
            }
            for each in segments
        ]
        self.annotations.append({"image_id": image_id, "file_name": file, "segments_info": told})

    def write(self, path: Path) -> Path:
        """Write the segments."""
        return _write(path, self.images, self.annotations, self.preparation)


def _write(
    path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], preparation: Preparation
) -> Path:
    content = {"images": images, "annotations": annotations, "categories": categories(preparation)}
    write_atomic(path, json.dumps(content, indent=1) + "\n")
    return path


def categories(preparation: Preparation) -> list[dict[str, Any]]:
    """The classes as COCO's files list them."""
    named = zip(preparation.category_ids, preparation.classes, strict=True)
    return [{"id": number, "name": name, "isthing": int(number not in preparation.stuff)} for number, name in named]


def run_lengths(mask: Tensor) -> dict[str, Any]:
    """A mask bool (height, width) in COCO's compressed run lengths."""
    from pycocotools import mask as coco

    packed: Any = coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": packed["size"], "counts": packed["counts"].decode()}
