"""The command line: one command a file, everything heavy imported inside the command."""

import os
import sys
import warnings
from pathlib import Path

from foveate.errors import DataError, FoveateError

__all__ = ["main"]

OURS = Path(__file__).parents[1]
with_place = warnings.formatwarning


def main() -> None:
    """Run the command line; what went wrong is a sentence and exit status 2, and a traceback only with --debug."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    warnings.formatwarning = formatted
    arguments = [argument for argument in arguments if argument != "--debug"]

    from foveate.cli.app import app

    try:
        app(args=arguments, prog_name="foveate")
    except KeyboardInterrupt:
        print("interrupted; the same command takes the work up where it stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as with `foveate list | head`; Python must not flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (FoveateError, LookupError, OSError, TypeError, ValueError) as error:
        if debug:
            raise
        faults = str(error).splitlines() if isinstance(error, DataError) else [sentence(error)]
        print("\n".join(f"foveate: {fault}" for fault in faults), file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # what a library raises when a device is full or missing, or a bug of ours
        if debug:
            raise
        print(f"foveate: {type(error).__name__}: {sentence(error)}; --debug shows where", file=sys.stderr)
        sys.exit(2)


def formatted(message: Warning | str, kind: type[Warning], file: str, number: int, line: str | None = None) -> str:
    """A warning of ours as a sentence; those of others with the place that they come from."""
    ours = OURS in Path(file).parents
    return f"foveate: {message}\n" if ours else with_place(message, kind, file, number, line)


def sentence(error: Exception) -> str:
    """What an error says, on one line; a KeyError without the quotes that Python puts around it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
