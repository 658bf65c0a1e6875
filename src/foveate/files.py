"""Write files such that under their names there is always a whole one, and tell what is no regular file."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = ["irregular", "replace_file", "write_atomic"]

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def irregular(path: Path) -> str | None:
    """Return what a path is if it is no regular file, such as "a named pipe"; None for a file and for nothing.

    Opening a pipe or a device waits for whoever writes to it, maybe for ever, so this is asked first.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # opening the file says what is wrong
        return None
    return next((name for is_kind, name in KINDS if is_kind(mode)), None)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that under its name there is always a whole one, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = content.encode() if isinstance(content, str) else content
    replace_file(path, lambda target: target.write_bytes(body))


def replace_file(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Let `write` make a file beside `path`, then put it in its place; what was there goes to `keep`."""
    half = path.with_name(f".{path.name}.foveate.tmp")
    half.unlink(missing_ok=True)  # of a process that was killed; a link here must not lead elsewhere
    try:
        write(half)
        with half.open("rb") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
