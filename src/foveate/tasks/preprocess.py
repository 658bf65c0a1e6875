"""Preprocess: what happens to a picture before the network sees it; kept in one file with the weights."""

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from foveate.data import Clips, Pictures
from foveate.networks.published.inputs import Inputs
from foveate.tasks.config import RunConfig
from foveate.tasks.kinds import check_fields

__all__ = ["CLIP_FIELDS", "KEY", "Preprocess", "lost_fraction", "preprocess_for"]

KEY = "foveate"  # under which it is kept in model.safetensors
LOOKED_AT = 512  # training pictures from which mean and deviation are computed
LENGTHS = 64  # training videos whose length decides how far apart the frames of a clip are
WIDEST_STRIDE = 8
CLIP_FIELDS = ("frames", "frame_stride", "test_clips", "test_crops")
MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What a trained network takes and gives.

    Args:
        classes: Names of the outputs.
        channels: 1 or 3.
        size: (height, width).
        mean: Of each channel, of pictures in 0..1.
        std: Likewise.
        frames: How many make a clip; 0 for pictures.
        frame_stride: From one frame of a clip to the next.
        test_clips: In how many clips, evenly spread, a video is looked at outside of training.
        test_crops: In how many parts of each, 1 or 3.
        bits: Bits of grey pictures of more than 8 bits: 2**bits - 1 becomes 255 when they are read.
        crop: Fraction of the scaled picture's shorter side that is cut out in the middle.
        interpolation: How pictures are scaled, "bilinear" or "bicubic", both antialiased.
        shape_rule: How a picture of another shape is brought to `size`, as `fit` of a run says.

    Raises:
        ValueError: If a number makes no sense, as in a file that was edited.
    """

    classes: list[str]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int = 0
    frame_stride: int = 1
    test_clips: int = 1
    test_crops: int = 1
    bits: int = 16
    crop: float = 1.0
    interpolation: str = "bilinear"
    shape_rule: str = "crop"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.classes or self.channels not in (1, 3) or len(self.size) != 2 or min(self.size) < 1:
            held = f"{len(self.classes)} classes, {self.channels} channels and {self.size}"
            raise ValueError(f"a preprocessing needs classes, 1 or 3 channels and a size; got {held}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must be a finite number for each of {self.channels} channels; got {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be greater than 0; got {self.std}")
        counts = {name: getattr(self, name) for name in CLIP_FIELDS[1:]}
        if self.frames < 0 or min(counts.values()) < 1 or not 8 <= self.bits <= 16:
            raise ValueError(
                f"frames, {', '.join(counts)} and bits make no sense: {self.frames}, {counts}, {self.bits}"
            )
        if not 0 < self.crop <= 1 or self.interpolation not in ("bilinear", "bicubic"):
            wanted = 'crop must be from above 0 to 1 and interpolation "bilinear" or "bicubic"'
            raise ValueError(f"{wanted}; got {self.crop} and {self.interpolation!r}")
        if self.shape_rule not in ("crop", "pad", "stretch"):
            raise ValueError(f'shape_rule must be "crop", "pad" or "stretch"; got {self.shape_rule!r}')
        if self.shape_rule != "crop" and (self.test_crops != 1 or self.crop != 1):
            held = f"{self.test_crops} and {self.crop} with {self.shape_rule!r}"
            raise ValueError(f'test_crops and crop other than 1 are for the shape rule "crop"; got {held}')

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (channel, height, width), or (channel, time, height, width)."""
        return (self.channels, *((self.frames,) if self.frames else ()), *self.size)

    def fit(self, image: Tensor, crop: int = 0, crops: int = 1) -> Tensor:
        """Bring a uint8 (*, channel, height, width) picture to the network's channels and size.

        With the rule "crop" a picture is scaled until its shorter side fits, and cut in the middle; or else `crop` of
        `crops` parts that lie evenly along its longer side. With "pad" it is scaled until its longer side fits, and
        padded evenly with black; with "stretch" each side is scaled by itself.
        """
        image = colour(image, self.channels)
        scaled = self._scaled(*image.shape[-2:])
        if image.shape[-2:] != scaled:
            image = F.resize(image, list(scaled), F.InterpolationMode(self.interpolation), antialias=True)
        if self.shape_rule == "pad":
            top, left = ((want - have) // 2 for have, want in zip(scaled, self.size, strict=True))
            return F.pad(image, [left, top, self.size[1] - scaled[1] - left, self.size[0] - scaled[0] - top])
        part = crop / (crops - 1) if crops > 1 else 0.5
        top, left = (int((have - want) * part) for have, want in zip(scaled, self.size, strict=True))
        return F.crop(image, top, left, *self.size)

    def colour(self, image: Tensor) -> Tensor:
        """Bring a uint8 (*, channel, height, width) picture to the network's channels."""
        return colour(image, self.channels)

    def where_from(self, height: int, width: int) -> tuple[tuple[float, float], int, int]:
        """Return the scales of height and width and the (top, left) cut of `fit` for a picture of some size, to carry
        boxes along; a cut below 0 is what is padded.
        """
        scales = (self.size[0] / height, self.size[1] / width)
        if self.shape_rule == "stretch":
            return scales, 0, 0
        scale = min(scales) if self.shape_rule == "pad" else max(scales) / self.crop
        scaled = self._scaled(height, width)
        top, left = (int((have - want) / 2) for have, want in zip(scaled, self.size, strict=True))
        return (scale, scale), top, left

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the size to which `fit` scales a picture of some size before it cuts or pads."""
        return _scaled(height, width, self.size, self.shape_rule, self.crop)

    def carry(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Boxes of a picture of some size in the pixels of what `fit` makes of it."""
        (high, wide), top, left = self.where_from(height, width)
        moved = boxes * torch.tensor([wide, high, wide, high]) - torch.tensor([left, top, left, top])
        return moved.clamp(min=0).minimum(torch.tensor([self.size[1], self.size[0]] * 2))

    def normalise(self, images: Tensor) -> Tensor:
        """From uint8 (batch, *shape) to what the network takes."""
        axes = (1, -1, *[1] * (images.ndim - 2))
        mean = torch.tensor(self.mean, device=images.device).view(axes)
        std = torch.tensor(self.std, device=images.device).view(axes)
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=MEMORY_FORMATS[images.ndim])

    def to_json(self) -> str:
        """The text that is kept in model.safetensors."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocess":
        """Read what to_json wrote."""
        held: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {name: tuple(held[name]) for name in ("size", "mean", "std")}
        values |= {name: int(held[name]) for name in (*CLIP_FIELDS, "bits") if name in held}
        values |= {name: kind(held[name]) for name, kind in (("crop", float), ("interpolation", str)) if name in held}
        values["shape_rule"] = str(held.get("shape_rule", "crop"))
        return cls(classes=list(held["classes"]), channels=int(held["channels"]), **values)


def preprocess_for(
    config: RunConfig, samples: Pictures | Clips, shape: tuple[int, ...], known: Inputs | None = None
) -> Preprocess:
    """Return the preprocessing of a run: what its settings say, else as its weights want it, else by the samples.

    Args:
        config: The run.
        samples: What it classifies.
        shape: Of an input of its network.
        known: What the weights that it starts from were trained on.

    Raises:
        ValueError: If mean or std are not one number for each channel.
    """
    channels, size = shape[0], (shape[-2], shape[-1])
    plain = Preprocess(samples.classes, channels, size, (0.0,) * channels, (1.0,) * channels)
    if known is not None and len(known.mean) == channels:
        rule = config.fit or known.fit
        crop = known.crop if isinstance(samples, Pictures) and rule == "crop" else 1.0
        own = {"crop": crop, "interpolation": known.interpolation, "shape_rule": rule}
        plain = dataclasses.replace(plain, mean=known.mean, std=known.std, **own)
    chosen: dict[str, Any] = {} if config.fit is None else {"shape_rule": config.fit}
    chosen |= {name: value for name in ("crop", "interpolation") if (value := getattr(config, name)) is not None}
    plain = dataclasses.replace(plain, **chosen)
    given = {name: value for name in ("mean", "std") if (value := getattr(config, name)) is not None}
    for name, values in given.items():
        if len(values) != channels:
            raise ValueError(f"{name} must have a number for each of {channels} channels; got {values}")
    if (known is None or len(known.mean) != channels) and len(given) < 2:
        mean, std = _moments(samples, plain)
        plain = dataclasses.replace(plain, mean=mean, std=std)
    plain = dataclasses.replace(plain, **{name: tuple(map(float, values)) for name, values in given.items()})
    if isinstance(samples, Pictures):
        return plain
    stride = config.frame_stride or _stride(samples, shape[1])
    test = {name: value for name in ("test_clips", "test_crops") if (value := getattr(config, name)) is not None}
    return dataclasses.replace(plain, frames=shape[1], frame_stride=stride, **test)


def colour(image: Tensor, channels: int) -> Tensor:
    """See Preprocess.colour."""
    if image.shape[-3] == channels:
        return image
    if channels == 1:
        return F.rgb_to_grayscale(image)
    return image.expand(*image.shape[:-3], channels, *image.shape[-2:])


def lost_fraction(sizes: Sequence[tuple[int, int]], size: tuple[int, int], crop: float = 1.0) -> float:
    """Return the mean fraction of pictures of some sizes that the rule "crop" cuts away."""
    kept = [size[0] * size[1] / math.prod(_scaled(*own, size, "crop", crop)) for own in sizes]
    return 1 - math.fsum(kept) / len(kept) if kept else 0.0


def _scaled(height: int, width: int, size: tuple[int, int], rule: str, crop: float) -> tuple[int, int]:
    """Return the size to which a picture is scaled before it is cut or padded."""
    if rule == "stretch" or ((height, width) == size and crop == 1):
        return size
    if rule == "pad":
        scale = min(size[0] / height, size[1] / width)
        return min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale)))
    scale = max(size[0] / height, size[1] / width) / crop
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def _stride(clips: Clips, frames: int) -> int:
    """So far apart that most training videos are seen from end to end, at most WIDEST_STRIDE."""
    split = clips.splits["train"]
    lengths = [split.length(index) for index in range(0, len(split), -(-len(split) // LENGTHS))]
    return min(WIDEST_STRIDE, max(1, int(statistics.median(lengths)) // frames))


def _first_look(samples: Pictures | Clips, index: int) -> Tensor:
    """A training picture, or the middle frame of a training video."""
    if isinstance(samples, Pictures):
        return samples.splits["train"].image(index)
    split = samples.splits["train"]
    return split.clip(index, [split.length(index) // 2])[:, 0]


def _moments(samples: Pictures | Clips, plain: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation of each channel over training samples, as they are fitted."""
    split, channels = samples.splits["train"], plain.channels
    indices = range(0, len(split), max(1, len(split) // LOOKED_AT))
    sums, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for index in indices:
        pixels = plain.fit(_first_look(samples, index)).double() / 255
        sums += pixels.mean(dim=(1, 2))
        squares += pixels.square().mean(dim=(1, 2))
    mean = sums / len(indices)
    std = (squares / len(indices) - mean.square()).clamp(min=0).sqrt().clamp(min=1e-3)
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())
