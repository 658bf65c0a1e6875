"""What Mask R-CNN of slices takes: pictures and bags of them, volumes as both, targets, and the checks of them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Slices", "bag_slices", "centred_target", "check_image", "check_targets", "stack_slices"]

FAR = 9.0  # how far out of 0..1 a picture may reach: noise does not get there, Hounsfield units and bytes do


class Slices(Protocol):
    """The 2.5-D pictures of a volume in their order, (3, height, width) each: a tensor, a list, a reader of files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def stack_slices(volume: Tensor) -> Tensor:
    """The 2.5-D pictures of a volume: (slice, height, width) -> (slice, 3, height, width), each with its neighbours.

    Beyond an end of the volume the last slice there stands again.
    """
    if volume.ndim != 3:
        raise ValueError(f"a volume is (slice, height, width); got {tuple(volume.shape)}")
    return torch.stack([torch.cat([volume[:1], volume[:-1]]), volume, torch.cat([volume[1:], volume[-1:]])], dim=1)


def bag_slices(index: int, depth: int, bag: int, bag_stride: int = 1) -> list[int]:
    """Which slices of a volume are in the bag of one, whose own place is bag // 2; beyond an end the last one again."""
    first = index - bag // 2 * bag_stride
    return [min(max(first + step * bag_stride, 0), depth - 1) for step in range(bag)]


def check_image(image: Tensor, bag: int) -> None:
    """Refuse what is no picture, or no bag of them, of numbers in 0..1."""
    if image.shape[:-2] != ((3,) if bag == 1 else (bag, 3)):
        wanted = "(3, height, width), three adjacent slices as channels"
        if bag > 1:
            wanted = f"bags of ({bag}, 3, height, width), each picture three adjacent slices as channels"
        raise ValueError(f"MaskRCNN takes {wanted}; got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"MaskRCNN takes floating point numbers in 0..1; got {image.dtype}")
    if image.is_meta:
        raise ValueError("MaskRCNN takes numbers, which decide what it computes; got a picture on the meta device")
    low, high = image.aminmax()
    if not (low >= -FAR and high <= 1 + FAR):
        found = f"{low.item():g} to {high.item():g}"
        raise ValueError(f"MaskRCNN takes numbers in 0..1, as a window of Hounsfield units is scaled; got {found}")


def check_targets(
    targets: Sequence[Mapping[str, Tensor]] | None, images: Sequence[Tensor], num_classes: int, *, masks: bool
) -> list[dict[str, Tensor]]:
    """What of the targets a training step reads, or a refusal of what would spoil it."""
    if targets is None or len(targets) != len(images):
        found = "none" if targets is None else len(targets)
        raise ValueError(f"training takes a target for each of {len(images)} pictures; got {found}")
    keys = ("boxes", "labels", "masks") if masks else ("boxes", "labels")
    for index, (target, image) in enumerate(zip(targets, images, strict=True)):
        if lacking := set(keys) - target.keys():
            wanted = f"{', '.join(keys[:-1])} and {keys[-1]}"
            raise ValueError(f"a target has {wanted}; target {index} lacks {', '.join(sorted(lacking))}")
        count, space = len(target["labels"]), tuple(image.shape[-2:])
        shapes = {"boxes": (count, 4), "masks": (count, *space)}
        if any(target[key].shape != shapes[key] for key in keys if key in shapes):
            wanted = " and ".join(f"{key} {shapes[key]}" for key in keys if key in shapes)
            found = " and ".join(f"{tuple(target[key].shape)}" for key in keys if key in shapes)
            raise ValueError(f"target {index} of {count} labels takes {wanted}; got {found}")
        _check_numbers(index, {key: target[key] for key in keys}, num_classes, space)
    return [{key: target[key] for key in keys} for target in targets]


def _check_numbers(index: int, target: Mapping[str, Tensor], num_classes: int, space: tuple[int, ...]) -> None:
    boxes, labels = target["boxes"], target["labels"]
    flat = ~(boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # no number is neither
    if flat.any():
        wanted = "boxes are x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2, also where an object is one pixel wide"
        raise ValueError(f"{wanted}; target {index} has {boxes[flat][0].tolist()}")
    outside = (boxes[:, 2:] <= 0).any(dim=1) | (boxes[:, 0] >= space[1]) | (boxes[:, 1] >= space[0])
    if outside.any():
        wanted = f"boxes lie in their picture, here of height {space[0]} and width {space[1]}"
        raise ValueError(f"{wanted}; target {index} has {boxes[outside][0].tolist()}")
    strange = (labels < 1) | (labels >= num_classes)
    if strange.any():
        wanted = f"labels are 1 to {num_classes - 1}, for the background is 0"
        raise ValueError(f"{wanted}; target {index} has {labels[strange][0].item()}")
    if "masks" in target and target["masks"].numel() and target["masks"].max() > 1:
        raise ValueError(f"masks are of 0 and 1; target {index} has {target['masks'].max().item()}")


def centred_target(image: Tensor, *, masks: bool) -> dict[str, Tensor]:
    """One object of the first class in the middle of a picture, of half its height and width."""
    height, width = image.shape[-2:]
    top, left = height // 4, width // 4
    bottom, right = max(top + 1, height - top), max(left + 1, width - left)
    target = {
        "boxes": torch.tensor([[left, top, right, bottom]], dtype=image.dtype, device=image.device),
        "labels": torch.ones(1, dtype=torch.int64, device=image.device),
    }
    if masks:
        target["masks"] = torch.zeros(1, height, width, dtype=torch.uint8, device=image.device)
        target["masks"][:, top:bottom, left:right] = 1
    return target
