"""Volumetric attention, one slice and one position at a time. Slow, and free of any layer's code."""

import torch
from tests.reference.gates import positions, sigmoid
from torch import Tensor


def pooled(features: Tensor) -> Tensor:
    """(2, height, width) of (channel, height, width): the maximum over the channels, then their mean."""
    out = torch.zeros(2, *features.shape[1:], dtype=features.dtype)
    for _, i, j in positions(features[None]):
        column = features[:, i, j]
        out[0, i, j], out[1, i, j] = max(column.tolist()), column.sum() / len(column)
    return out


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(height, width): a convolution of (channel, height, width) to one channel, zero outside the picture."""
    reach = weight.shape[-1] // 2
    out = torch.zeros(x.shape[1:], dtype=x.dtype)
    for _, i, j in positions(x[None]):
        out[i, j] = bias[0]
        for m in range(-reach, reach + 1):
            for n in range(-reach, reach + 1):
                if 0 <= i + m < x.shape[1] and 0 <= j + n < x.shape[2]:
                    out[i, j] += (weight[0, :, m + reach, n + reach] * x[:, i + m, j + n]).sum()
    return out


def mixed(target: Tensor, bag: list[Tensor], scale: str) -> Tensor:
    """The members of a bag, weighted by a softmax over their dot products with the target."""
    divisor = {"mean": target.numel(), "sqrt": target.numel() ** 0.5, "none": 1}[scale]
    exponentials = [torch.exp((target * member).sum() / divisor) for member in bag]
    return sum(e / sum(exponentials) * member for e, member in zip(exponentials, bag, strict=True))


def channel_gate(x: Tensor, bag: Tensor, state: dict[str, Tensor], scale: str, add_target: bool) -> Tensor:
    """(channel) for a slice (channel, height, width) and a bag (slice, channel, height, width)."""

    def embedded(features: Tensor) -> Tensor:
        squeezed = torch.stack([channel.sum() / channel.numel() for channel in features])
        hidden = torch.clamp(state["fc1.weight"] @ squeezed + state["fc1.bias"], min=0)
        return state["fc2.weight"] @ hidden + state["fc2.bias"]

    members = [embedded(each) for each in [*bag, *([x] if add_target else [])]]
    together = torch.clamp(mixed(embedded(x), members, scale), min=0)
    return sigmoid(state["fc3.weight"] @ together + state["fc3.bias"])


def spatial_gate(x: Tensor, bag: Tensor, state: dict[str, Tensor], scale: str, seen: Tensor | None) -> Tensor:
    """(height, width); seen, if anything, joins the bag."""

    def embedded(features: Tensor) -> Tensor:
        return convolved(pooled(features), state["conv1.weight"], state["conv1.bias"])

    members = [embedded(each) for each in [*bag, *([] if seen is None else [seen])]]
    together = mixed(embedded(x), members, scale)
    if "conv2.weight" in state:
        together = convolved(together[None], state["conv2.weight"], state["conv2.bias"])
    return sigmoid(together)


def volumetric(x: Tensor, bag: Tensor, state: dict[str, Tensor], order: str, scale: str, add_target: bool) -> Tensor:
    """One gated slice, without what is added to it."""

    def by_channel(x: Tensor) -> Tensor:
        return channel_gate(x, bag, state, scale, add_target)[:, None, None]

    def by_position(x: Tensor) -> Tensor:
        return spatial_gate(x, bag, state, scale, x if add_target else None)[None]

    if order == "channel_spatial":
        gated = x * by_channel(x)
        return gated * by_position(gated)
    if order == "spatial_channel":
        gated = x * by_position(x)
        return gated * by_channel(gated)
    return x * by_channel(x) * by_position(x)
