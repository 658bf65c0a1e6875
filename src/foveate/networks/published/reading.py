"""Read and write files of weights; nothing in them is ever executed."""

import argparse
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.errors import CheckpointError
from foveate.files import irregular, write_atomic
from foveate.networks.published.wrapping import Ignored, tensors_of

__all__ = ["ARCHITECTURE", "packed", "read_file", "write_file"]

ARCHITECTURE = "foveate.architecture"
"""The entry of a safetensors header that says what builds the network."""

# NumPy's numbers and arrays, which many checkpoints hold beside the tensors; NumPy 1 has them under numpy.core.
_NUMPY = ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
_IGNORED = [f"numpy.{core}.{name}" for core in ("core", "_core") for name in _NUMPY]
_IGNORED += ["numpy.ndarray", "numpy.dtype", *(f"numpy.{kind}" for kind in ("str_", "bool_", "float64", "float32"))]
_IGNORED += [f"numpy.dtypes.{type(np.dtype(kind)).__name__}" for kind in "?bBhHiIqQefd"]
_IGNORED += [
    f"{module}.{kind}"
    for module in ("pathlib", "pathlib._local")
    for kind in ("PosixPath", "WindowsPath", "PurePosixPath")
]
HARMLESS: list[Any] = [argparse.Namespace, *((Ignored, name) for name in _IGNORED)]


def read_file(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file, or of one that torch.save wrote, and the texts of a safetensors header.

    Raises:
        CheckpointError: If it is no file of tensors, is cut off, or would have to run code to be read.
    """
    path = Path(path)
    kind = _kind(path)
    try:
        if kind == "safetensors":
            return _read_safetensors(path)
        with torch.serialization.safe_globals(HARMLESS), path.open("rb") as file:  # not the path: its ending may lie
            held = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # damaged in one of many ways
        raise CheckpointError(f"{path} {_why(error)}") from None
    return tensors_of(held, str(path)), {}


def packed(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a .safetensors file; each tensor on its own, also where a network uses one under two names."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    content = save(tensors, dict(metadata) if metadata else None)
    if not metadata:
        return content
    # safetensors writes metadata in an order that changes from call to call; the same network gives the same bytes.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    body = json.dumps(header, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)
    return len(body).to_bytes(8, "little") + body + content[end:]


def write_file(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file, whole or not at all.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    try:
        write_atomic(Path(path), packed(state, metadata))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from None


def _kind(path: Path) -> str:
    """What a file is by its content, "safetensors" or "torch"; its name may be anything."""
    odd = irregular(path)
    if odd is not None:
        raise CheckpointError(f"{path} must be a file of weights; it is {odd}")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path} does not exist or is no file; a checkpoint is wanted: {reason}") from None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise CheckpointError(f"{path} is empty; a checkpoint is wanted")
    if text.startswith(b"<"):
        raise CheckpointError(f"{path} is a web page, not a checkpoint: the download gave a page instead of the file")
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a pointer of Git LFS, not a checkpoint: git lfs pull fetches the file itself")
    if head.startswith(b"\x1f\x8b"):
        raise CheckpointError(f"{path} is compressed with gzip; a checkpoint is wanted as it was saved")
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is cut off: a zip archive without its end")
    if head.startswith(b"PK") and _is_compressed(path):
        raise CheckpointError(
            f"{path} holds compressed parts, which torch.save never writes and which may unpack to any size"
        )
    if not head.startswith((b"PK", b"\x80")):
        raise CheckpointError(f"{path} is nothing that torch.save or safetensors wrote; it begins with {head[:12]!r}")
    return "torch"


def _is_compressed(path: Path) -> bool:
    """Return whether a zip archive has a part that is not stored as it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # torch.load says what is wrong with it


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors_of(state, str(path)), dict(file.metadata() or {})


def _why(error: Exception) -> str:
    text = str(error).strip()
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if refused:
        return f"holds a pickled {refused[1]}; only tensors are read, for opening anything else may run code"
    told = re.split(r"\. |\n", text)[0] if text else type(error).__name__
    return f"cannot be read as a checkpoint of tensors: {told}"
