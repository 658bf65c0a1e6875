"""Patterns over dotted module names, as in "layer3.*": the one grammar of capture and of surgery."""

import re
from functools import lru_cache

__all__ = ["matches"]

# The wild cards, longest first; `[...]` is written out by _one_of, and every other character stands for itself.
_TOKEN = re.compile(
    r"(?:(?<=\.)|\A)(?P<parts>\*\*\.)|(?P<across>\*\*)|(?P<within>\*)|(?P<one>\?)|\[(?P<set>!?[^\]]+)\]"
)
_MEANING = {"parts": r"(?:.*\.)?", "across": r".*", "within": r"[^.]*", "one": r"[^.]"}


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern describes the whole of a dotted name.

    `*` stands for any characters within one part of the name, `?` for one such character, and `[abc]`, `[a-c]` or
    `[!abc]` for one of a set; none of them is ever a dot. `**` stands for anything, dots included, and a leading `**.`
    also for nothing, so that "**.gate" describes "gate" as well as "layer3.0.gate". Every other character stands for
    itself.

    >>> matches("layer3.*", "layer3.0"), matches("layer3.*", "layer3.0.conv1"), matches("layer3.**", "layer3.0.conv1")
    (True, False, True)
    """
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces: list[str] = []
    end = 0
    for token in _TOKEN.finditer(pattern):
        pieces.append(re.escape(pattern[end : token.start()]))
        kind = token.lastgroup or ""
        pieces.append(_one_of(token["set"]) if kind == "set" else _MEANING[kind])
        end = token.end()
    pieces.append(re.escape(pattern[end:]))
    return re.compile("".join(pieces), re.DOTALL)


def _one_of(members: str) -> str:
    """A set of characters; a hyphen between two members is a range, anything else stands for itself."""
    negated = members.startswith("!") and len(members) > 1
    inside = re.sub(r"[^\w-]", r"\\\g<0>", members[1:] if negated else members)
    try:
        return re.compile(rf"(?!\.)[{'^' if negated else ''}{inside}]").pattern
    except re.error:
        raise ValueError(f"[{members}] holds a range that runs backwards; a range is written a-z") from None
