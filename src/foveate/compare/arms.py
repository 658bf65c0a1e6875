"""Arms by name: a mechanism, or a mechanism with options, such as nonlocal:group=time."""

import json
import re
from typing import Any

__all__ = ["arm_folder", "parse_arm"]

PYTHON = {"True": "true", "False": "false", "None": "null"}
OPTION = re.compile(r"([a-z_]+)=([A-Za-z0-9_.+-]+)")


def parse_arm(arm: str) -> tuple[str, dict[str, Any]]:
    """The mechanism of an arm, and its options.

    Raises:
        ValueError: If what follows the mechanism is no option, or one is given twice.
    """
    mechanism, *given = arm.split(":")
    options = {}
    for text in given:
        found = OPTION.fullmatch(text)
        if found is None:
            wanted = "MECHANISM, or MECHANISM:OPTION=VALUE with as many options as wanted"
            raise ValueError(f"an arm is {wanted}; got {arm!r}")
        name, value = found.groups()
        if name in options:
            raise ValueError(f"an arm has each option once; got {name} twice in {arm!r}")
        try:
            options[name] = json.loads(PYTHON.get(value, value))
        except ValueError:
            options[name] = value
    return mechanism, options


def arm_folder(arm: str) -> str:
    """The name of an arm's folder, such as every file system takes."""
    return arm.replace(":", "_")
