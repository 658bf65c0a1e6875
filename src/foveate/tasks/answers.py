"""What a classifier answers: logits, or a list of them, as AG-Sononet does with "mean" and "deep_sup"."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Answers", "evidence_of", "logits_of", "loss_of"]

Answers = Tensor | list[Tensor]


def logits_of(network: nn.Module, answers: Answers) -> Tensor:
    """float32 (batch, class): the logits, or the logarithm of the probabilities that a network makes of several."""
    if isinstance(answers, Tensor):
        return answers.float()
    probabilities: Tensor = _several(network).probabilities([answer.float() for answer in answers])
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()


def evidence_of(network: nn.Module, answers: Answers) -> Tensor:
    """float32 (batch, class): the logits, or their weighted sum; unlike a probability near 1, it has a gradient."""
    if isinstance(answers, Tensor):
        return answers.float()
    return torch.stack([weight * answer.float() for weight, answer in _weighted(network, answers)]).sum(dim=0)


def loss_of(network: nn.Module, answers: Answers, labels: Tensor, **options: Any) -> Tensor:
    """Cross-entropy, or the weighted sum of that of each answer; the options are those of F.cross_entropy."""
    if isinstance(answers, Tensor):
        return F.cross_entropy(answers.float(), labels, **options)
    parts = [weight * F.cross_entropy(each.float(), labels, **options) for weight, each in _weighted(network, answers)]
    return torch.stack(parts).sum()


def _weighted(network: nn.Module, answers: list[Tensor]) -> list[tuple[float, Tensor]]:
    return list(zip(_several(network).answer_weights, answers, strict=True))


def _several(network: Any) -> Any:
    """The network, which must say what its several answers mean."""
    if not hasattr(network, "answer_weights"):
        raise TypeError(f"a classifier gives a tensor of logits; {type(network).__name__} gives several")
    return network
