"""What a detector is trained to lower: the losses of DETR, for all decoder layers at once.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872,
sections 3.1 and 4.4 (masks). As in the release, the cross-entropy is divided by the sum of its weights, and every other
loss by the number of objects of a process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torchvision.ops import sigmoid_focal_loss

from foveate.tasks.detect.geometry import giou, xyxy
from foveate.tasks.detect.matcher import Costs, Pairs, match
from foveate.tasks.detect.targets import Target

__all__ = ["WEIGHTS", "Judgement", "judge"]

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_mask": 1.0, "loss_dice": 1.0}
)
NO_OBJECT = 0.1  # what a query without an object weighs in the cross-entropy
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2  # Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the answers to a batch are worth.

    Args:
        loss: The weighted sum of all losses, of every layer.
        losses: Each unweighted, under the names of the release: loss_ce, loss_bbox and loss_giou of the last layer, the
            same with _0, _1 and so on of those before it, loss_mask and loss_dice where there are masks.
        measures: cardinality_error, the mean difference of the number of objects found and there, of each layer; and,
            where there are objects, class_error, the percentage of matched queries that say another class. Without
            gradients.
        pairs: Which query was matched with which object.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    measures: dict[str, Tensor]
    pairs: Pairs


def judge(
    outputs: Mapping[str, Any],
    targets: Sequence[Target],
    *,
    costs: Costs | None = None,
    weights: Mapping[str, float] = WEIGHTS,
    no_object: float = NO_OBJECT,
) -> Judgement:
    """Match, and compute every loss in float32 at least.

    Args:
        outputs: pred_logits (batch, query, class + 1), the last for no object; pred_boxes (batch, query, 4) as cx, cy,
            w, h; the same of earlier layers in a list under aux_outputs; at will pred_masks (batch, query, height,
            width).
        targets: Of each picture.
        costs: Of the matching. Default: Costs().
        weights: Of each loss, by its name.
        no_object: The weight of "no object" in the cross-entropy.

    Raises:
        TrainingError: Where the answers or the true boxes are not finite.
        ValueError: If there are pred_masks and a target without masks.
    """
    layers = [*outputs.get("aux_outputs", []), outputs]
    logits = torch.stack([_precise(layer["pred_logits"]) for layer in layers])
    boxes = torch.stack([_precise(layer["pred_boxes"]) for layer in layers])
    pairs = match(logits, boxes, targets, costs)
    count = _objects_a_process(targets, logits)
    classes = torch.full(logits.shape[:-1], logits.shape[-1] - 1, device=logits.device)
    first = torch.tensor([0, *accumulate(len(target.labels) for target in targets)], device=logits.device)
    chosen = first[pairs.picture] + pairs.object
    classes[pairs.layer, pairs.picture, pairs.query] = torch.cat([target.labels for target in targets])[chosen]
    found = boxes[pairs.layer, pairs.picture, pairs.query]
    wanted = torch.cat([target.boxes for target in targets]).to(found)[chosen]
    each = {
        "loss_ce": _cross_entropies(logits, classes, no_object),
        "loss_bbox": _sums((found - wanted).abs().sum(dim=-1), len(layers)) / count,
        "loss_giou": _sums(1 - giou(xyxy(found), xyxy(wanted)), len(layers)) / count,
    }
    if "pred_masks" in outputs:
        each |= _mask_losses(_precise(outputs["pred_masks"]), targets, pairs, len(layers), count)
    loss = torch.stack([weights[name] * values.sum() for name, values in each.items()]).sum()
    losses = {name: value for kind, values in each.items() for name, value in _named(kind, values)}
    return Judgement(loss, losses, _measures(logits.detach(), classes, targets, pairs), pairs)


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _named(kind: str, values: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The last layer's value under the bare name, those before it with their number."""
    yield kind, values[-1]
    yield from ((f"{kind}_{layer}", value) for layer, value in enumerate(values[:-1]))


def _sums(values: Tensor, layers: int) -> Tensor:
    """Over the pairs of each layer, of which every layer has as many."""
    return values.view(layers, len(values) // layers).sum(dim=1)


def _last(pairs: Pairs, layers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, query and object of the last layer's pairs, without asking the device how many these are."""
    last = slice(len(pairs) - len(pairs) // layers, None)
    return pairs.picture[last], pairs.query[last], pairs.object[last]


def _objects_a_process(targets: Sequence[Target], like: Tensor) -> Tensor:
    """The mean over the processes, one at least; a process's own in evaluation, where others may have no batch left."""
    count = torch.tensor(float(sum(len(target.labels) for target in targets)), device=like.device)
    if torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(count)
        count /= distributed.get_world_size()
    return count.clamp(min=1)


def _cross_entropies(logits: Tensor, classes: Tensor, no_object: float) -> Tensor:
    """Of each layer: the weighted mean over all queries, divided by the sum of their weights."""
    surprise = -logits.log_softmax(dim=-1).gather(-1, classes[..., None])[..., 0]
    weight = torch.where(classes == logits.shape[-1] - 1, no_object, 1.0).to(surprise)
    return (weight * surprise).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _mask_losses(
    masks: Tensor, targets: Sequence[Target], pairs: Pairs, layers: int, count: Tensor
) -> dict[str, Tensor]:
    """Focal loss and Dice of the last layer's pairs, at the size of the padded pictures; each (1,)."""
    truths = [target.masks for target in targets if target.masks is not None]
    if len(truths) < len(targets):
        raise ValueError(f"pred_masks need the masks of all {len(targets)} targets; {len(truths)} have them")
    height, width = (max(truth.shape[axis] for truth in truths) for axis in (1, 2))
    padded = [F.pad(truth, (0, width - truth.shape[2], 0, height - truth.shape[1])) for truth in truths]
    picture, query, object_ = _last(pairs, layers)
    first = torch.tensor([0, *accumulate(map(len, truths))], device=masks.device)
    truth = torch.cat(padded)[first[picture] + object_].flatten(1).to(masks)
    logits = F.interpolate(masks[picture, query][:, None], size=(height, width), mode="bilinear", align_corners=False)
    logits = logits.flatten(1)
    focal = sigmoid_focal_loss(logits, truth, alpha=FOCAL_ALPHA, gamma=FOCAL_GAMMA).mean(dim=1)
    p = logits.sigmoid()
    dice = 1 - (2 * (p * truth).sum(dim=1) + 1) / (p.sum(dim=1) + truth.sum(dim=1) + 1)
    return {"loss_mask": focal.sum()[None] / count, "loss_dice": dice.sum()[None] / count}


def _measures(logits: Tensor, classes: Tensor, targets: Sequence[Target], pairs: Pairs) -> dict[str, Tensor]:
    said, nothing = logits.argmax(dim=-1), logits.shape[-1] - 1
    there = torch.tensor([len(target.labels) for target in targets], device=logits.device)
    error = ((said != nothing).sum(dim=2) - there).abs().float().mean(dim=1)
    picture, query, _ = _last(pairs, len(logits))
    wrong = (said[-1, picture, query] != classes[-1, picture, query]).float()
    measures = dict(_named("cardinality_error", error))
    return measures | ({"class_error": 100 * wrong.mean()} if len(wrong) else {})
