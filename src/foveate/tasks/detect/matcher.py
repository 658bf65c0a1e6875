"""Which query answers for which object: the assignment of least cost between a picture's queries and its objects.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872,
section 3.1. Only costs within a picture are ever used, so only they are computed: for all layers and pictures at once,
with the objects padded to the largest number in the batch, and with one copy to the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foveate.errors import TrainingError
from foveate.tasks.detect.geometry import giou, xyxy
from foveate.tasks.detect.targets import Target

__all__ = ["Costs", "Pairs", "Stability", "match"]


@dataclass(frozen=True)
class Costs:
    """What each part counts in the cost of a pair; the paper's by default.

    Args:
        classes: Of minus the probability of the object's class.
        boxes: Of the L1 distance of cx, cy, w, h.
        giou: Of minus the generalised intersection over union.
    """

    classes: float = 1.0
    boxes: float = 5.0
    giou: float = 2.0

    def __post_init__(self) -> None:
        costs = (self.classes, self.boxes, self.giou)
        if min(costs) < 0 or max(costs) == 0:
            raise ValueError(f"costs must not be negative, nor all be zero; got {costs}")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every match of a query and an object, by layer, then picture, then query; each field int64 (pair).

    Args:
        layer: Of the decoder.
        picture: In the batch.
        query: In the picture.
        object: In the picture's target.
    """

    layer: Tensor
    picture: Tensor
    query: Tensor
    object: Tensor

    def __len__(self) -> int:
        return len(self.layer)


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: Sequence[Target], costs: Costs | None = None) -> Pairs:
    """Match every layer's queries with the objects, each layer by itself.

    Costs are computed in float32 at least, whatever the precision of the answers.

    Args:
        logits: Of the classes and, last, of no object.
        boxes: cx, cy, w, h.
        targets: Of each picture.
        costs: What counts how much. Default: Costs().

    Shape:
        (layer, batch, query, class + 1), (layer, batch, query, 4)

    Raises:
        TrainingError: Where a cost is not finite, naming what made it so.
    """
    sizes = [len(target.labels) for target in targets]
    cost = _cost(logits, boxes, targets, costs or Costs()).cpu()
    if not cost.isfinite().all():
        raise TrainingError(_not_finite(logits, boxes, targets))
    matrices = cost.numpy()
    pairs = []
    for layer in range(len(matrices)):
        for picture, size in enumerate(sizes):
            query, object_ = linear_sum_assignment(matrices[layer, picture, :, :size])
            pairs.append(np.stack((np.full_like(query, layer), np.full_like(query, picture), query, object_)))
    return Pairs(*torch.from_numpy(np.concatenate(pairs, axis=1)).to(logits.device))


def _cost(logits: Tensor, boxes: Tensor, targets: Sequence[Target], costs: Costs) -> Tensor:
    """(layer, batch, query, object), with meaningless columns where a picture has fewer objects than another."""
    precise = torch.promote_types(boxes.dtype, torch.float32)
    probabilities, boxes = logits.to(precise).softmax(dim=-1), boxes.to(precise)[..., None, :]
    labels = pad_sequence([target.labels for target in targets], batch_first=True)
    wanted = pad_sequence([target.boxes.to(precise) for target in targets], batch_first=True)[:, None]
    index = labels[None, :, None].expand(*probabilities.shape[:-1], -1)
    distance = sum((one - other).abs() for one, other in zip(boxes.unbind(-1), wanted.unbind(-1), strict=True))
    overlap = giou(xyxy(boxes), xyxy(wanted))
    return costs.boxes * distance - costs.classes * probabilities[..., :-1].gather(-1, index) - costs.giou * overlap


def _not_finite(logits: Tensor, boxes: Tensor, targets: Sequence[Target]) -> str:
    for picture, target in enumerate(targets):
        if not target.boxes.isfinite().all():
            found = target.boxes[~target.boxes.isfinite().all(dim=-1)][0].tolist()
            return f"true boxes must be finite; got {found} in picture {picture} of the batch"
    for name, answers in (("boxes", boxes), ("logits", logits)):
        bad = (~answers.isfinite()).any(dim=-1).nonzero()
        if len(bad):
            layer, picture, query = bad[0].tolist()
            return (
                f"the network's {name} must be finite; got {answers[layer, picture, query].tolist()[:4]} of query "
                f"{query}, picture {picture} of the batch, decoder layer {layer}: the training has diverged, and a "
                "lower learning rate or a higher precision may help"
            )
    return "the costs of matching must be finite; the boxes are too large for their precision"


class Stability:
    """How many queries change their object from one epoch to the next, on pictures that stay the same.

    Li et al., "DN-DETR", CVPR 2022, https://arxiv.org/abs/2203.01305, take unstable matching as a reason why DETR
    learns slowly. Here the share is of the queries that had an object in either of the two epochs.

    Args:
        before: The object of each matched query of each picture, by their numbers, and kept up to date. Default: none.
    """

    def __init__(self, before: dict[int, dict[int, int]] | None = None) -> None:
        self._before = {} if before is None else before
        self.changed = self.matched = 0

    def update(self, pairs: Pairs, indices: Sequence[int], targets: Sequence[Target]) -> None:
        """Take the last layer's matches of a batch whose pictures have these numbers in their split."""
        now: list[dict[int, int]] = [{} for _ in indices]
        if len(pairs):
            last = pairs.layer == pairs.layer.max()
            rows = torch.stack((pairs.picture, pairs.query, pairs.object))[:, last].T.tolist()
            numbers = [None if target.numbers is None else target.numbers.tolist() for target in targets]
            for picture, query, place in rows:
                known = numbers[picture]
                now[picture][query] = place if known is None else known[place]
        for index, matches in zip(indices, now, strict=True):
            before = self._before.get(index)
            if before is not None:
                either = before.keys() | matches.keys()
                self.matched += len(either)
                self.changed += sum(before.get(query) != matches.get(query) for query in either)
            self._before[index] = matches

    def share(self) -> float | None:
        """Of the queries with an object, those whose object changed since the epoch before; begins to count anew.

        None where nothing is known.
        """
        share = self.changed / self.matched if self.matched else None
        self.changed = self.matched = 0
        return share
