"""Translate sentences, and hold translations against those of people: BLEU, by sacrebleu."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foveate.data.text import Pair
from foveate.errors import MissingExtra
from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.networks import Transformer
from foveate.networks.decoding import beam_search, greedy
from foveate.tasks.translate.batches import TokenBatches, padded
from foveate.tasks.translate.vocabulary import BEGIN, END, PAD, Vocabulary

__all__ = ["bleu", "check_extra", "translate", "write_predictions"]

BATCH_TOKENS = 2048  # of sources that are translated at once


def translate(
    network: Transformer,
    vocabulary: Vocabulary,
    sentences: Sequence[str],
    *,
    beam: int,
    alpha: float,
    told: Callable[[int], object] | None = None,
) -> list[str]:
    """The translation of each sentence; an empty one stays empty, and with a warning one that is longer than the
    positions that a network has learned.

    Args:
        network: In evaluation mode, on any device.
        vocabulary: Its tokens.
        sentences: To be translated.
        beam: Translations that are followed at once; 1 for the likeliest token at each step.
        alpha: Of the length penalty, which one translation at once does not need.
        told: Takes how many sentences are done.
    """
    device = next(network.parameters()).device
    every = [(number, tokens) for number, tokens in enumerate(vocabulary.encode(sentences)) if len(tokens) > 1]
    rows = [row for row in every if network.length is None or len(row[1]) <= network.length]
    if len(rows) < len(every):
        lost = f"{len(every) - len(rows)} sentences have more tokens than the network has positions, {network.length}"
        warnings.warn(f"{lost}, and stay empty", stacklevel=2)
    found, done = [""] * len(sentences), len(sentences) - len(rows)
    for batch in TokenBatches([len(tokens) for _, tokens in rows], BATCH_TOKENS, len(rows)) if rows else ():
        source = padded([rows[place][1] for place in batch]).to(device)
        options = {"begin": BEGIN, "end": END}
        if beam == 1:
            decoded = greedy(network, source, source != PAD, **options)
        else:
            decoded = beam_search(network, source, source != PAD, beam=beam, alpha=alpha, **options)
        texts = vocabulary.decode([tokens.tolist() for tokens in decoded.tokens])
        for place, text in zip(batch, texts, strict=True):
            found[rows[place][0]] = text
        done += len(batch)
        if told is not None:
            told(done)
    return found


def check_extra() -> None:
    """Raise MissingExtra where sacrebleu is not installed."""
    _library()


def bleu(translations: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """BLEU of a set of translations, from 0 to 100, and the signature that says how it was measured."""
    metric = _library().BLEU()
    score = metric.corpus_score(list(translations), [list(references)]).score
    return float(score), str(metric.get_signature())


def _library() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingExtra("sacrebleu", "text") from None
    return metrics


def write_predictions(path: Path, pairs: Sequence[Pair], translations: Sequence[str]) -> None:
    """A row for each sentence: the sentence, its translation by people, and that of the network."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(["index", "source", "target", "prediction"])
    for index, (pair, translation) in enumerate(zip(pairs, translations, strict=True)):
        writer.writerow([index, *pair, translation])
    write_atomic(path, text.getvalue())
