"""NIfTI files, NIfTI-1 and NIfTI-2: read whole with all that their headers say, and written in the space of another."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.faults import read_errors
from foveate.errors import DataError, MissingExtra

__all__ = ["NIFTI", "Nifti", "is_nifti", "nifti_bytes", "read_nifti", "read_nifti_shape"]

NIFTI = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # of metre, millimetre and micrometre, as xyzt_units counts them
SPACE = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
ROWS = ("srow_x", "srow_y", "srow_z")
LABEL = 1002  # the intent code of a map of labels


@dataclass(frozen=True, eq=False)
class Nifti:
    """What a file holds.

    Args:
        array: (x, y, z) or (x, y, z, channel) in the file's own order, scaled as the header says.
        affine: From voxels to RAS in the file's unit, float64 (4, 4): the sform if it is set, else the qform.
        spacing: Of x, y and z, in millimetres whatever the file's unit.
        header: As in the file.
    """

    array: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    header: bytes


def is_nifti(path: Path) -> bool:
    """Whether a file is called like a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def read_nifti(path: Path, dtype: type | None = None) -> Nifti:
    """Read a file to its end, so that its checksum is held against it; `dtype` None keeps the file's.

    Raises:
        DataError: If it is damaged, has more than four axes, no voxel, no plain numbers, or an affine without inverse.
        MissingExtra: If nibabel is not installed.
    """
    nibabel = _nibabel()
    with read_errors(path), nibabel.imageglobals.LoggingOutputSuppressor():
        content = _content(path)
        image = _image_class(nibabel, content).from_bytes(content)
    kind = image.header.get_data_dtype()
    if kind.kind not in "iuf":
        raise DataError(f"{path} must hold a number a voxel; it holds {kind}")
    shape = _axes(path, image.shape)
    affine = np.asarray(image.affine, np.float64)
    _check_affine(path, affine)
    with read_errors(path):
        array = np.asanyarray(image.dataobj) if dtype is None else image.get_fdata(dtype=dtype, caching="unchanged")
    unit = MILLIMETRES.get(int(image.header["xyzt_units"]) % 8, 1.0)
    x, y, z = (float(size) * unit for size in np.linalg.norm(affine[:3, :3], axis=0))
    return Nifti(array.reshape(shape, order="A"), affine, (x, y, z), image.header.binaryblock)


def read_nifti_shape(path: Path) -> tuple[int, ...]:
    """(x, y, z) or (x, y, z, channel), from the header alone."""
    nibabel = _nibabel()
    with read_errors(path), nibabel.imageglobals.LoggingOutputSuppressor():
        content = _content(path, 540)
        header_class = _image_class(nibabel, content).header_class
        header = header_class(content[: header_class.sizeof_hdr])
    return _axes(path, header.get_data_shape())


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


def _content(path: Path, size: int = -1) -> bytes:
    """The first bytes of a file, unpacked by what they are, not by what the name says."""
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start != GZIP:
            return file.read(size)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return unpacked.read(size)


def _image_class(nibabel: Any, content: bytes) -> Any:
    sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    return nibabel.Nifti2Image if 540 in sizes else nibabel.Nifti1Image


def _axes(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = [*shape, *[1] * (3 - len(shape))]
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) > 4:
        raise DataError(f"{path} must have three axes of space and at most one of channels; got {tuple(shape)}")
    if 0 in axes:
        raise DataError(f"{path} holds no voxel; its shape is {tuple(shape)}")
    return tuple(int(size) for size in axes)


def _check_affine(path: Path, affine: np.ndarray) -> None:
    # Scaled by the voxel sizes, so that small voxels are not taken for a plane.
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not sizes.all() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6:
        raise DataError(f"{path} has an affine without inverse, so its voxels have no place: {affine[:3].tolist()}")


def _is_rigid(affine: np.ndarray) -> bool:
    """Whether a qform can say it: turned and scaled, not sheared."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(columns.T @ columns, np.eye(3), atol=1e-6))
