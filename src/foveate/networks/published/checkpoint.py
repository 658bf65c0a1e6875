"""Open published checkpoints, say what they are, save ours, and give ours a publisher's names."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveate._version import __version__
from foveate.errors import CheckpointError
from foveate.layers import catalogue, functional
from foveate.networks.architecture import Architecture, defaults_of
from foveate.networks.published.attention_gated_networks import GATED_NETWORKS
from foveate.networks.published.attention_module import JONGCHAN
from foveate.networks.published.detr import FACEBOOK, HUGGING_FACE, HUGGING_FACE_4
from foveate.networks.published.ecanet import ECANET
from foveate.networks.published.mask_rcnn import TORCHVISION_MASKS, TORCHVISION_MASKS_OLD
from foveate.networks.published.monai import MONAI
from foveate.networks.published.non_local import ALEXHEX7
from foveate.networks.published.pretrained_models import CADENE
from foveate.networks.published.publisher import Found, Publisher, Shape, Shapes, missing
from foveate.networks.published.reading import ARCHITECTURE, read_file, write_file
from foveate.networks.published.senet_pytorch import MOSKOMULE
from foveate.networks.published.slowfast import SLOWFAST
from foveate.networks.published.timm import TIMM
from foveate.networks.published.titles import title
from foveate.networks.published.torch_transformer import TORCH
from foveate.networks.published.torchvision import TORCHVISION
from foveate.networks.published.wrapping import candidates, tensors_of

__all__ = ["PUBLISHERS", "Inspection", "from_checkpoint", "header", "inspect", "save_checkpoint", "to_publisher"]

OURS = Publisher("foveate", lambda shapes, options: None, lambda key, network: key)
RESIDUAL = (JONGCHAN, CADENE, MOSKOMULE, ECANET, TIMM, TORCHVISION)
DETECTORS = (FACEBOOK, HUGGING_FACE, HUGGING_FACE_4, TORCHVISION_MASKS, TORCHVISION_MASKS_OLD)
PUBLISHERS = {
    publisher.name: publisher for publisher in (*RESIDUAL, ALEXHEX7, SLOWFAST, GATED_NETWORKS, MONAI, *DETECTORS, TORCH)
}
"""Who published checkpoints that are recognised here, in the order in which they are asked."""

LONGEST_NAME = 200  # of a mechanism, chains among them
LARGEST_NUMBER = 2**31
COUNTS = ("depths", "gates", "convs", "encoder_layers", "decoder_layers")  # of what no file has more than tensors
COUNTER = "num_batches_tracked"  # absent from old files, and without influence on what a network computes


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint is.

    Args:
        source: The file, or "the state dict".
        publisher: A name of PUBLISHERS, "foveate", or None if nobody's.
        title: What it is in words, such as "CBAM-ResNet-50"; None if it cannot be told.
        architecture: What builds the network; None if it cannot be told.
        assumed: What of it is the publisher's code rather than in the file; an option of from_checkpoint overrides it.
        parameters: Numbers that training would change.
        problems: What does not fit, a sentence each, in the order of the network; empty if the checkpoint is whole.
        state: The tensors by our keys, shaped as ours; empty if there is a problem.
        anew: Modules of the network that the checkpoint cannot fill, because an option of the caller's changed them.
    """

    source: str
    publisher: str | None = None
    title: str | None = None
    architecture: Architecture | None = None
    assumed: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    problems: tuple[str, ...] = ()
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    anew: tuple[str, ...] = ()


def from_checkpoint(source: str | Path | Mapping[str, Any], **options: Any) -> nn.Module:
    """The network in a checkpoint, in evaluation mode, without naming its architecture or its publisher.

    Publisher, depth, widths, classes, reductions, kernel sizes and biases are read from keys and shapes. Nothing in the
    file is executed. Weights of less than 32 bits become float32, and those of 64 bits stay.

    Args:
        source: A file of torch.save or safetensors, whatever its name, or a state dict; bare, or under "state_dict",
            "model" and the like.
        options: What keys cannot tell, where it is not as the publisher's code has it: options of the network, such as
            stride_in="1x1", or of its mechanism, such as combine="sum" or pairwise="dot_product". Another num_classes
            or num_queries of a DETR, another num_classes, aspect_ratios or mechanism of a Mask R-CNN, or mask_channels
            where the file has no masks: what that decides starts anew, with a warning.

    Raises:
        CheckpointError: If the file cannot be read, is nobody's, or does not fit; the sentence names the first misfit.
        TypeError: If the network has no such option.
    """
    found = inspect(source, **options)
    if found.problems or found.architecture is None:
        whose = f"has keys of {found.publisher}, but " if found.publisher else ""
        raise CheckpointError(f"{found.source} {whose}{found.problems[0]}")
    if found.anew:
        text = f"{found.source} has no weights that fit {', '.join(found.anew)}, which starts anew"
        warnings.warn(text, stacklevel=2)
    with torch.device("cpu" if found.anew else "meta"):
        network = found.architecture.build()
    state = {key: value.clone() for key, value in found.state.items()}
    network.load_state_dict(state, strict=not found.anew, assign=True)
    return network.eval()


def save_checkpoint(network: nn.Module, path: str | Path) -> None:
    """Write a network's weights and its architecture to a .safetensors file, whole or not at all.

    Raises:
        TypeError: If it is no network of foveate.networks, or its mechanism was given as a function or inserted.
        CheckpointError: If the file cannot be written.
    """
    entries = header(network)
    if not entries:
        kind = type(network).__name__
        raise TypeError(f"a checkpoint is of a network of foveate.networks whose mechanism has a name; got {kind}")
    write_file(path, network.state_dict(), entries)


def header(network: nn.Module) -> dict[str, str]:
    """What a safetensors header says so that from_checkpoint builds the network again; empty if that cannot be said."""
    architecture = getattr(network, "architecture", None)
    if not isinstance(architecture, Architecture) or any(".inserted." in key for key in network.state_dict()):
        return {}
    return {ARCHITECTURE: architecture.write(), "foveate.version": __version__}


def to_publisher(network: nn.Module, publisher: str, *, spatial_dims: int = 2) -> dict[str, Tensor]:
    """The weights of a network under the keys, and in the shapes, of a publisher.

    Args:
        network: A network or layer that this publisher has.
        publisher: A name of PUBLISHERS, such as "Jongchan/attention-module".
        spatial_dims: Spatial axes of the publisher's convolutions, for a layer of ours that does not depend on it.

    Raises:
        LookupError: If there is no such publisher.
        ValueError: If the publisher's code would compute something else with these weights.
    """
    if publisher not in PUBLISHERS:
        raise LookupError(f'no publisher "{publisher}"; there are {", ".join(PUBLISHERS)}')
    functional.check_spatial_dims(spatial_dims)
    chosen, own = PUBLISHERS[publisher], network.state_dict()
    names = _names(chosen, network, spatial_dims)
    state: dict[str, Tensor] = {}
    parts: dict[str, Iterator[Tensor]] = {}
    for theirs, (ours, shape) in names.items():
        parts.setdefault(ours, iter(own[ours].detach().reshape(-1, *shape)))
        state[theirs] = next(parts[ours]).clone()
    mechanisms = [network.get_submodule(site) for site in getattr(network, "sites", ())]
    asked = [(network, name) for name in chosen.free] + [(mechanisms[0], name) for name in chosen.inside if mechanisms]
    free = {name: getattr(owner, name) for owner, name in asked if hasattr(owner, name)}
    strange = any(name in free and free[name] not in taken for name, taken in chosen.values.items())
    try:
        found = None if strange else chosen.recognise(Shapes.of(state), free)
        back = None if found is None else _built(_with_options(found, free))
    except CheckpointError:
        back = None
    if back is None or _description(back) != _description(network):
        raise ValueError(f"{publisher} has no code that computes what this {type(network).__name__} computes")
    return state


def inspect(source: str | Path | Mapping[str, Any], **options: Any) -> Inspection:
    """What a checkpoint is, and what of it does not fit.

    Args:
        source: As in from_checkpoint.
        options: As in from_checkpoint.

    Raises:
        CheckpointError: If the file cannot be read.
        TypeError: If the network has no such option, or the source is neither a path nor a state dict.
    """
    if not isinstance(source, str | Path | Mapping):
        raise TypeError(f"a checkpoint is a path or a state dict; got {type(source).__name__}")
    if isinstance(source, Mapping):
        name, state, header = "the state dict", tensors_of(source, "the state dict"), {}
    else:
        name, (state, header) = str(source), read_file(source)
    if ARCHITECTURE in header:
        return _inspected(name, state, header, options)
    unfit: list[Inspection] = []
    for bare, left in candidates(state):
        found = _inspected(name, bare, header, options)
        if not found.problems:
            if left:
                text = f"{name} holds {len(left)} tensors beside the network that are not read, such as {left[0]}"
                warnings.warn(text, stacklevel=2)
            return found
        unfit += [] if left else [found]
    return next((found for found in unfit if found.publisher), unfit[0])


def _inspected(
    name: str, state: Mapping[str, Tensor], header: Mapping[str, str], options: Mapping[str, Any]
) -> Inspection:
    """Return what a state dict is, whose keys are read as they are."""
    shapes = Shapes.of(state)
    publisher, found, problem = _recognise(shapes, header, options)
    if publisher is None or found is None:
        return Inspection(name, publisher.name if publisher else None, problems=(problem,))
    found = _with_options(found, options)
    try:
        network = _built(found)
    except CheckpointError as error:
        return Inspection(name, publisher.name, None, found.architecture, found.assumed, problems=(str(error),))
    names = _names(publisher, network, found.spatial_dims)
    anew = _anew(network, shapes, names, options)
    unread = {theirs for theirs, (ours, _) in names.items() if ours.startswith(tuple(f"{part}." for part in anew))}
    names = {theirs: name for theirs, name in names.items() if theirs not in unread}
    state = {theirs: value for theirs, value in state.items() if theirs not in unread}
    problems = tuple(_problems(state, names))
    own = {} if problems else _as_ours(state, names, network)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    what = title(found.architecture)
    return Inspection(name, publisher.name, what, found.architecture, found.assumed, parameters, problems, own, anew)


def _recognise(
    shapes: Shapes, header: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[Publisher | None, Found | None, str]:
    """Whose it is, what it is, or else why that cannot be told."""
    if ARCHITECTURE in header:
        try:
            architecture = Architecture.read(header[ARCHITECTURE])
        except ValueError as error:
            return OURS, None, f"its header is damaged: {error}"
        if not _modest(architecture.options, len(shapes)):
            return OURS, None, f"its header asks for more than its {len(shapes)} tensors can fill"
        return OURS, Found(architecture), ""
    for publisher in PUBLISHERS.values():
        try:
            found = publisher.recognise(shapes, options)
        except CheckpointError as error:
            return publisher, None, str(error)
        if found is not None:
            return publisher, found, ""
    begin = ", ".join(list(shapes)[:3])
    known = ", ".join(PUBLISHERS)
    return None, None, f"is of no publisher that is known here; its keys begin with {begin}, and known are {known}"


def _modest(value: object, count: int) -> bool:
    """Whether nothing in a header would build more than so many tensors could be for."""
    if isinstance(value, dict):
        counts = [number for name in COUNTS for number in np.atleast_1d(value.get(name, 0)).tolist()]
        few = all(isinstance(number, int) and number <= count for number in counts)
        return few and all(_modest(inner, count) for inner in value.values())
    if isinstance(value, list):
        return len(value) <= count and all(_modest(inner, count) for inner in value)
    if isinstance(value, str):
        return len(value) <= LONGEST_NAME
    return not isinstance(value, int | float) or abs(value) <= LARGEST_NUMBER


def _with_options(found: Found, options: Mapping[str, Any]) -> Found:
    """What was found, with the caller's options of the network or of its mechanism."""
    kind, given = found.architecture.kind, dict(found.architecture.options)
    for name, value in options.items():
        mechanism = given.get("mechanism")
        if name in defaults_of(found.architecture.type):
            given[name] = value
        elif mechanism is not None and name in catalogue.options_of(mechanism):
            stages = given.get("options") or {}
            several = isinstance(stages, list)
            given["options"] = [stage | {name: value} for stage in stages] if several else stages | {name: value}
        else:
            taken = list(defaults_of(found.architecture.type))
            raise TypeError(f"{kind} has no option {name!r}; it takes {', '.join(taken)}")
    assumed = {name: value for name, value in found.assumed.items() if name not in options}
    return Found(Architecture(kind, given), assumed, found.spatial_dims)


def _built(found: Found) -> nn.Module:
    """The network without numbers, for its names and shapes."""
    try:
        with torch.device("meta"):
            return found.architecture.build()
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"no network can be built of its sizes: {error}") from None


def _names(publisher: Publisher, network: nn.Module, spatial_dims: int) -> dict[str, tuple[str, Shape]]:
    """Their keys, in the order of our network, with our key and their shape."""
    names = {}
    for key, value in network.state_dict().items():
        shape = publisher.their_shape(key, tuple(value.shape), spatial_dims)
        parts = publisher.their_name(key, network).split(" ")
        if len(parts) > 1:
            shape = (shape[0] // len(parts), *shape[1:])
        names |= dict.fromkeys(parts, (key, shape))
    return names


def _anew(
    network: nn.Module, shapes: Shapes, names: Mapping[str, tuple[str, Shape]], options: Mapping[str, Any]
) -> tuple[str, ...]:
    """The modules that an option gave another shape than the file has, or that the file has nothing of."""
    decided: list[str] = []
    for option, parts in getattr(network, "anew", {}).items():
        if option in options:
            decided += [parts] if isinstance(parts, str) else parts
    anew = []
    for part in decided:
        inside = {theirs: shape for theirs, (ours, shape) in names.items() if ours.startswith(f"{part}.")}
        held = {theirs: shape for theirs, shape in inside.items() if theirs in shapes}
        if (inside and not held) or any(shapes[theirs] != shape for theirs, shape in held.items()):
            anew.append(part)
    return tuple(part for part in anew if not part.startswith(tuple(f"{other}." for other in anew)))


def _problems(state: Mapping[str, Tensor], names: Mapping[str, tuple[str, Shape]]) -> list[str]:
    problems = []
    for key, (_, shape) in names.items():
        if key not in state:
            if not key.endswith(COUNTER):
                problems.append(missing(key, state))
        elif tuple(state[key].shape) != shape:
            has = tuple(state[key].shape)
            problems.append(f"{key} has shape {has} where {shape} is wanted")
        elif not key.endswith(COUNTER) and not state[key].is_floating_point():
            kind = str(state[key].dtype).removeprefix("torch.")
            problems.append(f"{key} holds {kind}, not floating point numbers")
        elif state[key].layout is not torch.strided or state[key].is_meta:
            problems.append(f"{key} is no dense tensor of numbers")
        elif state[key].untyped_storage().nbytes() < state[key].numel() * state[key].element_size():
            problems.append(f"{key} claims {state[key].numel():,} numbers and holds fewer")
    strange = [key for key in state if key not in names]
    return problems + [f"{key} belongs to no network that is known here" for key in strange]


def _as_ours(
    state: Mapping[str, Tensor], names: Mapping[str, tuple[str, Shape]], network: nn.Module
) -> dict[str, Tensor]:
    """The tensors by our keys, each in our shape; counters that old files have not start at zero."""
    double = any(value.dtype == torch.float64 for value in state.values())
    dtype = torch.float64 if double else torch.float32
    parts: dict[str, list[Tensor]] = {}
    for theirs, (ours, _) in names.items():
        value = state.get(theirs, torch.zeros((), dtype=torch.long))
        parts.setdefault(ours, []).append(value.to(dtype if value.is_floating_point() else value.dtype))
    wanted = network.state_dict()
    return {
        ours: (torch.cat(values) if len(values) > 1 else values[0]).reshape(wanted[ours].shape)
        for ours, values in parts.items()
    }


def _description(network: nn.Module) -> str:
    """What a network computes, apart from its numbers; a chance that only training takes is left out."""
    return "\n".join(line for line in repr(network).splitlines() if "Dropout" not in line)
