"""The embedded lesions in CT: only what lies beyond the three adjacent slices tells a lesion from a distractor.

A lesion is a soft elliptic cylinder of one cross-section over 7 to 13 slices. A distractor is three slices of one: what
could be lesions is put in, six of each look, and chance makes one of them a lesion and five distractors. In all its
slices either has the same signal. So what sees a slice with its two neighbours, as a plain 2.5-D network does, cannot
tell the middle of a distractor from the inside of a lesion, nor an end from an end; farther slices tell it. A slice
shows the middle of one distractor on the average, so that without farther ones half of the insides of lesions are found
at half a false positive a slice: as insides are eight of ten slices, two fifths of all.

The background is real where Debian's package invesalius-examples is installed: the head "ProMED CT 0051", of which
training, validation and test have slices of their own, 26 to 49, 50 to 69 and 70 to 89 of 108, flipped, turned and
scaled anew for each volume. Elsewhere it is a texture in the range of soft tissue. `Stacks.rule` says which one it is.
A volume is decided by the seed, its split, its number and the background alone, and drawn anew each time.
"""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F

from foveate.data.inv3 import read_inv3
from foveate.data.stacks import Stack, Stacks
from foveate.data.volumes import Volume
from foveate.errors import DataError

__all__ = ["DEPTH", "HEAD", "SIDE", "Blob", "LesionSplit", "open_demo_lesions"]

HEAD = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")
SIDE = 128
DEPTH = 20
VOLUMES = {"train": 48, "val": 8, "test": 24}
PARTS = {"train": (26, 50), "val": (50, 70), "test": (70, 90)}  # of the head, in slices
CENTRES = {"train": (100.0, 128.0), "val": (108.0, 128.0), "test": (115.0, 125.0)}  # of the brain there: row, column
LESIONS = 4
DISTRACTORS = 5  # as each lesion looks
LENGTHS = (7, 13)  # of a lesion, in slices
SHORT = 3  # slices of a distractor
RADII = (4.0, 6.5)  # pixels, along the longer axis
CONTRASTS = (70.0, 130.0)  # Hounsfield units
EDGE = 0.6  # pixels over which a cross-section fades
APART = 2.0  # pixels between two cross-sections
TISSUE = (-40.0, 110.0)  # Hounsfield units in which anything is put
TRIES = 600
SPACING = (1.5, 0.957, 0.957)  # mm


@dataclasses.dataclass(frozen=True)
class Blob:
    """A lesion or a distractor, put into a volume.

    Args:
        row: Of its centre, in pixels.
        column: Of its centre, in pixels.
        radii: Along its two axes, in pixels.
        angle: Of the first axis, in radians.
        contrast: What its middle adds, in Hounsfield units.
        first: The first of its slices.
        length: How many slices it has.
    """

    row: float
    column: float
    radii: tuple[float, float]
    angle: float
    contrast: float
    first: int
    length: int

    def signal(self) -> np.ndarray:
        """What it adds to each of its slices, Hounsfield units, float32 (height, width)."""
        rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        down, right = rows - self.row, columns - self.column
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        along, across = (cosine * right + sine * down) / self.radii[0], (cosine * down - sine * right) / self.radii[1]
        depth = (1 - np.sqrt(along**2 + across**2)) * self.radii[1] / EDGE
        share = 1 / (1 + np.exp(-depth.clip(-6, 6)))
        return np.where(depth > -4, self.contrast * share, 0).astype(np.float32)

    def mask(self) -> np.ndarray:
        """Where it adds half its contrast or more, bool (height, width)."""
        return self.signal() >= self.contrast / 2

    @property
    def slices(self) -> slice:
        return slice(self.first, self.first + self.length)


class LesionSplit:
    """Volumes with lesions and distractors.

    Args:
        name: "train", "val" or "test".
        count: How many volumes there are.
        seed: Decides everything, with the volume's number.
        head: The part of the head that is cut from, int16 (slice, height, width); None for the texture.
    """

    def __init__(self, name: str, count: int, seed: int, head: np.ndarray | None) -> None:
        self.split, self.count, self.seed, self.head = name, count, seed, head

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def stack(self, index: int) -> Stack:
        slices, spacing, lesions, distractors = self._draw(index)
        instances = torch.zeros(slices.shape, dtype=torch.int32)
        for blob in (*lesions, *distractors):
            slices[blob.slices] += blob.signal()
        for number, blob in enumerate(lesions, start=1):
            instances[blob.slices, torch.from_numpy(blob.mask())] = number
        held = torch.from_numpy(slices)
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        image, label = _voxels(held)[None], _voxels((instances > 0).to(torch.uint8))
        return Stack(
            self.name(index),
            held,
            spacing,
            instances,
            torch.zeros(len(lesions), dtype=torch.int64),
            {},
            torch.ones(len(held), dtype=torch.bool),
            Volume(image, label, affine, spacing[::-1], self.name(index)),
            _voxels,
        )

    def lesions(self, index: int) -> list[Blob]:
        """What is to be found in a volume, in the order of its instances."""
        return self._draw(index)[2]

    def distractors(self, index: int) -> list[Blob]:
        """What looks alike over three slices, and is no lesion."""
        return self._draw(index)[3]

    def _draw(self, index: int) -> tuple[np.ndarray, tuple[float, float, float], list[Blob], list[Blob]]:
        """The background, the spacing, and what goes into it."""
        if not 0 <= index < self.count:
            raise IndexError(f"{self.split} has volumes 0 to {self.count - 1}; got {index}")
        random = RandomState([self.seed, index])
        slices, zoom = (_texture(random), 1.0) if self.head is None else _cut(self.head, CENTRES[self.split], random)
        smooth = F.avg_pool2d(torch.from_numpy(slices), 3, stride=1, padding=1, count_include_pad=False).numpy()
        tissue = (smooth > TISSUE[0]) & (smooth < TISSUE[1])
        lesions, distractors, placed = [], [], []
        for _ in range(LESIONS):
            look, alike = _look(random), []
            for _ in range(1 + DISTRACTORS):
                if blob := _place(random, look, tissue, [*placed, *alike]):
                    alike.append(blob)
            placed += alike
            if alike:
                lesions.append(alike.pop(random.randint(len(alike))))
            distractors += [_shorten(random, blob) for blob in alike]
        return slices, (SPACING[0], SPACING[1] * zoom, SPACING[2] * zoom), lesions, distractors


def _look(random: RandomState) -> tuple[tuple[float, float], float]:
    """Radii and contrast."""
    longer, contrast = random.uniform(*RADII), random.uniform(*CONTRASTS)
    return (longer, longer * random.uniform(0.75, 1)), contrast


def _place(
    random: RandomState, look: tuple[tuple[float, float], float], tissue: np.ndarray, placed: list[Blob]
) -> Blob | None:
    """A lesion in tissue, beside all that is placed, whatever slices that has; None where no place is found."""
    (radii, contrast), angle = look, random.uniform(0, np.pi)
    length = random.randint(LENGTHS[0], LENGTHS[1] + 1)
    first = random.randint(1, DEPTH - length)
    reach = int(radii[0]) + 2
    free = tissue[first : first + length].min(axis=0)
    for _ in range(TRIES):
        row, column = random.uniform(reach, SIDE - 1 - reach, size=2).tolist()
        blob = Blob(row, column, radii, angle, contrast, int(first), int(length))
        top, left = round(row) - reach, round(column) - reach
        clear = all(
            math.hypot(row - other.row, column - other.column) > radii[0] + other.radii[0] + APART for other in placed
        )
        if clear and free[max(top, 0) : top + 2 * reach + 1, max(left, 0) : left + 2 * reach + 1].all():
            return blob
    return None


def _shorten(random: RandomState, blob: Blob) -> Blob:
    """A distractor: three slices of what could be a lesion."""
    first = blob.first + random.randint(blob.length - SHORT + 1)
    return dataclasses.replace(blob, first=int(first), length=SHORT)


def _texture(random: RandomState) -> np.ndarray:
    """Noise of several grains in the range of soft tissue, Hounsfield units, float32 (slice, height, width)."""
    slices = torch.full((DEPTH, SIDE, SIDE), 25.0)
    for cells, height in ((4, 25.0), (12, 12.0)):
        coarse = torch.from_numpy(random.standard_normal((1, 1, max(cells // 3, 2), cells, cells))).float()
        slices += height * F.interpolate(coarse, size=slices.shape, mode="trilinear", align_corners=True)[0, 0]
    fine = torch.from_numpy(random.standard_normal((DEPTH, 1, SIDE + 2, SIDE + 2))).float()
    return (slices + 30.0 * F.avg_pool2d(fine, 3, stride=1)[:, 0]).numpy()


def _cut(head: np.ndarray, centre: tuple[float, float], random: RandomState) -> tuple[np.ndarray, float]:
    """A block of the head, flipped, turned and scaled, and the side of its pixels in those of the head."""
    zoom, angle = random.uniform(0.75, 1.05), random.uniform(0, 2 * np.pi)
    row, column = np.array(centre) + random.uniform(-14, 14, size=2)
    first = random.randint(len(head) - DEPTH + 1)
    block = torch.from_numpy(head[first : first + DEPTH].astype(np.float32))[None]
    height, width = head.shape[1:]
    turn = (
        zoom
        * SIDE
        / np.array([[width], [height]])
        * [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
    )
    shift = [2 * (column + 0.5) / width - 1, 2 * (row + 0.5) / height - 1]
    theta = torch.tensor(np.column_stack([turn, shift])[None], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, 1, SIDE, SIDE], align_corners=False)
    cut = F.grid_sample(block, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    axes = [axis for axis in (0, 2) if random.random_sample() < 0.5]
    return cut.flip(axes).contiguous().numpy(), float(zoom)


def _voxels(slices: Tensor) -> Tensor:
    """From (slice, height, width) to (x, y, z)."""
    return slices.permute(2, 1, 0)


@functools.cache
def open_demo_lesions(seed: int = 0) -> Stacks:
    """The embedded lesions: one class, CT, 20 slices of 128x128 each; the same object each time.

    Raises:
        DataError: If the head is there and cannot be read.
    """
    head, background = None, f"the background is a texture, for {HEAD} is not there"
    if HEAD.is_file():
        head, background = read_inv3(HEAD), f"the background is the head of {HEAD}, other slices of it in each split"
        if len(head) < PARTS["test"][1]:
            raise DataError(f"{HEAD} must have {PARTS['test'][1]} slices or more; it has {len(head)}")
    splits = {
        name: LesionSplit(name, count, 3 * seed + number, None if head is None else head[slice(*PARTS[name])])
        for number, (name, count) in enumerate(VOLUMES.items())
    }
    return Stacks("lesions", ["lesion"], [1], "CT", splits, background)
