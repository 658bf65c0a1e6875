"""Text of unknown origin, such as names of files, made safe for terminals, pages and spreadsheets."""

import csv
import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

__all__ = ["TableWriter", "note_on_names", "plain_cell", "printable"]

UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # controls, direction marks, surrogates, line and paragraph ends
JOINERS = "\u200c\u200d"  # which scripts and emoji need
SURROGATES = range(0xDC80, 0xDD00)  # how Python reads the bytes of a file name that is not UTF-8
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # what a spreadsheet takes for the beginning of a formula, full width too
GUARD = "'"  # which makes a cell text


def printable(text: str) -> str:
    """Escape what a terminal or a page would obey instead of show: control characters, line ends, direction marks.

    Bytes of a file name that are not UTF-8 become \\xe9 and the like. Everything else stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def note_on_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return a line that tells names which are written escaped; none if all can be written as they are."""
    odd = [name for name in names if printable(name) != name]
    if not odd:
        return ()
    what = "names that are not UTF-8 or hold control characters are written escaped"
    return (f"{len(odd)} {what}, such as {printable(odd[0])}",)


def plain_cell(text: str) -> str:
    """Return what TableWriter was given for a cell that it guarded."""
    return text[1:] if text[:1] == GUARD and text[1:].lstrip()[:1] in tuple(FORMULA) else text


class TableWriter:
    """A writer of CSV whose texts no spreadsheet runs and no terminal obeys; numbers stay as they are.

    A text that begins as a formula does gets an apostrophe before it.

    Args:
        file: Where the rows go.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Write a row."""
        self._writer.writerow([_cell(value) for value in row])

    def writerows(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows."""
        for row in rows:
            self.writerow(row)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in UNSEEN or character in JOINERS:
        return character
    code = ord(character)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if named is None and code in SURROGATES:
        named = f"\\x{code - 0xDC00:02x}"
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    begins = text.lstrip()[:1]
    return GUARD + text if begins and begins in FORMULA and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False
