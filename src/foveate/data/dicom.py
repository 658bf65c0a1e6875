"""Read a DICOM series: slices in files, in any order, with the place of each in its header."""

import os
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.data.dicom_files import check_numbers, read_dataset, read_pixels
from foveate.data.faults import read_errors
from foveate.data.nifti import is_nifti
from foveate.data.place import check_place
from foveate.data.volumes import Volume
from foveate.errors import DataError
from foveate.rules import check_bytes, check_pixels

__all__ = ["COMPANIONS", "SLICES", "is_scan", "is_slice", "read_modality", "read_series"]

SLICES = (".dcm", ".dicom", ".ima")
COMPANIONS = {"dicomdir", "version", "lockfile", "readme", "license", "thumbs.db", "desktop.ini"}
WITHOUT_PIXELS = ("RTSTRUCT", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "REG", "FID", "DOC", "PLAN")
EQUAL = 1e-3  # millimetres and cosines that differ by less are one
STEP = 0.1  # of the step between slices: how far a slice may lie from the regular grid
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Slice = tuple[Path, Any]  # with its header


def read_series(folder: str | Path, series: str | None = None) -> Volume:
    """Read the slices of one series below a folder, sorted by their place along the normal.

    Values are rescaled as the headers say, for CT to HU. MONOCHROME1 says how values are shown: of images whose values
    have a unit, such as CT and PET, they stay; others, such as radiographs, are turned over, so that more is brighter.
    Voxels are (x, y, z): column, row, slice. The affine is in RAS millimetres, rounded to float32 as NIfTI-1 will hold
    it; a tilted gantry shears it.

    Args:
        folder: Where the files lie, at any depth.
        series: The SeriesInstanceUID, where there are several.

    Raises:
        DataError: If there is no series or more than one, or its slices are damaged, compressed without a decoder here,
            in colour, of different size or direction, without place, at one place, or not at equal steps; if numbers in
            a header are not finite, or sizes exceed the limits.
        MissingExtra: If pydicom is not installed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")  # what is odd about a file is told here, in one sentence
        return _read(Path(folder), series)


def _read(folder: Path, series: str | None) -> Volume:
    files = _choose(folder, _headers(folder), series)
    slices = _sorted(folder, files)
    affine = _affine(folder, slices)
    check_place(folder, affine)
    rows, columns = slices[0][1].Rows, slices[0][1].Columns
    check_bytes(folder, 4 * len(slices) * rows * columns)
    image = np.empty((len(slices), rows, columns), np.float32)
    for number, (path, _) in enumerate(slices):
        image[number] = read_pixels(path, (rows, columns))
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 1, 0)))[None]
    x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(tensor, None, affine, (x, y, z), folder.resolve().name)


def is_scan(path: Path) -> bool:
    """Whether what a case names is a NIfTI file or the folder of a DICOM series, not a picture."""
    return is_nifti(path) or path.is_dir()


def read_modality(folder: Path) -> str | None:
    """What made the first slice below a folder, such as "CT" or "MR"; None where it does not say."""
    for path in _files(folder)[:1]:
        return str(read_dataset(path, specific_tags=["Modality"]).get("Modality") or "") or None
    return None


def is_slice(path: Path) -> bool:
    """Whether a file may be DICOM: called like one, or without an ending as exports write them."""
    ending, name = path.suffix.lower(), path.name.lower()
    bare = not ending or ending[1:].isdigit()  # a UID as name ends in its last number
    return not name.startswith(".") and (ending in SLICES or (bare and name not in COMPANIONS))


def _headers(folder: Path) -> dict[str, list[Slice]]:
    """What stands before the pixels of every image below a folder, by series."""
    found: dict[str, list[Slice]] = defaultdict(list)
    for path in _files(folder):
        header = read_dataset(path)
        with read_errors(path):
            if "SOPClassUID" not in header:
                raise DataError(f"{path} is no DICOM file")
            if "Rows" in header:
                found[str(header.get("SeriesInstanceUID", "without UID"))].append((path, header))
            elif header.get("Modality") not in WITHOUT_PIXELS:
                raise DataError(f"{path} has no Rows; it is no image, or its header ends early")
    if not found:
        raise DataError(f"{folder} holds no DICOM image")
    return found


def _files(folder: Path) -> list[Path]:
    """Every file that may be DICOM."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}")

    files = []
    for place, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if is_slice(Path(name)):
                files.append(Path(place) / name)
    return sorted(files)


def _choose(folder: Path, found: dict[str, list[Slice]], series: str | None) -> list[Slice]:
    if series is None and len(found) == 1:
        return next(iter(found.values()))
    if series in found:
        return found[series]
    told = [
        f"{uid} ({files[0][1].get('Modality', '?')}, {files[0][1].get('SeriesDescription', 'no description')}, "
        f"{len(files)} image{'s' * (len(files) > 1)})"
        for uid, files in found.items()
    ]
    listed = "; ".join(told[:8]) + (f"; and {len(told) - 8} more" if len(told) > 8 else "")
    wanted = "must hold one series; give a folder for each" if series is None else f"has no series {series}"
    raise DataError(f"{folder} {wanted}; it holds {listed}")


def _sorted(folder: Path, files: list[Slice]) -> list[Slice]:
    """Slices along the normal, after what must be the same in all was held against the first."""
    first_path, first = files[0]
    for path, header in files:
        with read_errors(path):
            _check_kind(path, header)
            check_numbers(path, header)
            for name, count in (("ImageOrientationPatient", 6), ("ImagePositionPatient", 3), ("PixelSpacing", 2)):
                if len(header.get(name) or ()) != count:
                    raise DataError(f"{path} has no {name}, so that its place is not known")
            for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
                held, wanted = _numbers(header, name), _numbers(first, name)
                if not np.allclose(held, wanted, rtol=0, atol=EQUAL):
                    told = f"{held.tolist()} in {path} and {wanted.tolist()} in {first_path}"
                    raise DataError(f"the slices of {folder} must have one {name}; it is {told}")
    across, down = _numbers(first, "ImageOrientationPatient").reshape(2, 3)
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=0.01):
        raise DataError(f"{first_path} has an ImageOrientationPatient of no two right-angled directions")
    normal = np.cross(across, down)
    return sorted(files, key=lambda item: float(_numbers(item[1], "ImagePositionPatient") @ normal))


def _check_kind(path: Path, header: Any) -> None:
    sides = [header.get(name) for name in ("Rows", "Columns")]
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise DataError(f"{path} must say its Rows and Columns, one number each; got {sides[0]} and {sides[1]}")
    check_pixels(path, *sides)
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise DataError(f"{path} holds {header.NumberOfFrames} frames; a file a slice is read, so convert it to NIfTI")
    shown = header.get("PhotometricInterpretation", "MONOCHROME2")
    if shown not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path} is in colour ({shown}); grey slices are read")


def _numbers(header: Any, name: str) -> np.ndarray:
    return np.atleast_1d(np.asarray(header[name].value, np.float64))


def _affine(folder: Path, slices: list[Slice]) -> np.ndarray:
    """From (column, row, slice) to RAS millimetres."""
    header = slices[0][1]
    across, down = _numbers(header, "ImageOrientationPatient").reshape(2, 3)
    between_rows, between_columns = _numbers(header, "PixelSpacing")
    places = np.stack([_numbers(held, "ImagePositionPatient") for _, held in slices])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * between_columns, down * between_rows
    affine[:3, 2] = _step(folder, slices, places, np.cross(across, down))
    affine[:3, 3] = places[0]
    return (LPS_TO_RAS @ affine).astype(np.float32).astype(np.float64)


def _step(folder: Path, slices: list[Slice], places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """From one slice to the next, the same for all."""
    if len(slices) == 1:
        header = slices[0][1]
        return normal * float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1)
    names = [path.name for path, _ in slices]
    steps = np.diff(places @ normal)
    nearest, farthest, usual = int(steps.argmin()), int(steps.argmax()), float(np.median(steps))
    if steps[nearest] < EQUAL:
        pair = f"{names[nearest]} and {names[nearest + 1]}"
        raise DataError(f"{folder} must hold one image of each slice; {pair} lie at one place, as phases or echoes do")
    step = (places[-1] - places[0]) / (len(places) - 1)
    strays = np.linalg.norm(places - places[0] - np.arange(len(places))[:, None] * step, axis=1)
    if strays.max() > STEP * np.linalg.norm(step):
        pair = f"{steps[farthest]:.4g} mm lie between {names[farthest]} and {names[farthest + 1]}"
        told = f"{pair}, and mostly {usual:.4g} mm; the least is {steps[nearest]:.4g} mm"
        raise DataError(f"the slices of {folder} must lie at equal steps, with none missing; {told}")
    return step
