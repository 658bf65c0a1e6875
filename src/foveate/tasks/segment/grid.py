"""The grid that a network sees: axes along right, anterior and superior as nearly as the file's allow, one spacing.

Axes are permuted and flipped, never rotated, so an oblique scan stays oblique. Both grids cover the same field of view:
what is resized there and back stays in its place.
"""

import dataclasses
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from foveate.data.orientation import orientation
from foveate.data.volumes import Volume

__all__ = ["Grid", "grid_for", "resized"]

LINEAR = {2: "bilinear", 3: "trilinear"}


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the grid of a file and that of the network lie to each other.

    Args:
        order: The axis of the file that becomes each axis of the network.
        flipped: The network's axes that run against the file's.
        shape: Of the file, in the network's order.
        size: Of the network's grid.
    """

    order: tuple[int, ...]
    flipped: tuple[int, ...]
    shape: tuple[int, ...]
    size: tuple[int, ...]

    def there(self, image: Tensor, *, labels: bool = False) -> Tensor:
        """From the file's grid to the network's, (channel, *space); labels are never mixed."""
        turned = image.permute(0, *(1 + axis for axis in self.order))
        return resized(turned.flip([1 + axis for axis in self.flipped]), self.size, labels=labels).contiguous()

    def back(self, image: Tensor) -> Tensor:
        """From the network's grid to the file's, (channel, *space)."""
        turned = resized(image, self.shape).flip([1 + axis for axis in self.flipped])
        return turned.permute(0, *(1 + self.order.index(axis) for axis in range(len(self.order))))


def grid_for(volume: Volume, spacing: Sequence[float] | None) -> Grid:
    """The grid of a volume with some spacing along right, anterior and superior; None for that of the file."""
    space = tuple(volume.image.shape[1:])
    if len(space) == 2:
        return Grid((0, 1), (), space, space)
    order, flipped = orientation(volume.affine)
    shape = tuple(space[axis] for axis in order)
    if spacing is None:
        return Grid(order, flipped, shape, shape)
    own = [volume.spacing[axis] for axis in order]
    size = tuple(max(1, round(n * mm / to)) for n, mm, to in zip(shape, own, spacing, strict=True))
    return Grid(order, flipped, shape, size)


def resized(image: Tensor, size: Sequence[int], *, labels: bool = False) -> Tensor:
    """(channel, *space) on another grid over the same field of view."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    if labels:
        return F.interpolate(image[None].float(), size=tuple(size), mode="nearest-exact")[0].to(image.dtype)
    return F.interpolate(image[None], size=tuple(size), mode=LINEAR[len(size)], align_corners=False)[0]
