"""Weights from elsewhere: checkpoints on disk and those that libraries publish, loaded without running their code."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import CheckpointError

__all__ = ["features_of", "fetch_published", "head_of", "load_into", "packed", "read_weights"]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, bare or under "state_dict" or "model"; nothing in it is executed."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist or is no file; init takes a checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged in one of many ways, or holding objects that would have to be executed
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint of tensors: {reason}") from None
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError(f"{path} must hold tensors by name; got {type(held).__name__}")
    return {str(key).removeprefix("module."): value for key, value in held.items()}


def packed(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a .safetensors file; each tensor on its own, also where a network uses one under two names."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    return save(tensors, dict(metadata) if metadata else None)


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
