"""Voxel sizes of a NIfTI file that contradict each other: those of its sform, and those of its pixdim and qform.

The cardiac set ACDC is the known example: a bare flip as sform, of 1 mm a voxel, and the true size in pixdim and qform.
"""

from pathlib import Path
from typing import Any

import numpy as np

from foveate.errors import DataError
from foveate.rules import Scale

__all__ = ["millimetres", "settle_scale"]

TOLERANCE = 0.01  # relative difference of two sizes that are one
BARE = 1e-4  # a size that differs from 1 by less says nothing
MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # of metre, millimetre and micrometre, as xyzt_units counts them


def millimetres(header: Any) -> float:
    """Return how many millimetres the unit of a header is; 1 if it says none."""
    return MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1.0)


def settle_scale(path: Path, header: Any, affine: np.ndarray, scale: Scale) -> tuple[np.ndarray, str | None]:
    """Return the affine that counts, and a sentence with both sizes if they differ.

    Args:
        path: The file.
        header: Of the file, as nibabel reads it.
        affine: The sform if it is set, else the qform, else one of pixdim alone.
        scale: "sform" or "pixdim" takes that one. "auto" takes the one that is not 1 x 1 x 1.

    Raises:
        DataError: If the sizes differ, `scale` is "auto", and neither or both are 1 x 1 x 1.
    """
    if not header["sform_code"] > 0:
        return affine, None
    sform = np.linalg.norm(affine[:3, :3], axis=0)
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    axes = min(3, max(1, int(header["dim"][0])))  # a plane says nothing about its third axis
    known = np.arange(3) < axes
    if not pixdim[known].all() or not sform.all() or _alike(sform[known], pixdim[known]):
        return affine, None
    unit = millimetres(header)
    both = f"its sform says voxels of {_told(sform * unit)} mm and its pixdim {_told(pixdim * unit)} mm"
    bare = {"sform": _is_bare(sform[known]), "pixdim": _is_bare(pixdim[known])}
    chosen = scale
    if scale == "auto":
        if bare["sform"] == bare["pixdim"]:
            raise DataError(f"{path} contradicts itself: {both}; the setting scale=sform or scale=pixdim decides")
        chosen = "pixdim" if bare["sform"] else "sform"
    remark = f"{both}; {chosen} is taken, which the setting scale decides"
    return (_by_pixdim(header, affine, sform, pixdim, known) if chosen == "pixdim" else affine), remark


def _by_pixdim(header: Any, affine: np.ndarray, sform: np.ndarray, pixdim: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the qform, whose size is that of pixdim; without one, the sform with its columns scaled."""
    if header["qform_code"] > 0:
        return np.asarray(header.get_qform(), np.float64)
    scaled = affine.copy()
    scaled[:3, :3] *= np.where(known, pixdim / sform, 1.0)
    return scaled


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=0))


def _is_bare(sizes: np.ndarray) -> bool:
    return bool(np.allclose(sizes, 1.0, rtol=0, atol=BARE))


def _told(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:g}" for size in sizes)
