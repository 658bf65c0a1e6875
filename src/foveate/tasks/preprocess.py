"""Preprocess: what happens to a picture before the network sees it; kept in one file with the weights."""

import dataclasses
import json
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from foveate.data import Pictures, Split
from foveate.tasks.config import RunConfig

__all__ = ["KEY", "Preprocess", "preprocess_for"]

KEY = "foveate"  # under which it is kept in model.safetensors
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOOKED_AT = 512  # training pictures from which mean and deviation are computed


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What a trained network takes and gives.

    Args:
        classes: Names of the outputs.
        channels: 1 or 3.
        size: (height, width).
        mean: Of each channel, of pictures in 0..1.
        std: Likewise.
    """

    classes: list[str]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def fit(self, image: Tensor) -> Tensor:
        """Bring a uint8 (channel, height, width) picture to the network's channels and size.

        A larger or smaller picture is scaled until its shorter side fits, and cut in the middle.
        """
        return fit(image, self.channels, self.size)

    def colour(self, image: Tensor) -> Tensor:
        """Bring a uint8 (channel, height, width) picture to the network's channels."""
        return colour(image, self.channels)

    def where_from(self, height: int, width: int) -> tuple[float, float, float]:
        """The scale and the (top, left) cut of `fit` for a picture of some size, to carry boxes along."""
        scale = max(self.size[0] / height, self.size[1] / width)
        scaled = _scaled(height, width, self.size)
        return scale, (scaled[0] - self.size[0]) // 2, (scaled[1] - self.size[1]) // 2

    def normalise(self, images: Tensor) -> Tensor:
        """From uint8 (batch, channel, height, width) to what the network takes."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def to_json(self) -> str:
        """The text that is kept in model.safetensors."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocess":
        """Read what to_json wrote."""
        held: dict[str, Any] = json.loads(text)
        tuples = {name: tuple(held[name]) for name in ("size", "mean", "std")}
        return cls(classes=list(held["classes"]), channels=int(held["channels"]), **tuples)


def preprocess_for(
    config: RunConfig, pictures: Pictures, network: nn.Module, shape: tuple[int, int, int]
) -> Preprocess:
    """The preprocessing of a run: normalised as trained weights want it, else by the training pictures."""
    channels, size = shape[0], (shape[1], shape[2])
    given = getattr(network, "pretrained_cfg", None)
    if config.pretrained and isinstance(given, dict) and "mean" in given:
        mean, std = tuple(given["mean"]), tuple(given["std"])
    elif config.pretrained:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    else:
        mean, std = _moments(pictures.splits["train"], channels, size)
    return Preprocess(pictures.classes, channels, size, mean, std)


def colour(image: Tensor, channels: int) -> Tensor:
    """See Preprocess.colour."""
    if image.shape[0] == channels:
        return image
    return F.rgb_to_grayscale(image) if channels == 1 else image.expand(channels, -1, -1)


def fit(image: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """See Preprocess.fit."""
    image = colour(image, channels)
    if image.shape[1:] == size:
        return image
    height, width = image.shape[1:]
    return F.center_crop(F.resize(image, list(_scaled(height, width, size)), antialias=True), list(size))


def _scaled(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def _moments(split: Split, channels: int, size: tuple[int, int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    indices = range(0, len(split), max(1, len(split) // LOOKED_AT))
    sums, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for index in indices:
        pixels = fit(split.image(index), channels, size).double() / 255
        sums += pixels.mean(dim=(1, 2))
        squares += pixels.square().mean(dim=(1, 2))
    mean = sums / len(indices)
    std = (squares / len(indices) - mean.square()).clamp(min=0).sqrt().clamp(min=1e-3)
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())
