"""Draw maps over pictures, for `foveate attend`."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from foveate.errors import DataError
from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.tasks.attention import Look
from foveate.tasks.maps import drawn, pictures_of, points_on

__all__ = ["flat_names", "overlay", "write_overlays"]

SMALLEST_SIDE = 224  # to which small pictures are enlarged,
LARGEST_SIDE = 4096  # but no longer side beyond this
COLOURS = "inferno"
RING = "cyan"


def overlay(image: Tensor, heat: Tensor, *, smooth: bool = True, point: Sequence[float] | None = None) -> Image.Image:
    """A picture half covered by the colours of a map, from its lowest value to its highest; bare where that has none.

    Args:
        image: The picture.
        heat: The map.
        smooth: Whether the map is interpolated; else its cells are seen.
        point: Where to draw a ring, (y, x) in 0..1.

    Shape:
        image uint8 (channel, height, width), heat (height, width) of any size
    """
    from matplotlib import colormaps

    height, width = image.shape[1:]
    scale = max(1, min(-(-SMALLEST_SIDE // min(height, width)), LARGEST_SIDE // max(height, width)))
    size = (height * scale, width * scale)
    known = heat[~heat.isnan()]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    shown = (heat - low) / (high - low) if high > low else heat * 0
    mode, aligned = ("bilinear", False) if smooth else ("nearest-exact", None)
    shown = F.interpolate(shown[None, None].float(), size=size, mode=mode, align_corners=aligned)[0, 0]
    colours = (colormaps[COLOURS](shown.nan_to_num().numpy())[..., :3] * 255).astype(np.uint8)
    picture = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).numpy())
    picture = picture.resize((size[1], size[0]), Image.Resampling.NEAREST)
    covered = Image.fromarray((~shown.isnan()).numpy().astype(np.uint8) * 128)
    picture = Image.composite(Image.fromarray(colours), picture, covered)
    if point is not None:
        y, x, radius = point[0] * size[0], point[1] * size[1], max(3, min(size) // 40)
        ring = [x - radius, y - radius, x + radius, y + radius]
        ImageDraw.Draw(picture).ellipse(ring, outline=RING, width=max(2, radius // 3))
    return picture


def flat_names(names: Sequence[str]) -> list[str]:
    """Names that are paths as names of files in one folder.

    Raises:
        DataError: If two would be the same.
    """
    flat: dict[str, str] = {}
    for name in names:
        short = name.replace("/", "_")
        if short in flat:
            raise DataError(f"results of {flat[short]} and of {name} would have one name; give them in two calls")
        flat[short] = name
    return list(flat)


def write_overlays(out: Path, seen: Look, names: Sequence[str]) -> list[Path]:
    """Write NAME.TAP.png for every map with places, gates.csv for gates of channels, and of clips frames.csv for the
    weight that frames give to each other; the paths of the files.
    """
    maps = {"network": seen.network} if seen.network is not None else {}
    maps |= seen.spatial | seen.rows
    pictures, points = pictures_of(seen), points_on(seen).tolist()
    written = []
    for place, name in enumerate(flat_names(names)):
        for tap, values in maps.items():
            heat = drawn(values[place : place + 1], seen)[0]
            point = points[place] if seen.frames and tap in seen.rows else None
            body = io.BytesIO()
            overlay(pictures[place], heat, smooth=not seen.frames, point=point).save(body, format="PNG")
            written.append(out / f"{name}.{tap}.png")
            write_atomic(written[-1], body.getvalue())
    if seen.between:
        written.append(out / "frames.csv")
        write_atomic(written[-1], _frames_table(seen, names))
    if seen.profiles:
        text = io.StringIO()
        writer = TableWriter(text)
        writer.writerow(["clip" if seen.frames else "picture", "tap", "channel", "gate"])
        for tap, gates in seen.profiles.items():
            for name, row in zip(names, gates.tolist(), strict=True):
                writer.writerows([name, tap, channel, f"{gate:.6g}"] for channel, gate in enumerate(row))
        written.append(out / "gates.csv")
        write_atomic(written[-1], text.getvalue())
    return written


def _frames_table(seen: Look, names: Sequence[str]) -> str:
    """A row for each clip, tap and pair of frames, counted from 0 along the features of the tap."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(["clip", "tap", "frame", "looks at", "weight"])
    for tap, weights in seen.between.items():
        for name, matrix in zip(names, weights.tolist(), strict=True):
            for frame, row in enumerate(matrix):
                writer.writerows([name, tap, frame, other, f"{weight:.6g}"] for other, weight in enumerate(row))
    return text.getvalue()
