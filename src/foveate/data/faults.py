"""Files that cannot be read: whatever a decoder raises becomes one sentence that names the file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foveate.errors import DataError, FoveateError
from foveate.files import irregular

__all__ = ["check_regular", "joined", "raise_faults", "read_errors"]

MOST_TOLD = 20


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn whatever reading a file raises into a DataError: a file that is missing, forbidden, too large or damaged."""
    try:
        check_regular(path)
        yield
    except FoveateError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into memory") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deep to be read") from None
    except Exception as error:  # decoders raise many kinds on a damaged file: each means that it cannot be read
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is damaged and cannot be read: {said}") from None


def check_regular(path: Path) -> None:
    """Raise a DataError if a path is a folder, a pipe, a socket or a device, which cannot be read as a file."""
    kind = irregular(path)
    if kind is not None:
        raise DataError(f"{path} must be a file; it is {kind}")


def raise_faults(faults: Sequence[str]) -> None:
    """Raise a DataError with a line for each fault, twenty at most; nothing where there is none."""
    if faults:
        more = [f"and {len(faults) - MOST_TOLD} more"] if len(faults) > MOST_TOLD else []
        raise joined([*faults[:MOST_TOLD], *more])


def joined(faults: Sequence[str]) -> DataError:
    """Return a DataError with a line for each of several faults."""
    error = DataError("\n".join(faults))
    error.faults = tuple(faults)
    return error
