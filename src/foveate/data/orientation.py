"""How the axes of a file lie to the patient, and volumes cut into slices as radiologists look at them.

Axes are permuted and flipped, never rotated, so an oblique scan stays oblique.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

__all__ = ["PLANES", "Cut", "Plane", "cut_along", "orientation"]

Plane = Literal["axial", "coronal", "sagittal"]

# The axes of slices, rows and columns: 0 runs to the right, 1 to the front and 2 to the head.
PLANES: dict[Plane, tuple[int, int, int]] = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}


@dataclass(frozen=True)
class Cut:
    """How slices lie in a file.

    Args:
        order: The axis of the file that becomes slices, rows and columns.
        flipped: Those of slices, rows and columns, 0 to 2, that run against the file's.
    """

    order: tuple[int, int, int]
    flipped: tuple[int, ...]

    def there(self, array: Tensor) -> Tensor:
        """From the file's axes (x, y, z) to (slice, height, width)."""
        return array.permute(self.order).flip(self.flipped).contiguous()

    def back(self, slices: Tensor) -> Tensor:
        """From (slice, height, width) to the file's axes (x, y, z): the inverse of there()."""
        return slices.flip(self.flipped).permute([self.order.index(axis) for axis in range(3)]).contiguous()

    def sizes(self, spacing: Sequence[float]) -> tuple[float, float, float]:
        """What is said of x, y and z, in the order of slices, rows and columns."""
        slices, rows, columns = (float(spacing[axis]) for axis in self.order)
        return slices, rows, columns


def cut_along(affine: np.ndarray, plane: Plane) -> Cut:
    """The cut along the file's axes that are nearest to those of a plane, shown as from the feet or from the front.

    Axial slices come from the feet to the head, with the front in the first row and the patient's right in the first
    column; coronal ones from the back to the front, with the head first and the right first; sagittal ones from left
    to right, with the head first and the front first.

    Raises:
        ValueError: If there is no such plane.
    """
    if plane not in PLANES:
        raise ValueError(f"plane is one of {', '.join(PLANES)}; got {plane!r}")
    order, against = orientation(affine)
    slices, rows, columns = (order[axis] for axis in PLANES[plane])
    # Slices run along right, front and head; rows and columns run from these.
    flipped = tuple(place for place, axis in enumerate(PLANES[plane]) if (axis in against) != (place > 0))
    return Cut((slices, rows, columns), flipped)


def orientation(affine: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The file's axis that runs nearest along right, anterior and superior, and which of these run against it."""
    from nibabel.orientations import io_orientation

    found = io_orientation(affine)  # for each axis of the file: where it goes, and 1 or -1
    order = tuple(int(axis) for axis in np.argsort(found[:, 0]))
    return order, tuple(place for place, axis in enumerate(order) if found[axis, 1] < 0)
