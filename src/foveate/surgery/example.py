"""Inputs that a host says it takes, guessed from its attributes and its first layer."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from foveate.surgery.dry_run import Inputs

__all__ = ["examples_for", "resized", "varied"]

_FIRST = (nn.modules.conv._ConvNd, nn.Linear)
# Sizes tried where the host declares none, by the number of its spatial axes.
_SIZES = {1: (128, 1024, 4096), 2: (64, 224, 32, 28, 299), 3: (32, 64, 96)}


def examples_for(host: nn.Module) -> Iterator[Inputs]:
    """Inputs worth a try, the likeliest first; none where nothing can be guessed."""
    like = next((parameter for parameter in host.parameters() if parameter.is_floating_point()), None)
    if like is None:
        return
    if type(getattr(host, "transform", None)).__name__ == "GeneralizedRCNNTransform":  # torchvision's detectors
        yield Inputs(([_noise(like, 3, 64, 64)],), {})
        return
    first = next((module for module in host.modules() if isinstance(module, _FIRST)), None)
    if isinstance(first, nn.Linear):
        yield Inputs((_noise(like, 1, first.in_features),), {})
    elif first is not None:
        rank = len(first.kernel_size)
        sizes = [*_declared_sizes(host, rank), *((side,) * rank for side in _SIZES[rank])]
        for size in dict.fromkeys(sizes):
            yield Inputs((_noise(like, 1, first.in_channels, *size),), {})


def varied(inputs: Inputs) -> Inputs:
    """The same inputs with noise for tensors that are constant, as examples of zeros are."""

    def vary(value: object) -> object:
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 1 and value.min() == value.max():
            return _noise(value, *value.shape)
        return value

    return Inputs(tuple(map(vary, inputs.args)), {name: vary(value) for name, value in inputs.kwargs.items()})


def resized(inputs: Inputs) -> Iterator[Inputs]:
    """The same inputs at other spatial sizes, for a host that takes more than one."""
    if len(inputs.args) != 1 or inputs.kwargs:
        return
    (value,) = inputs.args
    for resize in (_moderately, _twice):
        if isinstance(value, Tensor) and value.ndim > 2:
            yield Inputs((_noise(value, *value.shape[:2], *map(resize, value.shape[2:])),), {})
        elif isinstance(value, Sequence) and all(isinstance(item, Tensor) and item.ndim == 3 for item in value):
            # Only the width: a detector brings the shorter side to a size of its own.
            yield Inputs(([_noise(item, *item.shape[:2], resize(item.shape[2])) for item in value],), {})


def _moderately(side: int) -> int:
    # Multiples of 32 stay so where the side is a multiple of 64.
    return 96 if side > 128 else side + side // 2


def _twice(side: int) -> int:
    return 2 * side


def _noise(like: Tensor, *shape: int) -> Tensor:
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(like.device, like.dtype)


def _declared_sizes(host: nn.Module, rank: int) -> Iterator[tuple[int, ...]]:
    """Sizes that hosts keep: transformers of timm, torchvision and MONAI, and timm's configuration of weights."""
    for module in host.modules():
        for attribute in ("img_size", "image_size"):
            value = getattr(module, attribute, None)
            if isinstance(value, int):
                yield (value,) * rank
            elif isinstance(value, Sequence) and len(value) == rank and all(isinstance(side, int) for side in value):
                yield tuple(value)
    config = getattr(host, "pretrained_cfg", None)
    if isinstance(config, dict) and len(config.get("input_size") or ()) == rank + 1:
        yield tuple(config["input_size"][1:])
