"""Pictures with what was found in them, and with where queries and tokens look."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.files import write_atomic
from foveate.tasks.detect.found import Found

__all__ = ["Panel", "draw_found", "write_picture", "write_sheet"]

SMALLEST_SIDE = 320  # to which small pictures are enlarged, so that words can be read,
LARGEST_SIDE = 4096  # but no longer side beyond this
COLOURS = "tab10"
HEAT = "inferno"
MARK = "#d62728"
PANEL_INCHES = 3.0
COLUMNS = 4

Box = Sequence[float]


class Panel:
    """A picture of a sheet.

    Args:
        title: Above it.
        image: uint8 (3, height, width).
        heat: A map over it, (rows, columns); None for none.
        boxes_xyxy: Boxes in it, in pixels.
        point: (x, y) in it, in pixels.
    """

    def __init__(
        self,
        title: str,
        image: Tensor,
        heat: Tensor | None = None,
        boxes_xyxy: Sequence[Box] = (),
        point: tuple[float, float] | None = None,
    ) -> None:
        self.title, self.image, self.heat, self.boxes_xyxy, self.point = title, image, heat, boxes_xyxy, point

    def draw(self, axes: Any) -> None:
        """Draw it into the axes of a figure."""
        from matplotlib import colormaps
        from matplotlib.patches import Rectangle

        picture = self.image.permute(1, 2, 0).float().numpy() / 255
        if self.heat is not None:
            heat = F.interpolate(self.heat[None, None].float(), self.image.shape[1:], mode="nearest-exact")[0, 0]
            shown = ((heat - heat.min()) / (heat.max() - heat.min()).clamp(min=1e-12)).numpy()
            picture = 0.5 * picture + 0.5 * colormaps[HEAT](shown)[..., :3]
        height, width = self.image.shape[1:]
        axes.imshow(picture.clip(0, 1), interpolation="nearest", extent=(0, width, height, 0))
        for colour, thick in (("white", 3.0), (MARK, 1.2)):  # a light edge, so that it is seen on dark and on light
            for left, top, right, bottom in self.boxes_xyxy:
                size = right - left, bottom - top
                axes.add_patch(Rectangle((left, top), *size, fill=False, color=colour, linewidth=thick))
            if self.point is not None:
                axes.plot(*self.point, "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, mew=thick)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_title(self.title, fontsize=9, parse_math=False)
        axes.axis("off")


def write_sheet(path: Path, panels: Sequence[Panel], title: str, columns: int = COLUMNS) -> Path:
    """Write panels in rows under a title as PNG."""
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    ratio = panels[0].image.shape[1] / panels[0].image.shape[2]
    height = rows * (PANEL_INCHES * ratio + 0.35) + 0.5
    figure = Figure(figsize=(columns * PANEL_INCHES, height), layout="constrained", dpi=110)
    figure.suptitle(title, fontsize=11, wrap=True, parse_math=False)
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in every[len(panels) :]:
        axes.axis("off")
    for panel, axes in zip(panels, every, strict=False):
        panel.draw(axes)
    body = io.BytesIO()
    figure.savefig(body, format="png")
    write_atomic(path, body.getvalue())
    return path


def draw_found(image: Tensor, found: Found, queries: Sequence[int], classes: Sequence[str]) -> Image.Image:
    """A picture uint8 (3, height, width) with the boxes of some queries, their classes and scores, and their masks."""
    height, width = image.shape[1:]
    scale = max(1, min(-(-SMALLEST_SIDE // min(height, width)), LARGEST_SIDE // max(height, width)))
    base = image.permute(1, 2, 0).numpy()
    if found.masks is not None:
        base = _with_masks(base, found, queries)
    picture = Image.fromarray(base).resize((width * scale, height * scale), Image.Resampling.NEAREST)
    side = min(picture.size)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(max(11, side // 32))
    thick = max(2, side // 200)
    for query in reversed(queries):  # the best above the others
        label = int(found.labels[query])
        colour = _colour(label)
        left, top, right, bottom = (edge * scale for edge in found.boxes_xyxy[query].tolist())
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=thick)
        text = f"{classes[label]} {float(found.scores[query]):.2f}"
        _, _, wide, high = pen.textbbox((0, 0), text, font=font)
        x, y = min(max(left, 0), picture.width - wide - 4), max(top - high - 4, 0)
        pen.rectangle((x, y, x + wide + 4, y + high + 4), fill=colour)
        pen.text((x + 2, y + 1), text, fill="white", font=font)
    return picture


def _with_masks(base: np.ndarray[Any, Any], found: Found, queries: Sequence[int]) -> np.ndarray[Any, Any]:
    assert found.masks is not None
    painted, covered = base.copy(), np.zeros(base.shape[:2], bool)
    for query in reversed(queries):  # the best above the others, and none through another
        mask = found.masks[query].numpy()
        painted[mask] = _colour(int(found.labels[query]))
        covered |= mask
    mixed = (base.astype(int) + painted + 1) // 2
    return np.where(covered[..., None], mixed, base).astype(np.uint8)


def _colour(label: int) -> tuple[int, int, int]:
    from matplotlib import colormaps

    red, green, blue = (round(255 * part) for part in colormaps[COLOURS](label % 10)[:3])
    return red, green, blue


def write_picture(path: Path, picture: Image.Image) -> Path:
    """Write a picture as PNG."""
    body = io.BytesIO()
    picture.save(body, format="PNG")
    write_atomic(path, body.getvalue())
    return path
