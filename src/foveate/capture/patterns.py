"""Patterns over dotted module names, as in "layer3.*": the one grammar of capture and of surgery."""

import re
from functools import lru_cache

__all__ = ["matches"]

# The wild cards, longest first; `[...]` is written out by _one_of, and every other character stands for itself.
_TOKEN = re.compile(
    r"(?:(?<=\.)|\A)(?P<parts>\*\*\.)|(?P<across>\*\*)|(?P<within>\*)|(?P<one>\?)|\[(?P<set>!?[^\]]+)\]"
)
_NOT_A_DOT = re.compile(r"[^.]", re.DOTALL)

# A piece of a pattern: its kind, the text of a literal, and what one character must match.
_Piece = tuple[str, str, re.Pattern[str]]


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern describes the whole of a dotted name.

    `*` stands for any characters within one part of the name, `?` for one such character, and `[abc]`, `[a-c]` or
    `[!abc]` for one of a set; none of them is ever a dot. `**` stands for anything, dots included, and a leading `**.`
    also for nothing, so that "**.gate" describes "gate" as well as "layer3.0.gate". Every other character stands for
    itself.

    All ends of a match are followed at once, so that the time is the product of both lengths for any pattern; a regular
    expression would try sixty `*` in every combination.

    >>> matches("layer3.*", "layer3.0"), matches("layer3.*", "layer3.0.conv1"), matches("layer3.**", "layer3.0.conv1")
    (True, False, True)
    """
    places = {0}  # how much of the name the pieces so far may describe
    for piece in _pieces(pattern):
        places = _after(piece, name, places)
        if not places:
            return False
    return len(name) in places


def _after(piece: _Piece, name: str, places: set[int]) -> set[int]:
    """Return where a piece may end that begins at one of some places."""
    kind, text, character = piece
    if kind == "literal":
        return {place + len(text) for place in places if name.startswith(text, place)}
    if kind in ("one", "set"):
        return {place + 1 for place in places if character.match(name, place)}
    first = min(places)
    if kind == "across":
        return set(range(first, len(name) + 1))
    if kind == "parts":  # nothing, or anything that ends in a dot
        return places | {end + 1 for end in range(first, len(name)) if name[end] == "."}
    reached: set[int] = set()
    for end in range(first, len(name) + 1):  # "within": on from a place as long as there is no dot
        if end in places or (end - 1 in reached and name[end - 1] != "."):
            reached.add(end)
    return reached


@lru_cache(maxsize=256)
def _pieces(pattern: str) -> tuple[_Piece, ...]:
    pieces: list[_Piece] = []
    end = 0
    for token in _TOKEN.finditer(pattern):
        pieces.append(("literal", pattern[end : token.start()], _NOT_A_DOT))
        kind = token.lastgroup or ""
        pieces.append((kind, "", _one_of(token["set"]) if kind == "set" else _NOT_A_DOT))
        end = token.end()
    pieces.append(("literal", pattern[end:], _NOT_A_DOT))
    return tuple(piece for piece in pieces if piece[:2] != ("literal", ""))


def _one_of(members: str) -> re.Pattern[str]:
    """A set of characters; a hyphen between two members is a range, anything else stands for itself."""
    negated = members.startswith("!") and len(members) > 1
    inside = re.sub(r"[^\w-]", r"\\\g<0>", members[1:] if negated else members)
    try:
        return re.compile(rf"(?!\.)[{'^' if negated else ''}{inside}]", re.DOTALL)
    except re.error:
        raise ValueError(f"[{members}] holds a range that runs backwards; a range is written a-z") from None
