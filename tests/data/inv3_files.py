"""Projects of InVesalius for the tests."""

import gzip
import io
import plistlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np


def pack(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    """A tar.gz of files, and of links by what they point at."""
    with gzip.open(path, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, held in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(held)
            archive.addfile(member, io.BytesIO(held))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


def properties(scan: np.ndarray, **changes: Any) -> bytes:
    """What main.plist says of a scan."""
    matrix = {"filename": "matrix.dat", "dtype": "int16", "shape": list(scan.shape)} | changes
    return plistlib.dumps({"matrix": matrix, "modality": "CT"})


def write_inv3(path: Path, scan: np.ndarray) -> None:
    pack(path, {"tmp/main.plist": properties(scan), "tmp/matrix.dat": scan.astype("<i2").tobytes()})
