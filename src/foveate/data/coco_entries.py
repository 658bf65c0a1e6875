"""Values in COCO json as exporters write them: numbers as floats and texts, and paths of Windows."""

import math
import re
from collections.abc import Collection
from pathlib import PureWindowsPath
from typing import Any

__all__ = ["as_id", "as_number", "as_whole", "find_id", "possible_names"]

WHOLE = re.compile(r"[+-]?\d{1,30}(?:\.0*)?")
NUMBER = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?")


def as_whole(value: Any) -> int | None:
    """Return a whole number that is written as 1, 1.0, "1" or "1.0"; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if WHOLE.fullmatch(value.strip()) else None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    return value if isinstance(value, int) else None


def as_number(value: Any) -> Any:
    """Return the number that a text writes, as "48" or "0.5"; anything else as it is."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        whole = as_whole(value)
        return float(value) if whole is None else whole
    return value


def as_id(value: Any) -> int | str | None:
    """Return the id of a picture: a text as it is, and a whole number without its fraction; None for anything else."""
    return value if isinstance(value, str) else as_whole(value)


def find_id(value: Any, known: Collection[int | str]) -> int | str | None:
    """Return the one of the known ids that a value means, which may be written otherwise; None if there is none."""
    whole = as_whole(value)
    tried = (as_id(value), whole, None if whole is None else str(whole))
    return next((each for each in tried if each is not None and each in known), None)


def possible_names(name: str) -> list[str]:
    """Return the names that a file_name may mean, the likeliest first: as it is, and as a path of Windows.

    Of a path that begins with a drive, which is of another machine, the name alone may be meant too.
    """
    if "\\" not in name:
        return [name]
    path = PureWindowsPath(name)
    return [name, path.name if path.anchor else path.as_posix()]
