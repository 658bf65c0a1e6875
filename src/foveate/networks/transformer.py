"""The Transformer: a sequence becomes another one, token by token, by attention alone.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762. The defaults are the
paper's; what tensor2tensor, fairseq and torch.nn.Transformer do otherwise has options.

    source - embedding + positions - encoder
                                        |  (memory)
    target - embedding + positions - decoder - the embedding again - logits of the next token
"""

from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers import LearnedPositions, SinusoidalPositions, functional
from foveate.networks.architecture import Architecture
from foveate.networks.transformer_layers import DecoderCache, LayerOptions, TransformerDecoder, TransformerEncoder

__all__ = ["EncoderDecoder", "Transformer", "transformer_base", "transformer_big"]

POSITIONS = ("interleaved", "concatenated", "learned")


class Transformer(nn.Module):
    """Encoder and decoder between token numbers and logits: softmax(E decoder(E[target] sqrt(d) + p, memory)).

    One matrix E embeds source and target and, without a bias, gives the logits; it starts from a normal distribution of
    deviation embed_dim^-0.5. The maps are the weights of `encoder.layers.*.self_attn`, of `decoder.layers.*.self_attn`
    and, where in the source each target token looks, of `decoder.layers.*.cross_attn`. `architecture` says what builds
    the network again.

    Args:
        num_tokens: Tokens of the vocabulary, which source and target share.
        embed_dim: Channels of the tokens, a multiple of num_heads, and even unless positions are learned.
        num_heads: Heads of each attention.
        hidden_channels: Width of the feed-forward parts.
        encoder_layers: Layers of the encoder; 0 for none.
        decoder_layers: Layers of the decoder.
        dropout: Share of embeddings with positions, and of each part's output, that training drops.
        attention_dropout: Share of the attention's weights that it drops; 0.1 in later versions of tensor2tensor.
        activation_dropout: Share of the hidden features that it drops; 0.1 in later versions of tensor2tensor.
        bias: Whether the attention's projections have biases; tensor2tensor's have none.
        pre_norm: Whether the parts of a layer get normalised tokens, with a last normalisation behind each stack,
            instead of normalising behind them.
        final_norm: Whether there is that last normalisation. Default: with pre_norm. torch.nn.Transformer has it
            always.
        norm_eps: What a normalisation adds to the variance; 1e-6 in tensor2tensor.
        positions: "interleaved", the paper's sinusoids; "concatenated", tensor2tensor's and fairseq's; "learned".
        length: Tokens at most, where positions are learned.
        tied: Whether one matrix embeds source and target and gives the logits, instead of three.

    Shape:
        source and target (batch, token), int64, source_mask and target_mask, bool, of the same shapes, True = a token
        -> logits (batch, token, num_tokens), of the token behind each of the target's, which sees the target up to
        there.

    Raises:
        ValueError: Sizes that do not fit; inputs of another kind; with learned positions too many tokens.
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        embed_dim: int = 512,
        num_heads: int = 8,
        hidden_channels: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        bias: bool = True,
        pre_norm: bool = False,
        final_norm: bool | None = None,
        norm_eps: float = 1e-5,
        positions: str = "interleaved",
        length: int | None = None,
        tied: bool = True,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        self.architecture = Architecture.of("transformer", arguments)
        functional.check_choice("positions", positions, POSITIONS)
        if num_tokens < 1:
            raise ValueError(f"Transformer takes num_tokens of at least 1; got {num_tokens}")
        if (length is not None) != (positions == "learned"):
            raise ValueError(f'positions="learned" take a length, others none; got {positions!r} and length={length}')
        self.num_tokens, self.embed_dim, self.length = num_tokens, embed_dim, length
        sizes = embed_dim, num_heads, hidden_channels
        options: LayerOptions = {
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "bias": bias,
            "pre_norm": pre_norm,
            "norm_eps": norm_eps,
        }
        self.encoder = TransformerEncoder(encoder_layers, *sizes, final_norm=final_norm, **options)
        self.decoder = TransformerDecoder(decoder_layers, *sizes, final_norm=final_norm, **options)
        self.embed = nn.Embedding(num_tokens, embed_dim)
        # Of one matrix there is one name, so that no copy, file or optimiser can make two of it.
        self.target_embed = None if tied else nn.Embedding(num_tokens, embed_dim)
        self.proj = None if tied else nn.Linear(embed_dim, num_tokens, bias=False)
        self.positions = _positions(positions, embed_dim, length)
        self.target_positions = _positions(positions, embed_dim, length)
        self.dropout = nn.Dropout(dropout)
        for module in self.children():
            if isinstance(module, nn.Embedding | LearnedPositions | nn.Linear):
                for weight in module.parameters():
                    nn.init.normal_(weight, std=embed_dim**-0.5)

    def forward(
        self, source: Tensor, target: Tensor, source_mask: Tensor | None = None, target_mask: Tensor | None = None
    ) -> Tensor:
        return self.decode(target, self.encode(source, source_mask), source_mask, target_mask=target_mask)

    def encode(self, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """The memory of a source, (batch, token, channel)."""
        return self.encoder(self._embedded(source, self.embed, self.positions), mask)

    def decode(
        self,
        target: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        *,
        target_mask: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """The logits of the token behind each of the target's, (batch, token, num_tokens).

        Args:
            target: (batch, token). With a cache, the tokens that follow those of earlier calls.
            memory: What encode gave, (batch, key, channel). The batch of the target may be a multiple of this one:
                consecutive rows are then hypotheses of one sentence.
            memory_mask: The source's, (batch, key).
            target_mask: Which tokens there are. Padding behind the last token needs none: no token sees what follows.
            cache: decoder.new_cache(), the same one in each call.
        """
        if target_mask is not None and cache is not None:
            raise ValueError("decode takes a target_mask or a cache; got both")
        embed = self.embed if self.target_embed is None else self.target_embed
        x = self._embedded(target, embed, self.target_positions, 0 if cache is None else cache.length)
        x = self.decoder(x, memory, target_mask, memory_mask, cache)
        return F.linear(x, self.embed.weight) if self.proj is None else self.proj(x)

    def _embedded(self, tokens: Tensor, embed: nn.Embedding, positions: nn.Module, start: int = 0) -> Tensor:
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            kind = str(tokens.dtype).removeprefix("torch.")
            raise ValueError(f"Transformer takes (batch, token) of int64; got {kind} {tuple(tokens.shape)}")
        x = embed(tokens) * self.embed_dim**0.5
        return self.dropout(x + positions(x, start))


class EncoderDecoder(nn.Module):
    """The two stacks over tokens that are vectors already, without embeddings and logits: what torch.nn.Transformer is.

    Args:
        embed_dim: As in Transformer, like all that follow.

    Shape:
        source and target (batch, token, channel), source_mask and target_mask, bool (batch, token), True = a token ->
        (batch, token, channel), as the target, each of whose tokens sees those before it.
    """

    def __init__(
        self,
        embed_dim: int = 512,
        *,
        num_heads: int = 8,
        hidden_channels: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        bias: bool = True,
        pre_norm: bool = False,
        final_norm: bool | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        self.architecture = Architecture.of("encoder_decoder", arguments)
        self.num_heads, self.pre_norm, self.norm_eps = num_heads, pre_norm, norm_eps
        sizes = embed_dim, num_heads, hidden_channels
        options: LayerOptions = {
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "bias": bias,
            "pre_norm": pre_norm,
            "norm_eps": norm_eps,
        }
        self.encoder = TransformerEncoder(encoder_layers, *sizes, final_norm=final_norm, **options)
        self.decoder = TransformerDecoder(decoder_layers, *sizes, final_norm=final_norm, **options)

    def forward(
        self, source: Tensor, target: Tensor, source_mask: Tensor | None = None, target_mask: Tensor | None = None
    ) -> Tensor:
        return self.decoder(target, self.encoder(source, source_mask), target_mask, source_mask)


def _positions(form: str, channels: int, length: int | None) -> nn.Module:
    return SinusoidalPositions(channels, form) if length is None else LearnedPositions(channels, length)


class Settings(TypedDict, total=False):
    """What both builders take; Transformer says what each means."""

    embed_dim: int
    num_heads: int
    hidden_channels: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    bias: bool
    pre_norm: bool
    final_norm: bool | None
    norm_eps: float
    positions: str
    length: int | None
    tied: bool


def transformer_base(num_tokens: int = 37_000, **settings: Unpack[Settings]) -> Transformer:
    """The paper's base model: 63.1 million parameters with a vocabulary of 37,000, about that of English and German."""
    return Transformer(num_tokens, **settings)


def transformer_big(num_tokens: int = 37_000, **settings: Unpack[Settings]) -> Transformer:
    """The paper's big model: 214 million parameters; for English and French it was trained with dropout=0.1."""
    sizes: Settings = {"embed_dim": 1024, "num_heads": 16, "hidden_channels": 4096, "dropout": 0.3}
    return Transformer(num_tokens, **(sizes | settings))
