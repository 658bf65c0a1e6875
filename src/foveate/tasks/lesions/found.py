"""What a detector finds in a volume: slice by slice, and stitched to one label map."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.networks import MaskRCNN
from foveate.tasks.lesions.preparation import Ready

__all__ = ["Found", "Stitched", "find", "found_in"]

INSIDE = 0.5  # the least share of a mask that counts as the lesion


@dataclass(frozen=True, eq=False)
class Found:
    """What is found in a slice as the network sees it; on the CPU, the highest score first.

    Args:
        boxes_xyxy: In pixels, float32 (box, 4).
        scores: float32 (box).
        labels: The class of each, from 0, int64 (box).
        masks: bool (box, height, width); None where the network has none.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> "Found":
        """What has at least this score."""
        kept = self.scores >= score
        masks = None if self.masks is None else self.masks[kept]
        return Found(self.boxes_xyxy[kept], self.scores[kept], self.labels[kept], masks)


def find(network: MaskRCNN, ready: Ready, wanted: Collection[int]) -> Iterator[tuple[int, Found]]:
    """What is found in the wanted slices of a volume, in their order; by a network in evaluation mode.

    The features of a slice are computed once for all bags that it is in.
    """
    device = next(network.parameters()).device
    pictures, chosen = _On(ready, device), sorted(set(wanted))
    for index, answer in zip(chosen, network.detect(pictures, ready.bag_stride, set(chosen)), strict=True):
        yield index, found_in(answer)


def found_in(answer: Mapping[str, Tensor]) -> Found:
    """What a network's answer for one slice says."""
    held = {name: value.cpu() for name, value in answer.items()}
    masks = held["masks"][:, 0] >= INSIDE if "masks" in held else None
    return Found(held["boxes"].float(), held["scores"].float(), held["labels"] - 1, masks)


class _On:
    """The pictures of a volume on a device, each brought there when it is asked for."""

    def __init__(self, ready: Ready, device: torch.device) -> None:
        self.ready, self.device = ready, device

    def __len__(self) -> int:
        return len(self.ready)

    def __getitem__(self, index: int) -> Tensor:
        return self.ready[index].to(self.device)


class Stitched:
    """The masks of all slices as one label map: each voxel has the class of the highest score that claims it.

    Args:
        ready: The volume.
        score: The least score that counts.
    """

    def __init__(self, ready: Ready, score: float) -> None:
        self.least = score
        self.labels = torch.zeros(ready.stack.slices.shape, dtype=torch.int16)  # classes from 1

    def add(self, index: int, found: Found) -> None:
        """Take what was found in a slice."""
        kept = found.above(self.least)
        for number in kept.scores.argsort().tolist():  # the best last, above the others
            assert kept.masks is not None
            self.labels[index][kept.masks[number]] = int(kept.labels[number]) + 1
