"""The task `translate` for Lightning: the module with its loss and validation, and the module with the sentences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from foveate.data.text import Pair
from foveate.files import write_atomic
from foveate.networks import Transformer
from foveate.networks.published import packed, read_file
from foveate.tasks.learner import Learner
from foveate.tasks.resume import Standing
from foveate.tasks.translate.batches import Batch, Encoded, SentencePairs, TokenBatches, collate
from foveate.tasks.translate.config import TranslateConfig
from foveate.tasks.translate.preparation import Preparation
from foveate.tasks.translate.scoring import bleu, translate
from foveate.tasks.translate.vocabulary import PAD

__all__ = ["SentenceModule", "Translator", "averaged", "lengths_of"]

TRANSLATED = 500  # of the pairs that validate, at most
SNAPSHOTS = "checkpoints/step-*.safetensors"


class Translator(Learner):
    """A network that learns to translate.

    The loss is the cross-entropy of each token of the translation, smoothed as torch does it: all tokens share
    label_smoothing alike, the true one among them. Validation measures the plain cross-entropy of a token, and every
    few epochs BLEU of greedy translations.

    Args:
        network: From sentences to logits.
        preparation: What it takes.
        config: The run.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands.
        val: The pairs for validation.
    """

    config: TranslateConfig
    network: Transformer
    measures = ("val_loss", "val_bleu")

    def __init__(
        self,
        network: Transformer,
        preparation: Preparation,
        config: TranslateConfig,
        steps_per_epoch: int,
        standing: Standing,
        val: Sequence[Pair],
    ) -> None:
        super().__init__(network, config, [], steps_per_epoch, standing)
        self.preparation = preparation
        kept = min(len(val), TRANSLATED)
        self.val = [val[number * len(val) // kept] for number in range(kept)]
        self.val_loss = MeanMetric()

    def loss_of(self, batch: Batch) -> tuple[Tensor, int]:
        loss = self._loss(batch, self.config.label_smoothing)
        return loss, int((batch.wanted != PAD).sum())

    def _loss(self, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
        logits = self.network(batch.source, batch.target, batch.source != PAD).float()
        wanted = batch.wanted.flatten()
        return F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=PAD, label_smoothing=label_smoothing)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_loss.update(self._loss(batch), int((batch.wanted != PAD).sum()))

    def measured(self) -> dict[str, float | None]:
        found: dict[str, float | None] = {"val_loss": self.val_loss.compute().item(), "val_bleu": None}
        self.val_loss.reset()
        if self.due(self.config.validate_every):
            sources, targets = zip(*self.val, strict=True)
            self.network.eval()
            said = translate(self.network, self.preparation.vocabulary, sources, beam=1, alpha=0.0)
            self.network.train()  # what drops features in training does so in the next epoch too
            found["val_bleu"] = bleu(said, targets)[0]
        return found

    def objective(self, row: dict[str, float | None]) -> float | None:
        return row["val_loss"]

    def epoch_ended(self, out: Path) -> None:
        write_atomic(out / SNAPSHOTS.replace("*", f"{self.standing.step:09}"), packed(self.network.state_dict()))
        # By the rows, not by what is there: a run that goes on from an older checkpoint may find later ones.
        rows = self.standing.rows[-self.config.average :]
        kept = {out / SNAPSHOTS.replace("*", f"{row['step']:09}") for row in rows}
        for path in set(out.glob(SNAPSHOTS)) - kept:
            path.unlink()


def averaged(out: Path, count: int) -> dict[str, Tensor] | None:
    """The mean of the weights after the last epochs of a run, at most so many; None where there are none."""
    held = [read_file(path)[0] for path in sorted(out.glob(SNAPSHOTS))[-count:]]
    if not held:
        return None
    return {name: torch.stack([each[name].double() for each in held]).mean(dim=0).to(held[0][name]) for name in held[0]}


class SentenceModule(L.LightningDataModule):
    """The batches of a run, from where it stands.

    Args:
        train: The tokens of the pairs to learn from.
        val: Of those to validate with.
        config: The run.
        standing: Where it stands.
    """

    def __init__(
        self, train: Sequence[Encoded], val: Sequence[Encoded], config: TranslateConfig, standing: Standing
    ) -> None:
        super().__init__()
        self.config, self.standing = config, standing
        self.train_set, self.val_set = SentencePairs(train), SentencePairs(val)

    def train_dataloader(self) -> DataLoader[Any]:
        standing = self.standing
        return self._loader(self.train_set, self.config.seed, standing.epoch, standing.batch)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.val_set)

    def _loader(self, pairs: SentencePairs, *place: int) -> DataLoader[Any]:
        config, trainer = self.config, self.trainer
        processes = {} if trainer is None else {"rank": trainer.global_rank, "world": trainer.world_size}
        batches = TokenBatches(lengths_of(pairs.pairs), config.batch_tokens, config.batch_size, *place, **processes)
        return DataLoader(pairs, batch_sampler=batches, num_workers=config.num_workers, collate_fn=collate)


def lengths_of(pairs: Sequence[Encoded]) -> list[int]:
    """Tokens of the longer side of each pair."""
    return [max(len(source), len(target)) for source, target in pairs]
