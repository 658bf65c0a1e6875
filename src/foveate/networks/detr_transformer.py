"""DETR's transformer: positions go to the queries and keys of every layer, never to the values.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872; the layers
are those of Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762.

    post-norm, as published:  x = norm(x + dropout(f(x)))
    pre-norm:                 x = x + dropout(f(norm(x))), and a last norm behind the encoder
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from foveate.layers import MultiHeadAttention

__all__ = ["Decoder", "DecoderLayer", "Encoder", "EncoderLayer"]


class _Layer(nn.Module):
    """What both layers share: self-attention, the feed-forward part, and how a part is added to what it gets.

    Args:
        embed_dim: Channels of the tokens.
        num_heads: Heads of the attention.
        hidden_channels: Width of the feed-forward part.
        dropout: Share of the attention's weights, of the hidden features and of each part's output that training drops.
        pre_norm: Whether a part gets normalised tokens, instead of normalising behind it.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_channels: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.linear1 = nn.Linear(embed_dim, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def _add(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        # As dropout behind ReLU, to the bit; one tensor, not two, is kept for the backward pass of what follows.
        return self.linear2(self.dropout(self.linear1(x)).relu())

    def extra_repr(self) -> str:
        return f"pre_norm={self.pre_norm}"


class EncoderLayer(_Layer):
    """Self-attention, then two linear layers.

    Shape:
        x and position (batch, token, channel), mask (batch, token), True = attend -> as x.
    """

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            placed = x + position
            return self.self_attn(placed, placed, x, mask=mask)

        return self._add(self._add(x, self.norm1, attend), self.norm2, self._feed_forward)


class DecoderLayer(_Layer):
    """Self-attention of the queries, attention of the queries to the picture, then two linear layers.

    Args:
        embed_dim: As in the encoder's layer, like all that follow.

    Shape:
        x and position (batch, query, channel), key and value (batch, token, channel), mask (batch, token) -> as x.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_channels: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(embed_dim, num_heads, hidden_channels, dropout, pre_norm)
        self.cross_attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.norm3 = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            placed = x + position
            return self.self_attn(placed, placed, x)

        def look(x: Tensor) -> Tensor:
            return self.cross_attn(x + position, key, value, mask=mask)

        x = self._add(x, self.norm1, attend)
        x = self._add(x, self.norm2, look)
        return self._add(x, self.norm3, self._feed_forward)


class Encoder(nn.Module):
    """Layers of self-attention over the picture.

    Args:
        num_layers: Layers.
        embed_dim: As in the layer, like all that follow.

    Shape:
        x and position (batch, token, channel), mask (batch, token), True = attend -> as x.
    """

    def __init__(
        self, num_layers: int, embed_dim: int, num_heads: int, hidden_channels: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__()
        arguments = embed_dim, num_heads, hidden_channels, dropout, pre_norm
        self.layers = nn.ModuleList(EncoderLayer(*arguments) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim) if pre_norm else nn.Identity()

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, mask)
        return self.norm(x)


class Decoder(nn.Module):
    """Layers that turn queries into objects.

    One normalisation is for what every layer gives out; the next layer gets it without.

    Args:
        num_layers: Layers.
        embed_dim: As in the layer, like all that follow.

    Shape:
        query (batch, query, channel), memory and position (batch, token, channel), mask (batch, token), True = attend
        -> a list with each layer's (batch, query, channel).
    """

    def __init__(
        self, num_layers: int, embed_dim: int, num_heads: int, hidden_channels: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__()
        arguments = embed_dim, num_heads, hidden_channels, dropout, pre_norm
        self.layers = nn.ModuleList(DecoderLayer(*arguments) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, query: Tensor, memory: Tensor, position: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        x, key = torch.zeros_like(query), memory + position
        given = []
        for layer in self.layers:
            x = layer(x, query, key, memory, mask)
            given.append(self.norm(x))
        return given
