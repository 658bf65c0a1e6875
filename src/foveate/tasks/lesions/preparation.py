"""Preparation: what happens to a volume before a detector sees its slices; kept in one file with the weights."""

import dataclasses
import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.data.boxes import Objects
from foveate.data.intensity import WINDOWS, Intensity
from foveate.data.orientation import Plane
from foveate.data.stack_checks import StackFacts
from foveate.data.stacks import Stack, Stacks
from foveate.data.volumes import modality_of
from foveate.networks import bag_slices
from foveate.networks.published import inspect
from foveate.tasks.kinds import check_fields
from foveate.tasks.lesions.config import LesionConfig

__all__ = ["KEY", "Preparation", "Ready", "prepare_for", "resized"]

KEY = "foveate.lesions"  # under which it is kept in model.safetensors
CT_WINDOW = (-200.0, 300.0)
DEVIATIONS = 3.0  # to either side of the mean, which become 0 and 1 where values have no unit


@dataclasses.dataclass(frozen=True, eq=False)
class Ready:
    """A volume as a network sees it.

    Args:
        stack: The volume itself, as slices that show what its files hold, in 0..1.
        grid: (slice, height, width) of the slices as the files hold them.
        bag_stride: Slices from one picture of a bag to the next.
    """

    stack: Stack
    grid: tuple[int, int, int]
    bag_stride: int

    def __len__(self) -> int:
        return len(self.stack)

    def __getitem__(self, index: int) -> Tensor:
        """A slice between its neighbours, (3, height, width); beyond an end the last slice there stands again."""
        return self.stack.slices[bag_slices(index, len(self), 3)]

    def bag(self, index: int, bag: int) -> Tensor:
        """The pictures around a slice, (bag, 3, height, width); without a bag one picture, (3, height, width)."""
        if bag == 1:
            return self[index]
        return torch.stack([self[other] for other in bag_slices(index, len(self), bag, self.bag_stride)])

    def back(self, labels: Tensor) -> Tensor:
        """Integers (slice, height, width) on the grid of the files."""
        return resized(labels, self.grid, labels=True)

    @property
    def nbytes(self) -> int:
        held = self.stack.instances
        return self.stack.slices.nbytes + (0 if held is None else held.nbytes)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a detector takes and gives.

    Args:
        classes: Their names.
        values: What label maps call each.
        modality: The name of the channel that is looked at.
        modalities: Those of all channels that files have.
        plane: Along which slices are cut.
        intensity: What is done with the values.
        slice_mm: From one slice to the next; None for that of each volume.
        pixel_mm: Side of a pixel; None likewise.
        bag_stride: Slices from one picture of a bag to the next.
        bag_mm: Instead the same in mm; None where slices count.
        masks: Whether masks are learned.
        norm: The normalisation of the residual network.
        norm_eps: What it adds to variances.

    Raises:
        ValueError: If a number makes no sense, as in a file that was edited.
    """

    classes: list[str]
    values: list[int]
    modality: str
    modalities: list[str]
    plane: Plane
    intensity: Intensity
    slice_mm: float | None
    pixel_mm: float | None
    bag_stride: int
    bag_mm: float | None
    masks: bool
    norm: str
    norm_eps: float

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("slice_mm", "pixel_mm", "bag_mm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite; got {value}")
        if self.bag_stride < 1 or not 0 <= self.norm_eps < math.inf:
            raise ValueError(f"bag_stride and norm_eps make no sense: {self.bag_stride} and {self.norm_eps}")
        if not self.classes or len(self.values) != len(self.classes) or self.modality not in self.modalities:
            held = f"{self.classes}, {self.values}, {self.modality!r} and {self.modalities}"
            raise ValueError(f"classes need a value each, and modality must be one of modalities; got {held}")

    def prepare(self, stack: Stack) -> Ready:
        """Bring a volume to the network's spacing and to 0..1."""
        own, grid = stack.spacing, tuple(stack.slices.shape)
        wanted = (self.slice_mm or own[0], self.pixel_mm or own[1], self.pixel_mm or own[2])
        size = tuple(steps(n, mm, to) for n, mm, to in zip(grid, own, wanted, strict=True))
        stride = self.bag_stride if self.bag_mm is None else max(1, round(self.bag_mm / wanted[0]))
        slices = self.scaled(stack.slices)
        if size != grid:
            stack = _resampled(stack, size)
            slices = resized(slices, size)
        # Without the volume that it was cut from, which would take the memory of the slices once more.
        ready = dataclasses.replace(stack, slices=slices, spacing=wanted, volume=None, back=None)
        return Ready(ready, (grid[0], grid[1], grid[2]), stride)

    def shown(self, facts: StackFacts) -> StackFacts:
        """What is known of a volume, by the slices that the network sees."""
        mm = facts.spacing[0]
        held, bare = set(facts.with_lesion), set(facts.without)
        nearest = nearest_slices(facts.depth, steps(facts.depth, mm, self.slice_mm or mm), held | bare)
        return dataclasses.replace(
            facts,
            with_lesion=[index for index, other in enumerate(nearest) if other in held],
            without=[index for index, other in enumerate(nearest) if other in bare],
        )

    def size_of(self, facts: StackFacts) -> int:
        """Bytes that a volume takes when it is ready: values, and where masks are known lesions."""
        mm = facts.spacing
        wanted = (self.slice_mm or mm[0], self.pixel_mm or mm[1], self.pixel_mm or mm[2])
        voxels = math.prod(steps(n, own, to) for n, own, to in zip((facts.depth, *facts.size), mm, wanted, strict=True))
        return voxels * (8 if self.masks else 4)

    def scaled(self, x: Tensor) -> Tensor:
        """Values of a file in 0..1; standardised ones from three deviations below their mean to three above."""
        found = self.intensity.apply(x)
        return found if self.intensity.rule == "window" else ((found / DEVIATIONS + 1) / 2).clamp(0, 1)

    def to_json(self) -> str:
        """The text that is kept in model.safetensors."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preparation":
        """Read what to_json wrote."""
        held: dict[str, Any] = json.loads(text)
        held |= {"intensity": Intensity(**held["intensity"])}
        return cls(**held)


def prepare_for(config: LesionConfig, stacks: Stacks) -> Preparation:
    """The preparation of a run: what its configuration asks for, else what its data suggest.

    Raises:
        LookupError: If there is no window of that name.
        ValueError: If a window is given for scans that have no unit.
    """
    norm, eps = _norm(config)
    return Preparation(
        classes=stacks.classes,
        values=stacks.values,
        modality=stacks.modality,
        modalities=stacks.modalities or [stacks.modality],
        plane=config.plane,
        intensity=_intensity(config, stacks),
        slice_mm=config.slice_mm,
        pixel_mm=config.pixel_mm,
        bag_stride=config.bag_stride or 1,
        bag_mm=config.bag_mm,
        masks=stacks.masks,
        norm=norm,
        norm_eps=eps,
    )


def _norm(config: LesionConfig) -> tuple[str, float]:
    """The normalisation, "group" where the checkpoint says so, "frozen" with other weights, from random ones "batch";
    and what is added to its variances, which is nothing for the weights of COCO.
    """
    made = None if config.init is None else inspect(config.init).architecture
    if made is not None and made.kind == "mask_rcnn":
        norm, eps = "group" if made.setting("norm") == "group" else "frozen", made.setting("norm_eps")
    else:
        coco = config.pretrained and config.network in ("mask_rcnn_resnet50", "va_mask_rcnn_resnet50")
        norm, eps = "frozen" if config.trained else "batch", 0.0 if coco else 1e-5
    return config.norm or norm, eps


def _intensity(config: LesionConfig, stacks: Stacks) -> Intensity:
    if modality_of(stacks.modality) != "CT":
        if config.window is not None:
            raise ValueError(f"window is for CT; {stacks.source} has {stacks.modality}")
        return Intensity("nonzero")
    if isinstance(config.window, str):
        if config.window not in WINDOWS:
            raise LookupError(
                f"no window {config.window!r}; there are {', '.join(WINDOWS)}, or give low and high in HU"
            )
        return Intensity("window", *WINDOWS[config.window])
    low, high = config.window or CT_WINDOW
    return Intensity("window", float(low), float(high))


def steps(count: int, mm: float, to: float) -> int:
    """How many steps of `to` mm cover as much as `count` of `mm`."""
    return max(1, round(count * mm / to))


def nearest_slices(depth: int, to: int, known: Collection[int]) -> list[int]:
    """Which of the slices of a volume each of `to` slices over the same extent shows, where nothing is mixed.

    What is known of a slice is not lost where `to` are fewer: it is shown by the slice that it lies in, unless another
    that is known is.
    """
    nearest: list[int] = resized(torch.arange(depth)[:, None, None], (to, 1, 1), labels=True).flatten().tolist()
    for index in sorted(set(known) - set(nearest)):
        place = int((index + 0.5) * to / depth)
        if nearest[place] not in known:
            nearest[place] = index
    return nearest


def resized(x: Tensor, size: Sequence[int], *, labels: bool = False) -> Tensor:
    """(slice, height, width) on another grid over the same field of view; labels are never mixed."""
    if tuple(x.shape) == tuple(size):
        return x
    if labels:
        return F.interpolate(x[None, None].double(), tuple(size), mode="nearest-exact")[0, 0].to(x.dtype)
    return F.interpolate(x[None, None], tuple(size), mode="trilinear", align_corners=False)[0, 0]


def _resampled(stack: Stack, size: Sequence[int]) -> Stack:
    """What is known of a volume on another grid; its values are left to the caller."""
    depth, height, width = stack.slices.shape
    nearest = nearest_slices(depth, size[0], set(stack.annotated.nonzero()[:, 0].tolist()))
    instances = None if stack.instances is None else resized(stack.instances, size, labels=True)
    scale = torch.tensor([size[2] / width, size[1] / height] * 2)
    boxes = {}
    for index, other in enumerate(nearest):
        if other in stack.boxes:
            held = stack.boxes[other]
            areas = held.areas * scale[0] * scale[1]
            boxes[index] = Objects(held.boxes_xyxy * scale, held.labels, held.crowd, areas)
    return dataclasses.replace(stack, instances=instances, boxes=boxes, annotated=stack.annotated[nearest])
