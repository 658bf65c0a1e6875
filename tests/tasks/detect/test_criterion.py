import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.tasks.detect.answers import random_boxes, random_logits, random_targets

from foveate.tasks.detect import criterion
from foveate.tasks.detect.criterion import judge
from foveate.tasks.detect.targets import Target

GOLDEN = Path(__file__).parents[2] / "golden" / "detr_criterion.npz"


def answers(*shape: int, classes: int = 5, layers: int = 1):
    """Outputs of a network, with gradients."""
    each = [
        {
            "pred_logits": random_logits(*shape, classes + 1, seed=seed).requires_grad_(),
            "pred_boxes": random_boxes(*shape, seed=seed).requires_grad_(),
        }
        for seed in range(layers)
    ]
    return {**each[-1], "aux_outputs": each[:-1]}


def test_losses_gradients_and_matches_are_the_releases():
    arrays = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN).items()}
    meta = json.loads(bytes(arrays["meta"].numpy()))
    leaves = {
        f"{kind}{layer}": arrays[f"{kind}{layer}"].requires_grad_() for kind in ("logits", "boxes") for layer in (0, 1)
    }
    # The release's suffix 0 is the auxiliary layer, which the file numbers 1.
    last, auxiliary = ({"pred_logits": leaves[f"logits{n}"], "pred_boxes": leaves[f"boxes{n}"]} for n in (0, 1))
    targets = [Target(arrays[f"labels{n}"], arrays[f"target_boxes{n}"]) for n in range(3)]
    found = judge({**last, "aux_outputs": [auxiliary]}, targets)
    told = {name: value.item() for name, value in {**found.losses, **found.measures}.items()}
    assert told == pytest.approx(meta["losses"], rel=1e-6)  # measures are float32
    for name, value in found.losses.items():
        assert value.item() == pytest.approx(meta["losses"][name], rel=1e-12)
    assert found.loss.item() == pytest.approx(meta["total"], rel=1e-12)
    found.loss.backward()
    for name, leaf in leaves.items():
        wanted = arrays[f"{name}_grad"]
        assert leaf.grad is not None
        assert (leaf.grad - wanted).abs().max() < 1e-9 * wanted.abs().max(), name
    for picture in range(3):
        chosen = (found.pairs.layer == 1) & (found.pairs.picture == picture)
        assert torch.equal(found.pairs.query[chosen], arrays[f"match_pred{picture}"])
        assert torch.equal(found.pairs.object[chosen], arrays[f"match_target{picture}"])


def test_pictures_without_objects_cost_only_the_classes_and_stay_finite():
    outputs = answers(2, 7, layers=2)
    found = judge(outputs, random_targets(0, 0))
    found.loss.backward()
    nothing = torch.full((14,), 5)
    expected = F.cross_entropy(outputs["pred_logits"].detach().flatten(0, 1), nothing)
    assert found.losses["loss_ce"].item() == pytest.approx(expected.item())
    assert found.losses["loss_bbox"].item() == found.losses["loss_giou_0"].item() == 0
    assert "class_error" not in found.measures
    assert outputs["pred_boxes"].grad.abs().sum() == 0
    assert outputs["pred_logits"].grad.isfinite().all()


def test_the_cross_entropy_is_divided_by_the_sum_of_its_weights():
    # Five of a hundred queries have an object: each says "no object" with logit 3 against 0, 0.
    logits = torch.zeros(1, 100, 3, dtype=torch.float64)
    logits[..., 2] = 3
    targets = [Target(torch.zeros(5, dtype=torch.long), random_boxes(5))]
    found = judge({"pred_logits": logits, "pred_boxes": random_boxes(1, 100)}, targets)
    total = math.log(2 + math.exp(3))
    assert found.losses["loss_ce"].item() == pytest.approx((5 * total + 9.5 * (total - 3)) / 14.5)


def test_the_number_of_objects_is_the_mean_over_the_processes(monkeypatch):
    outputs, targets = answers(1, 7), random_targets(2)
    alone = judge(outputs, targets).losses
    monkeypatch.setattr(criterion.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(criterion.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(criterion.distributed, "all_reduce", lambda count: count.add_(10))
    among = judge(outputs, targets).losses
    assert among["loss_bbox"].item() == pytest.approx(alone["loss_bbox"].item() * 2 / (12 / 4))
    assert among["loss_ce"].item() == alone["loss_ce"].item()
    with torch.no_grad():
        assert judge(outputs, targets).losses["loss_bbox"].item() == alone["loss_bbox"].item()


def test_weights_are_those_given():
    outputs, targets = answers(2, 7, layers=3), random_targets(2, 3)
    weights = {"loss_ce": 3.0, "loss_bbox": 0.5, "loss_giou": 7.0}
    found = judge(outputs, targets, weights=weights)
    expected = sum(weights["_".join(name.split("_")[:2])] * value.item() for name, value in found.losses.items())
    assert len(found.losses) == 9
    assert found.loss.item() == pytest.approx(expected)


def masks_of(target: Target, height: int, width: int) -> Target:
    masks = random_logits(len(target.labels), height, width, seed=3) > 0
    return Target(target.labels, target.boxes, masks)


def test_masks_cost_focal_loss_and_dice_of_the_last_layer():
    outputs = answers(2, 5, layers=2)
    outputs["pred_masks"] = random_logits(2, 5, 3, 4, seed=9).requires_grad_()
    plain = random_targets(2, 1)
    targets = [masks_of(plain[0], 6, 8), masks_of(plain[1], 7, 5)]
    found = judge(outputs, targets)
    large = F.interpolate(outputs["pred_masks"].detach(), size=(7, 8), mode="bilinear", align_corners=False)
    focal = dice = 0.0
    last = found.pairs.layer == 1
    for picture, query, number in torch.stack((found.pairs.picture, found.pairs.query, found.pairs.object))[:, last].T:
        mask = targets[picture].masks[number]
        truth = torch.zeros(7, 8, dtype=torch.float64)
        truth[: mask.shape[0], : mask.shape[1]] = mask
        p = large[picture, query].sigmoid()
        right = torch.where(truth > 0, p, 1 - p)
        focal += (torch.where(truth > 0, 0.25, 0.75) * (1 - right) ** 2 * -right.log()).mean().item()
        dice += (1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)).item()
    assert found.losses["loss_mask"].item() == pytest.approx(focal / 3)
    assert found.losses["loss_dice"].item() == pytest.approx(dice / 3)
    assert "loss_mask_0" not in found.losses
    bare = judge({**outputs, "pred_masks": outputs["pred_masks"].detach()}, targets)
    assert found.loss.item() == bare.loss.item()
    found.loss.backward()
    assert outputs["pred_masks"].grad.abs().sum() > 0


def test_masks_of_pictures_without_objects_are_finite():
    outputs = answers(2, 5)
    outputs["pred_masks"] = random_logits(2, 5, 3, 4).requires_grad_()
    found = judge(outputs, [masks_of(target, 6, 8) for target in random_targets(0, 0)])
    found.loss.backward()
    assert found.losses["loss_mask"].item() == found.losses["loss_dice"].item() == 0
    assert outputs["pred_masks"].grad.abs().sum() == 0


def test_masks_without_truth_are_refused():
    outputs = {**answers(2, 5), "pred_masks": random_logits(2, 5, 3, 4)}
    first, second = random_targets(1, 1)
    with pytest.raises(ValueError, match="pred_masks need the masks of all 2 targets; 1 have them"):
        judge(outputs, [masks_of(first, 6, 8), second])


def test_half_precision_is_judged_in_single():
    outputs = answers(2, 7)
    half = {name: outputs[name].detach().bfloat16() for name in ("pred_logits", "pred_boxes")}
    targets = [Target(target.labels, target.boxes.float()) for target in random_targets(2, 3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = judge(half, targets)
    full = judge({name: value.float() for name, value in half.items()}, targets)
    assert found.loss.dtype == torch.float32
    assert found.loss.item() == full.loss.item()
