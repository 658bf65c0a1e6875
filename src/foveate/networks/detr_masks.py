"""DETR's panoptic head: a mask for every query, from where it looks and from the backbone's finer features.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872; the
finer features come in as in Lin et al., "Feature Pyramid Networks", CVPR 2017, https://arxiv.org/abs/1612.03144.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.capture import Tap

__all__ = ["MaskAttention", "MaskHead"]


class MaskAttention(nn.Module):
    """Where each query looks: softmax of q_h . k_h / sqrt(head_dim) over all heads and positions at once.

    Args:
        embed_dim: Channels of queries and memory, a multiple of num_heads.
        num_heads: Heads.

    Shape:
        query (batch, query, channel), memory (batch, channel, height, width), valid bool (batch, height, width) ->
        (batch, query, head, height, width).

    Taps:
        weights: (batch, query, head, height, width), in [0, 1]; a query's sum to 1 over heads and positions.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.weights = Tap("batch query head height width")
        for projection in (self.query, self.key):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, memory: Tensor, valid: Tensor | None = None) -> Tensor:
        queries = self.query(query).unflatten(2, (self.num_heads, -1))
        keys = self.key(memory.movedim(1, 3)).unflatten(3, (self.num_heads, -1))
        logits = torch.einsum("bqnc,byxnc->bqnyx", queries * queries.shape[-1] ** -0.5, keys)
        if valid is not None:
            logits = logits.masked_fill(~valid[:, None, None], torch.finfo(logits.dtype).min)
        return self.weights(logits.flatten(2).softmax(dim=2).reshape(logits.shape))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"


class MaskHead(nn.Module):
    """3x3 convolutions with group normalisation and ReLU; before each of the last three the grid grows, and finer
    features are added.

    Args:
        embed_dim: Channels of the features; the convolutions end with a sixteenth of them.
        num_heads: Heads of the attention.
        channels: Channels of the finer features, the coarsest first.

    Shape:
        x (batch, embed_dim, height, width), weights (batch, query, head, height, width), finer features
        (batch, channel, *their grid) -> (batch, query, *the finest grid).
    """

    def __init__(self, embed_dim: int, num_heads: int, channels: Sequence[int]) -> None:
        super().__init__()
        widths = [embed_dim + num_heads] * 2 + [max(1, embed_dim // 2**step) for step in range(1, len(channels) + 2)]
        self.blocks = nn.ModuleList(_conv_norm(*pair) for pair in pairwise(widths))
        self.adapters = nn.ModuleList(
            nn.Conv2d(finer, width, 1) for finer, width in zip(channels, widths[2:], strict=False)
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, x: Tensor, weights: Tensor, finer: Sequence[Tensor]) -> Tensor:
        sizes = weights.shape[:2]
        first, norm = cast(nn.Sequential, self.blocks[0])
        # A convolution of features joined is the sum of theirs: that of x, alike for all queries, is done once.
        of_x, of_weights = cast(Tensor, first.weight).split([x.shape[1], weights.shape[2]], dim=1)
        shared = F.conv2d(x, of_x, cast(Tensor, first.bias), padding=1)
        own = F.conv2d(weights.flatten(0, 1), of_weights, padding=1)
        x = norm(_added(own, shared, sizes)).relu()
        x = self.blocks[1](x).relu()
        for adapter, block, feature in zip(self.adapters, self.blocks[2:], finer, strict=True):
            grown = F.interpolate(x, size=feature.shape[-2:], mode="nearest")
            x = block(_added(grown, adapter(feature), sizes)).relu()
        return self.out(x).squeeze(1).unflatten(0, sizes)


def _conv_norm(in_channels: int, out_channels: int) -> nn.Sequential:
    groups = math.gcd(8, out_channels)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.GroupNorm(groups, out_channels))


def _added(each: Tensor, shared: Tensor, sizes: Sequence[int]) -> Tensor:
    """Features of every query, (batch * query, ...), with those of its picture, (batch, ...)."""
    return (each.unflatten(0, sizes) + shared.unsqueeze(1)).flatten(0, 1)
