"""Multi-head attention: every query is answered by a weighted sum of values, in several subspaces at once.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, pairwise

__all__ = ["KeyValueCache", "MultiHeadAttention"]


class KeyValueCache:
    """The projected keys and values of one attention, kept for the queries of later calls.

    Attributes:
        pair: (2, batch, head, key, channel), keys and values; None before the first call.
    """

    def __init__(self) -> None:
        self.pair: Tensor | None = None

    @property
    def length(self) -> int:
        """Keys that are kept."""
        return 0 if self.pair is None else self.pair.shape[3]

    def add(self, key: Tensor, value: Tensor) -> Tensor:
        """Put keys and values, (batch, head, key, channel), behind those that are kept, and give them all."""
        new = torch.stack([key, value])
        self.pair = new if self.pair is None else torch.cat([self.pair, new], dim=3)
        return self.pair

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may be there several times."""
        if self.pair is not None:
            self.pair = self.pair.index_select(1, rows)


class MultiHeadAttention(nn.Module):
    """concat_h(softmax(q_h k_h^T / sqrt(head_dim)) v_h) W_o, where head h sees its slices of the projected q, k and v.

    Self-attention, cross-attention, and either of them causal or over padded keys. The map of queries against keys is
    formed only while its tap is watched. Parameters have the names and shapes of torch.nn.MultiheadAttention's, the
    weights of q, k and v packed into one. A query that may attend to no key gets zeros before W_o. Softmax has a second
    derivative only watched or under sdpa_kernel(SDPBackend.MATH).

    To decode token by token, each attention is called with its own KeyValueCache. Without a key (self-attention) the
    queries' keys and values join those of earlier calls; a key that is given (cross-attention) is projected in the
    first call alone, and has to be the same in every call.

    Args:
        embed_dim: Channels of queries, keys, values and the output; a multiple of num_heads.
        num_heads: Heads, each of embed_dim / num_heads channels.
        dropout: Share of the weights that training drops.
        bias: Whether the projections have biases; tensor2tensor's have none.

    Shape:
        query (batch, query, channel), key and value (batch, key, channel) -> (batch, query, channel). A key left out is
        the query, a value left out the key. mask, True = attend: (batch, key), or (batch or 1, query, key), over the
        keys of the cache too. With causal=True, query i sees the keys up to i, counted such that the last query sees
        all.

    Taps:
        weights: (batch, head, query, key), in [0, 1]; a query's sum to 1, or are all 0. Before dropout.

    Raises:
        ValueError: If the map is watched and would take more than functional.MAP_LIMIT_BYTES.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads; got {embed_dim} and {num_heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1; got {dropout}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias)
        self.weights = Tap("batch head query key")
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        kept = None if cache is None or key is None else cache.pair
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        inputs = (query, key, value) if kept is None else (query,)
        heads, *pair = (
            F.linear(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=False)
        )
        if cache is not None:
            pair = cache.add(*pair) if kept is None else kept
        context = self._attend(heads, pair[0], pair[1], _allowed(mask, causal, heads, pair[0]))
        return self.out_proj(context.transpose(1, 2).flatten(2))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        """The values weighed for each query, (batch, head, query, channel)."""
        if not self.weights.watched:
            dropout = self.dropout if self.training else 0.0
            return F.scaled_dot_product_attention(query, key, value, allowed, dropout)
        functional.check_map_size((*query.shape[:3], key.shape[2]), query, ADVICE)
        weights = self.weights(pairwise.gaussian_weights(query * query.shape[-1] ** -0.5, key, allowed))
        return pairwise.weighted_sum(F.dropout(weights, self.dropout, self.training), value)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        whole = all(x.ndim == 3 and x.shape[2] == self.embed_dim for x in (query, key, value))
        if not whole or key.shape[:2] != value.shape[:2] or query.shape[0] != key.shape[0]:
            wanted = f"(batch, token, {self.embed_dim}), as many keys as values"
            found = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
            raise ValueError(f"MultiHeadAttention takes {wanted}; got {found}")

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}, bias={self.in_proj_bias is not None}"


ADVICE = "give fewer or smaller inputs at once, or watch fewer layers"


def _allowed(mask: Tensor | None, causal: bool, query: Tensor, key: Tensor) -> Tensor | None:
    """Who of (batch, head, query or key, channel) may attend to whom, to broadcast over heads; None if all to all."""
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    allowed = None
    if mask is not None:
        shapes = ((batch, keys), (batch, queries, keys), (1, queries, keys))
        if mask.dtype != torch.bool or tuple(mask.shape) not in shapes:
            kind = str(mask.dtype).removeprefix("torch.")
            wanted = f"bool (batch, key) or (batch or 1, query, key), here {' or '.join(map(str, shapes))}"
            raise ValueError(f"a mask is {wanted}; got {kind} {tuple(mask.shape)}")
        allowed = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    if causal and queries > 1:
        earlier = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        allowed = earlier if allowed is None else allowed & earlier
    return allowed
