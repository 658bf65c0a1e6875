"""Write files such that under their names there is always a whole one."""

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["replace_file", "write_atomic"]


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that under its name there is always a whole one, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that is not UTF-8 is written escaped.
    body = content.encode(errors="backslashreplace") if isinstance(content, str) else content
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
