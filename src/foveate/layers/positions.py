"""Where a token stands, as a vector: what attention, which sees a set, has to be told.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762 (sinusoids of one axis).
Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872 (of two).
"""

import math

import torch
from torch import Tensor, nn

from foveate.layers import functional

__all__ = [
    "LearnedPositions",
    "LearnedPositions2d",
    "SinusoidalPositions",
    "SinusoidalPositions2d",
    "sinusoids",
]

FORMS = ("interleaved", "concatenated")
EPSILON = 1e-6  # DETR's, beside the extent of the picture


def sinusoids(positions: Tensor, channels: int, form: str = "interleaved", temperature: float = 10000.0) -> Tensor:
    """Sines and cosines of positions, computed in their type: (*shape) -> (*shape, channel).

    Args:
        positions: Any real numbers.
        channels: Even.
        form: "interleaved", the paper's: channels 2i and 2i + 1 are the sine and the cosine of p / T^(2i / channels).
            "concatenated", tensor2tensor's: first all sines, then all cosines, of p / T^(i / (channels / 2 - 1)). The
            frequencies differ, so that neither is the other in another order.
        temperature: T; the longest wave has about 2 pi T positions.
    """
    functional.check_choice("form", form, FORMS)
    if channels < 2 or channels % 2 or (form == "concatenated" and channels == 2):
        raise ValueError(f"sinusoids take an even number of channels, at least 2 (4 concatenated); got {channels}")
    index = torch.arange(channels // 2, dtype=positions.dtype, device=positions.device)
    exponent = 2 * index / channels if form == "interleaved" else index / (channels // 2 - 1)
    angles = positions.unsqueeze(-1) / temperature**exponent
    waves = angles.sin(), angles.cos()
    return torch.stack(waves, dim=-1).flatten(-2) if form == "interleaved" else torch.cat(waves, dim=-1)


class SinusoidalPositions(nn.Module):
    """Sines and cosines of 0, 1, 2, ...: one vector for each token, to be added.

    Args:
        channels: Channels of the tokens, even.
        form: "interleaved" (the paper's) or "concatenated" (tensor2tensor's): see sinusoids.

    Shape:
        (batch, token, channel) -> (token, channel), of the same type. The first token stands at `start`.
    """

    def __init__(self, channels: int, form: str = "interleaved") -> None:
        super().__init__()
        sinusoids(torch.zeros(1), channels, form)  # says what is wrong with them
        self.channels, self.form = channels, form

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        # In float64: an angle of thousands leaves float32 three digits behind the point.
        places = torch.arange(start, start + x.shape[1], dtype=torch.float64, device=x.device)
        return sinusoids(places, self.channels, self.form).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, form={self.form!r}"


class LearnedPositions(nn.Module):
    """One learned vector for each of the places 0, 1, 2, ..., to be added.

    Args:
        channels: Channels of the tokens.
        length: Tokens at most.

    Shape:
        (batch, token, channel) -> (token, channel). The first token stands at `start`.

    Raises:
        ValueError: If there are more tokens than places.
    """

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.table = nn.Embedding(length, channels)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        end = start + x.shape[1]
        _check_length("LearnedPositions", end, self.table)
        return self.table.weight[start:end]


class SinusoidalPositions2d(nn.Module):
    """Sines and cosines of the row and of the column, counted over what is no padding and scaled to (0, 2 pi].

    A padded picture has the positions of the same picture alone, rows in the first half of the channels. They are
    float32 whatever the network's type, as released.

    Args:
        channels: Channels of the features, a multiple of 4.

    Shape:
        valid (batch, height, width), False on padding -> (batch, channel, height, width), float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(f"SinusoidalPositions2d takes a multiple of 4 channels; got {channels}")
        self.channels = channels

    def forward(self, valid: Tensor) -> Tensor:
        axes = []
        for axis in (1, 2):
            places = valid.cumsum(axis, dtype=torch.float32)
            extent = places.narrow(axis, places.shape[axis] - 1, 1)
            axes.append(sinusoids(places / (extent + EPSILON) * (2 * math.pi), self.channels // 2))
        return torch.cat(axes, dim=-1).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class LearnedPositions2d(nn.Module):
    """A learned vector for each column and one for each row, joined; columns in the first half of the channels.

    Args:
        channels: Channels of the features, even.
        length: Rows and columns at most; released with 50.

    Shape:
        valid (batch, height, width), of which only the shape counts -> (batch, channel, height, width).

    Raises:
        ValueError: If there are more rows or columns than places.
    """

    def __init__(self, channels: int, length: int = 50) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"LearnedPositions2d takes an even number of channels; got {channels}")
        self.row = nn.Embedding(length, channels // 2)
        self.column = nn.Embedding(length, channels // 2)
        for table in (self.row, self.column):
            nn.init.uniform_(table.weight)

    def forward(self, valid: Tensor) -> Tensor:
        batch, height, width = valid.shape
        _check_length("LearnedPositions2d", max(height, width), self.row)
        columns = self.column.weight[:width].expand(height, -1, -1)
        rows = self.row.weight[:height, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=-1).permute(2, 0, 1).expand(batch, -1, -1, -1)


def _check_length(layer: str, length: int, table: nn.Embedding) -> None:
    if length > table.num_embeddings:
        raise ValueError(f"{layer} takes at most {table.num_embeddings} positions along an axis; got {length}")
