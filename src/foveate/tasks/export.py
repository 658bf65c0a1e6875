"""Export: a network as one file that runs without Foveate, held to the network's own numbers before it is written."""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate._version import __version__
from foveate.capture import capture
from foveate.errors import ExportError
from foveate.files import write_atomic
from foveate.surgery.hook import unwrapped
from foveate.tasks import files
from foveate.tasks.classify_run import load_run, read_preprocess
from foveate.tasks.config import TrainingConfig, read_config
from foveate.tasks.programs import FORMATS, LOGITS, SPACE, Run, as_export_error, named, noise, output_names, traced

__all__ = ["TOLERANCE", "Exported", "export", "export_run"]

TOLERANCE = 1e-4
"""The difference that is put up with, as a share of the largest value of an output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported, and how it was checked.

    Args:
        path: The file.
        format: "onnx" or "pt2".
        input: The axes of the input "images": a name where any size can be given, else the size.
        maps: The outputs beside `outputs`, each with the names of its axes.
        fixed: Why the axes of space take one size only; None where they take any.
        checked: The shapes of input at which the file was compared with the network.
        largest_difference: The largest that was found, as a share of the largest value of that output.
        runtime: What ran the file for that.
        metadata: What the file says of itself.
        outputs: What the network gives: "logits", or the names in its dict.
    """

    path: str
    format: str
    input: tuple[str | int, ...]
    maps: dict[str, str]
    fixed: str | None
    checked: tuple[tuple[int, ...], ...]
    largest_difference: float
    runtime: str
    metadata: dict[str, Any]
    outputs: tuple[str, ...] = (LOGITS,)


def export(
    network: nn.Module,
    path: str | Path,
    shape: Sequence[int],
    *,
    format: Literal["onnx", "pt2"] = "onnx",  # noqa: A002
    maps: bool = False,
    fixed_size: bool = False,
    tolerance: float = TOLERANCE,
    metadata: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a network, as in evaluation mode, to one file for onnxruntime or for torch.export.load.

    Batch and space are open: other sizes than those of `shape` can be given. Where the network takes no other space, or
    its trace allows none, only the batch is open, and `fixed` of the result says why. The content is run at a second
    batch and a second size and compared with the network; the file is written only if they agree.

    Args:
        network: Any network from one tensor to one tensor, or to a dict of tensors, whose names the outputs get. It is
            left as it is.
        path: The file.
        shape: Channels and space of an input, such as (3, 224, 224).
        format: "onnx", or "pt2" for the archive of torch.export.
        maps: Give all gates and attention maps as further outputs, under the names that `capture` has for them.
        fixed_size: Leave only the batch open. A network that decides much by the size takes long to trace otherwise.
        tolerance: The difference that is put up with, as a share of the largest value of an output.
        metadata: What the file is to say of itself: values that JSON takes. Foveate's version and `maps` are added.

    Raises:
        ExportError: If the network cannot be traced or written, or the file computes something else.
        LookupError: If maps are asked for and the network has none.
        MissingExtra: If the format needs what is not installed.
        TypeError: If the network gives something else.
        ValueError: If the weights do not fit into an onnx file, which ends at 2 GiB.
    """
    path = Path(path)
    _check_arguments(path, shape, format, tolerance)
    network = _prepared(network, format)
    example = noise(network, (2, *shape))
    outputs = output_names(network, example)
    axes_of = _maps_of(network, example) if maps else {}
    program, axes, space, fixed = traced(network, list(axes_of), example, fixed_size)
    said = {**(metadata or {}), "maps": axes_of, "foveate.version": __version__}
    kind = FORMATS[format]
    with as_export_error(f"{type(network).__name__} cannot be written as {format}"):
        content = kind.write(program, [*outputs, *axes_of], axes, said)
        run = kind.open(content)
    checked = ((1, *shape), (3, shape[0], *space))
    difference = max(_difference(network, list(axes_of), run, at, tolerance) for at in checked)
    with files.world_errors(path):
        write_atomic(path, content)
    return Exported(
        path=str(path),
        format=format,
        input=tuple(axes.get(axis, size) for axis, size in enumerate(example.shape)),
        maps=axes_of,
        fixed=fixed,
        checked=checked,
        largest_difference=difference,
        runtime=f"{kind.runtime} {version(kind.runtime)}",
        metadata=said,
        outputs=tuple(outputs),
    )


def export_run(run: Path, path: Path, **options: Any) -> Exported:
    """Write the network of a finished run to one file, with all that is needed to use it; `export` has the options.

    The input is what the run's network takes, already prepared: pictures less their mean, divided by their deviation,
    or windows of a scan. The metadata say how, and name the classes.
    """
    run, config = Path(run), Path(run) / files.CONFIG
    opened = {"classify": _classifying, "segment": _segmenting, "detect": _detecting}
    task = read_config(config).task if config.is_file() else "classify"
    if task not in opened:
        raise ExportError(
            f"export takes a run that classifies, segments, or detects in pictures; the task of {run} is {task}"
        )
    network, made, shape, metadata = opened[task](run)
    about = {"task": made.task, "network": made.network, "mechanism": made.mechanism}
    return export(network, path, shape, metadata=about | metadata, **options)


def _classifying(run: Path) -> tuple[nn.Module, TrainingConfig, tuple[int, ...], dict[str, Any]]:
    network, config = load_run(run)
    preprocess = read_preprocess(run)
    shape = preprocess.shape
    colours = "RGB" if preprocess.channels == 3 else "grey"
    axes, what = "batch, channel, height, width", "pictures"
    if preprocess.frames:
        axes, what = "batch, channel, time, height, width", f"frames, every {preprocess.frame_stride} of a video,"
    size = f"{shape[-2]} x {shape[-1]}"
    cover = size if preprocess.crop == 1 else f"1/{preprocess.crop:g} of {size}, which is"
    brought = {
        "crop": f"cover {cover} and cut to it in the middle",
        "pad": f"fit into {size} and padded to it evenly with black",
        "stretch": f"{size}, each side by itself",
    }
    metadata = {
        "classes": preprocess.classes,
        "input": f"float32 ({axes}): {colours} {what} in 0..1, scaled ({preprocess.interpolation}, antialiased) to "
        f"{brought[preprocess.shape_rule]}, then less mean and divided by std",
        "input_size": shape,
        "mean": preprocess.mean,
        "std": preprocess.std,
        "output": "logits (batch, class): their softmax gives the probabilities of the classes",
    }
    return network, config, shape, metadata


def _segmenting(run: Path) -> tuple[nn.Module, TrainingConfig, tuple[int, ...], dict[str, Any]]:
    from foveate.tasks.segment.network import load_run as load_segmenting_run

    network, config, preparation = load_segmenting_run(run)
    shape = (len(preparation.modalities), *preparation.patch_size)
    metadata = {
        "classes": preparation.classes,
        "input": "float32 (batch, channel, *space): windows of a prepared scan. Preparation brings each channel to its "
        "intensities, and space to its spacing in mm along right, anterior and superior; pictures keep their space",
        "input_size": shape,
        "preparation": dataclasses.asdict(preparation),
        "output": "logits (batch, class, *space): their softmax over the classes gives the probabilities",
    }
    return network, config, shape, metadata


def _detecting(run: Path) -> tuple[nn.Module, TrainingConfig, tuple[int, ...], dict[str, Any]]:
    from foveate.tasks.detect.augment import MEAN, STD
    from foveate.tasks.detect.network import load_run as load_detecting_run
    from foveate.tasks.detect.run import usual_shape

    network, config, preparation = load_detecting_run(run)
    shape = usual_shape(preparation)
    metadata = {
        "classes": preparation.classes,
        "category_ids": preparation.category_ids,
        "input": "float32 (batch, channel, height, width): RGB pictures in 0..1 without padding, resized (bilinear, "
        f"antialiased) such that the shorter side is {preparation.short} and the longer one at most "
        f"{preparation.longest}, then less mean and divided by std",
        "input_size": shape,
        "mean": MEAN,
        "std": STD,
        "output": "pred_logits (batch, query, class + 1): their softmax gives the probabilities of the classes and of "
        "no object, the last; pred_boxes (batch, query, 4): centre x and y, width and height in parts of the picture"
        + ("; pred_masks (batch, query, *space): above 0 in the mask" if preparation.masks else ""),
    }
    return network, config, shape, metadata


def _check_arguments(path: Path, shape: Sequence[int], kind: str, tolerance: float) -> None:
    if kind not in FORMATS:
        raise ValueError(f"format takes {' or '.join(FORMATS)}; got {kind!r}")
    if len(shape) - 1 not in SPACE or min(shape) < 1:
        raise ValueError(f"shape takes channels and one to three sizes of space; got {tuple(shape)}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be greater than 0; got {tolerance}")
    if path.suffix != f".{kind}":  # torch.export.load takes no other name, and nobody looks for one
        raise ValueError(f"the {kind} file is called NAME.{kind}; got {path}")
    if path.is_dir():
        raise ValueError(f"an export is one file; {path} is a folder")
    FORMATS[kind].check()


def _prepared(network: nn.Module, kind: str) -> nn.Module:
    """A copy that is only evaluated, on the CPU and in the plain memory layout, whatever the caller's is."""
    network = unwrapped(network)
    size, limit = sum(value.nbytes for value in network.state_dict().values()), FORMATS[kind].limit_bytes
    if limit is not None and size > limit:
        told = f"at most {limit / 2**30:.2f} GiB of weights; {type(network).__name__} has {size / 2**30:.2f} GiB"
        raise ValueError(f"{kind} takes {told}: take pt2")
    prepared = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    return prepared.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _outputs(network: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """What the network itself gives, and its maps of these names as they are captured."""
    if not names:
        return named(network(images))
    with capture(network) as maps:
        answer = network(images)
    return named(answer) | {name: maps[name] for name in names}


def _maps_of(network: nn.Module, example: Tensor) -> dict[str, str]:
    """The names of all maps that the network makes, with their axes."""
    with capture(network, keep=lambda value: value[:0]) as maps:
        network(example)
    return {name: maps.axes[name] for name in maps}


def _difference(network: nn.Module, names: Sequence[str], run: Run, shape: tuple[int, ...], tolerance: float) -> float:
    """The largest difference of the outputs of a program to the network's own, each as a share of its largest value."""
    images = noise(network, shape)
    with as_export_error(f"the exported {type(network).__name__} does not run at {shape}"):
        found = run(images.clone())  # some networks write into their input
    largest = 0.0
    for name, wanted in _outputs(network, names, images).items():
        difference = _share(found[name], wanted)
        if not difference <= tolerance:  # nor where it is no number
            raise ExportError(
                f"the exported {type(network).__name__} differs from the network at {shape}: {name} by "
                f"{difference:.2g} of its largest value, where {tolerance:g} is put up with; nothing was written"
            )
        largest = max(largest, difference)
    return largest


def _share(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return math.inf
    difference, size = (found - wanted).abs().max().item(), wanted.abs().max().item()
    return difference / size if size > 0 else difference
