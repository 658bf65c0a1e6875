"""What the gates share: the checks of their arguments and input, the pooling over space, and the scaling by a gate.

Some of it has its own gradient, because that of torch makes several times the passes over the features. Compiled and
exported code, and torch.func, get torch's own operations, which a compiler fuses better than any gradient of ours.
"""

import math
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.linalg import vector_norm

__all__ = [
    "BATCH_NORMS",
    "CONVOLUTIONS",
    "LARGEST_KERNEL",
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
    "convolve",
    "convolve_apart",
    "gate_over_positions",
    "larger",
    "maximum",
    "mean",
    "one_plus_gate",
    "pool",
    "project_channels",
    "recomputed",
    "scale",
    "scale_by_sum",
    "scale_positions",
    "start_as_released",
]

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
LARGEST_KERNEL = 4096
"""Positions up to which a gradient serves as the kernel of a convolution."""
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


def mean(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The mean over some axes, with a gradient that is broadcast rather than written out at the size of x.

    Tensor.mean divides the expanded gradient, which costs a gate half its backward pass. In half precision the sum
    would overflow or round before the division, so there it is Tensor.mean.
    """
    if x.dtype in (torch.float16, torch.bfloat16) or not x.requires_grad:
        return x.mean(dim=dims)
    return x.sum(dim=dims) / math.prod([x.shape[axis] for axis in dims])


def maximum(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The maximum over some axes; equal maxima share the gradient, as those of Tensor.amax do."""
    return (_Maximum.apply(x, dims) if _own_gradient(x) else x.amax(dim=dims, keepdim=True)).squeeze(dims)


class _Maximum(torch.autograd.Function):
    """Tensor.amax, whose own gradient counts in int64 and multiplies by a bool: five times the time."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.dims = inputs[1]

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.amax(dim=dims, keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, most = (tensor.detach() for tensor in ctx.saved_tensors)
        share = torch.eq(x, most, out=torch.empty_like(x))  # ones and zeros
        count = share.sum(dim=ctx.dims, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        given = (grad / count).to(x.dtype)
        return (share * given if torch.is_grad_enabled() else share.mul_(given)), None


def larger(a: Tensor, b: Tensor) -> Tensor:
    """The larger of each two numbers; equal ones share the gradient, as those of torch.maximum do.

    Both are the caller's own: without gradients the answer lies in the memory of b.
    """
    if _own_gradient(a, b):
        return _Larger.apply(a, b)
    return torch.maximum(a, b, out=b) if _overwritable(b, a) else torch.maximum(a, b)


class _Larger(torch.autograd.Function):
    """torch.maximum, whose own gradient fills masks: five times the time."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (tensor.detach() for tensor in ctx.saved_tensors)
        of_a = grad * torch.sub(a, b).sign_().add_(1).mul_(0.5)
        return of_a, grad - of_a


def _own_gradient(*tensors: Tensor) -> bool:
    """Whether a gradient written here is of use."""
    return torch.is_grad_enabled() and not _transformed() and any(tensor.requires_grad for tensor in tensors)


def _transformed() -> bool:
    """Whether torch.compile, torch.export or torch.func look on, which see through torch's own operations alone."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _overwritable(x: Tensor, other: Tensor) -> bool:
    """Whether x can take what it is combined to with another tensor: no gradient will ask for what it was."""
    return not torch.is_grad_enabled() and not _transformed() and x.dtype == other.dtype


def channel_gate_over_space(gate: Tensor, x: Tensor) -> Tensor:
    """Give (batch, channel) the spatial axes of x, each of size one."""
    return gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


def gate_over_positions(
    form: Callable[[Tensor, Tensor], Tensor], channel: Tensor, position: Tensor, x: Tensor
) -> Tensor:
    """The sigmoid of a combination of (batch, channel) and (batch, *space), in the size and memory format of x.

    Of two such tensors torch cannot tell the format, and a product with x would read one of its factors in strides.
    """
    if torch.compiler.is_compiling() or x.is_contiguous():
        return form(channel_gate_over_space(channel, x), position.unsqueeze(1)).sigmoid_()
    channel = channel.reshape(x.shape[0], *[1] * (x.ndim - 2), -1)
    return form(channel, position.unsqueeze(-1)).sigmoid_().movedim(-1, 1)


def project_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of (batch, channel, *space) to one channel, by a weight of (1, channel), without a copy of x."""
    weight = weight.reshape(*weight.shape, *[1] * (x.ndim - 2))
    if not _on_processor(x, weight):
        return _CONVOLVE[x.ndim](x, weight, bias)
    y = _Projection.apply(x, weight)
    return y if bias is None else y + bias


class _Projection(torch.autograd.Function):
    """A 1x1 convolution to one channel, to whose gradients oneDNN's threads take milliseconds whatever the size."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return _CONVOLVE[x.ndim](x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_weight = (grad.flatten(2) @ x.flatten(2).mT).sum(dim=0).reshape(weight.shape)
        if torch.is_grad_enabled():
            return grad * weight, of_weight
        return torch.mul(grad, weight, out=torch.empty_like(x)), of_weight  # in the memory format of x


def convolve_apart(conv: Any, x: Tensor) -> Tensor:
    """A convolution with its bias added apart: oneDNN takes longer over the bias's gradient than over all else."""
    if conv.bias is None or not _on_processor(x, conv.weight):
        return conv(x)
    if conv.weight[:, 0].numel() == 1:
        return project_channels(x, conv.weight.flatten(1), conv.bias)
    return conv._conv_forward(x, conv.weight, None) + conv.bias.reshape(-1, *[1] * (x.ndim - 2))


def _on_processor(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution is the processor's in full precision, and a gradient written here is of use."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and _own_gradient(x, weight)


def convolve(conv: Any, x: Tensor) -> Tensor:
    """A convolution of one step with an odd kernel, padded to keep its size and without bias, of few channels."""
    return _Convolution.apply(x, conv.weight) if _on_processor(x, conv.weight) else conv(x)


class _Convolution(torch.autograd.Function):
    """Of few channels, a processor does both gradients up to ten times as fast as convolutions of their own."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return _same(x, weight, weight.shape[2:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        kernel = weight.shape[2:]
        of_x = _same(grad, weight.flip(*range(2, x.ndim)).transpose(0, 1), kernel)
        if 0 < math.prod(x.shape[2:]) <= LARGEST_KERNEL and len(x):
            return of_x, _same(x.transpose(0, 1), grad.transpose(0, 1), kernel).transpose(0, 1)
        step, padding = [1] * len(kernel), [size // 2 for size in kernel]
        wanted = [False, True, False]
        given = (grad, x, weight, None, step, padding, step, False, [0] * len(kernel), 1, wanted)
        return of_x, torch.ops.aten.convolution_backward(*given)[1]


def _same(x: Tensor, weight: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """A convolution padded for a kernel of that size."""
    return _CONVOLVE[x.ndim](x, weight, padding=tuple(size // 2 for size in kernel))


def scale(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply (batch, channel, *space) by a gate of (batch, channel)."""
    return x * channel_gate_over_space(gate, x)


def scale_positions(x: Tensor, gate: Tensor, *, own: bool = False) -> Tensor:
    """Multiply (batch, channel, *space) by a gate of (batch, *space); in its memory if it is the caller's own."""
    gate = gate.unsqueeze(1)
    return x.mul_(gate) if own and _overwritable(x, gate) else x * gate


def scale_by_sum(x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    """Multiply (batch, channel, *space) by the sum of gates of (batch, channel) and (batch, *space)."""
    channel, position = channel_gate_over_space(channel, x), position.unsqueeze(1)
    if _own_gradient(x, channel, position):
        return _ScaleBySum.apply(x, channel, position)
    return torch.addcmul(x * channel, x, position)


class _ScaleBySum(torch.autograd.Function):
    """x * channel + x * position, with one product of the gradient and x for both gates."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
        return torch.addcmul(x * channel, x, position)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, channel, position = ctx.saved_tensors
        both = grad * x
        by_channel, by_position = both.sum_to_size(channel.shape), both.sum_to_size(position.shape)
        return torch.addcmul(grad * channel, grad, position), by_channel, by_position


def one_plus_gate(x: Tensor, gate: Tensor) -> Tensor:
    """x * (1 + gate), for a gate of the size of x."""
    return _OnePlusGate.apply(x, gate) if _own_gradient(x, gate) else torch.addcmul(x, x, gate)


class _OnePlusGate(torch.autograd.Function):
    """x + x * gate, whose gradient is of the same form."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(x: Tensor, gate: Tensor) -> Tensor:
        return torch.addcmul(x, x, gate)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gate = ctx.saved_tensors
        return torch.addcmul(grad, grad, gate), grad * x


def recomputed(x: Tensor, again: Callable[[], Tensor]) -> AbstractContextManager[Any]:
    """In this context no gradient keeps x: what it needs of x is computed again, by `again`, in the backward pass."""
    if _transformed() or not torch.is_grad_enabled():
        return nullcontext()

    kept = weakref.ref(x)  # autograd keeps both functions

    def pack(tensor: Tensor) -> Tensor | None:
        return None if tensor is kept() else tensor

    def unpack(packed: Tensor | None) -> Tensor:
        return packed if packed is not None else again()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


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
