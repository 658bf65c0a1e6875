"""Grad-CAM at the last stage of any classifier: the same look at every arm, whether it has a mechanism or none.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
https://arxiv.org/abs/1610.02391.
"""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.tasks.answers import evidence_of, logits_of

__all__ = ["Stage", "as_grid", "grad_cam", "last_stage"]

Layout = Literal["channels_first", "channels_last", "tokens"]
MOST_EXTRA_TOKENS = 8  # class, distillation and register tokens before those of the picture


@dataclasses.dataclass(frozen=True)
class Stage:
    """The place at which a network is last looked at.

    Args:
        name: Of the module.
        layout: Of its output: (batch, channel, *space), (batch, height, width, channel) or (batch, token, channel).
    """

    name: str
    layout: Layout


def last_stage(network: nn.Module, shape: tuple[int, ...], features: int) -> Stage | None:
    """The last module whose output still has places, found by one forward pass; None if there is none.

    A transformer is looked at before its last attention: behind it, only the class token has a gradient.

    Args:
        network: A classifier.
        shape: (channel, *space) of its input.
        features: Channels that its classifier takes.
    """
    called: list[tuple[str, tuple[int, ...]]] = []
    names = {module: name for name, module in network.named_modules() if name}

    def see(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            called.append((names[module], tuple(output.shape)))

    hooks = [module.register_forward_hook(see) for module in names]
    was_training = network.training
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape, device=device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    tokens = [
        name for name, size in called if len(size) == 3 and size[2] == features and name.endswith(("norm1", "ln_1"))
    ]
    if tokens and not [size for _, size in called if len(size) == 4 and size[3] == features]:
        return Stage(tokens[-1], "tokens")
    for name, size in reversed(called):
        if len(size) == 4 and size[3] == features != size[1] and size[1] * size[2] > 1:
            return Stage(name, "channels_last")
        if len(size) == len(shape) + 1 and len(size) >= 4 and math.prod(size[2:]) > 1:
            return Stage(name, "channels_first")
    return None


def grad_cam(network: nn.Module, stage: Stage, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits, and where the evidence for each label stands: relu(sum over channels of mean gradient times feature).

    Args:
        network: In eval mode.
        stage: Where to look.
        images: Normalised.
        labels: The class asked for of each picture. Default: the predicted one.

    Shape:
        images (batch, channel, *space) -> (batch, class), (batch, *grid)
    """
    held: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        held[:] = [output.detach().requires_grad_()]
        return held[0]

    hook = network.get_submodule(stage.name).register_forward_hook(cut)
    try:
        with torch.enable_grad(), _frozen(network):
            answers = network(images)
            logits = logits_of(network, answers)
            asked = logits.argmax(dim=1) if labels is None else labels
            (gradient,) = torch.autograd.grad(evidence_of(network, answers).gather(1, asked[:, None]).sum(), held)
    finally:
        hook.remove()
    features = held[0].detach().float()
    gradient = gradient.float()
    if stage.layout == "channels_first":
        features, gradient = features.movedim(1, -1), gradient.movedim(1, -1)
    middle = tuple(range(1, features.ndim - 1))
    heat = (features * gradient.mean(dim=middle, keepdim=True)).sum(dim=-1).relu()
    return logits.detach(), heat


def as_grid(values: Tensor) -> Tensor | None:
    """A map over tokens as a map over places, without the tokens that are no places; None if they form no square.

    Shape:
        (batch, token) -> (batch, side, side); (batch, height, width) or (batch, time, height, width) -> the same
    """
    if values.ndim in (3, 4):
        return values
    if values.ndim != 2:
        return None
    side = math.isqrt(values.shape[1])
    extra = values.shape[1] - side * side
    return values[:, extra:].reshape(-1, side, side) if extra <= MOST_EXTRA_TOKENS else None


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient: only what lies behind the stage is remembered."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
