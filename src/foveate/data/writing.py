"""Write label maps and maps of numbers in the space of the volume that they belong to."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from foveate.data.labels import as_values
from foveate.data.nifti import NIFTI, nifti_bytes
from foveate.data.volumes import Volume
from foveate.files import write_atomic

__all__ = ["write_labels", "write_map"]


def write_labels(path: Path, labels: Tensor, like: Volume, values: Mapping[int, int] | None = None) -> None:
    """Write a label for every voxel: NIfTI for scans, with affine and codes of `like` to the bit, and PNG for pictures.

    Numbers up to 255 are kept in 8 bits, larger ones in 16.

    Args:
        path: Ends in .nii.gz or .nii for scans, in .png for pictures.
        labels: Integer (*space), as the space of `like`.
        like: The volume that was segmented.
        values: As in Volumes: the file then holds the label value that stands for each class.

    Raises:
        ValueError: If the ending, the shape or the numbers do not fit.
    """
    array = labels.detach().cpu().numpy()
    if array.dtype.kind not in "iub":
        raise ValueError(f"labels must be whole numbers; got {array.dtype}")
    _check_shape(array.shape, like)
    array = array.astype(np.int64)
    array = array if values is None else as_values(array, values)
    low, high = int(array.min()), int(array.max())
    most = 65535 if _is_picture(like) else 32767
    if low < 0 or high > most:
        raise ValueError(f"labels must be from 0 to {most} to be written; got {low} to {high}")
    deep = np.uint16 if _is_picture(like) else np.int16
    _write(path, array.astype(np.uint8 if high < 256 else deep), like)


def write_map(path: Path, values: Tensor, like: Volume) -> None:
    """Write a number for every voxel, such as a probability or how much a gate lets through.

    NIfTI keeps float32. PNG keeps 0 to 1 as 0 to 65535.

    Args:
        path: Ends in .nii.gz or .nii for scans, in .png for pictures.
        values: Float (*space), as the space of `like`; for scans also (channel, *space), which NIfTI puts last.
        like: The volume that it belongs to.

    Raises:
        ValueError: If the ending or the shape does not fit, or a picture would need numbers beyond 0 to 1.
    """
    array = values.detach().float().cpu().numpy()
    _check_shape(array.shape, like, channels=not _is_picture(like))
    if _is_picture(like):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"a map must be from 0 to 1 to be a picture; got {array.min():g} to {array.max():g}")
        array = np.rint(array * 65535).astype(np.uint16)
    _write(path, array, like)


def _is_picture(like: Volume) -> bool:
    return like.header is None and len(like.spacing) == 2


def _check_shape(shape: tuple[int, ...], like: Volume, *, channels: bool = False) -> None:
    space = tuple(like.image.shape[1:])
    if shape != space and not (channels and shape[1:] == space):
        wanted = f"{space} or (channel, {', '.join(map(str, space))})" if channels else f"{space}"
        raise ValueError(f"{like.name} has a voxel for each of {wanted}; got {shape}")


def _write(path: Path, array: np.ndarray, like: Volume) -> None:
    endings = (".png",) if _is_picture(like) else NIFTI
    if not path.name.lower().endswith(endings):
        kind = "picture" if _is_picture(like) else "scan"
        raise ValueError(f"{like.name} is a {kind}, whose results end in {' or '.join(endings)}; got {path}")
    if _is_picture(like):
        content = BytesIO()
        Image.fromarray(array).save(content, format="png")
        write_atomic(path, content.getvalue())
        return
    dims = len(like.spacing)
    if array.ndim > dims:
        array = np.moveaxis(array, 0, -1)
    array = np.expand_dims(array, 2) if dims == 2 else array
    packed = path.name.lower().endswith(".gz")
    write_atomic(path, nifti_bytes(array, like.affine, like.header, packed=packed))
