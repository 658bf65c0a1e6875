"""A module's weights as stages: a projection or convolution each, with the normalisation that follows it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.auditing.subject import Refusal, Subject

__all__ = ["PADDING_MODES", "Geometry", "Stage", "collect", "dead_leaves"]

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
PADDING_MODES = {"zeros": "constant", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over space, along every axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    mode: str = "zeros"

    @classmethod
    def centred(cls, kernel: tuple[int, ...], dilation: int = 1) -> "Geometry":
        """Every position of the input answered, with zeros beyond the edges."""
        ones = (1,) * len(kernel)
        padding = tuple(size // 2 * dilation for size in kernel)
        return cls(ones, padding, (dilation,) * len(kernel))

    @classmethod
    def built(cls, leaf: Any, kernel: tuple[int, ...]) -> "Geometry | None":
        """As a convolution of torch.nn has it."""
        if not isinstance(leaf, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return None
        padding = leaf.padding
        if isinstance(padding, str):
            same = tuple((size - 1) * step // 2 for size, step in zip(kernel, leaf.dilation, strict=True))
            padding = same if padding == "same" else (0,) * len(kernel)
        return cls(leaf.stride, padding, leaf.dilation, leaf.padding_mode)

    def __str__(self) -> str:
        parts = [f"{name} {_short(getattr(self, name))}" for name in ("stride", "dilation", "padding")]
        return ", ".join(parts) + ("" if self.mode == "zeros" else f" ({self.mode})")


@dataclass(frozen=True, eq=False)
class Stage:
    """A projection or convolution, its bias, and the normalisation behind it.

    Args:
        name: The name of its weight's owner in the module.
        weight: (out, in, *kernel); a linear layer has no kernel.
        bias: (out,), or none.
        norm: The normalisation that is called next and has the right width, or none.
        leaf: The submodule that owns the weight, where it is one of torch.nn.
        geometry: How the kernel moves.
        place: Its place in the order in which the module calls its parts.
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    norm: nn.Module | None
    leaf: nn.Module | None
    geometry: Geometry | None
    place: int

    @property
    def width(self) -> int:
        return self.weight.shape[0]

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def pointwise(self) -> bool:
        return math.prod(self.kernel) == 1

    @property
    def parameters(self) -> int:
        norm = sum(p.numel() for p in self.norm.parameters()) if self.norm is not None else 0
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel()) + norm

    def moving(self, geometry: Geometry | None) -> "Stage":
        """The same weights under another geometry."""
        return replace(self, geometry=geometry)

    def __call__(self, x: Tensor) -> Tensor:
        """Answer (batch, in, *space), or (batch, in)."""
        if self.pointwise and (self.geometry is None or max(self.geometry.stride) == 1):
            y = torch.einsum("oi,bi...->bo...", self.weight.flatten(1), x)
            y = y if self.bias is None else y + self.bias.reshape(-1, *[1] * (x.ndim - 2))
        else:
            y = self._convolved(x)
        return y if self.norm is None else normalised(self.norm, y)

    def _convolved(self, x: Tensor) -> Tensor:
        moves = self.geometry or Geometry.centred(self.kernel)
        edges = [size for pad in reversed(moves.padding) for size in (pad, pad)]
        x = F.pad(x, edges, mode=PADDING_MODES[moves.mode])
        groups = x.shape[1] // self.weight.shape[1]
        convolve = CONVOLUTIONS[len(self.kernel) - 1]
        return convolve(x, self.weight, self.bias, stride=moves.stride, dilation=moves.dilation, groups=groups)


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """What a normalisation makes of (batch, channel, *space) in eval mode; a batch norm takes any space."""
    mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if mean is None or variance is None:
        return norm(x)
    weight, bias = (
        None if (value := getattr(norm, key, None)) is None else value.double() for key in ("weight", "bias")
    )
    return F.batch_norm(x, mean.double(), variance.double(), weight, bias, eps=getattr(norm, "eps", 1e-5))


def collect(subject: Subject, *inputs: Tensor) -> tuple[list[Stage], dict[str, Tensor]]:
    """The stages of a module in the order of their use on some inputs, and the weights that belong to none."""
    order = _order_of_use(subject, *inputs)
    owners = {name: owner for name, owner in subject.module.named_modules() if ".parametrizations" not in f".{name}"}
    names = sorted(owners, key=lambda name: order.get(name, len(order)))
    stages: list[Stage] = []
    loose: dict[str, Tensor] = {}
    for name in names:
        owner = owners[name]
        weight = getattr(owner, "weight", None)
        if _normalises(owner):
            _attach_norm(stages, loose, name, owner)
        elif isinstance(weight, Tensor) and weight.ndim >= 2:
            stages.append(_stage(name, owner, weight, place=len(stages)))
            _take_loose(stages, loose, name, owner, skip=("weight", "bias"))
        else:
            _take_loose(stages, loose, name, owner)
    return stages, loose


def dead_leaves(subject: Subject, *inputs: Tensor) -> list[tuple[str, str]]:
    """Submodules without parts of their own that the module builds and never calls: names, and names with classes.

    Those with weights are left to the gradients: a weight can be used without its owner being called.
    """
    used = _order_of_use(subject, *inputs)
    parts = subject.module.named_modules()
    leaves = {k: part for k, part in parts if k and not list(part.children()) and not list(part.parameters())}
    idle = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    empty = (nn.ModuleList, nn.ModuleDict, nn.Sequential, nn.ParameterList, nn.ParameterDict)
    dead = {name: part for name, part in leaves.items() if name not in used and not isinstance(part, (*idle, *empty))}
    return [(name, f"{name} ({type(part).__name__})") for name, part in dead.items()]


def _order_of_use(subject: Subject, *inputs: Tensor) -> dict[str, int]:
    order: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            order.setdefault(name, len(order))

        return hook

    handles = [part.register_forward_pre_hook(note(name)) for name, part in subject.module.named_modules()]
    try:
        subject(*inputs)
    except Refusal:
        order.clear()
    finally:
        for handle in handles:
            handle.remove()
    return order


def _stage(name: str, owner: nn.Module, weight: Tensor, place: int) -> Stage:
    weight = weight.detach().double()
    bias = getattr(owner, "bias", None)
    bias = bias.detach().double() if isinstance(bias, Tensor) else None
    return Stage(name, weight, bias, None, owner, Geometry.built(owner, tuple(weight.shape[2:])), place)


def _normalises(owner: nn.Module) -> bool:
    weight = getattr(owner, "weight", None)
    affine = isinstance(weight, Tensor) and weight.ndim == 1 and hasattr(owner, "eps")
    return affine or isinstance(getattr(owner, "running_mean", None), Tensor)


def _attach_norm(stages: list[Stage], loose: dict[str, Tensor], name: str, norm: nn.Module) -> None:
    """Give a normalisation to the stage called before it, if that has none and as many channels."""
    width = next((t.numel() for t in [*norm.parameters(), *norm.buffers()]), 0)
    if stages and stages[-1].norm is None and stages[-1].width == width:
        stages[-1] = replace(stages[-1], norm=norm)
    else:
        loose |= {f"{name}.{key}": value.detach().double() for key, value in norm.named_parameters()}


def _take_loose(
    stages: list[Stage], loose: dict[str, Tensor], name: str, owner: nn.Module, skip: tuple[str, ...] = ()
) -> None:
    """Parameters that a module holds itself: matrices become stages, with the vector of their width that follows."""
    for key, value in owner.named_parameters(recurse=False):
        if key in skip:
            continue
        value, place = value.detach().double(), len(stages)
        full = f"{name}.{key}" if name else key
        last = stages[-1] if stages and stages[-1].leaf is None else None
        if value.ndim >= 2:
            stages.append(Stage(full, value, None, None, None, None, place))
        elif last is not None and last.bias is None and value.shape == (last.width,) and value.numel() > 1:
            stages[-1] = replace(last, bias=value)
        else:
            loose[full] = value


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))
