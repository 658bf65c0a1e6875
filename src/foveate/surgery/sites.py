"""Sites: the places of a host behind which a mechanism can be inserted, with their channels measured."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from torch import nn

from foveate.capture.patterns import matches
from foveate.surgery.dry_run import Call, dry_run, inputs_of, run_on_something
from foveate.surgery.example import examples_for, resized
from foveate.surgery.hook import Inserted, Layout
from foveate.surgery.layout import find_layout

__all__ = ["Site", "Where", "described", "find_modules", "find_sites", "last_of", "measure", "own_modules"]

Where = str | type[nn.Module] | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Site:
    """A module of the host, and what it gives.

    Args:
        name: Dotted name of the module in the host.
        channels: Channels of its output.
        shape: Shape of its output, at its first call in a dry run.
        layout: Which axis holds the channels: the second, or the last.
        calls: How often one forward pass calls it.
    """

    name: str
    channels: int
    shape: tuple[int, ...]
    layout: Layout
    calls: int = 1


def find_sites(
    host: nn.Module, where: Where, *, layout: Literal["auto"] | Layout = "auto", example: object = None
) -> list[Site]:
    """Find the places that `where` describes, and measure their channels by a dry run that leaves no trace.

    Args:
        host: Any network.
        where: A pattern of names such as "layer3.*", a class of modules, or a function of name and module. The site of
            a Sequential is its last module.
        layout: Which axis holds the channels. Default: found.
        example: An input of the host, a tuple of several, or a mapping of keywords. Default: guessed from the host.

    Raises:
        LookupError: If nothing matches, or if a forward pass does not call what matches.
        TypeError: If a module gives something else than one tensor of floating point numbers.
        ValueError: If the input or a layout cannot be told.
    """
    return [site for site, _ in measure(host, find_modules(host, where), layout=layout, example=example)]


def find_modules(host: nn.Module, where: Where) -> dict[str, nn.Module]:
    """The modules that `where` describes, by name, in the host's order; a Sequential stands for its last module."""
    found: dict[str, nn.Module] = {}
    for name, module in described(host, where):
        name, module = last_of(name, module)
        if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            # A Sequential is left only where it is empty or has a forward of its own, which might run the new child.
            kind = type(module).__name__
            raise ValueError(f"insert takes a module inside {name!r}, such as '{name}.*'; got the {kind} itself")
        if module not in found.values():
            found[name] = module
    if not found:
        raise LookupError(_nothing_matches(host, where))
    return {name: found[name] for name, _ in own_modules(host) if name in found}


def described(host: nn.Module, where: Where) -> Iterator[tuple[str, nn.Module]]:
    """The host's own modules that `where` describes, with their names; not the host itself, nor what was inserted."""
    if isinstance(where, str):
        chosen = lambda name, module: matches(where, name)  # noqa: E731
    elif isinstance(where, type):
        chosen = lambda name, module: isinstance(module, where)  # noqa: E731
    elif callable(where):
        chosen = where
    else:
        raise TypeError(f"where takes a pattern, a class of modules or a function of name and module; got {where!r}")
    return ((name, module) for name, module in own_modules(host) if chosen(name, module))


def last_of(name: str, module: nn.Module) -> tuple[str, nn.Module]:
    """The module whose output is that of a Sequential: a child of the Sequential itself would run inside it."""
    while isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and len(module):
        child, module = list(module.named_children())[-1]
        name = f"{name}.{child}"
    return name, module


def measure(
    host: nn.Module,
    modules: Mapping[str, nn.Module],
    *,
    layout: Literal["auto"] | Layout = "auto",
    example: object = None,
) -> list[tuple[Site, Call]]:
    """The sites that the named modules are, each with its first call; see find_sites."""
    if layout not in ("auto", "channels_first", "channels_last"):
        raise ValueError(f'layout takes "auto", "channels_first" or "channels_last"; got {layout!r}')
    if example is None:
        inputs, calls = run_on_something(host, modules, examples_for(host))
    else:
        inputs = inputs_of(example)
        calls = dry_run(host, modules, inputs)
    uncalled = [name for name, called in calls.items() if not called]
    if uncalled:
        names = f"{uncalled[:3]}" + (f" and {len(uncalled) - 3} more" if len(uncalled) > 3 else "")
        raise LookupError(f"insert takes modules that a forward pass calls; {type(host).__name__} never calls {names}")

    @cache
    def at_another_size() -> dict[str, list[Call]]:
        try:
            return run_on_something(host, modules, resized(inputs))[1]
        except ValueError:  # a host of one size
            return {}

    measured = []
    for name, called in calls.items():
        _check(name, called)
        elsewhere = lambda name=name: (at_another_size().get(name) or [None])[0]  # noqa: E731
        found = find_layout(name, called[0], inputs.batch, elsewhere) if layout == "auto" else layout
        measured.append((_site(name, called, found), called[0]))
    return measured


def own_modules(host: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of the host with their names, under each of them if they have several; not what was inserted."""
    foreign: tuple[str, ...] = ()
    for name, module in host.named_modules(remove_duplicate=False):
        if isinstance(module, Inserted):
            foreign += (name + ".",)
        elif name and not name.startswith(foreign):
            yield name, module


def _check(name: str, calls: list[Call]) -> None:
    for call in calls:
        if len(call.shape) < 2:
            wanted = "modules that give one tensor (batch, channel, ...)"
            raise TypeError(f"insert takes {wanted}; {name!r} gives {call.kind}")


def _site(name: str, calls: list[Call], layout: Layout) -> Site:
    axis = 1 if layout == "channels_first" else -1
    channels = sorted({call.shape[axis] for call in calls})
    if len(channels) > 1:
        raise ValueError(f"insert takes modules with one number of channels; {name!r} gives {channels} in turn")
    return Site(name, channels[0], calls[0].shape, layout, len(calls))


def _nothing_matches(host: nn.Module, where: Where) -> str:
    names = [name for name, _ in own_modules(host)]
    if not isinstance(where, str):
        kinds = sorted({type(module).__name__ for _, module in own_modules(host)})
        return f"no module of {type(host).__name__} is as asked; it has the kinds {kinds}"
    deeper = [name for name in names if matches(f"**.{where}", name)]
    near = deeper[:5] or difflib.get_close_matches(where, names, n=5, cutoff=0.4) or [*dict(host.named_children())][:9]
    return f"no module matches {where!r}; near it are {near}"
