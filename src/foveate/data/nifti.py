"""NIfTI files, NIfTI-1 and NIfTI-2: read whole with all that their headers say, and written in the space of another."""

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from foveate.data.faults import check_regular, read_errors
from foveate.data.nifti_scale import millimetres, settle_scale
from foveate.data.place import check_place
from foveate.errors import DataError, MissingExtra
from foveate.rules import check_bytes, rules

__all__ = ["NIFTI", "Nifti", "is_nifti", "nifti_bytes", "read_nifti", "read_nifti_shape"]

NIFTI = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
SPACE = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
ROWS = ("srow_x", "srow_y", "srow_z")
LABEL = 1002  # the intent code of a map of labels
LARGEST_HEADER = 540  # bytes, of NIfTI-2
PADDING = 4096  # zeros that may stand after the voxels
CHUNK = 2**20
FLOAT_BYTES = 4  # of a voxel as it is kept


@dataclass(frozen=True, eq=False)
class Nifti:
    """What a file holds.

    Args:
        array: (x, y, z) or (x, y, z, channel) in the file's own order, scaled as the header says.
        affine: From voxels to RAS in the file's unit, float64 (4, 4): the sform if it is set, else the qform; of the
            two that which the rules choose if their voxel sizes differ.
        spacing: Of x, y and z, in millimetres whatever the file's unit.
        header: As in the file.
        remark: A sentence about sizes that contradict each other; None if they agree.
    """

    array: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    header: bytes
    remark: str | None = None


def is_nifti(path: Path) -> bool:
    """Whether a file is called like a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def read_nifti(path: Path, dtype: type | None = None) -> Nifti:
    """Read a file to its end, so that its checksum is held against it; `dtype` None keeps the file's.

    The sizes that the header says are compared with the limits before the voxels are unpacked. If the sform and the
    pixdim give the voxels different sizes, `rules().scale` decides: "auto" takes the one that is not a bare 1 x 1 x 1.

    Raises:
        DataError: If it is damaged, too large, has more than four axes, no voxel, no plain numbers, an affine without
            inverse or with numbers that are not finite, or two voxel sizes of which none can be told to be right.
        MissingExtra: If nibabel is not installed.
    """
    nibabel = _nibabel()
    header = _header(nibabel, path)
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise DataError(f"{path} must hold a number a voxel; it holds {kind}")
    _check_numbers(path, header)
    shape = _axes(path, header.get_data_shape())
    voxels = math.prod(shape)
    check_bytes(path, voxels * max(kind.itemsize, FLOAT_BYTES))
    with read_errors(path), nibabel.imageglobals.LoggingOutputSuppressor():
        start = max(int(header["vox_offset"]), header.sizeof_hdr + 4)
        content = _content(path, start + voxels * kind.itemsize)
        image = _image_class(nibabel, content).from_bytes(content)
        affine, remark = settle_scale(path, image.header, np.asarray(image.affine, np.float64), rules().scale)
    unit = millimetres(image.header)
    _check_affine(path, affine, unit)
    with read_errors(path):
        array = np.asanyarray(image.dataobj) if dtype is None else image.get_fdata(dtype=dtype, caching="unchanged")
    x, y, z = (float(size) * unit for size in np.linalg.norm(affine[:3, :3], axis=0))
    return Nifti(array.reshape(shape, order="A"), affine, (x, y, z), image.header.binaryblock, remark)


def read_nifti_shape(path: Path) -> tuple[int, ...]:
    """Return (x, y, z) or (x, y, z, channel), from the header alone."""
    return _axes(path, _header(_nibabel(), path).get_data_shape())


def nifti_bytes(array: np.ndarray, affine: np.ndarray, header: bytes | None, *, packed: bool) -> bytes:
    """The content of a file that holds `array` where `header` says, or, without one, where `affine` says.

    What places the voxels is taken over field by field, so that the affine is the same to the bit and the codes stay.
    An affine without a header is of scanner coordinates; NIfTI-1 holds it in float32, and one that this would change
    makes a NIfTI-2.

    Args:
        array: (x, y, z) or (x, y, z, channel); integers are marked as labels.
        affine: As in Nifti.
        header: As in Nifti.
        packed: By gzip.
    """
    nibabel = _nibabel()
    if header is None:
        image_class = nibabel.Nifti1Image if np.array_equal(affine, affine.astype(np.float32)) else nibabel.Nifti2Image
        new = image_class.header_class()
        new.set_data_shape(array.shape)
        new.set_xyzt_units("mm")
        new.set_qform(affine, code=int(_is_rigid(affine)), strip_shears=True)
        new.set_sform(affine, code=1)
    else:
        image_class = _image_class(nibabel, header)
        new, old = image_class.header_class(), image_class.header_class(header)
        flat = array.ndim == 3 and len(old.get_data_shape()) == 2
        array = array[..., 0] if flat else array
        new.set_data_shape(array.shape)
        for field in (*SPACE, *ROWS):
            new[field] = old[field]
        new["pixdim"][:4] = old["pixdim"][:4]
        new["xyzt_units"] = int(old["xyzt_units"]) % 8
    new.set_data_dtype(array.dtype)
    if array.dtype.kind in "iu":
        new["intent_code"] = LABEL
    content = image_class(array, None, new).to_bytes()
    return gzip.compress(content, compresslevel=1, mtime=0) if packed else content


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise MissingExtra("nibabel", "medical") from None
    return nibabel


def _header(nibabel: Any, path: Path) -> Any:
    """Read the header alone."""
    with read_errors(path), nibabel.imageglobals.LoggingOutputSuppressor():
        with _unpacked(path) as file:
            content = file.read(LARGEST_HEADER)
        header_class = _image_class(nibabel, content).header_class
        return header_class(content[: header_class.sizeof_hdr])


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file, unpacked by what it is, not by what its name says."""
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start != GZIP:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def _content(path: Path, size: int) -> bytes:
    """Read as many bytes as the header says, then the rest without keeping it: there may be zeros alone."""
    check_bytes(path, size)
    with _unpacked(path) as file:
        content = file.read(size)
        beyond = 0
        while rest := file.read(CHUNK):
            beyond += len(rest)
            if beyond > PADDING or rest.strip(b"\0"):
                raise DataError(f"{path} goes on after the {size} bytes that its header says")
    if len(content) < size:  # before memory is taken for all of it
        raise DataError(f"{path} is damaged and cannot be read: its header says {size} bytes; it holds {len(content)}")
    return content


def _image_class(nibabel: Any, content: bytes) -> Any:
    sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    return nibabel.Nifti2Image if 540 in sizes else nibabel.Nifti1Image


def _axes(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return three axes of space and maybe one of channels; axes of length 1 after the third are dropped."""
    space, more = [*shape, *[1] * (3 - len(shape))][:3], [size for size in shape[3:] if size != 1]
    if len(more) > 1:
        raise DataError(f"{path} must have three axes of space and at most one of channels; got {tuple(shape)}")
    axes = [int(size) for size in (*space, *more)]
    if min(axes) < 1:
        raise DataError(f"{path} holds no voxel; its shape is {tuple(shape)}")
    return tuple(axes)


def _check_numbers(path: Path, header: Any) -> None:
    """Refuse numbers in a header that are not finite, by the names of their fields."""
    for name in ("pixdim", "scl_slope", "scl_inter", "vox_offset", *(SPACE[2:] if header["qform_code"] > 0 else ())):
        values = np.atleast_1d(np.asarray(header.structarr[name], np.float64))
        values = values[1:4] if name == "pixdim" else values
        if not np.isfinite(values).all():
            raise DataError(f"{path} must have finite numbers in its header; {name} is {_plain(values)}")
    if header["sform_code"] > 0:
        for name in ROWS:
            if not np.isfinite(header[name]).all():
                raise DataError(f"{path} must have finite numbers in its header; {name} is {_plain(header[name])}")


def _plain(values: np.ndarray) -> Any:
    return values.tolist() if len(values) > 1 else values.item()


def _check_affine(path: Path, affine: np.ndarray, unit: float) -> None:
    # Scaled by the voxel sizes, so that small voxels are not taken for a plane.
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not sizes.all() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6:
        raise DataError(f"{path} has an affine without inverse, so its voxels have no place: {affine[:3].tolist()}")
    check_place(path, affine, unit)


def _is_rigid(affine: np.ndarray) -> bool:
    """Whether a qform can say it: turned and scaled, not sheared."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(columns.T @ columns, np.eye(3), atol=1e-6))
