"""What the gates share: the checks of their arguments and input, the pooling over space, and the scaling by a gate."""

import math

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from foveate.layers import gradients, recomputing

__all__ = [
    "BATCH_NORMS",
    "CONVOLUTIONS",
    "MAP_LIMIT_BYTES",
    "bottleneck",
    "channel_gate_over_space",
    "check_batch_statistics",
    "check_channels",
    "check_choice",
    "check_input",
    "check_kernel_size",
    "check_map_size",
    "check_spatial_dims",
    "gate_over_positions",
    "maximum",
    "mean",
    "pool",
    "scale",
    "start_as_released",
]

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAP_LIMIT_BYTES = 4 * 2**30
"""The largest map that a watched layer forms."""


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError unless the option `name` is one of `choices`."""
    if value not in choices:
        wanted = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be one of {wanted}; got {value!r}")


def check_spatial_dims(spatial_dims: int) -> None:
    """Raise a ValueError unless the number of spatial axes is 1, 2 or 3."""
    if spatial_dims not in CONVOLUTIONS:
        raise ValueError(f"spatial_dims must be 1, 2 or 3; got {spatial_dims}")


def check_channels(channels: int) -> None:
    """Raise a ValueError unless there is at least one channel."""
    if channels < 1:
        raise ValueError(f"channels must be at least 1; got {channels}")


def check_kernel_size(kernel_size: int) -> None:
    """Raise a ValueError unless a kernel has a middle."""
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and positive; got {kernel_size}")


def check_input(layer: str, x: Tensor, channels: int, spatial_dims: int | None = None) -> None:
    """Raise a ValueError unless x is (batch, channels, *space) with spatial_dims spatial axes, or else one to three."""
    dims = (1, 2, 3) if spatial_dims is None else (spatial_dims,)
    if x.ndim - 2 in dims and x.shape[1] == channels:
        return
    axes = "1 to 3 spatial axes" if spatial_dims is None else f"spatial_dims={spatial_dims}"
    raise ValueError(f"{layer} takes (batch, {channels}, *space) with {axes}; got {tuple(x.shape)}")


def check_batch_statistics(layer: str, norm: nn.Module, x: Tensor) -> None:
    """Raise a ValueError where a batch norm in training would take the variance of one value per channel."""
    if not norm.training or not isinstance(norm, tuple(BATCH_NORMS.values())):
        return
    if x.shape[0] * math.prod(x.shape[2:]) == 1:
        wanted = "at least 2 values per channel, to normalise over"
        raise ValueError(f"{layer} in training takes {wanted}; got {tuple(x.shape)}: take a larger batch, or eval mode")


def check_map_size(geometry: tuple[int, ...], x: Tensor, advice: str) -> None:
    """Raise a ValueError, which ends with an advice, if a watched map of x would take more than MAP_LIMIT_BYTES.

    A tensor without memory, on the meta device or fake, has maps of any size.
    """
    size = math.prod(geometry) * max(4, x.element_size())
    if size > MAP_LIMIT_BYTES and (torch.compiler.is_compiling() or x.untyped_storage().device.type != "meta"):
        most, found = (f"{amount / 2**30:.2g} GiB" for amount in (MAP_LIMIT_BYTES, size))
        raise ValueError(f"a watched map takes at most {most}; got {geometry}, {found}: {advice}")


def bottleneck(channels: int, reduction: int | None, hidden_channels: int | None, *, default: int) -> int:
    """The width of a bottleneck: hidden_channels, or else channels // reduction but at least one."""
    if reduction is not None and hidden_channels is not None:
        raise ValueError(f"give reduction or hidden_channels, not both; got {reduction} and {hidden_channels}")
    for name, value in {"reduction": reduction, "hidden_channels": hidden_channels}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    return hidden_channels or max(1, channels // (reduction or default))


def pool(x: Tensor, kind: str) -> Tensor:
    """Squeeze (batch, channel, *space) to (batch, channel) by "average", "max", "lp" or "lse".

    "lp" is the root of the sum of squares and "lse" the logarithm of the sum of exponentials. Both are sums, not
    means, as CBAM was released.
    """
    space = tuple(range(2, x.ndim))
    match kind:
        case "average":
            return mean(x, space)
        case "max":
            return maximum(x, space)
        case "lp":
            return vector_norm(x, dim=space)  # its gradient at zero is 0, where that of sqrt is infinite
        case _:
            return x.logsumexp(dim=space)


def maximum(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The maximum over some axes."""
    return gradients.maximum(x, dims, again=recomputing.takes(x))


def mean(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The mean over some axes, with a gradient that is broadcast rather than written out at the size of x.

    Tensor.mean divides the expanded gradient, which costs a gate half its backward pass. In half precision the sum
    would overflow or round before the division, so there it is Tensor.mean.
    """
    if x.dtype in (torch.float16, torch.bfloat16) or not x.requires_grad:
        return x.mean(dim=dims)
    return x.sum(dim=dims) / math.prod([x.shape[axis] for axis in dims])


def channel_gate_over_space(gate: Tensor, x: Tensor) -> Tensor:
    """Give (batch, channel) the spatial axes of x, each of size one."""
    return gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


def gate_over_positions(channel: Tensor, position: Tensor, x: Tensor, *, product: bool = False) -> Tensor:
    """The sigmoid of the sum or product of (batch, channel) and (batch, *space), in the size and format of x."""
    last = not torch.compiler.is_compiling() and not x.is_contiguous()
    return gradients.gate_of_both(channel, position, product=product, last=last)


def scale(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply (batch, channel, *space) by a gate of (batch, channel)."""
    return x * channel_gate_over_space(gate, x)


def start_as_released(layer: nn.Module) -> None:
    """Draw the convolutions from Kaiming's normal distribution (fan out), and set every bias to zero.

    CBAM and BAM were released with these starts; they decide where the gates begin.
    """
    for module in layer.modules():
        convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        if convolution:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if (convolution or isinstance(module, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
