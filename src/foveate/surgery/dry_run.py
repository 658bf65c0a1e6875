"""Run a host once to see what its modules give, and leave no trace of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.surgery.hook import Layout, is_compiled

__all__ = ["Call", "Inputs", "Source", "dry_run", "inputs_of", "run_on_something", "traceless"]


@dataclass(frozen=True)
class Inputs:
    """What a host is called with."""

    args: tuple
    kwargs: Mapping[str, Any]

    @property
    def batch(self) -> int:
        """Samples in the first tensor; 1 where there is none."""
        return next(
            (len(value) for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor) and value.ndim), 1
        )

    def __str__(self) -> str:
        return ", ".join(_described(value) for value in (*self.args, *self.kwargs.values()))


@dataclass(frozen=True)
class Source:
    """What a convolution, normalisation or linear map gave."""

    shape: tuple[int, ...]
    channels: int
    layout: Layout | None


@dataclass(frozen=True)
class Call:
    """What one call of a module gave.

    `shape` is empty where the output was no tensor of floating point numbers; `kind` describes the output in words.
    `source` is the convolution, normalisation or linear map that ran last before the module returned.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None
    device: torch.device | None
    source: Source | None


def inputs_of(example: object) -> Inputs:
    """The arguments that an example stands for: a tuple or a mapping holds several, anything else is the only one."""
    if isinstance(example, tuple):
        return Inputs(example, {})
    if isinstance(example, Mapping):
        return Inputs((), example)
    return Inputs((example,), {})


def dry_run(host: nn.Module, modules: Mapping[str, nn.Module], inputs: Inputs) -> dict[str, list[Call]]:
    """Run the host once, and tell what each of the modules gave, call by call."""
    calls: dict[str, list[Call]] = {name: [] for name in modules}
    sources: list[Source] = []

    def watch_source(module: nn.Module, _args: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 1:
            sources.append(_source(module, output))

    def watch_call(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def watch(_module: nn.Module, _args: tuple, output: object) -> None:
            calls[name].append(_call(output, sources[-1] if sources else None))

        return watch

    with traceless(host), ExitStack() as hooks:
        # Sources first: a module that is both is its own source.
        for module in host.modules():
            if isinstance(module, _SOURCES):
                hooks.callback(module.register_forward_hook(watch_source).remove)
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(watch_call(name)).remove)
        host(*inputs.args, **inputs.kwargs)
    return calls


def run_on_something(
    host: nn.Module, modules: Mapping[str, nn.Module], examples: Iterator[Inputs]
) -> tuple[Inputs, dict[str, list[Call]]]:
    """Run the host on the first of the examples that it accepts."""
    refused: list[str] = []
    for inputs in examples:
        try:
            return inputs, dry_run(host, modules, inputs)
        except Exception as error:  # whatever a foreign host raises at an input it does not take
            refused.append(f"{inputs}: {str(error).partition(chr(10))[0] or type(error).__name__}")
    tried = f"tried {refused[0]}" if refused else "it starts with neither a convolution nor a linear map"
    raise ValueError(f"what {type(host).__name__} takes cannot be guessed; pass example=, an input ({tried})")


@contextmanager
def traceless(host: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, and put training flags, buffers and random state back afterwards."""
    modules = list(host.modules())
    # Flags are set one by one: eval() and train() may be overridden, and merge or freeze weights.
    flags = [module.training for module in modules]
    buffers = [
        (module, name, value, value.clone(), value._version)
        for module in modules
        for name, value in module.named_buffers(recurse=False)
    ]
    devices = {parameter.device.index or 0 for parameter in host.parameters() if parameter.device.type == "cuda"}
    try:
        # no_grad rather than inference_mode: what a host caches must still serve in training.
        with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad(), _eager(host):
            for module in modules:
                module.training = False
            yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
        for module, name, value, before, version in buffers:
            # Statistics of a batch are written without a trace in the version.
            if value._version != version or not (value.is_meta or value.equal(before)):
                value.copy_(before)
            module._buffers[name] = value


@contextmanager
def _eager(host: nn.Module) -> Iterator[None]:
    # Compiled code would not see the hooks. Only where there is some, because this imports the compiler.
    if any(map(is_compiled, host.modules())):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_SOURCES = (*_CHANNELS_FIRST, nn.Linear, nn.LayerNorm, nn.RMSNorm)


def _source(module: nn.Module, output: Tensor) -> Source:
    shape = tuple(output.shape)
    if isinstance(module, _CHANNELS_FIRST):
        return Source(shape, output.shape[1], "channels_first")
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        # Not always over the last axis: subclasses of LayerNorm for (batch, channel, height, width) abound.
        channels = module.normalized_shape[-1]
        first, last = shape[1] == channels, shape[-1] == channels
        return Source(shape, channels, None if first == last else "channels_first" if first else "channels_last")
    return Source(shape, output.shape[-1], "channels_last")


def _call(output: object, source: Source | None) -> Call:
    if not isinstance(output, Tensor):
        return Call(f"a {type(output).__name__}", (), None, None, source)
    if not output.is_floating_point():
        return Call(f"a tensor of {str(output.dtype).removeprefix('torch.')}", (), None, None, source)
    return Call(f"shape {tuple(output.shape)}", tuple(output.shape), output.dtype, output.device, source)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_described(item) for item in value)}]"
    return type(value).__name__
