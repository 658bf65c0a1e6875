"""What a network will need, said before it runs: the memory of an inference, of a training step and of its maps.

A copy of the network runs on fake tensors (torch's FakeTensorMode), which have shapes, devices and storages but no
memory, and their storages are followed as `profile` follows real ones. So the figures are those of profile on the CPU;
on CUDA they count tensors, where profile reads the allocator. A layer that refuses to be watched because its map is too
large forms a fake one all the same.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from foveate.capture.points import Point, points, watch
from foveate.compare.cost import (
    MIB,
    Inputs,
    LiveBytes,
    inference,
    make_inputs,
    tensors_in,
    training_inputs,
    training_step,
    two_samples,
)
from foveate.layers import functional, multi_head, non_local

__all__ = ["Forecast", "MapSize", "forecast"]


@dataclass(frozen=True)
class MapSize:
    """What a map will take.

    Args:
        axes: The names of its axes.
        shape: Its shape; where the tap is called several times, that of the largest.
        calls: How often the tap is called.
        mib: The maps of all calls, in MiB (2**20 bytes).
        largest_mib: The largest of them.
    """

    axes: str
    shape: tuple[int, ...]
    calls: int
    mib: float
    largest_mib: float

    @property
    def fits(self) -> bool:
        """Whether it stays within functional.MAP_LIMIT_BYTES, beyond which our layers refuse to be watched."""
        return self.largest_mib * MIB <= functional.MAP_LIMIT_BYTES


@dataclass(frozen=True)
class Forecast:
    """What a network will need, in MiB (2**20 bytes).

    A training step is that of `profile`: of two samples where the input has one. The explicit figures are those of the
    same network if it formed every map, as attention is written in most papers; capture keeps a copy besides.

    Args:
        parameters_mib: Its parameters.
        inference_mib: Peak memory of an inference.
        training_mib: Peak memory of a training step; None if no parameter requires a gradient.
        explicit_inference_mib: Peak memory of an inference that forms every map.
        explicit_training_mib: Peak memory of a training step that forms every map.
        captured_inference_mib: Peak memory of an inference inside capture(model), which keeps every map.
        maps: For the name of each tap that is called, what its map of these inputs takes.
    """

    parameters_mib: float
    inference_mib: float
    training_mib: float | None
    explicit_inference_mib: float
    explicit_training_mib: float | None
    captured_inference_mib: float
    maps: Mapping[str, MapSize]

    @property
    def captured_mib(self) -> float:
        """What all maps take together."""
        return sum(size.mib for size in self.maps.values())

    def check(self) -> None:
        """Raise a ValueError, which says what to do, if a map is larger than a watched layer forms."""
        large = {name: size for name, size in self.maps.items() if not size.fits}
        if not large:
            return
        name, size = max(large.items(), key=lambda item: item[1].largest_mib)
        most, found = _shown(functional.MAP_LIMIT_BYTES / MIB), _shown(size.largest_mib)
        others = f", the largest of {len(large)} such maps" if len(large) > 1 else ""
        # A grid of places can be pooled and grouped; tokens cannot.
        advice = non_local.ADVICE if "*" in size.axes else multi_head.ADVICE
        raise ValueError(f"the map {name!r} takes at most {most}; got {size.shape}, {found}{others}: {advice}")

    def __str__(self) -> str:
        rows = [
            ("", "as it runs", "maps formed"),
            ("parameters", _shown(self.parameters_mib), ""),
            ("inference", _shown(self.inference_mib), _shown(self.explicit_inference_mib)),
            ("training step", _shown(self.training_mib), _shown(self.explicit_training_mib)),
            ("inference in capture", "", _shown(self.captured_inference_mib)),
        ]
        if not self.maps:
            return "\n".join(_aligned([row[:2] for row in rows[1:-1]]))
        lines = _aligned(rows)
        sizes = _aligned([(name, _shown(size.mib)) for name, size in self.maps.items()])
        for line, size in zip(sizes, self.maps.values(), strict=True):
            lines.append(f"{line}  {size.shape}{f', {size.calls} calls' if size.calls > 1 else ''}")
        try:
            self.check()
        except ValueError as error:
            lines.append(str(error))
        return "\n".join(lines)


def forecast(model: nn.Module, input_shape: Inputs) -> Forecast:
    """Say what a network will need before it runs, in seconds and without that memory; the network is left as it was.

    >>> print(fv.forecast(network, (1, 64, 64, 64, 64)))

    A map that is too large is told, not raised: `Forecast.check` raises.

    Args:
        model: Any network that `profile` takes; it may be on the meta device.
        input_shape: One input or several, each a shape with the batch in front, or a tensor.

    Raises:
        ValueError: If what the network computes depends on numbers rather than on shapes.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
    network = _fake_copy(model, mode).eval()
    kept: dict[Point, list[Tensor]] = {}

    def keep(point: Point, value: Tensor) -> None:
        kept.setdefault(point, []).append(value.detach().clone())

    def formed() -> AbstractContextManager[None]:
        return watch(points(network), lambda point, value: None)

    def step_mib(watching: AbstractContextManager[None]) -> float | None:
        if not any(parameter.requires_grad for parameter in network.parameters()):
            return None
        inputs = training_inputs(network.train(), doubled)
        step = training_step(network, inputs)
        # Two steps: in the second the optimizer's state lives beside the activations.
        return _peak_mib(lambda: (step(), step()), network, list(tensors_in(inputs)), watching)

    try:
        with mode:
            tensors = make_inputs(network, input_shape)
            doubled = two_samples(tensors)
            infer = inference(network, tensors)
            return Forecast(
                parameters_mib=sum(parameter.nbytes for parameter in network.parameters()) / MIB,
                inference_mib=_peak_mib(infer, network, tensors, nullcontext()),
                explicit_inference_mib=_peak_mib(infer, network, tensors, formed()),
                captured_inference_mib=_peak_mib(infer, network, tensors, watch(points(network), keep)),
                training_mib=step_mib(nullcontext()),
                explicit_training_mib=step_mib(formed()),
                maps={point.name: _map_size(point.axes, calls) for point, calls in kept.items()},
            )
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
        found = f"one that calls {error.func}: measure it with profile"
        raise ValueError(f"forecast takes a network that computes by shapes alone; got {found}") from error


def _fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy of a network whose parameters and buffers are fake; those of the network are not copied on the way."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): _fake(tensor, mode) for tensor in tensors})


def _fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    """A tensor like it without memory, on the CPU where it is on the meta device, whose attention forms its maps."""
    if tensor.untyped_storage().device.type != "meta":
        return mode.from_tensor(tensor)
    with mode:
        device = "cpu" if tensor.is_meta else tensor.device
        fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def _peak_mib(
    run: Callable[[], object], network: nn.Module, tensors: list[Tensor], watching: AbstractContextManager[None]
) -> float:
    """The largest number of bytes alive at one time of a run, in MiB."""
    live = LiveBytes([*network.parameters(), *network.buffers(), *tensors])
    with torch.compiler.set_stance("force_eager"), watching, live:
        run()
    return live.peak / MIB


def _map_size(axes: str, calls: list[Tensor]) -> MapSize:
    largest = max(calls, key=Tensor.numel)
    total = sum(call.nbytes for call in calls)
    return MapSize(axes, tuple(largest.shape), len(calls), total / MIB, largest.nbytes / MIB)


def _shown(mib: float | None) -> str:
    if mib is None:
        return "no gradient"
    exponent = next((exponent for exponent in (4, 3, 2, 1) if mib * MIB >= 1024**exponent), 0)
    return f"{mib * MIB / 1024**exponent:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[exponent]}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines, the columns behind the first to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip() for row in rows]
