"""The softmax of positions against themselves, whose products are formed once for each pair of positions.

Where the queries are the keys, q_i . k_j = x_i . x_j = x_j . x_i: a tile of products, of some positions with some
others, serves both. Tiles are small enough to stay in the processor's cache, so memory grows with N and not with N^2:

    y_i = sum_j exp(x_i . x_j - l_i) v_j,  l_i = log sum_j exp(x_i . x_j)

While tiles come in, sums are kept relative to the largest product so far (Milakov and Gimelshein,
https://arxiv.org/abs/1805.02867). A gradient d of the product x_i . x_j reaches x_i and x_j alike, so those of (i, j)
and (j, i) are added before they are multiplied by features.
"""

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

__all__ = ["TILE", "gaussian"]

TILE = 2**20
"""Products in a tile, of all samples of a batch together, but one for each sample at least: 4 MiB in float32."""


def gaussian(x: Tensor, value: Tensor) -> Tensor:
    """The values summed by softmax_j(x_i . x_j), of (batch, position, channel)."""
    return _SymmetricGaussian.apply(x, value)[0]


class _SymmetricGaussian(torch.autograd.Function):
    """Its first gradient goes by tiles as well; where that is to be differentiated, the map is formed."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def forward(x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        y, total = torch.zeros_like(value, memory_format=torch.contiguous_format), x.new_zeros(*x.shape[:2], 1)
        largest = torch.full_like(total, -math.inf)
        sums = list(zip(*_tiles(y, total, largest), strict=True))
        xs, values = _tiles(_to_base_2(x), value)
        for i, j in _pairs(len(xs)):
            products = xs[i] @ xs[j].mT
            if i != j:
                _add(sums[j], products.mT, values[i])
            _add(sums[i], products, values[j])
        return y.div_(total), total.log2_().add_(largest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        x, value, y, log_total = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _by_the_map(x, value, grad)
        with torch.autocast("cpu", enabled=False):
            return _by_tiles(x, value, grad, y, log_total)


def _tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each tensor in as many equal runs of positions as make tiles of at most TILE products."""
    batch, positions = tensors[0].shape[:2]
    runs = math.ceil(positions / max(1, math.isqrt(TILE // max(1, batch))))
    return (tensor.split(max(1, math.ceil(positions / max(1, runs))), dim=1) for tensor in tensors)


def _to_base_2(x: Tensor) -> Tensor:
    """Features whose products are logarithms to base 2: torch.exp takes ten times as long where it underflows."""
    return math.log2(math.e) ** 0.5 * x


def _pairs(runs: int) -> Iterator[tuple[int, int]]:
    return combinations_with_replacement(range(runs), 2)


def _add(sums: tuple[Tensor, ...], products: Tensor, value: Tensor) -> None:
    """Add what some keys give to some queries, to sums relative to the largest product of each query."""
    y, total, largest = sums
    most = torch.maximum(largest, products.amax(dim=2, keepdim=True))
    kept = (largest - most).exp2_()
    weights = (products - most).exp2_()
    total.mul_(kept).add_(weights.sum(dim=2, keepdim=True))
    _add_product(y.mul_(kept), weights, value)
    largest.copy_(most)


def _slope(products: Tensor, query: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> Tensor:
    """The gradient to the products of some queries with some keys; adds that to the values of the keys."""
    _, _, grad, mean, log_total = query
    value, of_value = key[:2]
    weights = (products - log_total).exp2_()
    _add_product(of_value, weights.mT, grad)
    return (grad @ value.mT).sub_(mean).mul_(weights)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    torch.baddbmm(total, a, b, out=total)  # counters of operations do not know baddbmm_


def _by_tiles(x: Tensor, value: Tensor, grad: Tensor, y: Tensor, log_total: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients, from what the forward pass gave."""
    of_x, of_value = (torch.zeros_like(each, memory_format=torch.contiguous_format) for each in (x, value))
    mean = (grad * y).sum(dim=2, keepdim=True)
    xs, of_xs, scaled = _tiles(x, of_x, _to_base_2(x))
    parts = list(zip(*_tiles(value, of_value, grad, mean, log_total), strict=True))
    for i, j in _pairs(len(xs)):
        products = scaled[i] @ scaled[j].mT
        of_products = _slope(products, parts[i], parts[j])
        if i != j:
            of_products += _slope(products.mT, parts[j], parts[i]).mT
        _add_product(of_xs[i], of_products, xs[j])
        _add_product(of_xs[j], of_products.mT, xs[i])
    return of_x, of_value


def _by_the_map(x: Tensor, value: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients as operations that can be differentiated again."""
    weights = (x @ x.mT).softmax(dim=-1)
    of_weights = grad @ value.mT
    of_products = weights * (of_weights - (weights * of_weights).sum(dim=-1, keepdim=True))
    return (of_products + of_products.mT) @ x, weights.mT @ grad
