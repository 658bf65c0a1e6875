"""Projects of InVesalius: the scan in a .inv3 file, read in memory.

Such a file is a tar.gz of a property list and of the files it names: https://github.com/invesalius/invesalius3. Nothing
is unpacked to the disk, and names in the archive are compared, never followed.
"""

import gzip
import io
import plistlib
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from foveate.data.faults import read_errors
from foveate.errors import DataError

__all__ = ["read_inv3"]

LARGEST = 2**28  # bytes of all that is packed
PROPERTIES = 2**16  # bytes of the property list


def read_inv3(path: Path) -> np.ndarray:
    """The scan of a project, Hounsfield units, int16 (slice, height, width).

    Raises:
        DataError: If the file is no such project, is damaged, or unpacks to more than 256 MiB.
    """
    with read_errors(path):
        with gzip.open(path) as packed:
            unpacked = packed.read(LARGEST + 1)
        if len(unpacked) > LARGEST:
            raise DataError(f"{path} unpacks to more than {LARGEST} bytes")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            properties = _member(archive, "main.plist")
            if len(properties) > PROPERTIES:
                raise ValueError(f"main.plist has {len(properties)} bytes")
            matrix = plistlib.loads(properties)["matrix"]
            values = _member(archive, matrix["filename"])
        if matrix["dtype"] != "int16":
            raise ValueError(f"a matrix of int16 is wanted; it is of {matrix['dtype']}")
        scan = np.frombuffer(values, "<i2").reshape(matrix["shape"]).astype(np.int16)
        if scan.ndim != 3:
            raise ValueError(f"a matrix of three sides is wanted; it has {scan.ndim}")
        return scan


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """What the one regular file of this name holds, in whatever folder of the archive."""
    found = [member for member in archive if member.isreg() and PurePosixPath(member.name).name == name]
    if len(found) != 1:
        raise ValueError(f"one file {name} is wanted; there are {len(found)}")
    if found[0].size > LARGEST:  # as a sparse file may say, of which nothing is packed
        raise ValueError(f"{name} has {found[0].size} bytes")
    file = archive.extractfile(found[0])
    assert file is not None  # as of every regular file
    return file.read()
