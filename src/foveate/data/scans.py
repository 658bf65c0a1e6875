"""Read a case: its channels and its labels, held against each other and against what the data says of itself."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveate.data.dicom import read_series
from foveate.data.exif_masks import turned_beside
from foveate.data.labels import as_classes, tally
from foveate.data.nifti import is_nifti, read_nifti
from foveate.data.place import check_finite
from foveate.data.planes import read_mask, read_plane
from foveate.data.volumes import Case, Volume, Volumes
from foveate.errors import DataError

__all__ = ["TOLERANCE", "read_case", "read_image", "read_instances"]

TOLERANCE = 0.1  # of the shortest side of a voxel: how far the corner of a label may lie from that of its image


def read_case(case: Case, volumes: Volumes) -> Volume:
    """Read image and label of a case.

    Raises:
        DataError: What read_image raises; or the label has another shape or place, or values that stand for no class.
    """
    volume = read_image(case.images, volumes.modalities, volumes.spatial_dims, case.name)
    if case.label is None:
        return volume
    array = _read_label(case.label, case.images[0], volume)
    if volumes.threshold is not None:
        low, high = (next(value for value, held in volumes.values.items() if held == number) for number in (0, 1))
        array = np.where(array >= volumes.threshold, high, low)
    classes = as_classes(array, volumes.values, case.label)
    return dataclasses.replace(volume, label=torch.from_numpy(classes).contiguous())


def read_instances(case: Case, volumes: Volumes) -> tuple[Volume, Tensor]:
    """Read a case whose label gives every object a number of its own, any above 0.

    Returns:
        The volume, with 1 as the class of all that is an object; and the objects numbered from 1 by rising number in
        the file, int32 (*space).

    Raises:
        DataError: What read_image raises; or there is no label, it has another shape or place, or holds fractions or
            numbers below 0.
    """
    volume = read_image(case.images, volumes.modalities, volumes.spatial_dims, case.name)
    if case.label is None:
        raise DataError(f"{case.name} has no label, which must give every object a number of its own")
    array = _read_label(case.label, case.images[0], volume)
    found = sorted(tally(array, case.label))
    if found[0] < 0:
        raise DataError(f"{case.label} must number its objects from 1, and 0 be no object; got {found[0]}")
    numbers = {value: number for number, value in enumerate([0, *(value for value in found if value)])}
    objects = torch.from_numpy(as_classes(array, numbers, case.label)).int().contiguous()
    return dataclasses.replace(volume, label=(objects > 0).to(torch.uint8)), objects


def read_image(images: Sequence[Path], modalities: Sequence[str], spatial_dims: int, name: str) -> Volume:
    """Read a file a channel, or one file with all channels.

    Raises:
        DataError: If a file cannot be read, has channels or axes that are not expected, or values that are not finite,
            or if the channels differ in shape or place.
    """
    if len(images) not in (1, len(modalities)):
        raise DataError(f"{name} has {len(images)} images; the data has {_told(modalities)}")
    held = [modalities] if len(images) == 1 else [[modality] for modality in modalities]
    parts = [_read_file(path, wanted, spatial_dims, name) for path, wanted in zip(images, held, strict=True)]
    first = parts[0]
    for path, part in zip(images[1:], parts[1:], strict=True):
        _check_place(path, tuple(part.image.shape[1:]), part.affine, images[0], first)
    return dataclasses.replace(first, image=torch.cat([part.image for part in parts])) if len(parts) > 1 else first


def _read_label(path: Path, image: Path, volume: Volume) -> np.ndarray:
    """The numbers of a label's voxels, held against the place of its image."""
    if is_nifti(path):
        read = read_nifti(path)
        if read.array.ndim == 4:
            raise DataError(f"{path} is {read.array.shape}; a file of labels holds one number a voxel")
        array, affine = _in_space(path, read.array, volume.image.ndim - 1), read.affine
    else:
        array, affine = read_mask(path), np.eye(4)
    _check_place(path, array.shape, affine, image, volume)
    return array


def _read_file(path: Path, modalities: Sequence[str], spatial_dims: int, name: str) -> Volume:
    channels = len(modalities)
    if path.is_dir():
        if (channels, spatial_dims) != (1, 3):
            wanted = f"{_told(modalities)} and {spatial_dims} axes of space"
            raise DataError(
                f"{path} holds a DICOM series, of one channel and three axes of space; the data has {wanted}"
            )
        return dataclasses.replace(read_series(path), name=name)
    if not is_nifti(path):
        if spatial_dims != 2:
            raise DataError(f"{path} is no NIfTI file; the data has three axes of space")
        array = read_plane(path, channels)
        return Volume(torch.from_numpy(array), None, np.eye(4), (1.0, 1.0), name)
    read = read_nifti(path, np.float32)
    array = read.array if read.array.ndim == 4 else read.array[..., None]
    if array.shape[3] != channels:
        raise DataError(f"{path} must hold {_told(modalities)}; it is {read.array.shape}, which is {array.shape[3]}")
    check_finite(path, array)
    array = np.ascontiguousarray(_in_space(path, np.moveaxis(array, 3, 0), spatial_dims))
    return Volume(
        torch.from_numpy(array), None, read.affine, read.spacing[:spatial_dims], name, read.header, read.remark
    )


def _in_space(path: Path, array: np.ndarray, spatial_dims: int) -> np.ndarray:
    """Drop the third axis of space where it is not wanted."""
    if spatial_dims == 3:
        return array
    if array.shape[-1] != 1:
        raise DataError(f"{path} has three axes of space, {array.shape[-3:]}; the data has two")
    return array[..., 0]


def _check_place(path: Path, shape: tuple[int, ...], affine: np.ndarray, reference: Path, volume: Volume) -> None:
    held = tuple(volume.image.shape[1:])
    if shape != held:
        turned = turned_beside(reference, path)
        raise DataError(f"{path} is {shape} and {reference} {held}; they must have one shape{turned}")
    ends = [(0, size - 1) for size in (*shape, 1)[:3]]
    corners = np.stack([axis.ravel() for axis in np.meshgrid(*ends)])  # (3, 8)
    difference = affine - volume.affine
    shift = float(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max())
    limit = TOLERANCE * float(np.linalg.norm(volume.affine[:3, :3], axis=0).min())
    if shift > limit:
        sides = f"a corner is {shift:.3g} off, where {limit:.3g}, a tenth of a voxel, is taken"
        raise DataError(f"{path} and {reference} must lie in one place; their affines differ: {sides}")


def _told(modalities: Sequence[str]) -> str:
    return f"{len(modalities)} channel{'s' * (len(modalities) != 1)}: {', '.join(modalities)}"
