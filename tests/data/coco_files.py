"""Small COCO data sets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.data.making import save_picture

HEIGHT, WIDTH = 8, 12


def entry(image: int, box: Any, category: Any = 3, **more: Any) -> dict[str, Any]:
    """An annotation."""
    return {"id": 100 * image + 7, "image_id": image, "bbox": box, "category_id": category, **more}


def save_coco(
    path: Path,
    folder: Path,
    count: int = 1,
    annotations: list[dict[str, Any]] | None = None,
    first: int = 0,
    **changes: Any,
) -> Path:
    """Pictures picNNN.png of noise with one box each, or those given, of categories 3 and 7."""
    images = []
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        save_picture(folder / f"pic{number:03}.png", noise)
        images.append({"id": number, "file_name": f"pic{number:03}.png", "height": HEIGHT, "width": WIDTH})
    if annotations is None:
        annotations = [entry(image["id"], [1, 2, 4, 3]) for image in images]
    categories = [{"id": 7, "name": "fox"}, {"id": 3, "name": "owl"}]
    content = {"images": images, "annotations": annotations, "categories": categories} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
