"""Preprocess: what happens to a picture before the network sees it; kept in one file with the weights."""

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from foveate.data import Clips, Pictures
from foveate.tasks.config import RunConfig

__all__ = ["CLIP_FIELDS", "KEY", "Preprocess", "lost_fraction", "preprocess_for"]

KEY = "foveate"  # under which it is kept in model.safetensors
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
        shape_rule: How a picture of another shape is brought to `size`, as `fit` of a run says.
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
    shape_rule: str = "crop"

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
        return fit(image, self.channels, self.size, crop, crops, self.shape_rule)

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
        scale = (max if self.shape_rule == "crop" else min)(scales)
        scaled = _scaled(height, width, self.size, self.shape_rule)
        top, left = (int((have - want) / 2) for have, want in zip(scaled, self.size, strict=True))
        return (scale, scale), top, left

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
        values |= {name: int(held[name]) for name in CLIP_FIELDS if name in held}
        values["shape_rule"] = str(held.get("shape_rule", "crop"))
        return cls(classes=list(held["classes"]), channels=int(held["channels"]), **values)


def preprocess_for(
    config: RunConfig, samples: Pictures | Clips, network: nn.Module, shape: tuple[int, ...]
) -> Preprocess:
    """The preprocessing of a run: normalised as trained weights want it, else by the training samples."""
    channels, size = shape[0], (shape[-2], shape[-1])
    given = getattr(network, "pretrained_cfg", None)
    if config.pretrained and isinstance(given, dict) and "mean" in given:
        mean, std = tuple(given["mean"]), tuple(given["std"])
    elif config.pretrained:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    else:
        mean, std = _moments(samples, channels, size, config.fit)
    plain = Preprocess(samples.classes, channels, size, mean, std, shape_rule=config.fit)
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


def fit(
    image: Tensor, channels: int, size: tuple[int, int], crop: int = 0, crops: int = 1, rule: str = "crop"
) -> Tensor:
    """See Preprocess.fit."""
    image = colour(image, channels)
    if image.shape[-2:] == size:
        return image
    height, width = image.shape[-2:]
    image = F.resize(image, list(_scaled(height, width, size, rule)), antialias=True)
    if rule == "pad":
        top, left = ((want - have) // 2 for have, want in zip(image.shape[-2:], size, strict=True))
        return F.pad(image, [left, top, size[1] - image.shape[-1] - left, size[0] - image.shape[-2] - top])
    part = crop / (crops - 1) if crops > 1 else 0.5
    top, left = (int((have - want) * part) for have, want in zip(image.shape[-2:], size, strict=True))
    return F.crop(image, top, left, *size)


def lost_fraction(sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> float:
    """Return the mean fraction of pictures of some sizes that the rule "crop" cuts away."""
    kept = [size[0] * size[1] / math.prod(_scaled(*own, size, "crop")) for own in sizes]
    return 1 - math.fsum(kept) / len(kept) if kept else 0.0


def _scaled(height: int, width: int, size: tuple[int, int], rule: str) -> tuple[int, int]:
    """Return the size to which a picture is scaled before it is cut or padded."""
    if rule == "stretch":
        return size
    if rule == "pad":
        scale = min(size[0] / height, size[1] / width)
        return min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale)))
    scale = max(size[0] / height, size[1] / width)
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


def _moments(
    samples: Pictures | Clips, channels: int, size: tuple[int, int], rule: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    split = samples.splits["train"]
    indices = range(0, len(split), max(1, len(split) // LOOKED_AT))
    sums, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for index in indices:
        pixels = fit(_first_look(samples, index), channels, size, rule=rule).double() / 255
        sums += pixels.mean(dim=(1, 2))
        squares += pixels.square().mean(dim=(1, 2))
    mean = sums / len(indices)
    std = (squares / len(indices) - mean.square()).clamp(min=0).sqrt().clamp(min=1e-3)
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())
