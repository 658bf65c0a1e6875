"""Small DICOM series."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLUMNS, SLICES = 5, 7, 3
AXIAL = [1, 0, 0, 0, 1, 0]
SPACING = [0.7, 0.9]  # between rows, between columns


def stored(slices: int = SLICES) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, (slices, ROWS, COLUMNS)).astype(np.uint16)


def save_slice(path: Path, pixels: np.ndarray, place: Any, series: str = "1.2.3", **fields: Any) -> Path:
    """One slice; a field that is None is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = fields.pop("syntax", ExplicitVRLittleEndian)
    slice_ = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    said = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": series,
        "Modality": "CT",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": list(place),
        "PixelSpacing": SPACING,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        **fields,
    }
    for name, value in said.items():
        if value is not None:
            setattr(slice_, name, value)
    slice_.PixelData = pixels.tobytes()
    slice_.save_as(path, enforce_file_format=True)
    return path


def save_series(
    folder: Path, orientation: Any = AXIAL, step: Any = (0, 0, 5), order: str = "201", **fields: Any
) -> Path:
    """Slices whose files are not called in their order."""
    for number, name in enumerate(order):
        place = np.array([-11, 13, 17]) + number * np.array(step)
        path = folder / f"{name}.dcm"
        save_slice(path, stored()[number], place, ImageOrientationPatient=list(orientation), **fields)
    return folder
