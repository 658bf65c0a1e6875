"""The tokens of a run that translates: byte pair encoding, learned from its own training text in both languages.

Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016,
https://arxiv.org/abs/1508.07909. A space is part of the token behind it, so that tokens become text again without loss.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from foveate.errors import MissingExtra

__all__ = ["BEGIN", "END", "PAD", "UNKNOWN", "Vocabulary"]

SPECIAL = ("<pad>", "<begin>", "<end>", "<unknown>")
PAD, BEGIN, END, UNKNOWN = range(len(SPECIAL))
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what stands for it in a token


class Vocabulary:
    """Texts as numbers of tokens, and back.

    Args:
        tokenizer: Of the library tokenizers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # a text that has "<end>" in it says so, and does not end there

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        """Learn at most so many tokens from texts; every character of theirs is one, without the rarest if there are
        more than that.
        """
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNKNOWN]))
        tokenizer.normalizer = library.normalizers.NFC()
        split = library.pre_tokenizers
        tokenizer.pre_tokenizer = split.Sequence([split.Metaspace(), split.Punctuation()])
        tokenizer.decoder = library.decoders.Metaspace()
        texts = list(texts)
        counts = Counter({SPACE: len(texts)})
        for text in texts:
            counts.update(tokenizer.normalizer.normalize_str(text).replace(" ", SPACE))
        # The library would leave out any of the characters that are equally rare, others each time.
        common = sorted(counts, key=lambda character: (-counts[character], character))[: size - len(SPECIAL)]
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            show_progress=False,
            initial_alphabet=common,
            limit_alphabet=len(common),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Read what to_json wrote."""
        return cls(_library().Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The text that is kept with the weights."""
        return self._tokenizer.to_str()

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, the end among them."""
        return [[*found.ids, END] for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of tokens, without the special ones."""
        return self._tokenizer.decode_batch([list(row) for row in tokens], skip_special_tokens=True)

    def names(self, tokens: Sequence[int]) -> list[str]:
        """What each token is, to be read: a space is shown as a low line."""
        return [self._tokenizer.id_to_token(token).replace(SPACE, "_") for token in tokens]


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise MissingExtra("tokenizers", "text") from None
    return tokenizers
