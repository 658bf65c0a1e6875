"""What the world can do to us, apart from what a caller can do wrong.

A wrong argument is a ValueError, TypeError or LookupError, raised where it is found. The classes below are for files,
data, checkpoints and runs. The command line prints the sentence of any of them and exits with status 2.

    FoveateError
    +-- DataError        pictures, labels and folders that cannot be used
    +-- CheckpointError  weights that cannot be loaded
    +-- RunError         a run or study folder that cannot be written, read or resumed
    +-- TrainingError    training that cannot go on, such as a loss that is not finite
    +-- ExportError      networks that cannot be exported, or compute something else when they are
    +-- MissingExtra     an optional package that is not installed
"""

__all__ = ["CheckpointError", "DataError", "ExportError", "FoveateError", "MissingExtra", "RunError", "TrainingError"]


class FoveateError(Exception):
    """One sentence that says what was wanted and what was found."""


class DataError(FoveateError):
    """Pictures, labels or folders that cannot be used as data.

    Attributes:
        faults: A sentence for each fault, if there are several.
    """

    faults: tuple[str, ...] = ()


class CheckpointError(FoveateError):
    """A file of weights that cannot be loaded, or does not fit."""


class RunError(FoveateError):
    """A run or study folder that cannot be written, read or resumed."""


class TrainingError(FoveateError):
    """Training that cannot go on."""


class ExportError(FoveateError):
    """A network that cannot be exported, or that computes something else when it is."""


class MissingExtra(FoveateError):
    """An optional package that a command needs and that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}, which is not installed; pip install 'foveate[{extra}]' brings it")
