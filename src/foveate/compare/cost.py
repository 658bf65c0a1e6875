"""What a network costs: parameters, multiply-accumulates, time and memory of an inference and of a training step.

Multiply-accumulates (MACs) are half of the floating point operations that torch.utils.flop_counter finds in one forward
pass: convolutions, linear layers, matrix products and attention, the last on the CPU too, where torch itself does not
count it. Normalisations, activations, pooling and element-wise products are not counted, nor fused recurrent layers.

Memory is the largest number of bytes alive at one time: parameters, buffers, inputs, activations and, in a training
step, gradients and the optimizer's state. On CUDA it comes from the allocator (torch.cuda.max_memory_allocated), which
includes the scratch memory of kernels. Elsewhere every storage that an operation makes is followed from birth to death;
scratch memory inside a kernel is not seen. It is not the size of the process, which depends on what ran before.
"""

import copy
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

__all__ = [
    "MIB",
    "Cost",
    "Inputs",
    "LiveBytes",
    "count_macs",
    "count_parameters",
    "inference",
    "make_inputs",
    "profile",
    "tensors_in",
    "training_inputs",
    "training_step",
    "two_samples",
]

Inputs = Tensor | Sequence[int] | Sequence[Tensor | Sequence[int]]
"""One input or several, each a shape with the batch in front, such as (1, 3, 224, 224), or a tensor."""

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Args:
        parameters: Numbers in its parameters, frozen ones included.
        macs: Multiply-accumulates of one forward pass of the inputs.
        latency_ms: Median time of an inference, in milliseconds.
        latency_p95_ms: 95th percentile of it.
        step_ms: Median time of a training step; None if it was not measured.
        step_p95_ms: 95th percentile of it.
        memory_mib: Peak memory of an inference, in MiB (2**20 bytes).
        step_memory_mib: Peak memory of a training step.
    """

    parameters: int
    macs: int
    latency_ms: float
    latency_p95_ms: float
    step_ms: float | None
    step_p95_ms: float | None
    memory_mib: float
    step_memory_mib: float | None


def profile(
    model: nn.Module,
    input_shape: Inputs,
    *,
    train: bool = True,
    repeats: int = 20,
    warmup: int = 3,
    step_input_shape: Inputs | None = None,
) -> Cost:
    """Measure a network where it is, on its device and in its precision; the network is left as it was.

    All runs are of a copy. An inference is a forward pass in evaluation mode without gradients; a training step is a
    forward pass in training mode, the backward pass of the mean of its outputs and a step of SGD with momentum.

    Args:
        model: Any network whose training forward takes nothing but the inputs, or also what its method
            training_targets makes of them.
        input_shape: One input or several, each a shape with the batch in front, or a tensor.
        train: Whether to measure the training step too.
        repeats: Measured runs of each kind, at least two.
        warmup: Runs before those.
        step_input_shape: Inputs of the training step. Default: input_shape, with two samples where it has one, because
            batch statistics need two.

    Raises:
        ValueError: With train=True, if no parameter requires a gradient; if the network is on the meta device.
    """
    if repeats < 2:
        raise ValueError(f"repeats must be at least 2; got {repeats}")
    device, _ = _device_and_dtype(model)
    if device.type == "meta":
        raise ValueError("profile runs the network, which the meta device cannot; count_macs can count there")
    if train and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter requires a gradient, so there is no training step; pass train=False")
    tensors = make_inputs(model, input_shape)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)  # what is drawn can decide how much there is to do
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        network = copy.deepcopy(model).eval()
        network.zero_grad(set_to_none=True)
        infer = inference(network, tensors)
        times = _time(infer, repeats, warmup, device)
        cost = {
            "parameters": count_parameters(model),
            "macs": count_macs(network, tensors),
            **_summary("latency", times),
            "memory_mib": _peak_mib(infer, [*network.parameters(), *network.buffers(), *tensors], device),
            "step_ms": None,
            "step_p95_ms": None,
            "step_memory_mib": None,
        }
        if train:
            if step_input_shape is None:
                tensors = two_samples(make_inputs(model, input_shape))
            else:
                tensors = make_inputs(model, step_input_shape)
            inputs = training_inputs(network.train(), tensors)
            step = training_step(network, inputs)
            resident = [*network.parameters(), *network.buffers(), *tensors_in(inputs)]
            # Two steps: in the second the optimizer's state lives beside the activations.
            cost["step_memory_mib"] = _peak_mib(lambda: (step(), step()), resident, device)
            cost |= _summary("step", _time(step, repeats, warmup, device))
    return Cost(**cost)


def count_parameters(model: nn.Module) -> int:
    """Numbers in the parameters of a network, frozen ones included, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, inputs: Inputs) -> int:
    """Multiply-accumulates of one forward pass in evaluation mode; also of a network on the meta device.

    Args:
        model: Any network.
        inputs: One input or several, each a shape with the batch in front, or a tensor.
    """
    tensors = make_inputs(model, inputs)
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    # Compiled code and the fused path of nn.MultiheadAttention hide their products: the network runs without them.
    network = getattr(model, "_orig_mod", model)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _evaluating(network), torch.compiler.set_stance("force_eager"), torch.no_grad(), counter:
            network(*tensors)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.get_total_flops() // 2


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _vector_flops(matrix: Sequence[int], vector: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * (matrix[1] if len(matrix) == 2 else 1)


_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable: _attention_flops,
    torch.ops.aten.mv: _vector_flops,
    torch.ops.aten.dot: _vector_flops,
}
"""What torch.utils.flop_counter leaves out: attention on the CPU and on other devices' own kernels, and vectors."""


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def make_inputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Normal noise for shapes, on the model's device and in its precision; tensors as they are."""
    device, dtype = _device_and_dtype(model)
    generator = torch.Generator().manual_seed(0)
    made = []
    for given in [inputs] if isinstance(inputs, Tensor) or _is_shape(inputs) else inputs:
        if isinstance(given, Tensor):
            made.append(given.detach())
        elif _is_shape(given):
            made.append(torch.randn(*given, generator=generator).to(device, dtype))
        else:
            wanted = "a tensor or a shape of positive integers with the batch in front"
            raise ValueError(f"an input is {wanted}; got {given!r}")
    return made


def two_samples(tensors: list[Tensor]) -> list[Tensor]:
    """Inputs of a training step: those of one sample twice, because batch statistics need two."""
    return [torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in tensors]


def _is_shape(given: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(given, Sequence) and bool(given) and all(isinstance(size, int) and size > 0 for size in given)


def inference(network: nn.Module, tensors: list[Tensor]) -> Callable[[], None]:
    """A forward pass without gradients."""

    def infer() -> None:
        with torch.no_grad():
            network(*tensors)

    return infer


def training_inputs(network: nn.Module, tensors: list[Tensor]) -> list[Any]:
    """Inputs with the targets that the network makes of them, if its training forward takes targets."""
    make_targets = getattr(network, "training_targets", None)
    return [*tensors] if make_targets is None else [*tensors, make_targets(*tensors)]


def training_step(network: nn.Module, inputs: Sequence[Any]) -> Callable[[], None]:
    """A forward pass, the backward pass of the mean of its outputs and a step of SGD with momentum."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        outputs = [output for output in tensors_in(network(*inputs)) if output.requires_grad]
        torch.stack([output.float().mean() for output in outputs]).sum().backward()
        optimizer.step()

    return step


def tensors_in(outputs: Any) -> Iterator[Tensor]:
    """Every tensor in what a network takes or gives."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from tensors_in(value)
    elif isinstance(outputs, (list, tuple)):
        for value in outputs:
            yield from tensors_in(value)


def _time(run: Callable[[], object], repeats: int, warmup: int, device: torch.device) -> list[float]:
    """The wall time of each run in milliseconds, until the device has finished it."""
    times = []
    for _ in range(warmup + repeats):
        _finish(device)
        start = time.perf_counter()
        run()
        _finish(device)
        times.append(1000 * (time.perf_counter() - start))
    return times[warmup:]


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _summary(name: str, times: list[float]) -> dict[str, float]:
    percentiles = statistics.quantiles(times, n=20, method="inclusive")
    return {f"{name}_ms": statistics.median(times), f"{name}_p95_ms": percentiles[-1]}


def _peak_mib(run: Callable[[], object], resident: Iterable[Tensor], device: torch.device) -> float:
    """The largest number of bytes alive at one time of a run, those of the resident tensors included, in MiB."""
    live = LiveBytes(resident)
    if device.type != "cuda":
        with torch.compiler.set_stance("force_eager"), live:
            run()
        return live.peak / MIB
    _finish(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    _finish(device)
    return (live.bytes + torch.cuda.max_memory_allocated(device) - before) / MIB


class LiveBytes(TorchDispatchMode):
    """Follow every storage that operations make, from birth to death.

    Args:
        resident: Tensors that are there before; their storages count from the start.
    """

    def __init__(self, resident: Iterable[Tensor]) -> None:
        super().__init__()
        self.bytes = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in resident:
            self._follow(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for tensor in tensors_in(outputs):
            self._follow(tensor)
        return outputs

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) not in self._sizes:
            self._sizes[id(storage)] = storage.nbytes()
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._forget, id(storage))

    def _forget(self, storage: int) -> None:
        self.bytes -= self._sizes.pop(storage)
