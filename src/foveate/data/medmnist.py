"""MedMNIST files: six arrays in one npz, images and labels of train, val and test.

Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image classification",
Scientific Data 2023, https://doi.org/10.1038/s41597-022-01721-8.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.data.faults import check_regular
from foveate.data.pictures import SPLITS, OneSplit, Pictures
from foveate.errors import DataError
from foveate.rules import check_bytes

__all__ = ["ArraySplit", "open_npz", "open_npz_split"]


class ArraySplit:
    """Pictures in memory.

    Args:
        images: uint8 (picture, height, width, channel).
        labels: The class of each.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(self.images[index]).permute(2, 0, 1).contiguous()

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def name(self, index: int) -> str:
        return str(index)

    def boxes_xyxy(self, index: int) -> None:
        return None

    def mask(self, index: int) -> None:
        return None


def open_npz(path: Path) -> Pictures:
    """Open the six arrays; classes are the labels of the training split, named by their numbers."""
    arrays = _read(path)
    shapes = {arrays[f"{name}_images"].shape[1:] for name in SPLITS}
    if len(shapes) > 1:
        raise DataError(f"{path} must hold pictures of one shape in all splits; got {sorted(shapes)}")
    held = np.unique(arrays["train_labels"])
    num_classes = len(held)
    if held[-1] >= num_classes:
        gap = int(np.flatnonzero(held != np.arange(num_classes))[0])
        raise DataError(f"{path} has label {held[-1]} in train_labels but no picture of class {gap}")
    for name in ("val", "test"):
        highest = int(arrays[f"{name}_labels"].max())
        if highest >= num_classes:
            known = f"the training labels end at {num_classes - 1}"
            raise DataError(f"{path} has label {highest} in {name}_labels, out of range: {known}")
    splits = {name: ArraySplit(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in SPLITS}
    height, width, channels = arrays["train_images"].shape[1:]
    return Pictures(
        str(path), [str(kind) for kind in range(num_classes)], channels, (height, width), splits, "as the arrays say"
    )


def open_npz_split(path: Path, split: str) -> OneSplit:
    """Open the two arrays of one split alone."""
    arrays = _read(path, (split,))
    labels = arrays[f"{split}_labels"]
    classes = [str(kind) for kind in range(int(labels.max()) + 1)]
    return OneSplit(str(path), classes, ArraySplit(arrays[f"{split}_images"], labels), "as the arrays say")


def _read(path: Path, splits: Sequence[str] = SPLITS) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    check_regular(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = [f"{name}_{part}" for name in splits for part in ("images", "labels")]
            missing = [key for key in wanted if key not in archive.files]
            if missing:
                raise DataError(f"{path} must hold {', '.join(wanted)}; {', '.join(missing)} missing")
            check_bytes(path, sum(_unpacked_size(archive, key) for key in wanted))
            arrays = {key: archive[key] for key in wanted}
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path} does not fit into memory") from None
    except Exception as error:  # NumPy raises whatever the damaged bytes lead it to, tokenize errors among them
        raise DataError(f"{path} cannot be read as an npz of plain arrays: {error}") from None
    for name in splits:
        images = arrays[f"{name}_images"] = _images(path, f"{name}_images", arrays[f"{name}_images"])
        labels = arrays[f"{name}_labels"] = _labels(path, f"{name}_labels", arrays[f"{name}_labels"])
        if len(images) != len(labels):
            raise DataError(f"{path} must hold a label a picture; {name} has {len(images)} and {len(labels)} labels")
    return arrays


def _unpacked_size(archive: Any, key: str) -> int:
    """Return the bytes of an array, from its header alone."""
    with archive.zip.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        return math.prod(shape) * dtype.itemsize


def _images(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    wanted = "uint8 (picture, height, width) or (picture, height, width, 3)"
    grey = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 1)
    if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[3] == 3)) or not images.size:
        raise DataError(f"{path} must hold {key} as {wanted}; got {images.dtype} {images.shape}")
    return images[..., None] if images.ndim == 3 else images


def _labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    if not labels.size:
        raise DataError(f"{path} must hold {key} for at least one picture; got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path} must hold {key} as whole numbers; got {labels.dtype}")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise DataError(f"{path} has {labels.shape[1]} labels a picture in {key}; one class a picture is learned")
    labels = labels.reshape(len(labels), -1).astype(np.int64)
    if labels.shape[1] != 1:
        raise DataError(f"{path} must hold {key} as (picture,) or (picture, 1)")
    labels = labels[:, 0]
    if labels.min() < 0:
        raise DataError(f"{path} has label {labels.min()} in {key}, out of range: labels count from 0")
    return labels
