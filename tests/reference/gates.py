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
