"""What a segmentation is trained to lower: Dice with cross-entropy, or the soft Dice of the Attention U-Net's release.

Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, https://arxiv.org/abs/1606.04797: Dice as a loss. Sums over a volume
leave the range of half precision, so every loss is computed in float32 at least.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LOSSES", "Loss", "deeply_supervised", "dice_ce", "released_soft_dice", "supervision_weights"]

Loss = Callable[..., Tensor]

SMOOTH = 1e-5  # MONAI's
RELEASED_SMOOTH = 0.01


def dice_ce(logits: Tensor, label: Tensor, *, batch: bool = False, ignored: int | None = None) -> Tensor:
    """Cross-entropy + 1 - mean of 2 |p t| / (|p| + |t|), the second over the classes but the background.

    MONAI's DiceCELoss(to_onehot_y=True, softmax=True, include_background=False).

    Args:
        logits: (batch, class, *space).
        label: (batch, *space), whole numbers.
        batch: Sum over the batch before dividing, so that a class need not be in every patch.
        ignored: The number of voxels that do not count.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    together, apart = _sums(logits.softmax(dim=1), label, ignored)
    if batch:
        together, apart = together.sum(dim=0, keepdim=True), apart.sum(dim=0, keepdim=True)
    dice = 1 - (2 * together[:, 1:] + SMOOTH) / (apart[:, 1:] + SMOOTH)
    if ignored is None:
        return dice.mean() + F.cross_entropy(logits, label.long())
    entropy = F.cross_entropy(logits, label.long(), ignore_index=ignored, reduction="sum")
    return dice.mean() + entropy / (label != ignored).sum().clamp(min=1)


def released_soft_dice(logits: Tensor, label: Tensor, *, ignored: int | None = None) -> Tensor:
    """1 - mean of 2 (|p t| + 0.01) / (|p| + |t| + 0.01) over the batch and all classes, the background among them.

    As in the release of Attention-Gated-Networks. Its 0.01 is doubled in the numerator: a class that is neither there
    nor predicted scores 2, and the loss can fall below zero.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    together, apart = _sums(logits.softmax(dim=1), label, ignored)
    return 1 - (2 * (together + RELEASED_SMOOTH) / (apart + RELEASED_SMOOTH)).mean()


def _sums(probabilities: Tensor, label: Tensor, ignored: int | None) -> tuple[Tensor, Tensor]:
    """Over space: of p t, and of p + t; each (batch, class)."""
    classes = probabilities.shape[1]
    if ignored is not None:
        counted = (label != ignored)[:, None]
        truth = F.one_hot(torch.where(counted[:, 0], label, 0).long(), classes).movedim(-1, 1).to(probabilities.dtype)
        flat, truth = (probabilities * counted).flatten(2), (truth * counted).flatten(2)
        return (flat * truth).sum(dim=2), flat.sum(dim=2) + truth.sum(dim=2)
    truth = F.one_hot(label.long(), classes).movedim(-1, 1).to(probabilities.dtype)
    flat, truth = probabilities.flatten(2), truth.flatten(2)
    return (flat * truth).sum(dim=2), flat.sum(dim=2) + truth.sum(dim=2)


LOSSES: dict[str, Loss] = {"dice_ce": dice_ce, "soft_dice": released_soft_dice}


def supervision_weights(count: int) -> list[float]:
    """Of the answers of a network, finest first: each half of the one before, one in all."""
    halves = [2.0**-index for index in range(count)]
    return [half / sum(halves) for half in halves]


def deeply_supervised(loss: Loss, answers: Tensor | Sequence[Tensor], label: Tensor) -> Tensor:
    """The loss of one answer, or the weighted sum of those of several."""
    if isinstance(answers, Tensor):
        return loss(answers, label)
    weights = supervision_weights(len(answers))
    return torch.stack([weight * loss(answer, label) for weight, answer in zip(weights, answers, strict=True)]).sum()
