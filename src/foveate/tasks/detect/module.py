"""The task `detect` for Lightning: the module with its losses and validation, and the module with the pictures."""

import math
import operator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from foveate.capture import capture
from foveate.capture.analysis import entropy, likeness
from foveate.data.boxes import Boxes, BoxSplit
from foveate.networks import DETR
from foveate.rules import in_workers
from foveate.tasks.detect.augment import Augmentation, BoxSet, target_of
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.criterion import WEIGHTS, judge
from foveate.tasks.detect.found import detect
from foveate.tasks.detect.looks import cross_attention
from foveate.tasks.detect.matcher import Costs, Stability, match
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.detect.scoring import precision_metric, summarise, update
from foveate.tasks.detect.targets import Batch, collate
from foveate.tasks.learner import Learner, of_all
from foveate.tasks.resume import Standing
from foveate.tasks.samples import EpochBatches, WholeBatches

__all__ = ["BoxModule", "Detector", "augmentation"]

NO_PICTURE = -1
COLLAPSED = (  # a measure, its limit, and what lies beyond
    ("val_alike", operator.gt, 0.98, "all queries look at the same places"),
    ("val_spread", operator.lt, 0.005, "every picture gets the same boxes"),
)
ADVICE = "if it stays so, more epochs, a lower learning_rate, or weights that were trained on COCO (--init) may help"


class Detector(Learner):
    """A network that learns to detect.

    Validation takes one picture at a time, so that no box depends on what lies beside it in a batch. Besides COCO's
    average precision it measures val_unstable, the share of matched queries whose object is another one than in the
    validation before; of the last layer's attention on the picture val_entropy (1: everywhere alike) and val_alike (1:
    all queries look at the same places); and val_spread, the mean deviation of a query's box over the pictures (0:
    every picture gets the same boxes).

    Args:
        network: From pictures to classes and boxes.
        preparation: What it takes.
        config: The run.
        new: See Learner.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands.
        val: The pictures for validation.
    """

    config: DetectConfig
    network: DETR
    measures = ("val_map", "val_map50", "val_unstable", "val_entropy", "val_alike", "val_spread")

    def __init__(
        self,
        network: DETR,
        preparation: Preparation,
        config: DetectConfig,
        new: list[str],
        steps_per_epoch: int,
        standing: Standing,
        val: BoxSplit,
    ) -> None:
        rates = {"backbone.": config.backbone_rate}
        super().__init__(network, config, new, steps_per_epoch, standing, rates)
        self.preparation, self.val = preparation, val
        self.costs, self.weights = Costs(**config.costs), {**WEIGHTS, **config.weights}
        self.cross_attention = cross_attention(network)
        self.precision_of_val = precision_metric(preparation.masks)
        self.unstable, self.entropy, self.alike = (MeanMetric() for _ in range(3))
        self.matches: dict[int, dict[int, int]] = standing.memory.setdefault("matches", {})
        self.stability = Stability(self.matches)
        self.boxes: list[Tensor] = []

    def loss_of(self, batch: Batch) -> tuple[Tensor, int]:
        padding = batch.padding if bool(batch.padding.any()) else None
        answers = self.network(batch.images, padding, auxiliary=self.config.auxiliary)
        options = {"costs": self.costs, "weights": self.weights, "no_object": self.config.no_object}
        return judge(answers, batch.targets, **options).loss, len(batch.targets)

    @property
    def clip(self) -> float | None:
        return self.config.clip

    def validation_step(self, batch: list[int], batch_idx: int) -> None:
        if self.due(self.config.validate_every):
            for index in batch:
                if index != NO_PICTURE:
                    self._validate(index)

    def _validate(self, index: int) -> None:
        image, objects = self.val.image(index), self.val.objects(index)
        with capture(self.network, only=[self.cross_attention]) as maps:
            found, answer = detect(self.network, self.preparation, image)
        update(self.precision_of_val, found, self.val, index)
        target = target_of(objects, (image.shape[1], image.shape[2])).to(self.device)
        logits, boxes = answer["pred_logits"].float(), answer["pred_boxes"].float()
        self.stability.update(match(logits[None], boxes[None], [target], self.costs), [index], [target])
        self.boxes.append(boxes[0].cpu())
        weights = maps[self.cross_attention][0].float()
        if weights.shape[-1] > 1:
            self.entropy.update(entropy(weights).mean())
        if weights.shape[-2] > 1:
            self.alike.update(likeness(weights.mean(dim=0)))

    def measured(self) -> dict[str, float | None]:
        # Every process takes part, also one without pictures: the others wait for it.
        if not self.due(self.config.validate_every):
            return dict.fromkeys(self.measures)
        matched, share = self.stability.matched, self.stability.share()
        if share is not None:
            self.unstable.update(share, matched)
        self.matches.update(of_all(list(self.matches.items())))
        for name, seen in self.precision_of_val.metric_state.items():
            setattr(self.precision_of_val, name, of_all(seen))
        precision = summarise(self.precision_of_val.compute(), self.preparation.classes)
        boxes, shares = of_all(self.boxes), (self.unstable, self.entropy, self.alike)
        found = [precision["map"], precision["map50"], *(metric.compute().item() for metric in shares)]
        found.append(torch.stack(boxes).std(dim=0, correction=0).mean().item() if len(boxes) > 1 else None)
        for metric in (self.precision_of_val, *shares):
            metric.reset()
        self.boxes.clear()
        row = {
            name: None if value is None or math.isnan(value) else value
            for name, value in zip(self.measures, found, strict=True)
        }
        self._remark(row)
        return row

    def _remark(self, row: dict[str, float | None]) -> None:
        """Say once what shows that nothing is learned any more."""
        for name, beyond, limit, words in COLLAPSED:
            value = row[name]
            if value is not None and beyond(value, limit):
                told = f"epoch {self.standing.epoch + 1}: {words} ({name} {value:.3f})"
                self.remark(name, f"{told}; {ADVICE}")

    def objective(self, row: dict[str, float | None]) -> float | None:
        return None if row["val_map"] is None else 1 - row["val_map"]


class BoxModule(L.LightningDataModule):
    """The batches of a run, from where it stands.

    Args:
        boxes: The data.
        preparation: What the network takes.
        config: The run.
        standing: Where it stands.
    """

    def __init__(self, boxes: Boxes, preparation: Preparation, config: DetectConfig, standing: Standing) -> None:
        super().__init__()
        self.config, self.standing = config, standing
        self.count = len(boxes.splits["val"])
        change = augmentation(config, preparation)
        self.train_set = BoxSet(boxes.splits["train"], preparation.size, change, config.seed, preparation.masks)

    def train_dataloader(self) -> DataLoader[Any]:
        standing, config = self.standing, self.config
        self.train_set.epoch = standing.epoch
        batches = EpochBatches(
            len(self.train_set), config.batch_size, config.seed, standing.epoch, standing.batch, *self._processes()
        )
        options = {"num_workers": config.num_workers, "worker_init_fn": in_workers()}
        return DataLoader(self.train_set, batch_sampler=batches, collate_fn=collate, **options)

    def val_dataloader(self) -> DataLoader[Any]:
        # Only numbers go through the loader; a process for which there is none gets NO_PICTURE, for Lightning takes no
        # empty loader.
        batches = list(WholeBatches(self.count, 1, *self._processes())) or [[self.count]]
        return DataLoader([*range(self.count), NO_PICTURE], batch_sampler=batches, collate_fn=list)  # pyright: ignore[reportArgumentType]

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def augmentation(config: DetectConfig, preparation: Preparation) -> Augmentation | None:
    """The changes by chance that a run's `augment` names; None for none."""
    if config.augment == "none":
        return None
    if config.augment == "flips":
        return Augmentation((preparation.short,), preparation.longest, cropped=0.0)
    return Augmentation.around(preparation.size)
