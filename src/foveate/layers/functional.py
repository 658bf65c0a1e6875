"""What the gates share: the check of their input, the pooling over space, and the scaling by a gate."""

from torch import Tensor

__all__ = ["POOLS", "bottleneck", "check_input", "pool", "scale"]

POOLS = ("average", "max", "lp", "lse")


def check_input(layer: str, x: Tensor, channels: int, spatial_dims: int | None = None) -> None:
    """Raise a ValueError unless `x` is (batch, `channels`, *space) with `spatial_dims` (or else one to three) axes."""
    dims = (1, 2, 3) if spatial_dims is None else (spatial_dims,)
    if x.ndim - 2 in dims and x.shape[1] == channels:
        return
    axes = "1 to 3 spatial axes" if spatial_dims is None else f"spatial_dims={spatial_dims}"
    raise ValueError(f"{layer} takes (batch, {channels}, *space) with {axes}; got {tuple(x.shape)}")


def bottleneck(channels: int, reduction: int | None, hidden_channels: int | None, *, default: int) -> int:
    """The width of a bottleneck: `hidden_channels`, or channels // reduction but at least one."""
    if reduction is not None and hidden_channels is not None:
        raise ValueError(f"give reduction or hidden_channels, not both; got {reduction} and {hidden_channels}")
    for name, value in {"reduction": reduction, "hidden_channels": hidden_channels}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    return hidden_channels or max(1, channels // (reduction or default))


def pool(x: Tensor, kind: str) -> Tensor:
    """Squeeze (batch, channel, *space) to (batch, channel).

    "lp" is the square root of the sum of squares and "lse" the logarithm of the sum of exponentials: sums, not means, as
    CBAM was released.
    """
    space = tuple(range(2, x.ndim))
    if kind == "average":
        return x.mean(dim=space)
    if kind == "max":
        return x.amax(dim=space)
    if kind == "lp":
        return x.pow(2).sum(dim=space).sqrt()
    return x.logsumexp(dim=space)


def scale(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply (batch, channel, *space) by a gate of (batch, channel), or of the same axes as x."""
    return x * gate.reshape(*gate.shape, *[1] * (x.ndim - gate.ndim))
