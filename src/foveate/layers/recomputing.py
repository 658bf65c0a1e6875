"""Features that a backward pass computes again, rather than keeping them.

Autograd keeps what a gradient needs, which for a mechanism is the features that it reads: a map more for each place
where one stands. What is cheap to compute again, from what is kept anyway, need not be kept. Compiled code and
torch.func decide that for themselves.
"""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers import gradients

__all__ = ["held", "normalised_again", "recomputed", "takes"]


def recomputed(x: Tensor, again: Callable[[], Tensor]) -> AbstractContextManager[Any]:
    """In this context no gradient keeps x: a backward pass computes it by `again`, once for all that took it."""
    if gradients.transformed() or not torch.is_grad_enabled():
        return nullcontext()
    kept = _Recomputed(x, again)
    return torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack)


class _Recomputed:
    """What takes x out of the graph and puts it there again. Other tensors go the way that they went without it."""

    def __init__(self, x: Tensor, again: Callable[[], Tensor]) -> None:
        self.kept, self.version, self.again = weakref.ref(x), x._version, again
        self.outer = _hooks()
        self.taken = self.given = 0
        self.current: Tensor | None = None

    def takes(self, tensor: Tensor) -> bool:
        """Whether it is x, as `again` will give it: not what something has made of it in place."""
        return tensor is self.kept() and tensor._version == self.version

    def pack(self, tensor: Tensor) -> Any:
        if not self.takes(tensor):
            return self.outer[0](tensor) if self.outer else tensor
        self.taken += 1
        return self

    def unpack(self, packed: Any) -> Tensor:
        if packed is not self:
            return self.outer[1](packed) if self.outer else packed
        x = self.current = self.again() if self.current is None else self.current
        self.given += 1
        if self.given % self.taken == 0:
            self.current = None
        return x


def _hooks() -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]] | None:
    """What packs and unpacks saved tensors here, where anything does."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # pyright: ignore[reportAttributeAccessIssue]
    return None if top is None else top(True)  # torch before 2.8 does not tell


def held(x: Tensor) -> Callable[[], Tensor]:
    """What gives x in the backward pass, without keeping it where a context takes it out of the graph."""
    if gradients.transformed() or not torch.is_grad_enabled() or (hooks := _hooks()) is None:
        return lambda: x
    pack, unpack = hooks
    packed = pack(x)
    return lambda: unpack(packed)


def takes(x: Tensor) -> bool:
    """Whether a context is open that takes x out of what gradients keep."""
    hooks = None if gradients.transformed() else _hooks()
    owner = getattr(hooks[0], "__self__", None) if hooks else None
    return isinstance(owner, _Recomputed) and owner.takes(x)


def normalised_again(norm: nn.Module, x: Tensor, y: Tensor) -> AbstractContextManager[Any]:
    """In this context no gradient keeps y = norm(x): a plain batch normalisation is repeated from x, which it keeps."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) or not gradients.is_plain(norm):
        return nullcontext()
    mean, variance = norm.running_mean, norm.running_var
    of_batch = norm.training or mean is None or variance is None
    if mean is not None and variance is not None:  # which may move on before the backward pass
        mean, variance = (None, None) if of_batch else (mean.clone(), variance.clone())
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    return recomputed(y, lambda: F.batch_norm(x, mean, variance, weight, bias, training=of_batch, eps=eps))
