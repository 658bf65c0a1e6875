"""Insert a mechanism behind any module of any host, and remove it again without a trace."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from foveate.surgery.blend import size_ratio
from foveate.surgery.built_in import is_identity
from foveate.surgery.dry_run import Call, dry_run, inputs_of, run_on_something, traceless
from foveate.surgery.example import examples_for, varied
from foveate.surgery.hook import Inserted, Layout, Start, attach, detach, inserted, inserted_in, is_compiled, unwrapped
from foveate.surgery.sites import Site, Where, described, find_modules, last_of, measure

__all__ = ["insert", "load_host", "rehearse", "remove"]


def insert(
    host: nn.Module,
    where: Where,
    mechanism: Callable[..., nn.Module],
    *,
    start: Start = "identity",
    layout: Literal["auto"] | Layout = "auto",
    example: object = None,
) -> list[Site]:
    """Let a mechanism follow every module of the host that `where` describes, beginning as the identity.

    The host computes what it computed, bit for bit on finite numbers. In training the mechanism is blended in over the
    first 50 optimizer steps, whatever the optimizer: see foveate.surgery.Blended. A mechanism that is the identity by
    itself when it is built, such as a non-local block, is not blended: it learns from there. The ramp rests in
    evaluation mode, so train the host in training mode.

    Class, parameter names and keys of the host stay as they are; what is new is called `<site>.inserted.mechanism` and
    `<site>.inserted.alpha`, with three buffers beside it. If anything is refused, the host is left as it was. Insert
    before torch.compile, DistributedDataParallel and the making of the optimizer.

    Args:
        host: Any network.
        where: A pattern of names such as "layer3.*", a class of modules, or a function of name and module. The site of
            a Sequential is its last module.
        mechanism: Builds a module for a number of channels; it is called once a site. If it takes `spatial_dims`, it is
            told the number of spatial axes too.
        start: "identity", or "published" for mechanism(x) plainly.
        layout: Which axis of the host's features holds the channels. Default: found.
        example: An input of the host, a tuple of several, or a mapping of keywords. Default: guessed from the host.

    Raises:
        LookupError: If nothing matches, or if a forward pass does not call what matches.
        TypeError: If a module gives something else than one tensor, or if `mechanism` builds no module.
        ValueError: If a site is taken, if the mechanism does not keep the shape or the input of a site, if the host is
            compiled or wrapped, or if the input or a layout cannot be told.
    """
    if start not in get_args(Start):
        raise ValueError(f'start takes "identity" or "published"; got {start!r}')
    if isinstance(mechanism, nn.Module) or not callable(mechanism):
        kind = type(mechanism).__name__
        raise TypeError(f"mechanism takes a function from channels to a module, as lambda channels: ...; got {kind}")
    _refuse_wrapped(host, "insert")
    modules = find_modules(host, where)
    for name, module in modules.items():
        if inserted_in(module) is not None:
            raise ValueError(f"{name!r} already has a mechanism inserted; remove it first, or insert a chain of both")
        if hasattr(module, "inserted"):
            raise ValueError(f"{name!r} has an attribute 'inserted' of its own, where the mechanism would go")

    measured = measure(host, modules, layout=layout, example=example)
    children = [_build(mechanism, site, call, start, modules[site.name].training) for site, call in measured]
    for (site, _), child in zip(measured, children, strict=True):
        attach(modules[site.name], child)
    _fit_gains(host, [child for child in children if child.alpha is not None], example)
    return [site for site, _ in measured]


def remove(host: nn.Module, where: Where = "**") -> list[str]:
    """Take inserted mechanisms away, and leave no trace of them; returns the names of the sites.

    Raises:
        LookupError: If nothing is inserted where `where` says.
    """
    _refuse_wrapped(host, "remove")
    there = inserted(host)
    chosen = {last_of(name, module)[1] for name, module in described(host, where)}
    found = [name for name in there if host.get_submodule(name) in chosen]
    if not found:
        raise LookupError(f"nothing is inserted at {where!r}; the host has inserted mechanisms at {list(there)}")
    for name in found:
        detach(host.get_submodule(name))
    return found


def rehearse(host: nn.Module, example: object = None) -> list[Site]:
    """Run the host once, in evaluation and without a trace, and see that it runs every inserted mechanism.

    Raises:
        LookupError: If nothing is inserted, or if the forward pass does not call an inserted mechanism.
        ValueError: If the host runs a mechanism also by itself, as one that goes through its children does.
    """
    host = unwrapped(host)
    there = inserted(host)
    if not there:
        raise LookupError(f"nothing is inserted in {type(host).__name__}")
    watched = {name: host.get_submodule(name) for name in (*there, *(f"{name}.inserted" for name in there))}
    if example is None:
        _, calls = run_on_something(host, watched, examples_for(host))
    else:
        calls = dry_run(host, watched, inputs_of(example))
    uncalled = [name for name in there if not calls[f"{name}.inserted"]]
    if uncalled:
        raise LookupError(f"a forward pass of {type(host).__name__} never calls the mechanisms inserted at {uncalled}")
    seen = []
    for name, child in there.items():
        called = calls[f"{name}.inserted"]
        if len(called) > len(calls[name]):
            raise ValueError(
                f"{name!r} runs its children in turn, and so its mechanism twice; insert inside it instead"
            )
        shape = called[0].shape
        channels = shape[1] if child.layout == "channels_first" else shape[-1]
        seen.append(Site(name, channels, shape, child.layout, len(called)))
    return seen


def load_host(host: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint of the host from before the insertion, strictly; what is inserted stays as it is.

    load_state_dict(state, strict=False) does the same, but is silent about keys that do not fit.

    Raises:
        RuntimeError: If a key of the host is missing or strange, as from load_state_dict.
    """
    plain = unwrapped(host)
    prefixes = tuple(
        f"{name}." for name, module in plain.named_modules(remove_duplicate=False) if isinstance(module, Inserted)
    )
    kept = {key: value for key, value in plain.state_dict().items() if key.startswith(prefixes)}
    plain.load_state_dict(kept | dict(state))


def _build(mechanism: Callable[..., nn.Module], site: Site, call: Call, start: Start, training: bool) -> Inserted:
    """Build the mechanism for a site, where the features of the site are, and try it on features of their shape."""
    module = mechanism(site.channels, **_spatial_dims(mechanism, len(site.shape) - 2))
    if not isinstance(module, nn.Module):
        raise TypeError(f"mechanism takes a function from channels to a module; it gave {type(module).__name__}")
    features = torch.randn(call.shape, generator=torch.Generator().manual_seed(0)).to(call.device, call.dtype)
    features = features.movedim(-1, 1) if site.layout == "channels_last" else features
    module.to(call.device, call.dtype)
    attended = _try(module, site, features)
    several = torch.cat([features, features])  # statistics of a batch may need more than one sample
    blend = start == "identity" and not (attended.equal(features) and is_identity(module, several))
    if blend and not attended.any():
        told = "add its input to its output, or give start='published'"
        raise ValueError(f"a mechanism that starts at zero, as at {site.name!r}, cannot begin as the identity; {told}")
    child = Inserted(module, start, site.layout, blend=blend).to(call.device, call.dtype)
    child.fit_gain(size_ratio(features, attended))
    return child.train(training)


def _try(module: nn.Module, site: Site, features: Tensor) -> Tensor:
    """Run a mechanism in evaluation on the features of a site, and refuse one that does not keep shape and input."""
    before = features.clone()
    with traceless(module):
        try:
            attended = module(features)
        except Exception as error:  # whatever a mechanism raises at features that it does not take
            raise ValueError(f"the mechanism does not work at {site.name!r} {site.shape}: {error}") from error
    if not isinstance(attended, Tensor) or attended.shape != features.shape:
        given = tuple(attended.shape) if isinstance(attended, Tensor) else type(attended).__name__
        raise ValueError(f"a mechanism gives the shape it takes, {tuple(features.shape)} at {site.name!r}; got {given}")
    if not torch.equal(features, before):
        raise ValueError(
            f"a mechanism leaves its input as it is; at {site.name!r} {type(module).__name__} writes on it"
        )
    return attended


def _fit_gains(host: nn.Module, children: list[Inserted], example: object) -> None:
    """Fit every gain to features of the host, which are nearer to those of training than random numbers are.

    Mechanisms run as in training, with the statistics of a batch. If they cannot, the gains stay as they are.
    """
    if not children:
        return
    inputs = inputs_of(example) if example is not None else run_on_something(host, {}, examples_for(host))[0]
    inputs, ratios = varied(inputs), dict.fromkeys(children, 0.0)

    def watch(child: Inserted) -> Callable[[nn.Module, tuple, Tensor], None]:
        def note(_module: nn.Module, args: tuple, output: Tensor) -> None:
            ratios[child] = size_ratio(args[0], output)

        return note

    with traceless(host), ExitStack() as hooks:
        for child in children:
            for part in child.mechanism.modules():
                part.training = True
            hooks.callback(child.mechanism.register_forward_hook(watch(child)).remove)
        try:
            host(*inputs.args, **inputs.kwargs)
        except Exception:  # whatever a mechanism raises at the statistics of a single value
            return
    for child, ratio in ratios.items():
        child.fit_gain(ratio)


def _spatial_dims(mechanism: Callable[..., nn.Module], rank: int) -> dict[str, int]:
    """The number of spatial axes as a keyword, for a mechanism that takes it and was not told by the caller."""
    told = isinstance(mechanism, partial) and "spatial_dims" in mechanism.keywords
    takes = "spatial_dims" in inspect.signature(mechanism).parameters
    return {"spatial_dims": rank} if takes and not told and rank > 0 else {}


def _refuse_wrapped(host: nn.Module, verb: str) -> None:
    for module in host.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if is_compiled(module):
            raise ValueError(f"{verb} before torch.compile: compiled code does not see later hooks")
        if "ScriptModule" in kinds:
            raise ValueError(f"{verb} before torch.jit: a script does not see later hooks")
        wrapper = kinds & {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}
        if wrapper:
            raise ValueError(f"{verb} before {wrapper.pop()}: it does not follow later changes of the parameters")
