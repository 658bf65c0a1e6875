"""One call of train that detects."""

import dataclasses
from collections.abc import Iterable, Mapping

from foveate.data.box_checks import check_boxes
from foveate.data.boxes import Boxes, open_boxes
from foveate.data.contents import Content, contents_of
from foveate.data.depth import set_bits, settle_depth
from foveate.data.overview import of_boxes
from foveate.files import write_atomic
from foveate.networks import DETR
from foveate.tasks import files
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.looks import gate_health, pointing, write_maps
from foveate.tasks.detect.module import BoxModule, Detector
from foveate.tasks.detect.network import arranged, build_network, learning_modules, mechanism_modules
from foveate.tasks.detect.preparation import KEY, Preparation, describe, prepare_for
from foveate.tasks.detect.scoring import average_precision, find_all, write_predictions
from foveate.tasks.environment import pick_device
from foveate.tasks.finished import begun_with
from foveate.tasks.job import Job, Measured
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.samples import EpochBatches
from foveate.tasks.summary import latest

__all__ = ["DetectJob", "open_data"]


def open_data(config: DetectConfig) -> Boxes:
    """The data of a run."""
    return open_boxes(config.data, masks=config.masks, images=config.images)


class DetectJob(Job):
    """Look at every picture, build, fit, find everything in the test pictures."""

    config: DetectConfig
    network: DETR

    def open(self, begun: Checkpoint | None) -> None:
        self.boxes = open_data(self.config)
        self.preparation = self._prepared(begun)
        network, self.sites = build_network(self.config, self.preparation)
        self.network = arranged(network)

    def _prepared(self, begun: Checkpoint | None) -> Preparation:
        """What the run began with; a new one looks at all pictures first."""
        path = self.out / files.PREPARATION
        if begun is not None and path.exists():
            held = begun_with(path, Preparation.from_json)
            set_bits(self.boxes.splits, held.bits)
            return held
        depth = settle_depth(self.boxes.splits, self.config.bits)
        found = dataclasses.replace(prepare_for(self.config, self.boxes), bits=depth.bits)
        facts, findings = check_boxes(self.boxes, lambda done, count: self.tell("check", done / count))
        write_atomic(path, found.to_json())
        chosen = (*describe(self.config, found, self.boxes, facts, findings), *depth.notes())
        self.tell_data(of_boxes(self.boxes, facts), *chosen)
        return found

    def contents(self) -> Mapping[str, Iterable[Content]]:
        return {name: contents_of(split) for name, split in self.boxes.splits.items()}

    def learner(self, standing: Standing) -> tuple[Detector, BoxModule]:
        learning = learning_modules(self.config, self.sites)
        learner = Detector(
            self.network,
            self.preparation,
            self.config,
            learning,
            self.steps_per_epoch,
            standing,
            self.boxes.splits["val"],
        )
        return learner, BoxModule(self.boxes, self.preparation, self.config, standing)

    def measure(self, ended: Checkpoint) -> Measured:
        split = self.boxes.splits["test"]
        network = self.network
        network.to(pick_device(self.config.device)).eval()
        found = find_all(network, self.preparation, split, lambda done: self.tell("score", done / len(split), ended))
        write_predictions(self.out / files.PREDICTIONS, found, split, self.preparation)
        new = mechanism_modules(self.config, self.sites)
        write_maps(self.out / files.MAPS, network, self.preparation, new, split)
        metrics = average_precision(found, split, self.preparation) | {"val_map": self._val_map(ended.standing)}
        health = gate_health(network, self.preparation, new, split)
        return Measured(metrics, health, pointing(network, self.preparation, new, split))

    def _val_map(self, standing: Standing) -> float | None:
        """Of the weights that are kept."""
        if self.config.patience is not None and standing.best_loss is not None:
            return 1 - standing.best_loss
        return latest(standing.rows, "val_map")

    @property
    def metadata(self) -> dict[str, str]:
        return {KEY: self.preparation.to_json()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(split) for name, split in self.boxes.splits.items()}

    @property
    def steps_per_epoch(self) -> int:
        return EpochBatches.per_epoch(self.sizes["train"], self.config.batch_size)
