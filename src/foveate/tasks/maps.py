"""maps.npz and maps.json of a run: a few pictures or clips with what a network attends to in them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.capture import channel_profile
from foveate.data import ClipSplit, Split
from foveate.files import write_atomic
from foveate.tasks import film
from foveate.tasks.attention import Look

__all__ = ["drawn", "pictures_of", "points_on", "write_maps"]

BORDER = 96  # grey of the lines between the frames of a clip


def write_maps(folder: Path, seen: Look, split: Split | ClipSplit, classes: Sequence[str], count: int) -> None:
    """Write maps.npz and maps.json: the first `count` samples of a look with their maps, and the profiles of all.

    A clip is a sheet of its frames, and so are its maps; its true place is an outline in every frame.
    """
    arrays: dict[str, np.ndarray] = {"images": _as_rgb(pictures_of(seen)[:count])}
    if seen.frames and seen.places is not None:
        arrays["truth"] = drawn(seen.places[:count].to(torch.uint8), seen, beyond=0).numpy()
    entries: list[dict[str, Any]] = []

    def add(tap: str, kind: str, values: Tensor, **more: Any) -> None:
        key = f"{kind}_{len(entries)}"
        arrays[key] = values.float().numpy()
        entries.append({"tap": tap, "kind": kind, "key": key, **more})

    for tap, values in seen.profiles.items():
        add(tap, "channel_profile", channel_profile(values, seen.labels, len(classes)))
    for tap, values in seen.between.items():
        add(tap, "frames", values.mean(dim=0))
    for tap, values in seen.spatial.items():
        if tap not in seen.rows:
            add(tap, "spatial", drawn(values[:count], seen))
    points = [[round(part, 4) for part in pair] for pair in points_on(seen)[:count].tolist()]
    for tap, values in seen.rows.items():
        add(tap, "rows", drawn(values[:count], seen), point=points)
    if seen.network is not None:
        add("network", "network", drawn(seen.network[:count], seen))
    predictions = seen.logits.argmax(dim=1).tolist()
    samples = [
        {
            "index": seen.indices[place],
            "name": split.name(seen.indices[place]),
            "label": classes[int(seen.labels[place])],
            "prediction": classes[predictions[place]],
            "box_xyxy": None if seen.frames else seen.boxes[place],
        }
        for place in range(count)
    ]
    body = io.BytesIO()
    np.savez_compressed(body, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomic(folder / "maps.npz", body.getvalue())
    size = list(arrays["images"].shape[1:3])
    index = {
        "samples": samples,
        "classes": list(classes),
        "image_size": size,
        "frames": seen.frames,
        "maps": entries,
    }
    write_atomic(folder / "maps.json", json.dumps(index, indent=1) + "\n")


def drawn(values: Tensor, seen: Look, beyond: float = float("nan")) -> Tensor:
    """Maps (sample, *space) as maps (sample, height, width): of pictures as they are, of clips as sheets of frames."""
    return film.sheet(values, seen.frames, beyond) if seen.frames else values


def pictures_of(seen: Look) -> Tensor:
    """uint8 (sample, channel, height, width): the pictures, or sheets with lines between the frames of a clip."""
    if not seen.frames:
        return seen.images
    images = seen.images.clone()
    images[..., -1, :] = BORDER
    images[..., -1] = BORDER
    return film.sheet(images, seen.frames, 0)


def points_on(seen: Look) -> Tensor:
    """The reference points on what `pictures_of` shows, (sample, 2) as (y, x) in 0..1."""
    return film.on_sheet(seen.points, seen.frames) if seen.frames else seen.points


def _as_rgb(images: Tensor) -> np.ndarray:
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
