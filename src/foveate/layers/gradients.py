"""Gradients of our own for what gates do to features, because those of torch make several times the passes over them.

Each function computes what torch's operations of its equation compute. Compiled code and torch.func get these
operations, which a compiler fuses better than any gradient of ours; of a convolution to one channel on a processor they
get the product. Exported code gets the convolution. One that is hooked, or no plain one any more, is called as it is.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "convolve",
    "convolve_apart",
    "exporting",
    "gate_of_both",
    "is_plain",
    "larger",
    "maximum",
    "one_plus_gate",
    "project_channels",
    "scale_by_sum",
    "scale_positions",
    "transformed",
]

CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
LARGEST_KERNEL = 4096
"""Positions up to which a gradient serves as the kernel of a convolution."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_plain(module: nn.Module) -> bool:
    """Whether a module is torch's own, unparametrised and without hooks, so that its weight says all that it does."""
    return type(module).__module__.startswith("torch.nn.modules.") and not any(getattr(module, name) for name in HOOKS)


def transformed() -> bool:
    """Whether torch.compile, torch.export or torch.func look on, which see through torch's own operations alone."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def exporting() -> bool:
    """Whether torch.export looks on; torch before 2.7 tells it from no other compiler."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def maximum(x: Tensor, dims: tuple[int, ...], *, again: bool = False) -> Tensor:
    """The maximum over some axes; equal maxima share the gradient, as those of Tensor.amax do.

    again: The backward pass may get x in other bits, as where it is computed anew; it looks for the maximum there.
    """
    return (_Maximum.apply(x, dims, again) if _own_gradient(x) else x.amax(dim=dims, keepdim=True)).squeeze(dims)


class _Maximum(torch.autograd.Function):
    """Tensor.amax, whose own gradient counts in int64 and multiplies by a bool: five times the time."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.dims, ctx.again = inputs[1:]

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...], again: bool) -> Tensor:
        return x.amax(dim=dims, keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, most = (tensor.detach() for tensor in ctx.saved_tensors)
        if ctx.again:
            most = x.amax(dim=ctx.dims, keepdim=True)
        share = torch.eq(x, most, out=torch.empty_like(x))  # ones and zeros
        count = share.sum(dim=ctx.dims, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        given = (grad / count).to(x.dtype)
        return (share * given if torch.is_grad_enabled() else share.mul_(given)), None, None


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


def scale_positions(x: Tensor, gate: Tensor, *, own: bool = False) -> Tensor:
    """Multiply (batch, channel, *space) by a gate of (batch, *space); in its memory if it is the caller's own."""
    gate = gate.unsqueeze(1)
    return x.mul_(gate) if own and _overwritable(x, gate) else x * gate


def scale_by_sum(x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    """Multiply (batch, channel, *space) by the sum of gates of (batch, channel) and (batch, *space)."""
    channel, position = channel.reshape(*channel.shape, *[1] * (x.ndim - 2)), position.unsqueeze(1)
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


def gate_of_both(channel: Tensor, position: Tensor, *, product: bool, last: bool) -> Tensor:
    """The sigmoid of gates of (batch, channel) and (batch, *space), added or multiplied: (batch, channel, *space).

    `last` puts the channel last in memory: of two such tensors torch cannot tell, and what multiplies features by the
    gate would read one of the two in strides.
    """
    if _own_gradient(channel, position):
        return _GateOfBoth.apply(channel, position, product, last)
    return _gate_of_both(channel, position, product, last)


def _gate_of_both(channel: Tensor, position: Tensor, product: bool, last: bool) -> Tensor:
    ones = [1] * (position.ndim - 1)
    if last:
        channel, position = channel.reshape(len(channel), *ones, channel.shape[1]), position.unsqueeze(-1)
    else:
        channel, position = channel.reshape(*channel.shape, *ones), position.unsqueeze(1)
    gate = (channel * position if product else channel + position).sigmoid_()
    return gate.movedim(-1, 1) if last else gate


class _GateOfBoth(torch.autograd.Function):
    """sigmoid(channel + position) or of their product, whose gradients are sums and products that write no map."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2], output)
        ctx.product = inputs[2]

    @staticmethod
    def forward(channel: Tensor, position: Tensor, product: bool, last: bool) -> Tensor:
        return _gate_of_both(channel, position, product, last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        channel, position, gate = ctx.saved_tensors
        of_both = torch.ops.aten.sigmoid_backward(grad, gate).flatten(2)  # (batch, channel, position)
        if ctx.product:
            channel, of_each = channel.to(of_both.dtype), position.flatten(1).to(of_both.dtype)
            of_channel = (of_each.unsqueeze(1) @ of_both.mT).squeeze(1)
            of_position = channel.unsqueeze(1) @ of_both
        else:
            of_channel, of_position = of_both.sum(dim=2), of_both.sum(dim=1)
        return of_channel, of_position.reshape(position.shape), None, None


def project_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of (batch, channel, *space) to one channel, by a weight of (1, channel), without a copy of x."""
    if not _on_processor(x):
        return CONVOLVE[x.ndim](x, weight.reshape(*weight.shape, *[1] * (x.ndim - 2)), bias)
    y = _Projection.apply(x, weight) if _own_gradient(x, weight) else _projection(x, weight)
    return y if bias is None else y + bias


def _projection(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution to one channel as one product a sample, (batch, 1, *space)."""
    if x.is_contiguous():
        y = torch.bmm(weight.expand(x.shape[0], 1, -1), x.flatten(2))  # matmul would fold the batch into a copy of x
    else:
        y = torch.bmm(x.movedim(1, -1).flatten(1, -2), weight.mT.expand(x.shape[0], -1, 1))
    return y.reshape(x.shape[0], 1, *x.shape[2:])


class _Projection(torch.autograd.Function):
    """A 1x1 convolution to one channel, to which oneDNN takes two to five times as long as products do."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return _projection(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_weight = (grad.flatten(2) @ x.flatten(2).mT).sum(dim=0)
        weight = weight.reshape(*weight.shape, *[1] * (x.ndim - 2))
        if torch.is_grad_enabled():
            return grad * weight, of_weight
        return torch.mul(grad, weight, out=torch.empty_like(x)), of_weight  # in the memory format of x


def convolve(conv: Any, x: Tensor) -> Tensor:
    """A convolution of one step with an odd kernel, padded to keep its size and without bias, of few channels."""
    own = is_plain(conv) and _on_processor(x) and _own_gradient(x, conv.weight)
    return _Convolution.apply(x, conv.weight) if own else conv(x)


def convolve_apart(conv: Any, x: Tensor) -> Tensor:
    """A convolution with its bias added apart: oneDNN takes longer over the bias's gradient than over all else."""
    if conv.bias is None or not is_plain(conv) or not _on_processor(x) or not _own_gradient(x, conv.weight):
        return conv(x)
    if conv.weight[:, 0].numel() == 1:
        return project_channels(x, conv.weight.flatten(1), conv.bias)
    return conv._conv_forward(x, conv.weight, None) + conv.bias.reshape(-1, *[1] * (x.ndim - 2))


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
    return CONVOLVE[x.ndim](x, weight, padding=tuple(size // 2 for size in kernel))


def _own_gradient(*tensors: Tensor) -> bool:
    """Whether a gradient written here is of use."""
    return torch.is_grad_enabled() and not transformed() and any(tensor.requires_grad for tensor in tensors)


def _overwritable(x: Tensor, other: Tensor) -> bool:
    """Whether x can take what it is combined to with another tensor: no gradient will ask for what it was."""
    return not torch.is_grad_enabled() and not transformed() and x.dtype == other.dtype


def _on_processor(x: Tensor) -> bool:
    """Whether a convolution is the processor's, in the precision of x, and stays in this process."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not exporting()
