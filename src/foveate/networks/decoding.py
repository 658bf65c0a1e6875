"""From a source to the target that a Transformer finds most likely: token by token, greedily or with a beam.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762, section 6.1: a beam of 4,
alpha 0.6, at most 50 tokens more than the source. The score is that of Wu et al., "Google's Neural Machine Translation
System", 2016, https://arxiv.org/abs/1609.08144, equation 14 without coverage:

    log P(target | source) / ((5 + length) / 6)^alpha, of the length with the end token
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.networks.quick_linear import QuickLinear
from foveate.networks.transformer import Transformer

__all__ = ["Decoded", "beam_search", "greedy", "length_penalty"]


@dataclass(frozen=True)
class Decoded:
    """The best target that was found for each source.

    Args:
        tokens: For each source its target, int64 (token,), without the begin token, and with the end token unless the
            target was cut off at its longest.
        scores: (batch,), the logarithm of its probability, of a beam over the length penalty.
    """

    tokens: list[Tensor]
    scores: Tensor


def length_penalty(length: Any, alpha: float) -> Any:
    """((5 + length) / 6)^alpha, of a number or a tensor: what the logarithm of a target's probability is divided by."""
    return ((5 + length) / 6) ** alpha


@torch.no_grad()
def greedy(
    network: Transformer,
    source: Tensor,
    source_mask: Tensor | None = None,
    *,
    begin: int,
    end: int,
    extra_length: int = 50,
) -> Decoded:
    """Take the most likely token at each step.

    Args:
        network: In evaluation mode.
        source: (batch, token), int64.
        source_mask: bool, of the same shape, True = a token.
        begin: The token in front of every target.
        end: The token that ends a target.
        extra_length: How many tokens longer than its source a target may be, the end token included. Learned positions
            limit it too.

    Raises:
        ValueError: If the network is in training mode; tokens that it has not.
    """
    sources = _Sources(network, source, source_mask, begin, end, extra_length)
    found, scores = [source[:0, 0]] * len(source), sources.zeros()
    tokens, total = source.new_full((len(source), 1), begin), scores
    while len(sources.number):
        logits = sources.logits(tokens[:, -1])
        best, token = logits.max(dim=1)
        total = total + best - logits.logsumexp(dim=1)
        tokens = torch.cat([tokens, token[:, None]], dim=1)
        done = (token == end) | (tokens.shape[1] > sources.longest)
        if done.any():
            for row in done.nonzero().flatten().tolist():
                found[sources.number[row]] = tokens[row, 1:]
            scores[sources.number[done]] = total[done]
            stay = (~done).nonzero().flatten()
            tokens, total = tokens[stay], total[stay]
            sources.keep(stay, stay)
    return Decoded(found, scores)


@torch.no_grad()
def beam_search(
    network: Transformer,
    source: Tensor,
    source_mask: Tensor | None = None,
    *,
    begin: int,
    end: int,
    beam: int = 4,
    alpha: float = 0.6,
    extra_length: int = 50,
) -> Decoded:
    """Follow the most likely beginnings of a target, and take the finished one with the best score.

    A beginning that ends while it is among the best `beam` of its step is finished, and another one goes on in its
    place. A source is done when `beam` targets are finished, when no beginning can become better than the best of them,
    or at the longest length; if nothing is finished there, the best beginning is taken. What else is in the batch makes
    no difference.

    Args:
        network: As in greedy, like all that is not said here. With a beam of 1 both find the same.
        beam: How many beginnings are followed.
        alpha: How much length counts: 0 for the logarithm of the probability as it is.

    Raises:
        ValueError: As greedy.
    """
    if beam < 1 or alpha < 0:
        raise ValueError(f"beam_search takes a beam of at least 1 and an alpha of at least 0; got {beam} and {alpha}")
    sources = _Sources(network, source, source_mask, begin, end, extra_length)
    found, scores = [source[:0, 0]] * len(source), sources.zeros() - torch.inf
    finished = torch.zeros_like(sources.number)
    # One beginning at first: equal ones would stay equal.
    tokens, alive = source.new_full((len(source), 1, 1), begin), sources.zeros()[:, None]
    while len(sources.number):
        width, length = tokens.shape[1:]
        candidates, row, token = _candidates(sources.logits(tokens[..., -1].flatten()), alive, 2 * beam)
        ended = token == end

        closed = ended & (torch.arange(ended.shape[1], device=ended.device) < beam)
        finished = finished + closed.sum(dim=1)
        best, place = (candidates / length_penalty(length, alpha)).masked_fill(~closed, -torch.inf).max(dim=1)
        for index in (best > scores[sources.number]).nonzero().flatten().tolist():
            number, chosen = sources.number[index], row[index, place[index]]
            found[number] = F.pad(tokens.flatten(0, 1)[chosen, 1:], (0, 1), value=end)
            scores[number] = best[index]

        # Each beginning has one end, so that of 2 * beam candidates at least beam go on.
        going = min(beam, width * (network.num_tokens - 1))
        alive, place = candidates.masked_fill(ended, -torch.inf).topk(going)
        row, token = row.gather(1, place), token.gather(1, place)
        tokens = torch.cat([tokens.flatten(0, 1)[row], token[..., None]], dim=2)

        reachable = alive[:, 0] / length_penalty(sources.longest, alpha)
        best = scores[sources.number]
        done = (finished >= beam) | (best >= reachable) | (length >= sources.longest)
        for index in (done & best.isneginf()).nonzero().flatten().tolist():
            found[sources.number[index]] = tokens[index, 0, 1:]
            scores[sources.number[index]] = alive[index, 0] / length_penalty(length, alpha)
        stay = (~done).nonzero().flatten()
        tokens, alive, finished = tokens[stay], alive[stay], finished[stay]
        sources.keep(stay, row[stay].flatten())
    return Decoded(found, scores)


class _Sources:
    """The sources that are not done, and what their decoding has to know."""

    def __init__(
        self,
        network: Transformer,
        source: Tensor,
        mask: Tensor | None,
        begin: int,
        end: int,
        extra_length: int,
    ) -> None:
        if network.training:
            raise ValueError("decoding takes a network in evaluation mode; call network.eval()")
        for name, token in {"begin": begin, "end": end}.items():
            if not 0 <= token < network.num_tokens:
                raise ValueError(f"{name} must be a token of 0 to {network.num_tokens - 1}; got {token}")
        if extra_length < 0:
            raise ValueError(f"extra_length must be at least 0; got {extra_length}")
        self.network, self.mask = network, mask
        with QuickLinear():
            self.memory = network.encode(source, mask)
        self.cache = network.decoder.new_cache()
        self.dtype = torch.promote_types(self.memory.dtype, torch.float32)  # in which probabilities are added up
        self.number = torch.arange(len(source), device=source.device)
        tokens = torch.full_like(self.number, source.shape[1]) if mask is None else mask.sum(dim=1)
        self.longest = tokens + extra_length
        if network.length is not None:
            self.longest = self.longest.clamp(max=network.length)

    def logits(self, token: Tensor) -> Tensor:
        """What follows a token: (row,) -> (row, num_tokens); the rows of one source stand together."""
        with QuickLinear():
            logits = self.network.decode(token[:, None], self.memory, self.mask, cache=self.cache)[:, 0]
        return logits.to(self.dtype)

    def zeros(self) -> Tensor:
        """A number for each source."""
        return torch.zeros_like(self.number, dtype=self.dtype)

    def keep(self, stay: Tensor, rows: Tensor) -> None:
        """Go on with these sources, and with these rows."""
        if len(stay) == len(self.number):
            self.cache.select(rows)
            return
        self.cache.select(rows, stay)
        self.memory, self.number, self.longest = self.memory[stay], self.number[stay], self.longest[stay]
        self.mask = None if self.mask is None else self.mask[stay]


def _candidates(logits: Tensor, alive: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The most likely continuations of each source, best first: their log-probability, row and token."""
    sources, width = alive.shape
    best, token = logits.topk(min(count, logits.shape[1]))
    best = alive.reshape(-1, 1) + best - logits.logsumexp(dim=1, keepdim=True)
    best, place = best.view(sources, -1).topk(min(count, width * token.shape[1]))
    first = width * torch.arange(sources, device=alive.device)[:, None]
    return best, first + place // token.shape[1], token.view(sources, -1).gather(1, place)
