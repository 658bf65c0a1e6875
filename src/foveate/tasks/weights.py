"""Weights from elsewhere: checkpoints on disk and those that libraries publish, loaded without running their code."""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from foveate.errors import CheckpointError
from foveate.networks.architecture import Architecture
from foveate.networks.inflation import inflate_state
from foveate.networks.published import Inspection, candidates, inspect, read_file
from foveate.surgery import Blend, blended

__all__ = [
    "check_decisive",
    "features_of",
    "fetch_published",
    "head_of",
    "heads_of",
    "load_into",
    "not_finite",
    "read_weights",
    "start_from",
]

# What changes a network's numbers and no key or shape tells.
DECISIVE = ("stride_in", "stem_pool", "branch_relu", "combine", "pools", "order", "squeeze", "pairwise", "scale")
DECISIVE += ("pool", "geometry")
DECISIVE += ("strides", "num_heads")
USUAL = {"stem_pool": "max"}  # where a network has none of its own


def read_weights(path: str | Path, *, ours: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint; with `ours`, a publisher's by the keys of our networks."""
    return _read(path, ours)[0]


def start_from(
    network: nn.Module, path: str | Path, new: Collection[str], head: Collection[str], *, ours: bool
) -> None:
    """Load a checkpoint into a network, and warn of what gives classes and starts anew.

    Args:
        network: The host, perhaps with mechanisms.
        path: The checkpoint.
        new: As in load_into.
        head: As in load_into.
        ours: Whether the network is one of ours, so that publishers' files are meant too.

    Raises:
        CheckpointError: If it does not fit, or was made by a network that computes something else with these weights.
    """
    state, found = _read(path, ours)
    if found is None:
        state = _unwrapped(state, network, str(path))
    broken = not_finite(state)
    if broken is not None:
        raise CheckpointError(f"{path} must hold finite weights; {broken} holds NaN or infinity")
    check_decisive(path, None if found is None else found.architecture, getattr(network, "architecture", None))
    anew = load_into(network, state, str(path), new, head)
    if anew:
        warnings.warn(f"{path} has no weights that fit {', '.join(anew)}, which starts anew", stacklevel=2)


def check_decisive(path: str | Path, made: Architecture | None, own: Architecture | None) -> None:
    """Refuse a checkpoint that a network made which computes something else with the same weights.

    Args:
        path: The checkpoint.
        made: Of the network that made it; None where that is not known.
        own: Of the network that takes it, likewise.
    """
    if made is None or own is None:
        return
    for name in DECISIVE:
        theirs, here = made.setting(name) or USUAL.get(name), own.setting(name) or USUAL.get(name)
        if theirs is not None and here is not None and _once(theirs) != _once(here):
            raise CheckpointError(f"{path} was made with {name}={theirs!r}; the network has {here!r}")


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; None if all are finite."""
    return next((name for name, value in state.items() if not bool(value.isfinite().all())), None)


def _once(value: Any) -> Any:
    """A value that is given for each axis or each level, and the same everywhere, as it is given for all."""
    if not isinstance(value, list | tuple):
        return value
    found = [_once(each) for each in value]
    return found[0] if found and all(each == found[0] for each in found) else found


def _read(path: str | Path, ours: bool) -> tuple[dict[str, Tensor], Inspection | None]:
    if not ours:
        return read_file(path)[0], None
    found = inspect(path)
    if found.state:
        return dict(found.state), found
    if found.publisher not in (None, "torchvision", "foveate"):  # theirs are not our keys: nothing could fit
        raise CheckpointError(f"{path} has keys of {found.publisher}, but {found.problems[0]}")
    return read_file(path)[0], None


def _unwrapped(state: dict[str, Tensor], network: nn.Module, source: str) -> dict[str, Tensor]:
    """Remove the prefixes behind which most keys are those of a network; warn of the keys that are left out."""
    own = network.state_dict().keys()
    bare, left = max(candidates(state), key=lambda candidate: len(own & candidate[0].keys()))
    if left:
        text = f"{source} holds {len(left)} tensors beside the network that are not read, such as {left[0]}"
        warnings.warn(text, stacklevel=3)
    return bare


def fetch_published(name: str, version: str = "DEFAULT") -> dict[str, Tensor]:
    """The weights that torchvision publishes for a classifier of that name."""
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name)
    except ValueError:
        raise LookupError(f"no weights are published for {name}; those of torchvision are meant") from None
    try:
        return dict(torchvision.models.get_weight(str(weights[version])).get_state_dict(progress=False))  # pyright: ignore[reportIndexIssue]
    except Exception as error:  # no network, no space, a wrong hash
        raise CheckpointError(f"the published weights of {name} could not be fetched: {error}") from None


def load_into(
    network: nn.Module, state: Mapping[str, Tensor], source: str, new: Collection[str], head: Collection[str] = ()
) -> list[str]:
    """Load weights of a host into a network; the names in `head` that keep their start.

    Args:
        network: The host, perhaps with mechanisms.
        state: What to load; kernels for pictures are inflated for a network of clips.
        source: What to call it in an error.
        new: Names of modules that keep their start where the source has nothing of them: the mechanisms.
        head: Names of modules that keep their start where the source has other shapes or keys too: the classifier.

    Raises:
        CheckpointError: If anything else does not fit.
    """
    own, given = network.state_dict(), state
    state = inflate_state(state, network)
    absent = [name for name in new if not any(key.startswith(f"{name}.") for key in state)]
    heads = tuple(f"{name}." for name in head)
    prefixes = (*heads, *(f"{name}." for name in absent))
    fitting = {
        key: value
        for key, value in state.items()
        if not (key.startswith(heads) and key in own and own[key].shape != value.shape)
    }
    missing = [key for key in own if key not in fitting and not key.startswith(prefixes)]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    strange = [key for key in fitting if key not in own and not key.startswith(heads)]
    strange = [key for key in strange if not key.endswith("num_batches_tracked")]
    wrong = [key for key in fitting if key in own and own[key].shape != fitting[key].shape]
    if wrong:
        shapes = f"has {tuple(given[wrong[0]].shape)} where the network has {tuple(own[wrong[0]].shape)}"
        raise CheckpointError(f"{source} does not fit: {wrong[0]} {shapes}")
    _check_blends(network, fitting, source)
    if missing or strange:
        told = [
            f"{len(keys)} {kind}, such as {keys[0]}"
            for kind, keys in (("missing", missing), ("strange", strange))
            if keys
        ]
        raise CheckpointError(f"{source} does not fit: of its keys {' and '.join(told)}")
    network.load_state_dict(fitting, strict=False)
    return [name for name in head if any(key.startswith(f"{name}.") and key not in fitting for key in own)]


def _check_blends(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of a trained mechanism that is to begin as the identity: its training would be hidden."""
    for name in (name for name, module in blended(network).items() if isinstance(module, Blend)):
        own = [key for key in state if key.startswith(f"{name}.")]
        if own and not any(key.startswith(f"{name}.blend.") for key in own):
            raise CheckpointError(f"{source} has weights of the mechanism at {name}; start=published goes on with them")


def head_of(network: nn.Module, num_classes: int) -> str:
    """The name of the classifier: the last linear layer, or 1x1 convolution, that gives the classes."""
    get_classifier = getattr(network, "get_classifier", None)  # timm's
    given = get_classifier() if callable(get_classifier) else None
    found = ""
    for name, module in network.named_modules():
        if module is given:
            return name
        outputs = module.out_features if isinstance(module, nn.Linear) else None
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            outputs = module.out_channels
        if outputs == num_classes and ".inserted" not in name:
            found = name
    if not found:
        raise ValueError(f"{type(network).__name__} has no layer that gives {num_classes} classes; it is no classifier")
    return found


def heads_of(network: nn.Module, num_classes: int) -> list[str]:
    """The names of the modules that give classes: the classifier, or what a network of ours says."""
    return getattr(network, "head_names", None) or [head_of(network, num_classes)]


def features_of(network: nn.Module, head: str) -> int:
    """The channels that a classifier takes."""
    layer: Any = network.get_submodule(head)
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
