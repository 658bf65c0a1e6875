"""Programs: a network traced by torch.export, written as onnx or pt2, and run again from what was written."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from foveate.capture.points import points, watch
from foveate.errors import ExportError, MissingExtra

__all__ = [
    "FORMATS",
    "INPUT",
    "LOGITS",
    "METADATA",
    "SPACE",
    "Format",
    "Run",
    "WithMaps",
    "as_export_error",
    "named",
    "noise",
    "output_names",
    "quiet",
    "trace",
    "traced",
]

INPUT, LOGITS = "images", "logits"
METADATA = "foveate.json"
"""The extra file of a pt2 archive that holds the metadata."""

SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}

Axes = Mapping[int, str]
Run = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Format:
    """A kind of file for programs.

    Args:
        write: From a program, the names of its outputs, its open axes and the metadata to the content of a file.
        open: From the content of a file to a function from the input to the outputs by name.
        runtime: The package that runs it here.
        needs: Packages of the extra "export".
        limit_bytes: The weights that a file holds, at most.
    """

    write: Callable[[ExportedProgram, Sequence[str], Axes, Mapping[str, Any]], bytes]
    open: Callable[[bytes], Run]
    runtime: str
    needs: tuple[str, ...] = ()
    limit_bytes: int | None = None

    def check(self) -> None:
        """Raise a MissingExtra unless everything is there that it needs."""
        for package in self.needs:
            if find_spec(package) is None:
                raise MissingExtra(package, "export")


class WithMaps(nn.Module):
    """A network that gives its maps beside its outputs.

    Args:
        network: The network.
        names: The taps whose maps are given, as `capture` calls them.

    Shape:
        That of the network -> {"logits": the network's output, or each of its own, name: map, ...}, in the order of the
        names.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        seen: dict[str, list[Tensor]] = {name: [] for name in self.names}
        watched = [point for point in points(self.network) if point.name in seen]
        # A copy, for the layer may go on to write into its map.
        with watch(watched, lambda point, value: seen[point.name].append(value.clone())):
            answer = self.network(images)
        maps = {name: values[0] if len(values) == 1 else torch.cat(values) for name, values in seen.items()}
        return named(answer) | maps


def named(answer: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """What a network gives, by name: its one tensor is the logits."""
    return {LOGITS: answer} if isinstance(answer, Tensor) else answer


def output_names(network: nn.Module, example: Tensor) -> list[str]:
    """The names of what a network gives.

    Raises:
        TypeError: If that is neither a tensor nor a dict of tensors.
    """
    answer = network(example)
    for part in answer.values() if isinstance(answer, dict) else [answer]:
        if not isinstance(part, Tensor):
            found = f"{'a dict with ' * isinstance(answer, dict)}{type(part).__name__}"
            if isinstance(answer, list) and answer and all(isinstance(each, dict) for each in answer):
                found = "a list of what it finds, whose length depends on the pictures"
            wanted = f"one tensor or a dict of tensors; {type(network).__name__} gives {found}"
            raise TypeError(f"an exported network gives {wanted}")
    return list(named(answer))


def trace(network: nn.Module, example: Tensor, open_axes: Axes) -> ExportedProgram:
    """The program of a network, for any size along the open axes of its one input.

    Raises:
        Exception: Whatever torch.export has against the network.
    """
    open_sizes = dict.fromkeys(open_axes, Dim.DYNAMIC)
    with quiet():
        program = torch.export.export(network, (example,), dynamic_shapes=(open_sizes,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # a file that is given away should not hold the paths of this machine
    return program


def traced(
    network: nn.Module, names: Sequence[str], example: Tensor, fixed_size: bool
) -> tuple[ExportedProgram, dict[int, str], tuple[int, ...], str | None]:
    """The program with its open axes, a second size of space, and why there is none, if so."""
    module = WithMaps(network, names) if names else network
    own = tuple(example.shape[2:])
    space = None if fixed_size else _other_space(network, example)
    axes = {0: "batch"}
    fixed = "as asked for" if fixed_size else "the network takes no other size"
    if space is not None:
        open_axes = axes | dict(enumerate(SPACE[len(own)], start=2))
        try:
            program = trace(module, example, open_axes)
            program.module()(noise(network, (3, example.shape[1], *space)))  # asks what the trace took for granted
            return program, open_axes, space, None
        except Exception as error:  # what a trace cannot do has many kinds
            fixed = f"torch.export cannot leave it open: {_reason(error)}"
    with as_export_error(f"{type(network).__name__} cannot be traced"):
        return trace(module, example, axes), axes, own, fixed


def _other_space(network: nn.Module, example: Tensor) -> tuple[int, ...] | None:
    """A second size that the network takes: an odd one, multiples of 32 or the double; None if it takes none."""
    own = example.shape[2:]
    candidates = (
        [side + side // (3 + axis) + 1 for axis, side in enumerate(own)],
        [(side // 32 + 1 + axis) * 32 for axis, side in enumerate(own)],
        [2 * side for side in own],
    )
    for space in candidates:
        try:
            network(noise(network, (1, example.shape[1], *space)))
        except Exception:  # whatever a network raises at a size that it does not take
            continue
        return tuple(space)
    return None


def noise(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """An input of some shape, the same at every call, in the precision of the network."""
    kinds = (tensor.dtype for tensor in network.parameters() if tensor.is_floating_point())
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(next(kinds, torch.float32))


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what exporters print, warn of and log; what they raise goes on."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextmanager
def as_export_error(what: str) -> Iterator[None]:
    """Tell whatever goes wrong in an ExportError that begins with `what`."""
    try:
        yield
    except Exception as error:  # exporters and runtimes have many kinds
        raise ExportError(f"{what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What an error says at its root, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.endswith(":")), type(error).__name__)


def _write_pt2(program: ExportedProgram, names: Sequence[str], axes: Axes, metadata: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content, extra_files={METADATA: json.dumps(dict(metadata), indent=1)})
    return content.getvalue()


def _open_pt2(content: bytes) -> Run:
    with quiet():
        module = torch.export.load(io.BytesIO(content)).module()

    return lambda images: named(module(images))


def _write_onnx(program: ExportedProgram, names: Sequence[str], axes: Axes, metadata: Mapping[str, Any]) -> bytes:
    with quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(names),
            dynamic_shapes=(dict(axes),),
            custom_translation_table={torch.ops.aten.searchsorted.Tensor: _searchsorted},
        )
    assert made is not None
    for held in (made.model.graph, *made.model.graph.all_nodes()):
        held.metadata_props.clear()  # the exporter's notes on where each node comes from, longer than the graph
    for name, value in metadata.items():
        made.model.metadata_props[name] = value if isinstance(value, str) else json.dumps(value)
    return made.model_proto.SerializeToString()


def _open_onnx(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {INPUT: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}

    return run


def _searchsorted(sorted_sequence: Any, self: Any, right: bool = False) -> Any:
    """torch.searchsorted along the last axis, which ONNX lacks: sort both together, then count the sequence's own."""
    import onnxscript

    op: Any = onnxscript.opset18
    both = (sorted_sequence, self) if right else (self, sorted_sequence)  # TopK keeps the order of equal values
    values, last = op.Concat(*both, axis=-1), op.Constant(value_ints=[-1])
    size, first = op.Gather(op.Shape(values), last), op.Gather(op.Shape(both[0]), last)
    _, order = op.TopK(values, size, axis=-1, largest=0, sorted=1)
    from_first = op.Less(order, first)
    counted = op.Cast(from_first if right else op.Not(from_first), to=7)  # 7 is int64
    count = op.CumSum(counted, op.Constant(value_int=-1))
    placed = op.ScatterElements(count, order, count, axis=-1)
    start, end = (first, size) if right else (op.Constant(value_ints=[0]), first)
    return op.Slice(placed, start, end, last)


FORMATS = {
    # A file of protobuf ends at 2 GiB, and the graph needs some of them.
    "onnx": Format(
        _write_onnx, _open_onnx, "onnxruntime", ("onnx", "onnxscript", "onnxruntime"), limit_bytes=2**31 - 2**24
    ),
    "pt2": Format(_write_pt2, _open_pt2, "torch"),
}
