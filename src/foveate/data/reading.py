"""Read one picture file as a uint8 tensor, whatever its format, depth and orientation."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from foveate.errors import DataError

__all__ = ["SUFFIXES", "read_header", "read_picture"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
GREY_MODES = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N", "I")
EXIF_ORIENTATION = 0x0112


def read_header(path: Path) -> tuple[bool, tuple[int, int]]:
    """Whether a picture is grey, and its (height, width) as it will be read, without decoding it."""
    with _opened(path) as picture:
        width, height = picture.size
        # Asked of a PNG that shows none, getexif would decode the picture to look behind it.
        known = "exif" in picture.info or picture.format == "TIFF"
        turned = known and picture.getexif().get(EXIF_ORIENTATION, 1) >= 5
        return picture.mode in GREY_MODES, (width, height) if turned else (height, width)


def read_picture(path: Path, channels: int) -> Tensor:
    """Read a picture file, uint8 (channels, height, width), upright as its EXIF says.

    Sixteen bits keep their range: 65535 becomes 255. What is transparent becomes white. Of several frames the first is
    taken. Anything that Pillow cannot decode whole is a DataError that names the file.
    """
    with _opened(path) as picture:
        try:
            picture.load()
            array = _as_array(ImageOps.exif_transpose(picture), channels, path)
        except DataError:
            raise
        except Exception as error:  # decoders raise many kinds on a damaged file: each means that it cannot be read
            raise DataError(f"{path} is damaged and cannot be decoded: {_first_line(error)}") from None
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS
        raise DataError(f"{path} would unpack to more than {limit} pixels; make it smaller") from None
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path} is not a picture that can be read ({', '.join(SUFFIXES)})") from None
    except Exception as error:  # a header may be damaged in as many ways as the rest
        raise DataError(f"{path} cannot be read as a picture: {_first_line(error)}") from None


def _as_array(picture: Image.Image, channels: int, path: Path) -> np.ndarray:
    if picture.mode == "F":
        raise DataError(f"{path} holds floating-point values, whose range is unknown; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        grey = _eight_bits(np.asarray(picture), path)
    elif picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        grey = None
    else:
        grey = None
    if grey is not None:
        return np.repeat(grey[..., None], channels, axis=2)
    array = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


def _eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    values = values.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path} holds values from {low} to {high}; 8 and 16 bits without sign are read")
    return ((values + 128) // 257).astype(np.uint8)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
