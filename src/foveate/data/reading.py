"""Read one picture file as a uint8 tensor, whatever its format, depth and orientation."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from foveate.data.faults import check_regular
from foveate.errors import DataError
from foveate.rules import check_pixels, rules

__all__ = ["SUFFIXES", "is_deep", "is_deep_colour", "over_white", "read_header", "read_orientation", "read_picture"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
GREY_MODES = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N", "I")
WIDTH, HEIGHT = 256, 257  # tags of a TIFF
BAND = 256  # rows that are laid over white at once


def read_header(path: Path) -> tuple[bool, tuple[int, int]]:
    """Return whether a picture is grey, and its (height, width) as it will be read, without decoding it."""
    with _opened(path) as picture:
        width, height = _stored_size(picture)
        turned = _orientation(picture, path) >= 5
        return picture.mode in GREY_MODES, (width, height) if turned else (height, width)


def read_orientation(path: Path) -> int:
    """Return the EXIF orientation of a picture, 1 to 8; 1 if it says none or 0."""
    with _opened(path) as picture:
        return _orientation(picture, path)


def is_deep(path: Path) -> bool:
    """Return whether a picture holds whole numbers of more than 8 bits, without decoding it."""
    with _opened(path) as picture:
        return picture.mode.startswith("I")


def is_deep_colour(path: Path) -> bool:
    """Return whether a colour picture has 16 bits a channel, of which Pillow gives the upper 8 alone."""
    with _opened(path) as picture:
        return picture.mode in ("RGB", "RGBA", "RGBX") and any(
            ";16" in str(tile[3]) for tile in getattr(picture, "tile", [])
        )


def read_picture(path: Path, channels: int, bits: int = 16) -> Tensor:
    """Read a picture file, uint8 (channels, height, width), upright as its EXIF says.

    What is transparent becomes white. Of several frames the first is taken. Anything that Pillow cannot decode whole is
    a DataError that names the file.

    Args:
        path: The file.
        channels: 1 or 3.
        bits: Number of bits that grey values of more than 8 bits use: 2**bits - 1 becomes 255.
    """
    with _opened(path) as picture:
        _orientation(picture, path)
        try:
            picture.load()
            array = _as_array(ImageOps.exif_transpose(picture), channels, path, bits)
        except DataError:
            raise
        except Exception as error:  # decoders raise many kinds on a damaged file: each means that it cannot be read
            raise DataError(f"{path} is damaged and cannot be decoded: {_first_line(error)}") from None
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _opened(path: Path) -> Image.Image:
    check_regular(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on and refuses twice as many; our own limit is a setting.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
    except Image.DecompressionBombError:
        limit = f"the limit of {rules().max_pixels} pixels, which the setting max_pixels changes"
        raise DataError(f"{path} would unpack to more than {limit}") from None
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path} is not a picture that can be read ({', '.join(SUFFIXES)})") from None
    except Exception as error:  # a header may be damaged in as many ways as the rest
        raise DataError(f"{path} cannot be read as a picture: {_first_line(error)}") from None
    width, height = picture.size
    try:
        check_pixels(path, height, width)
    except DataError:
        picture.close()
        raise
    return picture


def _stored_size(picture: Image.Image) -> tuple[int, int]:
    """Return the (width, height) before any turn; the `size` of a TIFF is upright in some versions of Pillow."""
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return picture.size
    width, height = tags.get(WIDTH), tags.get(HEIGHT)
    return (width, height) if sorted((width, height)) == sorted(picture.size) else picture.size


def _orientation(picture: Image.Image, path: Path) -> int:
    """Return the EXIF orientation, 1 to 8."""
    try:
        # Asked of a PNG that shows none, getexif would decode the picture to look behind it.
        known = picture.format != "PNG" or not {"exif", "xmp", "Raw profile type exif"}.isdisjoint(picture.info)
        said = picture.getexif().get(ExifTags.Base.Orientation, 1) if known else 1
    except Exception as error:  # damaged like the rest
        raise DataError(f"{path} cannot be read as a picture: {_first_line(error)}") from None
    if said == 0:  # some cameras write it for "not known"
        return 1
    if said not in range(1, 9):
        raise DataError(f"{path} must have an EXIF orientation from 1 to 8; it says {said!r}")
    return int(said)


def _as_array(picture: Image.Image, channels: int, path: Path, bits: int) -> np.ndarray:
    if picture.mode == "F":
        raise DataError(f"{path} holds floating-point values, whose range is unknown; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        return np.repeat(_eight_bits(np.asarray(picture), path, bits)[..., None], channels, axis=2)
    mode = "L" if channels == 1 else "RGB"
    array = over_white(picture, mode) if picture.has_transparency_data else np.array(picture.convert(mode))
    return array[..., None] if channels == 1 else array


def over_white(picture: Image.Image, mode: str) -> np.ndarray:
    """Lay a picture over white, some rows at a time, so that a large one takes little more than its own memory."""
    width, height = picture.size
    bands = []
    for top in range(0, height, BAND):
        band = picture.crop((0, top, width, min(top + BAND, height))).convert("RGBA")
        bands.append(np.array(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert(mode)))
    return np.concatenate(bands)


def _eight_bits(values: np.ndarray, path: Path, bits: int) -> np.ndarray:
    low, high, white = int(values.min()), int(values.max()), 2**bits - 1
    if low < 0 or high > 65535:
        raise DataError(f"{path} holds values from {low} to {high}; 8 and 16 bits without sign are read")
    if high > white:
        told = f"{bits} bits are read, 0 to {white}, as the setting bits says or the training pictures showed"
        raise DataError(f"{path} holds values up to {high}; {told}")
    scaled = values.astype(np.uint32)
    scaled *= 255  # in place, so that a large picture takes no more memory than it must
    scaled += white // 2
    scaled //= white
    return scaled.astype(np.uint8)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
