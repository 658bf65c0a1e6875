"""The kinds of values that settings take: whether a value is of one, and how one is called in a sentence."""

import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["check_fields", "fits", "kinds", "words"]

LISTS = {int: "[2, 1, 1]", float: "[2.0, 1.0, 1.0]", str: '["a", "b"]'}


def kinds(config: type) -> dict[str, Any]:
    """The kind of each field of a configuration, by its name."""
    return typing.get_type_hints(config)


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
