"""Collect or replace the maps of a model while a block runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveate.capture.patterns import matches
from foveate.capture.points import Point, points, watch

__all__ = ["Maps", "capture", "edit", "taps"]

Edit = Callable[[Tensor], Tensor] | Tensor | float


class Maps(Mapping[str, Tensor]):
    """What a capture collected: the name of each tap, and the maps that passed it, joined along the batch axis.

    It fills while the block runs, and stays when the block is left.

    Attributes:
        axes: For each name, the names of its map's axes, before any `keep`.
    """

    def __init__(self) -> None:
        self.axes: dict[str, str] = {}
        self._calls: dict[str, list[Any]] = {}

    def calls(self, name: str) -> list[Any]:
        """The maps of one tap, one for each time it was called."""
        if name not in self._calls:
            raise KeyError(f"no map was captured at {name!r}; there are {_listed(self._calls)}")
        return list(self._calls[name])

    def __getitem__(self, name: str) -> Tensor:
        calls = self.calls(name)
        if len(calls) == 1:
            return calls[0]
        shapes = [tuple(call.shape) if isinstance(call, Tensor) else type(call).__name__ for call in calls]
        if not all(isinstance(shape, tuple) and shape and shape[1:] == shapes[0][1:] for shape in shapes):
            raise ValueError(
                f"maps[{name!r}] takes calls that can be joined along the batch axis; got {shapes}; "
                f"maps.calls({name!r}) has each of them"
            )
        return torch.cat(calls)

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, name: object) -> bool:
        return name in self._calls

    def __repr__(self) -> str:
        return f"Maps({_listed(self._calls)})"

    def _add(self, point: Point, value: Any) -> None:
        self.axes[point.name] = point.axes
        self._calls.setdefault(point.name, []).append(value)


def taps(model: nn.Module) -> dict[str, str]:
    """Every name at which capture() can collect a map, own and foreign, with the names of its axes."""
    return {point.name: point.axes for point in points(model)}


@contextmanager
def capture(
    model: nn.Module,
    only: str | Sequence[str] | None = None,
    keep: Callable[[Tensor], Any] | None = None,
) -> Iterator[Maps]:
    """Collect the maps of a model while a block runs.

    >>> with capture(host) as maps:
    ...     host(images)
    >>> maps["layer3.2.inserted.mechanism.channel_gate"]  # (batch, channel)

    The model may be compiled or wrapped for distributed training; the names are those of the plain model. Meanwhile
    nothing in the process runs compiled, and fused attention is computed in the open. Under activation checkpointing
    the backward pass belongs inside the block; what it computes again is not collected again.

    Args:
        model: Any model with taps, or with layers of other libraries that foreign.py lists.
        only: Patterns of the names to collect: `*` within one part of a name, `**` across. Default: all.
        keep: What to keep of each map, applied the moment it appears: one head, half precision, a copy on the CPU. It
            leaves the batch axis first, or the calls are read by Maps.calls. Default: the whole map.

    Raises:
        LookupError: if the model has no tap that matches, or none that matches was called inside the block.
    """
    patterns = ["**"] if only is None else [only] if isinstance(only, str) else list(only)
    if not patterns:
        raise ValueError("only takes one pattern or more; got []")
    chosen = _choose(model, patterns)
    maps = Maps()

    def see(point: Point, value: Tensor) -> None:
        if not _computed_again():
            maps._add(point, _snapshot(value, keep))

    with torch.compiler.set_stance("force_eager"), watch(list(chosen), see):
        yield maps
    _check_called(chosen, set(maps), patterns)


@contextmanager
def edit(model: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Replace maps of a model while a block runs, as if the mechanism had made another one.

    >>> with edit(host, {"layer3.**.gate": 1.0}):  # ablate the gates of a stage
    ...     host(images)

    A capture opened inside the block sees the map as replaced; one opened around it sees the map as made.

    Args:
        model: As for capture().
        edits: For each pattern of names, a number, a tensor that broadcasts to the map, or a function of the map. Where
            several patterns match one name, they apply in turn.

    Raises:
        LookupError: as for capture(), for each pattern.
    """
    patterns = list(edits)
    chosen = _choose(model, patterns)
    called: set[str] = set()

    def see(point: Point, value: Tensor) -> Tensor:
        called.add(point.name)
        for pattern in chosen[point]:
            value = _edited(value, edits[pattern], point.name)
        return value

    with torch.compiler.set_stance("force_eager"), watch(list(chosen), see):
        yield
    _check_called(chosen, called, patterns)


def _choose(model: nn.Module, patterns: Sequence[str]) -> dict[Point, list[str]]:
    """The points of a model that patterns describe, each with its patterns; every pattern describes one at least."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"capture and edit take a torch.nn.Module; got {type(model).__name__}")
    found = points(model)
    if not found:
        raise LookupError(f"{type(model).__name__} has no taps: none of its layers is a gate or attention known here")
    for pattern in patterns:
        if not any(matches(pattern, point.name) for point in found):
            raise LookupError(f"no tap matches {pattern!r}; the model has {_listed(point.name for point in found)}")
    chosen = {point: [pattern for pattern in patterns if matches(pattern, point.name)] for point in found}
    return {point: described for point, described in chosen.items() if described}


def _check_called(chosen: Mapping[Point, list[str]], called: set[str], patterns: Sequence[str]) -> None:
    for pattern in patterns:
        names = [point.name for point, described in chosen.items() if pattern in described]
        if called.isdisjoint(names):
            raise LookupError(
                f"no tap that matches {pattern!r} was called inside the block; it waited for {_listed(names)}"
            )


def _edited(value: Tensor, change: Edit, name: str) -> Tensor:
    new = change(value) if callable(change) else change
    if isinstance(new, int | float):
        return torch.full_like(value, new)
    if not isinstance(new, Tensor):
        raise TypeError(f"the edit of {name!r} takes a number, a tensor or a function to one; got {type(new).__name__}")
    try:
        return new.to(value).expand_as(value)
    except RuntimeError:
        raise ValueError(
            f"the edit of {name!r} takes what broadcasts to {tuple(value.shape)}; got {tuple(new.shape)}"
        ) from None


def _snapshot(value: Tensor, keep: Callable[[Tensor], Any] | None) -> Any:
    value = value.detach()
    kept = value if keep is None else keep(value)
    # A part of the map would hold the whole of it in memory, and the layer may go on to write into it.
    shared = isinstance(kept, Tensor) and kept.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
    return kept.clone() if shared else kept


def _computed_again() -> bool:
    """Whether a backward pass is under way: activation checkpointing then repeats the forward pass."""
    return torch._C._current_graph_task_id() != -1


def _listed(names: Any, most: int = 12) -> str:
    names = list(names)
    if len(names) <= most:
        return str(names)
    return f"{str(names[:most])[:-1]}, ... {len(names) - most} more]"
