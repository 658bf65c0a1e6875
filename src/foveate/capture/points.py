"""Points: every place of a model at which a map appears, and how to stand there."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

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
    kinds: dict[str, str] = {}
    for name, module in _named_modules(model, "", set()):
        kinds[name] = f"{type(module).__module__}.{type(module).__qualname__}"
        if isinstance(module, Tap):
            found.append(Point(name, module.axes, module))
        elif (row := recognise(module, _places(name, kinds))) is not None:
            name = f"{name}.{row.map}" if name else row.map
            if row.at.endswith("()"):
                found.append(Point(name, row.axes, module, call=row.at.removesuffix("()")))
            elif isinstance(child := getattr(module, row.at, None), nn.Module):
                found.append(Point(name, row.axes, child))
    return found


def _places(name: str, kinds: Mapping[str, str]) -> list[str]:
    """Return, for each module around a name, the full name of the module's class and the rest of the name."""
    parts = name.split(".")
    before = [".".join(parts[:count]) for count in range(len(parts))]
    return [f"{kinds[outer]}.{name[len(outer) :].lstrip('.')}" for outer in before if outer in kinds]


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
    with ExitStack() as stack:
        if any(point.call is not None for point in watched):
            stack.enter_context(_without_fused_encoder())
        for point in watched:
            if isinstance(point.module, Tap):
                stack.callback(point.module.register_forward_hook(_Hook(partial(see, point))).remove)
                continue
            stack.enter_context(_copied_unwatched(point.module))
            if point.call is None:
                stack.callback(point.module.register_forward_hook(_Hook(_shown(point, see))).remove)
            else:
                stack.enter_context(_inside(point.module, MapMode(point.call, _shown(point, see))))
        yield


class _Hook:
    """A hook of this module: it hands on the output of the module it is on, and _state knows it by its class."""

    def __init__(self, show: Callable[[Any], Any]) -> None:
        self.show = show

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> Any:
        return self.show(output)


@contextmanager
def _inside(module: nn.Module, mode: MapMode) -> Iterator[None]:
    """Activate a mode whenever the forward of a module runs."""
    depth = threading.local()  # modes belong to a thread

    def enter(_: Any) -> None:
        mode.__enter__()
        depth.entered = getattr(depth, "entered", 0) + 1

    def leave(_: Any = None) -> None:
        if getattr(depth, "entered", 0):  # not where another hook failed before `enter`
            depth.entered -= 1
            mode.__exit__(None, None, None)

    handles = [
        module.register_forward_pre_hook(_Hook(enter)),
        module.register_forward_hook(_Hook(leave), prepend=True, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        while getattr(depth, "entered", 0):  # an interrupt left the forward without `leave`
            leave()


@contextmanager
def _without_fused_encoder() -> Iterator[None]:
    """nn.TransformerEncoder and its layers have a path in one fused operator, which calls no attention module.

    In evaluation that path also sets padded places to zero; the plain one does not, as in training.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def _copied_unwatched(module: nn.Module) -> Iterator[None]:
    """Keep the hooks of this module out of copies and pickles of a layer. A Tap sees to that itself."""
    if "__getstate__" in vars(module):  # a block around this one does it
        yield
        return
    module.__getstate__ = partial(_state, module)
    try:
        yield
    finally:
        del module.__getstate__


def _state(module: nn.Module) -> dict[str, Any]:
    state = dict(type(module).__getstate__(module))
    del state["__getstate__"]
    ours = set()
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        ours.update(key for key, hook in state[hooks].items() if isinstance(hook, _Hook))
    for hooks in ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called"):
        state[hooks] = OrderedDict((key, hook) for key, hook in state[hooks].items() if key not in ours)
    return state


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
