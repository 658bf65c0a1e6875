"""Damage files: bits, spans and lengths of any file, and the values of JSON."""

import json
import random
import struct
from typing import Any

__all__ = ["damaged", "damaged_json"]

FIELDS = (0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0, 1, 30000, 0x7FC00000, 0x7F800000)  # the last are NaN and infinity
ODD: list[Any] = [None, True, -1, 0, 1e30, float("nan"), float("inf"), 10**400, "", "x" * 300, "../..", [], {}, [[]]]
ODD += [{"a": None}, [None, 3], "\u0000\u001b[2J", 2**63, -0.5, "imagesTr\\c.nii"]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three injuries."""
    for _ in range(chance.randint(1, 3)):
        content = chance.choice(INJURIES)(bytearray(content), chance)
    return bytes(content)


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    """Return JSON with one to three other values, or injured as any file, or nested without end."""
    kind = chance.random()
    if kind < 0.25:
        return damaged(content, chance)
    if kind < 0.3:
        depth = chance.choice((1_000, 100_000))
        return b"[" * depth + b"]" * depth
    parsed = json.loads(content)
    for _ in range(chance.randint(1, 3)):
        parsed = _changed(parsed, chance)
    return json.dumps(parsed).encode()


def _changed(value: Any, chance: random.Random) -> Any:
    """Return a value of JSON of which one part, at any depth, is another or is missing."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(ODD)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, kept = chance.choice(keys), value.copy()
    if chance.random() < 0.15:
        del kept[key]
    else:
        kept[key] = _changed(value[key], chance)
    return kept


def _cut(content: bytearray, chance: random.Random) -> bytearray:
    return content[: chance.randint(0, len(content))]


def _flip(content: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.randint(1, 16)):
        at = _place(content, chance)
        content[at : at + 1] = bytes([(content[at] if content else 0) ^ (1 << chance.randrange(8))])
    return content


def _fill(content: bytearray, chance: random.Random) -> bytearray:
    at, size = _place(content, chance), chance.choice((1, 4, 16, 256))
    content[at : at + size] = chance.choice((b"\0", b"\xff", b"9", b'"')) * min(size, max(0, len(content) - at))
    return content


def _noise(content: bytearray, chance: random.Random) -> bytearray:
    at = _place(content, chance)
    return content[:at] + chance.randbytes(chance.choice((1, 7, 64))) + content[at + chance.choice((0, 7, 64)) :]


def _repeat(content: bytearray, chance: random.Random) -> bytearray:
    at, size = _place(content, chance), chance.randint(1, 64)
    return content[:at] + content[at : at + size] * chance.choice((2, 50)) + content[at + size :]


def _field(content: bytearray, chance: random.Random) -> bytearray:
    """A number of a header is as large as it can be, or none."""
    at, value = _place(content, chance) // 2 * 2, chance.choice(FIELDS)
    packed = struct.pack(chance.choice("<>") + "I", value)[: chance.choice((2, 4))]
    content[at : at + len(packed)] = packed
    return content


def _place(content: bytearray, chance: random.Random) -> int:
    """Return a place, as often in the first bytes, where headers are, as anywhere."""
    return chance.randrange(max(1, min(len(content), chance.choice((64, 400, len(content))))))


INJURIES = (_cut, _flip, _flip, _fill, _noise, _repeat, _field, _field, _field)
