"""Let one process at a time work in a folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from foveate.errors import RunError

__all__ = ["LOCK", "locked"]

LOCK = ".lock"


@contextlib.contextmanager
def locked(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; the system lets go of it when its holder dies, however it dies.

    A file system that cannot lock (some clusters') is worked on without.

    Raises:
        RunError: If another process holds it for longer than `wait_s`, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise RunError(f"another process is at work in {path.parent}; wait until it ends, or stop it") from None
    except NotImplementedError:
        pass
    except OSError as error:
        raise RunError(f"{path.parent} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()
