"""Draw maps over pictures, for `foveate attend`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from foveate.errors import DataError
from foveate.files import write_atomic
from foveate.tasks.attention import Look

__all__ = ["flat_names", "overlay", "write_overlays"]

SMALLEST_SIDE = 224  # to which small pictures are enlarged,
LARGEST_SIDE = 4096  # but no longer side beyond this
COLOURS = "inferno"


def overlay(image: Tensor, heat: Tensor) -> Image.Image:
    """A picture half covered by the colours of a map, from its lowest value to its highest.

    Shape:
        image uint8 (channel, height, width), heat (height, width) of any size
    """
    from matplotlib import colormaps

    height, width = image.shape[1:]
    scale = max(1, min(-(-SMALLEST_SIDE // min(height, width)), LARGEST_SIDE // max(height, width)))
    size = (height * scale, width * scale)
    low, high = heat.min(), heat.max()
    shown = (heat - low) / (high - low) if high > low else heat * 0
    shown = F.interpolate(shown[None, None].float(), size=size, mode="bilinear", align_corners=False)[0, 0]
    colours = (colormaps[COLOURS](shown.numpy())[..., :3] * 255).astype(np.uint8)
    picture = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).numpy())
    picture = picture.resize((size[1], size[0]), Image.Resampling.NEAREST)
    return Image.blend(picture, Image.fromarray(colours), 0.5)


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
    """Write NAME.TAP.png for every map with places, and gates.csv for gates of channels; the paths of the files."""
    maps = {"network": seen.network} if seen.network is not None else {}
    maps |= seen.spatial | seen.rows
    written = []
    for place, name in enumerate(flat_names(names)):
        for tap, heat in maps.items():
            body = io.BytesIO()
            overlay(seen.images[place], heat[place]).save(body, format="PNG")
            written.append(out / f"{name}.{tap}.png")
            write_atomic(written[-1], body.getvalue())
    if seen.profiles:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["picture", "tap", "channel", "gate"])
        for tap, gates in seen.profiles.items():
            for name, row in zip(names, gates.tolist(), strict=True):
                writer.writerows([name, tap, channel, f"{gate:.6g}"] for channel, gate in enumerate(row))
        written.append(out / "gates.csv")
        write_atomic(written[-1], text.getvalue())
    return written
