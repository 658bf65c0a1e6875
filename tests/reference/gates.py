"""The equations of the gates, one position at a time, for two spatial axes. Slow, and free of any layer's code."""

import math

import torch
from torch import Tensor


def sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-value))


def positions(x: Tensor) -> list[tuple[int, int, int]]:
    batch, _, height, width = x.shape
    return [(b, i, j) for b in range(batch) for i in range(height) for j in range(width)]


def perceptron(squeezed: Tensor, state: dict[str, Tensor]) -> Tensor:
    hidden = torch.clamp(state["fc1.weight"] @ squeezed + state["fc1.bias"], min=0)
    return state["fc2.weight"] @ hidden + state["fc2.bias"]


def scse(x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """x gated by channel and x gated by position (Roy et al., equations 2 and 3)."""
    by_channel, by_position = torch.empty_like(x), torch.empty_like(x)
    for b, i, j in positions(x):
        squeezed = torch.stack([channel.sum() / channel.numel() for channel in x[b]])
        by_channel[b, :, i, j] = x[b, :, i, j] * sigmoid(perceptron(squeezed, state))
        logit = (state["conv.weight"][0, :, 0] * x[b, :, i, j]).sum() + state["conv.bias"][0]
        by_position[b, :, i, j] = x[b, :, i, j] * sigmoid(logit)
    return by_channel, by_position


def cbam_channel_logits(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(batch, channel): the shared perceptron's answer to the mean plus its answer to the maximum."""
    rows = []
    for sample in x:
        mean = torch.stack([channel.sum() / channel.numel() for channel in sample])
        maximum = torch.stack([channel.max() for channel in sample])
        rows.append(perceptron(mean, state) + perceptron(maximum, state))
    return torch.stack(rows)


def cbam_spatial_logits(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(batch, height, width), with the running statistics."""
    kernel = state["spatial.conv.weight"][0]
    reach = kernel.shape[1] // 2
    logits = torch.zeros(x.shape[0], *x.shape[2:], dtype=x.dtype)
    for b, i, j in positions(x):
        for m in range(-reach, reach + 1):
            for n in range(-reach, reach + 1):
                if 0 <= i + m < x.shape[2] and 0 <= j + n < x.shape[3]:
                    column = x[b, :, i + m, j + n]
                    weights = kernel[:, m + reach, n + reach]
                    logits[b, i, j] += weights[0] * column.max() + weights[1] * column.sum() / len(column)
    return normalised(logits, state, "spatial.norm")


def normalised(values: Tensor, state: dict[str, Tensor], norm: str) -> Tensor:
    """Batch normalisation of one channel by its running statistics."""
    mean, variance = state[f"{norm}.running_mean"].item(), state[f"{norm}.running_var"].item()
    scale = state[f"{norm}.weight"].item() / math.sqrt(variance + 1e-5)
    return (values - mean) * scale + state[f"{norm}.bias"].item()


def batch_norm(x: Tensor, state: dict[str, Tensor], name: str, training: bool) -> Tensor:
    """Normalise (batch, channel, ...) by its own statistics in training, else by the kept ones."""
    normalised = torch.empty_like(x)
    for channel in range(x.shape[1]):
        values = x[:, channel]
        mean, variance = state[f"{name}.running_mean"][channel], state[f"{name}.running_var"][channel]
        if training:
            mean, variance = values.mean(), values.var(correction=0)
        scaled = (values - mean) / torch.sqrt(variance + 1e-5)
        normalised[:, channel] = scaled * state[f"{name}.weight"][channel] + state[f"{name}.bias"][channel]
    return normalised


def dilated(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """A 3x3 convolution with holes, zero outside the picture."""
    out = torch.zeros(x.shape[0], len(weight), *x.shape[2:], dtype=x.dtype)
    for b, i, j in positions(x):
        out[b, :, i, j] = bias
        for row in range(3):
            for column in range(3):
                top, left = i + (row - 1) * dilation, j + (column - 1) * dilation
                if 0 <= top < x.shape[2] and 0 <= left < x.shape[3]:
                    out[b, :, i, j] += weight[:, :, row, column] @ x[b, :, top, left]
    return out


def bam(x: Tensor, state: dict[str, Tensor], dilation: int, combine: str, training: bool) -> Tensor:
    """x (1 + sigmoid(Mc with Ms)), the normalisations between the projections as released (Park et al.)."""
    squeezed = torch.stack([torch.stack([channel.mean() for channel in sample]) for sample in x])
    hidden = squeezed @ state["channel.reduce.weight"].T + state["channel.reduce.bias"]
    hidden = torch.clamp(batch_norm(hidden, state, "channel.norm", training), min=0)
    by_channel = hidden @ state["channel.expand.weight"].T + state["channel.expand.bias"]
    by_place = pointwise(x, state, "spatial.reduce")
    for name in ("norm", "norm1", "norm2"):
        by_place = torch.clamp(batch_norm(by_place, state, f"spatial.{name}", training), min=0)
        if name != "norm2":
            kernel = f"spatial.conv{1 if name == 'norm' else 2}"
            by_place = dilated(by_place, state[f"{kernel}.weight"], state[f"{kernel}.bias"], dilation)
    by_place = pointwise(by_place, state, "spatial.project")  # (batch, 1, height, width)
    by_channel = by_channel[:, :, None, None]
    return x * (1 + sigmoid(by_channel + by_place if combine == "sum" else by_channel * by_place))


def pointwise(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """A 1x1 convolution."""
    weight, bias = state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"]
    out = torch.empty(x.shape[0], len(weight), *x.shape[2:], dtype=x.dtype)
    for b, i, j in positions(x):
        out[b, :, i, j] = weight @ x[b, :, i, j] + bias
    return out
