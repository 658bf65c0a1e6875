"""DETR's transformer: positions go to the queries and keys of every layer, never to the values.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872; the layers
are those of Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762.

    post-norm, as published:  x = norm(x + dropout(f(x)))
    pre-norm:                 x = x + dropout(f(norm(x))), and a last norm behind the encoder
"""

import torch
from torch import Tensor, nn

from foveate.layers import MultiHeadAttention
from foveate.networks.transformer_layers import Layer, LayerOptions

__all__ = ["Decoder", "DecoderLayer", "Encoder", "EncoderLayer"]


class EncoderLayer(Layer):
    """Self-attention, then two linear layers.

    Args:
        embed_dim: Channels of the tokens.
        num_heads: Heads of the attention.
        hidden_channels: Width of the feed-forward part.
        dropout: Share of the attention's weights, of the hidden features and of each part's output that training drops.
        pre_norm: Whether a part gets normalised tokens, instead of normalising behind it.

    Shape:
        x and position (batch, token, channel), mask (batch, token), True = attend -> as x.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_channels: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(embed_dim, num_heads, hidden_channels, **_options(dropout, pre_norm))

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            placed = x + position
            return self.self_attn(placed, placed, x, mask=mask)

        return self._add(self._add(x, self.norm1, attend), self.norm2, self._feed_forward)


class DecoderLayer(Layer):
    """Self-attention of the queries, attention of the queries to the picture, then two linear layers.

    Args:
        embed_dim: As in the encoder's layer, like all that follow.

    Shape:
        x and position (batch, query, channel), key and value (batch, token, channel), mask (batch, token) -> as x.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_channels: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(embed_dim, num_heads, hidden_channels, **_options(dropout, pre_norm))
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


def _options(dropout: float, pre_norm: bool) -> LayerOptions:
    everywhere: LayerOptions = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    return everywhere | {"pre_norm": pre_norm}
