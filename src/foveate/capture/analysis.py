"""What maps say: pure functions on captured gates and attention weights.

Roll-out: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, https://arxiv.org/abs/2005.00928.
Pointing: Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, https://arxiv.org/abs/1608.00507.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "channel_profile",
    "entropy",
    "gate_entropy",
    "health",
    "likeness",
    "pointing_hits",
    "rollout",
    "saturation",
    "variation",
]


def entropy(weights: Tensor, key_axes: int = 1) -> Tensor:
    """How widely each query looks: 0 at one key, 1 at all keys alike; H(row) / log(number of keys).

    Args:
        weights: Attention weights of which each row sums to one.
        key_axes: How many of the last axes are keys: 2 for the map of a non-local block on pictures.

    Shape:
        (..., *key) -> (...)
    """
    rows = weights.flatten(start_dim=-key_axes).double()
    keys = rows.shape[-1]
    if keys == 1:
        raise ValueError(
            f"entropy takes rows over two keys or more; got {tuple(weights.shape)} with {key_axes} key axes"
        )
    return (torch.special.entr(rows).sum(dim=-1) / math.log(keys)).to(weights.dtype)


def likeness(weights: Tensor) -> Tensor:
    """How alike the queries look: the mean cosine of the angle between two of their rows; 1 where all look alike.

    Args:
        weights: Attention weights.

    Shape:
        (..., query, key) -> (...), of two queries or more.
    """
    queries = weights.shape[-2]
    if queries < 2:
        raise ValueError(f"likeness takes rows of two queries or more; got {tuple(weights.shape)}")
    rows = weights.double()
    rows = rows / rows.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.double).tiny)
    # The sum over all pairs is the square of the sum of the rows, each row with itself among them.
    every = rows.sum(dim=-2).square().sum(dim=-1)
    return ((every - queries) / (queries * (queries - 1))).to(weights.dtype)


def gate_entropy(gate: Tensor) -> Tensor:
    """How undecided each gate value is, in bits: 0 at closed (0) and open (1), 1 at one half.

    Shape:
        (*) -> (*), values outside of 0 to 1 taken as the nearer end.
    """
    opened = gate.double().clamp(0, 1)
    bits = (torch.special.entr(opened) + torch.special.entr(1 - opened)) / math.log(2)
    return bits.to(gate.dtype)


def saturation(gate: Tensor, within: float = 0.02) -> float:
    """The share of gate values within 0.02 of closed (0) or open (1), or beyond.

    Shape:
        (*) -> a number from 0 to 1.
    """
    return ((gate <= within) | (gate >= 1 - within)).double().mean().item()


def variation(values: Tensor) -> float:
    """How much a map depends on the input: its standard deviation over the batch, averaged, relative to its mean size.

    0 for a map that is the same for every input.

    Shape:
        (batch, *) -> a number, 0 or more.
    """
    if values.shape[0] < 2:
        raise ValueError(f"variation takes two inputs or more along the first axis; got {tuple(values.shape)}")
    values = values.double()
    size = values.abs().mean()
    return (values.std(dim=0, correction=0).mean() / size).item() if size > 0 else 0.0


def health(values: Tensor, axes: str, alive_above: float = 1e-4) -> dict[str, float | bool | str | None]:
    """Whether a mechanism does anything: a summary of its map over several inputs.

    Args:
        values: The map, as captured.
        axes: The names of its axes: attention weights where the last is a key or a slice, else a gate.
        alive_above: The variation above which the map counts as alive.

    Returns:
        axes, mean, std, entropy (mean of entropy or gate_entropy; None for weights over a single key, and for dot
        products, which are no shares where one is below 0), saturation (None for attention weights), variation and
        alive.
    """
    names = axes.split()
    attention = names[-1].lstrip("*") in ("key", "slice")
    if attention:
        starred = sum(name.startswith("*") for name in names)
        key_axes = 1 + (values.ndim - len(names)) // starred if names[-1].startswith("*") else 1
        shares = values.shape[-key_axes:].numel() > 1 and not (values < 0).any()
        spread = entropy(values, key_axes) if shares else None
    else:
        spread = gate_entropy(values)
    changes = variation(values)
    return {
        "axes": axes,
        "mean": values.double().mean().item(),
        "std": values.double().std(correction=0).item(),
        "entropy": None if spread is None else spread.double().mean().item(),
        "saturation": None if attention else saturation(values),
        "variation": changes,
        "alive": changes > alive_above,
    }


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """How much each output token draws on each input token through all layers: the product of A' = (A + I) / 2.

    A is the mean over heads, and I stands for the residual connection around the attention (section 4 of the paper).

    Args:
        layers: The self-attention weights of each layer, first layer first.

    Shape:
        (batch, head, token, token) or (batch, token, token) each -> (batch, token, token), rows sum to one.
    """
    flow = None
    for weights in layers:
        shape = tuple(weights.shape)
        if weights.ndim not in (3, 4) or shape[-2] != shape[-1] or (flow is not None and flow.shape[-1] != shape[-1]):
            raise ValueError(
                "rollout takes (batch, head, token, token) with equal tokens in every layer; "
                f"got {[tuple(layer.shape) for layer in layers]}"
            )
        mean = weights.mean(dim=1) if weights.ndim == 4 else weights
        mixed = (mean + torch.eye(shape[-1], dtype=mean.dtype, device=mean.device)) / 2
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    if flow is None:
        raise ValueError("rollout takes the weights of one layer or more; got none")
    return flow


def pointing_hits(heat: Tensor, masks: Tensor) -> Tensor:
    """Whether the maximum of each map lies inside the true place; the mean of it is the pointing accuracy.

    The maximum is the centre of the largest cell, taken over to the picture. Where several cells are equally large, all
    of them have to lie inside, so that a map that is the same everywhere points nowhere.

    Shape:
        heat (batch, *cells), masks (batch, *space) of as many axes, not zero at the true place -> bool (batch,)
    """
    if heat.ndim != masks.ndim or heat.ndim < 2 or heat.shape[0] != masks.shape[0]:
        raise ValueError(
            "pointing_hits takes heat (batch, *cells) and masks (batch, *space) of as many axes; "
            f"got {tuple(heat.shape)} and {tuple(masks.shape)}"
        )
    inside = masks != 0
    for axis in range(1, heat.ndim):
        cells, size = heat.shape[axis], masks.shape[axis]
        centres = (torch.arange(cells, device=masks.device) + 0.5) * size / cells
        inside = inside.index_select(axis, centres.long())
    heat, inside = heat.flatten(start_dim=1), inside.flatten(start_dim=1)
    largest = heat == heat.amax(dim=1, keepdim=True)
    return largest.any(dim=1) & ~(largest & ~inside).any(dim=1)


def channel_profile(gate: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The mean gate of each channel over the inputs of each class.

    Shape:
        gate (batch, channel, *space), labels (batch,) -> (class, channel), not a number for a class without inputs.
    """
    if labels.shape != gate.shape[:1]:
        raise ValueError(f"channel_profile takes one label an input; got {tuple(gate.shape)} and {tuple(labels.shape)}")
    means = gate.flatten(start_dim=2).mean(dim=2) if gate.ndim > 2 else gate
    sums = means.new_zeros(num_classes, means.shape[1]).index_add(0, labels, means)
    counts = torch.bincount(labels, minlength=num_classes)
    return sums / counts.unsqueeze(1)
