"""The kinds of values that settings take: whether a value is of one, and how one is called in a sentence."""

import math
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["check_bits", "check_fields", "check_pixels", "fits", "kinds", "words"]

LISTS = {int: "[2, 1, 1]", float: "[2.0, 1.0, 1.0]", str: '["a", "b"]'}


def kinds(config: type) -> dict[str, Any]:
    """The kind of each field of a configuration, by its name."""
    return typing.get_type_hints(config)


def check_bits(bits: int | None) -> None:
    """Raise a ValueError unless a setting of bits is one that 16-bit images can use."""
    if bits is not None and not 8 <= bits <= 16:
        raise ValueError(f"bits must be from 8 to 16; got {bits}")


def check_fields(held: Any) -> None:
    """Raise a ValueError if a field of a dataclass is not of its kind, as in one that is read from an edited file."""
    for name, kind in kinds(type(held)).items():
        value = getattr(held, name)
        if not fits(value, kind):
            raise ValueError(f"{name} takes {words(kind)}; got {str(value)[:200]!r}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; a whole number is a number too, and a truth value is neither."""
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind) and isinstance(value, str)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(kind))
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def words(kind: Any) -> str:
    """A kind as a sentence calls it: "a whole number or none"."""
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(kind))
    if origin in (Union, types.UnionType):
        return " or ".join(words(part) for part in get_args(kind))
    if origin is dict:
        return "an object of names and values"
    if origin in (list, tuple):
        return f"a list such as {LISTS.get(get_args(kind)[0], '[...]')}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "none"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def check_pixels(mean: Sequence[float] | None, std: Sequence[float] | None, crop: float | None) -> None:
    """Raise a ValueError if settings of normalising and cutting images make no sense."""
    if crop is not None and not 0 < crop <= 1:
        raise ValueError(f"crop must be from above 0 to 1; got {crop}")
    if mean is not None and not all(map(math.isfinite, mean)):
        raise ValueError(f"mean must be finite numbers; got {mean}")
    if std is not None and not all(0 < value < math.inf for value in std):
        raise ValueError(f"std must be finite numbers above 0; got {std}")
