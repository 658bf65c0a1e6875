"""What a publisher's file says of the network in it, and how its names translate into ours."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from foveate.errors import CheckpointError
from foveate.networks.architecture import Architecture

__all__ = ["Found", "Publisher", "Shape", "Shapes", "missing", "part_name"]

Shape = tuple[int, ...]


class Shapes(dict[str, Shape]):
    """The shapes of a file's tensors by the publisher's keys; a key that is looked up and absent is an error.

    Raises:
        CheckpointError: If a key is missing, or a tensor has not the axes that it should have.
    """

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Shapes":
        return cls({key: tuple(value.shape) for key, value in state.items()})

    def __missing__(self, key: str) -> Shape:
        raise CheckpointError(missing(key, self))

    def axes(self, key: str, count: int) -> Shape:
        """The shape of a tensor that must have so many axes, none of them empty."""
        shape = self[key]
        if len(shape) != count or 0 in shape:
            raise CheckpointError(f"{key} must have {count} axes that are not empty; it has shape {shape}")
        return shape


def missing(key: str, held: Collection[str]) -> str:
    """That a key is missing, and which one looks like it."""
    like = next((other for other in held if other.endswith(f".{key}")), None)
    return f"{key} is missing" + (f"; the file has {like}" if like else "")


@dataclass(frozen=True)
class Found:
    """What a publisher recognised.

    Args:
        architecture: What builds the network.
        assumed: What of it the file cannot tell, and the publisher's code does; an option overrides it.
        spatial_dims: Spatial axes of the publisher's convolutions.
    """

    architecture: Architecture
    assumed: Mapping[str, Any] = field(default_factory=dict)
    spatial_dims: int = 2


@dataclass(frozen=True)
class Publisher:
    """One who published checkpoints.

    Args:
        name: The repository, or the library.
        recognise: The shapes, and options that override what the file cannot tell -> what it is, or None if the keys
            are of somebody else.
        their_name: One of our keys, and our network -> the publisher's key; several, with spaces between, where the
            publisher has equal parts of our tensor, joined along its first axis.
        their_shape: One of our keys, its shape, and the spatial axes of the publisher's convolutions -> the publisher's
            shape.
        free: Attributes of a layer or network that the publisher's code takes as arguments, and that no file tells.
        inside: Likewise, of the mechanisms in a network.
        values: What of such an attribute the code takes, where that is not all that we have.
    """

    name: str
    recognise: Callable[[Shapes, Mapping[str, Any]], Found | None]
    their_name: Callable[[str, nn.Module], str]
    their_shape: Callable[[str, Shape, int], Shape] = lambda key, shape, spatial_dims: shape
    free: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def part_name(key: str, parts: Sequence[tuple[str, str]]) -> str:
    """A key with its first part, or its first few, renamed: the first pair (ours, theirs) that fits."""
    for ours, theirs in parts:
        if key == ours or key.startswith(f"{ours}."):
            return theirs + key.removeprefix(ours)
    return key
