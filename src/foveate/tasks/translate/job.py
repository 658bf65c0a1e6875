"""One call of train that translates."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from torch import Tensor

from foveate.data.contents import Content, contents_of
from foveate.data.overview import of_text
from foveate.data.text import Pair, Text, open_text
from foveate.errors import DataError
from foveate.files import write_atomic
from foveate.networks import Transformer
from foveate.tasks import files
from foveate.tasks.environment import pick_device
from foveate.tasks.job import Job, Measured
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.summary import latest
from foveate.tasks.translate.attending import write_samples
from foveate.tasks.translate.batches import Encoded, TokenBatches
from foveate.tasks.translate.config import TranslateConfig
from foveate.tasks.translate.module import SentenceModule, Translator, averaged, lengths_of
from foveate.tasks.translate.network import build_network, peak_of, tokens_of
from foveate.tasks.translate.preparation import KEY, Preparation, unknown_in
from foveate.tasks.translate.scoring import bleu, check_extra, translate, write_predictions
from foveate.tasks.translate.vocabulary import Vocabulary

__all__ = ["TranslateJob", "open_data"]


def open_data(config: TranslateConfig) -> Text:
    """The data of a run."""
    return open_text(config.data, config.source, config.target)


class TranslateJob(Job):
    """Learn a vocabulary, build, fit, translate the test sentences."""

    config: TranslateConfig
    network: Transformer

    def open(self, begun: Checkpoint | None) -> None:
        check_extra()
        self.text, self.sites = open_data(self.config), []
        self.preparation, notes = self._prepared(begun)
        self.train, of_train = self._usable("train")
        self.val, of_val = self._usable("val")
        of_test = _unknown("test", self.preparation.encode(self.text.splits["test"]))
        self.network = build_network(self.config, len(self.preparation.vocabulary))
        if begun is None:
            self.tell_data(of_text(self.text), *notes, *of_train, *of_val, *of_test)

    def contents(self) -> Mapping[str, Iterable[Content]]:
        return {name: contents_of(pairs) for name, pairs in self.text.splits.items()}

    def _prepared(self, begun: Checkpoint | None) -> tuple[Preparation, tuple[str, ...]]:
        """What the run began with; a new one learns its vocabulary, unless it starts from weights that have one."""
        path, text = self.out / files.PREPARATION, self.text
        if begun is not None and path.exists():
            return Preparation.from_json(path.read_text(encoding="utf-8")), ()
        tokens = None if self.config.init is None else tokens_of(self.config.init)
        if tokens is None:
            sentences = (sentence for pair in text.splits["train"] for sentence in pair)
            vocabulary = Vocabulary.learn(sentences, self.config.vocabulary)
        else:
            vocabulary = Vocabulary.from_json(tokens)
        found = Preparation(text.source, text.target, vocabulary.to_json())
        write_atomic(path, found.to_json())
        notes = (
            f"{text.source} to {text.target}, {len(vocabulary):,} tokens that both share",
            *map(str, text.findings),
        )
        return found, notes

    def _usable(self, split: str) -> tuple[list[Encoded], list[str]]:
        """The tokens of the pairs of a split that are not too long, and what is odd about the others, in words."""
        pairs, longest = self.preparation.encode(self.text.splits[split]), self.config.longest
        kept = [pair for pair, length in zip(pairs, lengths_of(pairs), strict=True) if length <= longest]
        if not kept:
            raise DataError(f"{self.text.root} has no pair of at most {longest} tokens in its {split} split")
        if len(kept) < self.config.devices:
            raise DataError(
                f"each of {self.config.devices} devices needs a pair; {self.text.root} has {len(kept)} of at most "
                f"{longest} tokens in its {split} split"
            )
        lost = len(pairs) - len(kept)
        left_out = [f"{split}: {lost} pairs of more than {longest} tokens, left out"] if lost else []
        return kept, left_out + _unknown(split, kept)

    def learner(self, standing: Standing) -> tuple[Translator, SentenceModule]:
        config = dataclasses.replace(self.config, learning_rate=peak_of(self.config, self.network))
        val = self.text.splits["val"]
        learner = Translator(self.network, self.preparation, config, self.steps_per_epoch, standing, val)
        return learner, SentenceModule(self.train, self.val, config, standing)

    def trained(self, ended: Checkpoint) -> Mapping[str, Tensor]:
        if self.config.patience is not None:
            return super().trained(ended)
        return averaged(self.out, self.config.average) or ended.network

    def measure(self, ended: Checkpoint) -> Measured:
        network, test = self.network, self.text.splits["test"]
        network.to(pick_device(self.config.device)).eval()
        metrics: dict[str, float | None] = {"bleu": None, "unknown_tokens": None}
        if test:
            score, signature, said = self._translated(test, ended)
            write_predictions(self.out / files.PREDICTIONS, test, said)
            write_samples(self.out / files.MAPS, network, self.preparation, test, said)
            about = {"bleu": score, "signature": signature, "sentences": len(test)}
            write_atomic(self.out / files.BLEU, json.dumps(about, indent=1) + "\n")
            metrics |= {"bleu": score, "unknown_tokens": unknown_in(self.preparation.encode(test))}
        rows = ended.standing.rows
        return Measured(metrics | {name: latest(rows, name) for name in ("val_loss", "val_bleu")}, {})

    def _translated(self, test: list[Pair], ended: Checkpoint) -> tuple[float, str, list[str]]:
        sources, targets = zip(*test, strict=True)
        said = translate(
            self.network,
            self.preparation.vocabulary,
            sources,
            beam=self.config.beam,
            alpha=self.config.alpha,
            told=lambda done: self.tell("score", done / len(test), ended),
        )
        return *bleu(said, targets), said

    @property
    def metadata(self) -> dict[str, str]:
        return {KEY: self.preparation.to_json()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(pairs) for name, pairs in self.text.splits.items()}

    @property
    def steps_per_epoch(self) -> int:
        config = self.config
        batches = TokenBatches(lengths_of(self.train), config.batch_tokens, config.batch_size, world=config.devices)
        return len(batches)


def _unknown(split: str, pairs: list[Encoded]) -> list[str]:
    """How many characters of a split no token has, in words."""
    count = unknown_in(pairs)
    return [f"{split}: {count} characters that are not in the vocabulary"] if count else []
