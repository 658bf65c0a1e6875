"""Weights from elsewhere: checkpoints on disk and those that libraries publish, loaded without running their code."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from foveate.errors import CheckpointError
from foveate.networks.published import inspect, read_file

__all__ = ["features_of", "fetch_published", "head_of", "load_into", "read_weights"]


def read_weights(path: str | Path, *, ours: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint; with `ours`, a publisher's by the keys of our networks."""
    if ours:
        found = inspect(path)
        if found.state:
            return dict(found.state)
    return read_file(path)[0]


def fetch_published(name: str) -> dict[str, Tensor]:
    """The weights that torchvision publishes for a classifier of that name."""
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name)
    except ValueError:
        raise LookupError(f"no weights are published for {name}; those of torchvision are meant") from None
    try:
        return dict(torchvision.models.get_weight(str(weights["DEFAULT"])).get_state_dict(progress=False))  # pyright: ignore[reportIndexIssue]
    except Exception as error:  # no network, no space, a wrong hash
        raise CheckpointError(f"the published weights of {name} could not be fetched: {error}") from None


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str, new: Collection[str]) -> None:
    """Load weights of a host into a network.

    Args:
        network: The host, perhaps with mechanisms.
        state: What to load.
        source: What to call it in an error.
        new: Names of modules that may keep their start: the mechanisms, and the classifier if its size differs.

    Raises:
        CheckpointError: If anything else does not fit.
    """
    own = network.state_dict()
    prefixes = tuple(f"{name}." for name in new)
    fitting = {
        key: value
        for key, value in state.items()
        if not (key.startswith(prefixes) and key in own and own[key].shape != value.shape)
    }
    missing = [key for key in own if key not in fitting and not key.startswith(prefixes)]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    strange = [key for key in fitting if key not in own]
    wrong = [key for key in fitting if key in own and own[key].shape != fitting[key].shape]
    if wrong:
        shapes = f"has {tuple(fitting[wrong[0]].shape)} where the network has {tuple(own[wrong[0]].shape)}"
        raise CheckpointError(f"{source} does not fit: {wrong[0]} {shapes}")
    if missing or strange:
        told = [
            f"{len(keys)} {kind}, such as {keys[0]}"
            for kind, keys in (("missing", missing), ("strange", strange))
            if keys
        ]
        raise CheckpointError(f"{source} does not fit: of its keys {' and '.join(told)}")
    network.load_state_dict(fitting, strict=False)


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


def features_of(network: nn.Module, head: str) -> int:
    """The channels that a classifier takes."""
    layer: Any = network.get_submodule(head)
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
