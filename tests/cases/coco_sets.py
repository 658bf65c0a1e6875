"""A small COCO data set, a box on each of its pictures, that tests spoil."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
Content = dict[str, list[dict[str, Any]]]


def write_coco(root: Path, spoil: Callable[[Content], object], folder: str = "", name: str = "result.json") -> Path:
    """Write eight pictures and a json file, which a function changes before."""
    content: Content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(8):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[10:30, 20:44] = 255
        picture[0, number] = 99
        Image.fromarray(picture).save(root / folder / f"{number}.png")
        file = f"{folder}/{number}.png".lstrip("/")
        content["images"].append({"id": number, "file_name": file, "width": WIDTH, "height": HEIGHT})
        box = {"bbox": [20, 10, 24, 20], "area": 480, "iscrowd": 0}
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, **box})
    spoil(content)
    (root / name).write_text(json.dumps(content))
    return root
