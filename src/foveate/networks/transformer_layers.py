"""The layers and stacks of the Transformer, over tokens that are vectors already: of words, of patches of a picture.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762.

    post-norm, as published:  x = norm(x + dropout(f(x)))
    pre-norm:                 x = x + dropout(f(norm(x))), and a last norm behind each stack
"""

from collections.abc import Callable
from typing import TypedDict, Unpack

from torch import Tensor, nn

from foveate.layers import KeyValueCache, MultiHeadAttention

__all__ = [
    "DecoderCache",
    "DecoderLayer",
    "EncoderLayer",
    "Layer",
    "LayerOptions",
    "TransformerDecoder",
    "TransformerEncoder",
]


LayerCache = tuple[KeyValueCache, KeyValueCache]
"""What a decoder's layer keeps: of its own tokens before, and of the memory."""


class LayerOptions(TypedDict, total=False):
    """What every layer takes by name; Layer says what each means."""

    dropout: float
    attention_dropout: float
    activation_dropout: float
    bias: bool
    pre_norm: bool
    norm_eps: float


class Layer(nn.Module):
    """What all layers share: self-attention, the feed-forward part, and how a part is added to what it gets.

    Args:
        embed_dim: Channels of the tokens, a multiple of num_heads.
        num_heads: Heads of the attention.
        hidden_channels: Width of the feed-forward part.
        dropout: Share of each part's output that training drops.
        attention_dropout: Share of the attention's weights that it drops.
        activation_dropout: Share of the hidden features that it drops.
        bias: Whether the attention's projections have biases.
        pre_norm: Whether a part gets normalised tokens, instead of normalising behind it.
        norm_eps: What a normalisation adds to the variance.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_channels: int,
        *,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        bias: bool = True,
        pre_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiHeadAttention(embed_dim, num_heads, dropout=attention_dropout, bias=bias)
        self.linear1 = nn.Linear(embed_dim, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim, norm_eps)
        self.norm2 = nn.LayerNorm(embed_dim, norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.activation_dropout = nn.Dropout(activation_dropout)

    def _add(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        # As dropout behind ReLU, to the bit; one tensor, not two, is kept for the backward pass of what follows.
        return self.linear2(self.activation_dropout(self.linear1(x)).relu())

    def extra_repr(self) -> str:
        return f"pre_norm={self.pre_norm}"


class EncoderLayer(Layer):
    """Self-attention, then two linear layers.

    Shape:
        x (batch, token, channel), mask (batch, token), True = attend -> as x.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self._add(x, self.norm1, lambda x: self.self_attn(x, mask=mask))
        return self._add(x, self.norm2, self._feed_forward)


class DecoderLayer(Layer):
    """Self-attention to the tokens before, attention to what the encoder made, then two linear layers.

    Args:
        embed_dim: As in Layer, like all that follow.

    Shape:
        x (batch, token, channel), memory (batch, key, channel), mask (batch, token) and memory_mask (batch, key),
        True = attend -> as x. The batch of x may be a multiple of the memory's: consecutive rows then look at the same
        memory, as several hypotheses of one sentence do.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_channels: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(embed_dim, num_heads, hidden_channels, **options)
        dropout, bias = self.self_attn.dropout, self.self_attn.in_proj_bias is not None
        self.cross_attn = MultiHeadAttention(embed_dim, num_heads, dropout=dropout, bias=bias)
        self.norm3 = nn.LayerNorm(embed_dim, self.norm1.eps)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        before, seen = (None, None) if cache is None else cache

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, mask=mask, causal=True, cache=before)

        def look(x: Tensor) -> Tensor:
            # Rows that share a memory are queries of one attention, so that its keys and values are there once.
            queries = x.reshape(memory.shape[0], -1, x.shape[2])
            return self.cross_attn(queries, memory, mask=memory_mask, cache=seen).reshape(x.shape)

        x = self._add(x, self.norm1, attend)
        x = self._add(x, self.norm2, look)
        return self._add(x, self.norm3, self._feed_forward)


class DecoderCache:
    """What a decoder keeps of the tokens before and of the memory while it decodes token by token.

    Attributes:
        layers: For each layer, the keys and values of its self-attention and of its cross-attention.
    """

    def __init__(self, num_layers: int) -> None:
        self.layers: list[LayerCache] = [(KeyValueCache(), KeyValueCache()) for _ in range(num_layers)]

    @property
    def length(self) -> int:
        """Tokens that were decoded."""
        return self.layers[0][0].length

    def select(self, rows: Tensor, memories: Tensor | None = None) -> None:
        """Keep these rows of the tokens, in this order, and, where memories leave, these of the memory's."""
        for tokens, memory in self.layers:
            tokens.select(rows)
            if memories is not None:
                memory.select(memories)


class TransformerEncoder(nn.Module):
    """Layers in which every token looks at all.

    Weights start from Xavier's uniform distribution, those of q, k and v packed, as fairseq has it; biases at zero.

    Args:
        num_layers: Layers; 0 for none.
        embed_dim: As in Layer, like hidden_channels and num_heads.
        final_norm: Whether a normalisation stands behind the last layer. Default: with pre_norm; torch.nn.Transformer
            has it always.
        options: As in Layer.

    Shape:
        x (batch, token, channel), mask (batch, token), True = attend -> as x.
    """

    def __init__(
        self,
        num_layers: int,
        embed_dim: int,
        num_heads: int,
        hidden_channels: int,
        *,
        final_norm: bool | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        layers = (EncoderLayer(embed_dim, num_heads, hidden_channels, **options) for _ in range(num_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = _last_norm(embed_dim, final_norm, options)
        _start(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """Layers in which every token looks at those before it, and at what an encoder made.

    Args:
        num_layers: Layers, at least one.
        embed_dim: As in TransformerEncoder, like all that follow.

    Shape:
        As in DecoderLayer. With a cache, x holds the tokens that follow those of earlier calls.
    """

    def __init__(
        self,
        num_layers: int,
        embed_dim: int,
        num_heads: int,
        hidden_channels: int,
        *,
        final_norm: bool | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"a decoder takes at least 1 layer; got {num_layers}")
        layers = (DecoderLayer(embed_dim, num_heads, hidden_channels, **options) for _ in range(num_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = _last_norm(embed_dim, final_norm, options)
        _start(self)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        if x.shape[0] % memory.shape[0]:
            wanted = "a batch that is a multiple of the memory's"
            raise ValueError(f"a decoder takes {wanted}; got {tuple(x.shape)} and {tuple(memory.shape)}")
        for index, layer in enumerate(self.layers):
            x = layer(x, memory, mask, memory_mask, None if cache is None else cache.layers[index])
        return self.norm(x)

    def new_cache(self) -> DecoderCache:
        """An empty cache, with which a sequence is decoded token by token."""
        return DecoderCache(len(self.layers))


def _last_norm(embed_dim: int, final_norm: bool | None, options: LayerOptions) -> nn.Module:
    wanted = options.get("pre_norm", False) if final_norm is None else final_norm
    return nn.LayerNorm(embed_dim, options.get("norm_eps", 1e-5)) if wanted else nn.Identity()


def _start(stack: nn.Module) -> None:
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
