"""Preparation: what a network that translates takes and gives; kept in one file with the weights."""

import dataclasses
import functools
import json
from collections.abc import Sequence

from foveate.data.text import Pair
from foveate.tasks.translate.batches import Encoded
from foveate.tasks.translate.vocabulary import UNKNOWN, Vocabulary

__all__ = ["KEY", "Preparation", "unknown_in"]

KEY = "foveate.translate"  # under which it is kept in model.safetensors


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a network that translates takes and gives.

    Args:
        source: The language that is translated.
        target: The language that it is translated into.
        tokens: The vocabulary that both share, as Vocabulary.to_json writes it.
    """

    source: str
    target: str
    tokens: str

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""
        return Vocabulary.from_json(self.tokens)

    def encode(self, pairs: list[Pair]) -> list[Encoded]:
        """The tokens of pairs of sentences."""
        sources, targets = zip(*pairs, strict=True) if pairs else ((), ())
        return list(zip(self.vocabulary.encode(sources), self.vocabulary.encode(targets), strict=True))

    def to_json(self) -> str:
        """The text that is kept in model.safetensors."""
        return json.dumps({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def from_json(cls, text: str) -> "Preparation":
        """Read what to_json wrote."""
        return cls(**json.loads(text))


def unknown_in(pairs: Sequence[Encoded]) -> int:
    """How many characters of pairs are not in the vocabulary."""
    return sum(tokens.count(UNKNOWN) for pair in pairs for tokens in pair)
