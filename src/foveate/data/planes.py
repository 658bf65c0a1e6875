"""Pictures for segmentation: their pixels at full depth, and masks whose pixels are numbers."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from foveate.data.faults import read_errors
from foveate.data.place import check_finite
from foveate.data.reading import read_header, read_picture
from foveate.errors import DataError

__all__ = ["read_mask", "read_plane"]

DEEP = ("I", "F")  # modes, and how others of more than 8 bits begin
LOSSY = (".jpg", ".jpeg")
RINGING = 32  # how far a JPEG moves most pixels of a black and white mask
STRAY = 0.05  # of the pixels, which may be moved farther


def read_plane(path: Path, channels: int) -> np.ndarray:
    """Read a picture, float32 (channels, height, width): 0 to 255 for 8 bits, else the values that are in the file.

    Raises:
        DataError: If it cannot be read, holds several pages or values that are not finite, or is in colour where one
            channel is wanted.
    """
    if _pages(path).startswith(DEEP):
        pixels = _pixels(path).astype(np.float32)
        check_finite(path, pixels)
        return np.repeat(pixels[None], channels, axis=0)
    grey, _ = read_header(path)
    pixels = read_picture(path, 1 if grey else 3).numpy()
    if channels == 1 and len(pixels) == 3:
        if (pixels != pixels[:1]).any():
            raise DataError(f"{path} is in colour; the data has one channel")
        pixels = pixels[:1]
    return np.repeat(pixels, channels // len(pixels), axis=0).astype(np.float32)


def read_mask(path: Path) -> np.ndarray:
    """Read the number of each pixel, (height, width): the grey value, or the place in the palette.

    A JPEG does not keep numbers. It is read as black and white, 0 and 255, where that is what it shows.

    Raises:
        DataError: If it cannot be read, has colours that differ within a pixel, or is a JPEG of anything else.
    """
    _pages(path)
    pixels = _pixels(path)
    if pixels.ndim == 3:
        colours = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]
        alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else None
        if (colours != colours[..., :1]).any() or (alpha is not None and (alpha != 255).any()):
            raise DataError(f"{path} is in colour; a mask holds one number a pixel, the class")
        pixels = colours[..., 0]
    if path.suffix.lower() not in LOSSY:
        return pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    strays = float(((pixels > RINGING) & (pixels < 255 - RINGING)).mean())
    if strays > STRAY or 0 < pixels.max() < 128:
        raise DataError(f"{path} is a JPEG, which does not keep the numbers of a mask; save it as PNG")
    return np.where(pixels >= 128, 255, 0).astype(np.uint8)


def _pages(path: Path) -> str:
    """The mode of the only page; a picture of several is an error, lest all but the first be lost."""
    read_header(path)
    with read_errors(path), Image.open(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise DataError(f"{path} holds {pages} pages; save each as a file, or the stack as NIfTI")
        return picture.mode


def _pixels(path: Path) -> np.ndarray:
    with read_errors(path), Image.open(path) as picture:
        picture.load()
        return np.array(ImageOps.exif_transpose(picture))
