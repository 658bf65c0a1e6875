"""Points: every place of a model at which a map appears, and how to stand there."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from foveate.capture.attention import MapMode
from foveate.capture.foreign import recognise
from foveate.capture.tap import Tap

__all__ = ["Point", "points", "watch"]

# Modules that stand around another one: their child adds nothing to the names of the plain model.
_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}


@dataclass(frozen=True)
class Point:
    """A place at which a map appears.

    Args:
        name: Name in the plain model, whatever wraps it.
        axes: The names of the map's axes.
        module: The module whose output is the map or, with `call`, in whose forward it is made.
        call: The function that makes it: "softmax" or "sigmoid".
    """

    name: str
    axes: str
    module: nn.Module
    call: str | None = None


See = Callable[[Point, Tensor], Tensor | None]


def points(model: nn.Module) -> list[Point]:
    """Every point of a model: its taps, and the layers of other libraries that foreign.py recognises."""
    found = []
    for name, module in _named_modules(model, "", set()):
        if isinstance(module, Tap):
            found.append(Point(name, module.axes, module))
        elif (row := recognise(module)) is not None:
            name = f"{name}.{row.map}" if name else row.map
            if row.at.endswith("()"):
                found.append(Point(name, row.axes, module, call=row.at.removesuffix("()")))
            elif isinstance(child := getattr(module, row.at, None), nn.Module):
                found.append(Point(name, row.axes, child))
    return found


def _named_modules(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """named_modules(), with the names of the plain model."""
    if module in seen:
        return
    seen.add(module)
    yield name, module
    wrapped = next((_WRAPPERS[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in _WRAPPERS), None)
    for child_name, child in module.named_children():
        if child_name == wrapped:
            yield from _named_modules(child, name, seen)
        else:
            yield from _named_modules(child, f"{name}.{child_name}" if name else child_name, seen)


@contextmanager
def watch(watched: Sequence[Point], see: See) -> Iterator[None]:
    """Show every map that appears at some points to a function, which may return another map in its place."""
    handles = [
        point.module.register_forward_hook(_hook(point, see)) for point in watched if isinstance(point.module, Tap)
    ]
    foreign = [point for point in watched if not isinstance(point.module, Tap)]
    try:
        if foreign:
            with _watch_foreign(foreign, see):
                yield
        else:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(point: Point, see: See) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    return lambda module, args, output: see(point, output)


@contextmanager
def _watch_foreign(watched: Sequence[Point], see: See) -> Iterator[None]:
    """The same for layers of other libraries.

    A hook on such a layer would travel with every copy and every pickle of it, so the two hooks here are on all modules
    and look out for those they know.
    """
    outputs = {point.module: _shown(point, see) for point in watched if point.call is None}
    modes = {point.module: MapMode(point.call, _shown(point, see)) for point in watched if point.call is not None}
    inside = threading.local()  # modes belong to a thread

    def enter(module: nn.Module, args: Any) -> None:
        if module in modes:
            inside.modules = [*getattr(inside, "modules", ()), module]
            modes[module].__enter__()

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        if getattr(inside, "modules", None) and inside.modules[-1] is module:
            inside.modules.pop()
            modes[module].__exit__(None, None, None)
        return outputs[module](output) if module in outputs and output is not None else None

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    # nn.TransformerEncoder and its layers have a path in one fused operator, without any attention module being called.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
        # An interrupt in the middle of a forward leaves without `leave`.
        for module in reversed(getattr(inside, "modules", ())):
            modes[module].__exit__(None, None, None)


def _shown(point: Point, see: See) -> Callable[[Tensor], Tensor]:
    """From what a layer of another library makes, to the map that the point promises and back."""

    def show(made: Tensor) -> Tensor:
        seen = see(point, _as_map(made, point.axes))
        return made if seen is None else seen.reshape(made.shape)

    return show


def _as_map(made: Tensor, axes: str) -> Tensor:
    match axes:
        case "batch channel":  # (batch, channel, 1, 1), and (batch, 1, channel) inside ECA
            return made.flatten(start_dim=1)
        case "batch *space":  # (batch, 1, *space)
            return made.squeeze(1)
        case "batch head query key" if made.ndim == 3:  # one sample without its batch axis
            return made.unsqueeze(0)
        case _:
            return made
