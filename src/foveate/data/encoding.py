"""The encoding of text files: UTF-8, or UTF-16 and UTF-32 with their byte order marks; anything else is refused."""

import codecs
from pathlib import Path

from foveate.errors import DataError

__all__ = ["decode", "decode_lines"]

MARKS = (  # of UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16-be"),
)
NULS = 0.1  # of the bytes: more than this no text in UTF-8 has, and UTF-16 without letters beyond ASCII has half
FEW = 3  # damaged lines that are left out one by one, whatever the others are


def decode(content: bytes, path: Path) -> str:
    """Decode the content of a text file as its byte order mark says, else as UTF-8.

    Raises:
        DataError: If it is not valid there, or is UTF-16 or UTF-32 without a mark; the sentence names the encoding.
    """
    content = _as_utf8(content, path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8; got {_shown(content[error.start])} at byte {error.start}") from None


def decode_lines(content: bytes, path: Path) -> list[str | None]:
    """Return the lines of a text file without the spaces around them; None for a few damaged lines among others.

    Raises:
        DataError: If the file is not UTF-8, UTF-16 with a mark or UTF-32 with a mark, or its lines end in a lone
            carriage return.
    """
    content = _as_utf8(content, path)
    lines = content.split(b"\n")
    alone = content.count(b"\r") - content.count(b"\r\n")
    if alone > len(lines) - 1:
        raise DataError(f"{path} must have lines that end in \\n or \\r\\n; got {alone:,} lone carriage returns (\\r)")
    if not lines[-1]:
        lines.pop()
    decoded = [_decoded(line) for line in lines]
    damaged = [number for number, line in enumerate(decoded, start=1) if line is None]
    foreign = sum(not line.isascii() for line in lines)
    if len(damaged) > FEW and 2 * len(damaged) > foreign:
        raise DataError(
            f"{path} must be UTF-8; got another encoding, such as Latin-1 or Windows-1252, in {len(damaged):,} of its "
            f"{len(lines):,} lines, the first of which is line {damaged[0]:,}"
        )
    return decoded


def _as_utf8(content: bytes, path: Path) -> bytes:
    """Return the content in UTF-8 without a mark, where the mark says that it is something else."""
    for mark, name, codec in MARKS:
        if content.startswith(mark):
            try:
                return content.removeprefix(mark).decode(codec).encode("utf-8")
            except UnicodeError as error:
                reason = error.reason if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else str(error)
                raise DataError(f"{path} has the byte order mark of {name}, but is damaged: {reason}") from None
    if _is_wide(content):
        raise DataError(f"{path} must be UTF-8; got UTF-16 or UTF-32 without a byte order mark: it has NUL bytes")
    return content.removeprefix(codecs.BOM_UTF8)


def _is_wide(content: bytes) -> bool:
    """Return whether content is UTF-16 or UTF-32: many bytes are NUL, or those beside most line ends are."""
    nuls = content.count(b"\0")
    if not nuls:
        return False
    ends = content.count(b"\n")
    wide = max(content.count(b"\n\0"), content.count(b"\0\n"))
    return nuls > NULS * len(content) or (ends > 0 and 2 * wide > ends)


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def _shown(byte: int) -> str:
    return f"0x{byte:02x}"
