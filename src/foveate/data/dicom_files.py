"""Read a single DICOM file: its header with checked numbers, and its pixels as values."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.faults import check_regular, read_errors
from foveate.data.place import check_finite
from foveate.errors import DataError, MissingExtra
from foveate.rules import check_bytes

__all__ = ["check_numbers", "read_dataset", "read_pixels"]

PLACES = ("ImagePositionPatient", "ImageOrientationPatient")
SIZES = ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")  # in mm
RESCALING = ("RescaleSlope", "RescaleIntercept")
FARTHEST = 1e6  # mm
WITH_UNITS = {"CT", "PT"}  # HU and activity: what the values mean does not depend on how they are shown
NO_UNIT = {"", "US"}  # RescaleType: not said, or "unspecified"
CHUNK = 2**20


def read_dataset(path: Path, *, pixels: bool = False, specific_tags: list[str] | None = None) -> Any:
    """Read a file, without its pixels unless they are asked for.

    Raises:
        DataError: If it is damaged, or its content is deflated and unpacks to more than the limit.
        MissingExtra: If pydicom is not installed.
    """
    pydicom = _pydicom()
    check_regular(path)
    with read_errors(path):
        check_bytes(path, path.stat().st_size, "takes")
        _check_deflated(pydicom, path)
        return pydicom.dcmread(path, stop_before_pixels=not pixels, force=True, specific_tags=specific_tags)


def check_numbers(path: Path, header: Any) -> None:
    """Raise a DataError that names the tag if a number that places or scales a slice is not finite or not sensible."""
    for name in (*PLACES, *SIZES, *RESCALING):
        value = header.get(name)
        if value is None or value == "":
            continue
        numbers = np.atleast_1d(np.asarray(value, np.float64))
        with np.errstate(over="ignore"):
            finite = np.isfinite(numbers.astype(np.float32)).all()  # in which values are kept
        if not finite:
            raise DataError(f"{path} must have a finite {name}, in 32 bits; it is {_told(numbers)}")
        if name in PLACES and np.abs(numbers).max(initial=0) > FARTHEST:
            raise DataError(f"{path} must have an {name} of at most {FARTHEST:g} mm; it is {_told(numbers)}")
        if name == "PixelSpacing" and not (numbers > 0).all():
            raise DataError(f"{path} must have a positive PixelSpacing; it is {_told(numbers)}")
        if name == "RescaleSlope" and not numbers.all():
            raise DataError(f"{path} must have a RescaleSlope other than 0, which makes all values equal")


def read_pixels(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the values of a slice, float32 (row, column), rescaled as its header says.

    Args:
        path: The file.
        shape: The rows and columns that its header says, which were compared with the limits.
    """
    pydicom = _pydicom()
    from pydicom.pixels.processing import apply_modality_lut

    slice_ = read_dataset(path, pixels=True)
    with read_errors(path):
        if "TransferSyntaxUID" not in slice_.file_meta:
            # A file without preamble does not say how it is written; pixels are the same in both uncompressed ways.
            slice_.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        syntax = slice_.file_meta.TransferSyntaxUID
        if not syntax.is_compressed or syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
            _check_length(path, slice_)
        elif not _can_decode(syntax):
            missing = "which no decoder installed here reads; pip install python-gdcm brings one"
            raise DataError(f"{path} is compressed ({syntax.name}), {missing}")
        stored = slice_.pixel_array
        if stored.shape != shape:
            raise DataError(f"{path} holds pixels of shape {stored.shape}; its header says {shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            values = apply_modality_lut(stored, slice_)
            if slice_.get("PhotometricInterpretation") == "MONOCHROME1" and not _has_unit(slice_):
                values = apply_modality_lut(_ends(slice_), slice_).astype(np.float64).sum() - values
            values = values.astype(np.float32)
        check_finite(path, values)
        return values


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise MissingExtra("pydicom", "medical") from None
    return pydicom


def _check_deflated(pydicom: Any, path: Path) -> None:
    """Unpack a deflated file without keeping it, to know its size before pydicom unpacks it as a whole."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
            return
        file.seek(132 + 12 + int(meta["FileMetaInformationGroupLength"].value))  # preamble, mark and this element
        unpacking, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while packed := (unpacking.unconsumed_tail or file.read(CHUNK)):
            size += len(unpacking.decompress(packed, CHUNK))
            check_bytes(path, size)


def _check_length(path: Path, slice_: Any) -> None:
    """Compare the bytes of uncompressed pixels with what the header says; one may be added for an even length."""
    bits = slice_.Rows * slice_.Columns * slice_.get("SamplesPerPixel", 1) * slice_.BitsAllocated
    wanted, held = math.ceil(bits / 8), len(slice_.get("PixelData", b""))
    if held not in (wanted, wanted + wanted % 2) and "PixelData" in slice_:
        raise DataError(f"{path} must hold {wanted} bytes of pixels, as its header says; it holds {held}")


def _ends(slice_: Any) -> np.ndarray:
    """Return the least and the largest value that the stored bits can be, which all slices of a series share."""
    bits = int(slice_.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if slice_.PixelRepresentation else (0, 2**bits - 1)
    return np.array([low, high], np.int64)


def _has_unit(slice_: Any) -> bool:
    """Return whether values mean something by themselves: HU, activity, dose, or what RescaleType names."""
    named = str(slice_.get("RescaleType") or "").strip().upper() not in NO_UNIT
    return named or slice_.get("Modality") in WITH_UNITS or bool(slice_.get("Units") or slice_.get("DoseUnits"))


def _can_decode(syntax: Any) -> bool:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _told(numbers: np.ndarray) -> str:
    return str(numbers.tolist() if len(numbers) > 1 else numbers.item())
