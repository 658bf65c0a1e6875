"""Read JSON files of unknown origin: bounded in size and in depth, with numbers that fit a float."""

import json
from pathlib import Path
from typing import Any

from foveate.data.faults import read_errors
from foveate.rules import check_bytes

__all__ = ["parse_json", "read_json"]

LONGEST = 100  # digits of a whole number; a longer one is read as a fraction is, so that 400 digits are infinite


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: If the file is missing, is no JSON, is larger than the limit, or is nested too deep.
    """
    with read_errors(path):
        check_bytes(path, path.stat().st_size, "takes")
        return parse_json(path, path.read_text("utf-8-sig"))


def parse_json(path: Path, text: str) -> Any:
    """Parse the text of a JSON file; see `read_json`."""
    with read_errors(path):
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= LONGEST else float(digits))
