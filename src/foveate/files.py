"""Write files such that under their names there is always a whole one, and tell what is no regular file."""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = ["irregular", "replace_file", "write_alone", "write_atomic"]

SCARCE = 2**20  # bytes that are left on a disk that counts as full
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
    # A name that is not UTF-8 is written escaped.
    body = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    replace_file(path, lambda target: target.write_bytes(body))


def replace_file(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Let `write` make a file beside `path`, then put it in its place; what was there goes to `keep`.

    Raises:
        OSError: If it cannot be written, with the name of `path`.
    """
    half = path.with_name(f".{path.name}.foveate.tmp")
    half.unlink(missing_ok=True)  # of a process that was killed; a link here must not lead elsewhere
    try:
        write(half)
        _put(half, path, keep)
    except BaseException as error:
        half.unlink(missing_ok=True)
        _raise_named(error, path)
        raise


def write_alone(path: Path, text: str) -> None:
    """Write a text as write_atomic does, also while other processes write the same file.

    Raises:
        OSError: If it cannot be written, with the name of `path`.
    """
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.foveate.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        _put(half, path)
    except BaseException as error:
        half.unlink(missing_ok=True)
        _raise_named(error, path)
        raise


def _put(half: Path, path: Path, keep: Path | None = None) -> None:
    """Put a file that is whole in its place."""
    with half.open("rb") as file:
        os.fsync(file.fileno())
    if keep is not None and path.exists():
        path.replace(keep)
    half.replace(path)


def _raise_named(error: BaseException, path: Path) -> None:
    """Raise an error of writing with the name that the file is to have; nothing if it is another error."""
    if isinstance(error, OSError) and error.errno is not None:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    if isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error):  # what torch makes of a full disk
        free = os.statvfs(path.parent)
        reason = errno.ENOSPC if free.f_bavail * free.f_frsize < SCARCE else errno.EIO
        raise OSError(reason, os.strerror(reason), str(path)) from error
