"""What a detector finds in a picture: from the network's answers to boxes and masks in the picture's own pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.networks import DETR
from foveate.tasks.detect.geometry import xyxy
from foveate.tasks.detect.preparation import Preparation

__all__ = ["Found", "detect", "read_answer"]


@dataclass(frozen=True, eq=False)
class Found:
    """One box for every query, without suppression; on the CPU.

    Args:
        scores: The probability of the class, float32 (query).
        labels: The most probable class, int64 (query).
        boxes_xyxy: In pixels of the picture, float32 (query, 4).
        masks: bool (query, height, width) of the picture; None where the network has none.
    """

    scores: Tensor
    labels: Tensor
    boxes_xyxy: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> Tensor:
        """The numbers of the queries with a higher score, the highest first."""
        order = self.scores.argsort(descending=True, stable=True)
        return order[self.scores[order] > threshold]


@torch.no_grad()
def detect(network: DETR, preparation: Preparation, image: Tensor) -> tuple[Found, dict[str, Any]]:
    """What is found in a picture uint8 (3, height, width), alone in its batch, and the answer of the network."""
    device = next(network.parameters()).device
    answer = network(preparation.prepare(image)[None].to(device))
    size, given = image.shape[-2:], preparation.size.of(*image.shape[-2:])
    return read_answer(answer, (size[0], size[1]), given), answer


def read_answer(answer: Mapping[str, Tensor], size: tuple[int, int], given: tuple[int, int]) -> Found:
    """What the answer for a single picture says of it.

    Args:
        answer: pred_logits (1, query, class + 1), pred_boxes (1, query, 4), and pred_masks if there are any.
        size: (height, width) of the picture.
        given: Of what the network got.
    """
    probabilities = answer["pred_logits"][0].float().softmax(dim=-1)
    scores, labels = probabilities[:, :-1].max(dim=-1)  # the last class is no object
    boxes = xyxy(answer["pred_boxes"][0].float()).cpu() * torch.tensor([size[1], size[0]] * 2)
    masks = None
    if "pred_masks" in answer:
        logits = F.interpolate(answer["pred_masks"].float(), given, mode="bilinear", align_corners=False)
        masks = F.interpolate((logits > 0).float(), size, mode="nearest")[0].bool().cpu()
    return Found(scores.cpu(), labels.cpu(), boxes, masks)
