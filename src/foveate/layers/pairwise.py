"""The pairwise functions of non-local networks, as maps and as sums that never form the map.

Each of them weighs every query position against every key position and sums the values by these weights,
y_i = sum_j w_ij g_j. A function `..._weights` returns the map w; the function without that ending returns y by the
cheapest exact form, chosen from the shapes:

    gaussian       w = softmax_j(q_i . k_j)      scaled_dot_product_attention: memory grows with N, not with N^2; half
                                                 of the q_i . k_j where the keys are the queries; the map where it is
                                                 small and queries are wider than values
    dot_product    w = q_i . k_j / N             q (k^T g) / N where that is less work than (q k^T) g / N
    concatenation  w = relu(q_i + k_j) / N       sorted keys and running sums: N log N + N C instead of N^2 C

All tensors are (batch, position, channel); concatenation takes one number a position as query and as key: the halves of
w_f^T [theta_i, phi_j]. The last two sum in float32 at least, whatever autocast says: sums over thousands of positions
overflow float16 and stall in bfloat16.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.layers import gradients, symmetric

__all__ = [
    "FUSE_FROM",
    "SORT_FROM",
    "TILE_FROM",
    "associative",
    "concatenation",
    "concatenation_weights",
    "dot_product",
    "dot_product_weights",
    "gaussian",
    "gaussian_weights",
    "running_sums",
    "step_sum",
    "weighted_sum",
]

FUSE_FROM = 1000
"""Positions from which a softmax is not formed even of queries wider than the values, which its sum must fill up."""
TILE_FROM = 1500
"""Positions from which tiles of one map of positions with themselves beat that map, as measured on a CPU."""
SORT_FROM = 500
"""Positions from which running sums beat the map of a concatenation, as measured on a CPU."""


def gaussian_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax over the keys of query . key, over those keys alone where the mask is True; zeros where it never is."""
    query, key = _widened(query, key)
    with _without_autocast(query):
        logits = query @ key.mT
        if mask is None:
            return logits.softmax(dim=-1)
        # The lowest number, not -inf: of a row without any key that would make NaN, and keep it in second derivatives.
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)


def dot_product_weights(query: Tensor, key: Tensor) -> Tensor:
    """(query . key) / number of keys."""
    query, key = _widened(query, key)
    with _without_autocast(query):
        return query @ key.mT / key.shape[1]


def concatenation_weights(query: Tensor, key: Tensor) -> Tensor:
    """relu(query + key) / number of keys, for queries and keys of one channel."""
    query, key = _widened(query, key)
    return (query + key.mT).relu() / key.shape[1]


def weighted_sum(weights: Tensor, value: Tensor) -> Tensor:
    """The explicit form: y_i = sum_j weights_ij value_j."""
    weights, widened = _widened(weights, value)
    with _without_autocast(value):
        return (weights @ widened).to(value.dtype)


def gaussian(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The values summed by `gaussian_weights`.

    The fused kernel of the CPU has no second derivative: take it under sdpa_kernel(SDPBackend.MATH).
    """
    by_tiles = query is key and _suits_tiles(query) and query.numel() > 0
    least = TILE_FROM if by_tiles else FUSE_FROM
    if query.shape[2] > value.shape[2] and _map_pays(query, key, below=least):
        return weighted_sum(gaussian_weights(query, key), value)
    if by_tiles:
        return symmetric.gaussian(query.contiguous(), value.contiguous())
    # Fused kernels want one width for all three and contiguous channels; else the map would be formed after all.
    width = max(query.shape[2], value.shape[2])
    one_head = [_filled(x.contiguous(), width).unsqueeze(1) for x in (query, key, value)]
    y = F.scaled_dot_product_attention(one_head[0], one_head[1], one_head[2], scale=1.0)
    return y.squeeze(1)[:, :, : value.shape[2]]


def dot_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The values summed by `dot_product_weights`."""
    if _map_pays(query, key, below=query.shape[2]):
        return weighted_sum(dot_product_weights(query, key), value)
    return associative(query, key, value)


def concatenation(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The values summed by `concatenation_weights`."""
    if _map_pays(query, key, below=SORT_FROM):
        return weighted_sum(concatenation_weights(query, key), value)
    return running_sums(query, key, value)


def associative(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query (key^T value) / number of keys: the dot product without its map."""
    query, key, widened = _widened(query, key, value)
    with _without_autocast(value):
        context = (key / key.shape[1]).mT @ widened
        return (query @ context).to(value.dtype)


def running_sums(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The concatenation without its map.

    relu(q_i + k_j) is q_i + k_j for the keys above -q_i and nothing for the others, so y_i needs two sums over
    these keys only, of g_j and of k_j g_j: q_i sum g_j + sum k_j g_j.
    """
    query, key, widened = _widened(query, key, value)
    shift = key.detach().mean(dim=1, keepdim=True)  # the two sums cancel where keys are far from zero
    query, key = query + shift, key - shift
    both = step_sum(query.squeeze(2), key.squeeze(2), torch.cat([widened, key * widened], dim=2))
    values, weighted = both.chunk(2, dim=2)
    return ((query * values + weighted) / key.shape[1]).to(value.dtype)


def step_sum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """y_i = sum of value_j over the keys with query_i + key_j > 0, for (batch, position) queries and keys."""
    return _StepSum.apply(query, key, value)


class _StepSum(torch.autograd.Function):
    """A linear map of the values. Its transpose is the same sum with queries and keys exchanged, at every order."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        negative, order = (-key).sort(dim=1)
        count = torch.searchsorted(negative, query.contiguous())  # of the keys above -query, the largest first
        sums = F.pad(_rows(value, order).cumsum(dim=1), (0, 0, 1, 0))
        return _rows(sums, count)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        query, key = ctx.saved_tensors
        return None, None, step_sum(key, query, grad)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """The rows of (batch, position, channel) named by (batch, row)."""
    batch = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return x[batch, index]


def _map_pays(query: Tensor, key: Tensor, below: int) -> bool:
    """Whether queries x keys of work is less than (queries + keys) x below / 2.

    Sizes that are open, as when torch.export or torch.compile leaves space dynamic, are taken for large.
    """
    queries, keys = query.shape[1], key.shape[1]
    less = 2 * queries * keys < (queries + keys) * below
    if not torch.compiler.is_compiling():
        return less
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # brings sympy: here it is there anyway

    return statically_known_true(less)


def _suits_tiles(x: Tensor) -> bool:
    """Whether a tensor is a processor's in full precision, and neither a compiler nor torch.func looks on."""
    if gradients.transformed() or x.device.type != "cpu":
        return False
    return x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")


def _filled(x: Tensor, width: int) -> Tensor:
    """Add channels of zero, up to a width. Padding by none at all gives strides that compiled code does not foresee."""
    return x if x.shape[2] == width else F.pad(x, (0, width - x.shape[2]))


def _widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Float32 at least."""
    return tuple(x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
