"""The command line: one command a file, everything heavy imported inside the command."""

import io
import os
import sys
import warnings
from pathlib import Path

from foveate.errors import DataError, FoveateError
from foveate.escaping import printable

__all__ = ["main"]

OURS = Path(__file__).parents[1]
with_place = warnings.formatwarning


def main() -> None:
    """Run the command line; what went wrong is a sentence and exit status 2, and a traceback only with --debug."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    warnings.formatwarning = formatted
    arguments = [argument for argument in arguments if argument != "--debug"]

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no name of a file ends a command that has done its work
            stream.reconfigure(errors="backslashreplace")
    try:
        from foveate.cli.app import app

        app(args=arguments, prog_name="foveate")
    except KeyboardInterrupt:  # before the command began
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as with `foveate list | head`; Python must not flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (FoveateError, LookupError, OSError, TypeError, ValueError) as error:
        if debug:
            raise
        print("\n".join(f"foveate: {fault}" for fault in faults_of(error)), file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # what a library raises when a device is full or missing, or a bug of ours
        if debug:
            raise
        print(f"foveate: {type(error).__name__}: {sentence(error)}; --debug shows where", file=sys.stderr)
        sys.exit(2)


def faults_of(error: Exception) -> list[str]:
    """Return what an error says, a line for each fault, without anything that a terminal would obey."""
    if isinstance(error, DataError) and error.faults:
        return [printable(fault) for fault in error.faults]
    if isinstance(error, FoveateError):
        return [printable(str(error))]
    return [sentence(error)]


def formatted(message: Warning | str, kind: type[Warning], file: str, number: int, line: str | None = None) -> str:
    """A warning of ours as a sentence; those of others with the place that they come from."""
    ours = OURS in Path(file).parents
    return f"foveate: {printable(str(message))}\n" if ours else with_place(message, kind, file, number, line)


def sentence(error: Exception) -> str:
    """What an error says, on one line; a KeyError without the quotes that Python puts around it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return printable(" ".join(text.split())) or type(error).__name__
