"""One call of train that classifies pictures or clips."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from foveate.data import Clips, Pictures
from foveate.data.clip_folders import FolderClips
from foveate.data.contents import Content, contents_of
from foveate.data.depth import Depth, settle_depth
from foveate.data.folders import FolderSplit
from foveate.data.overview import of_samples
from foveate.escaping import note_on_names
from foveate.tasks import attention, files, maps, scoring
from foveate.tasks.classify import Classifier, SampleModule, class_weights
from foveate.tasks.clips import ClipSet, looped
from foveate.tasks.config import RunConfig
from foveate.tasks.environment import pick_device
from foveate.tasks.hosts import build, new_modules, open_samples
from foveate.tasks.inputs_of_weights import inputs_of, notes_on
from foveate.tasks.job import Job, Measured
from foveate.tasks.layout import channels_last
from foveate.tasks.preprocess import KEY, Preprocess, lost_fraction, preprocess_for
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.samples import EpochBatches
from foveate.tasks.weights import features_of, head_of, heads_of

__all__ = ["ClassifyJob"]


class ClassifyJob(Job):
    """Build, fit, look at the test samples."""

    config: RunConfig

    def open(self, begun: Checkpoint | None) -> None:
        self.samples = open_samples(self.config, self.config.data)
        depth = settle_depth(self.samples.splits, self.config.bits)
        self.network, shape, self.sites = build(self.config, samples=self.samples)
        channels_last(self.network)
        self.new = new_modules(self.config, self.network, self.sites)
        found = preprocess_for(self.config, self.samples, shape, inputs_of(self.config))
        self.preprocess = dataclasses.replace(found, bits=depth.bits)
        self.head = head_of(self.network, len(self.samples.classes))
        if begun is None:
            _check_readable(self.samples, self.preprocess)
            self.tell_data(of_samples(self.samples), *self._chosen(depth))

    def _chosen(self, depth: Depth) -> Iterator[str]:
        """Yield the lines on what was chosen by the data and by the weights that the run starts from."""
        yield from _fitted(self.samples, self.preprocess)
        yield from depth.notes()
        yield from notes_on(self.config, self.preprocess)
        splits = self.samples.splits.values()
        names = (split.name(index) for split in splits for index in range(len(split)))
        yield from note_on_names([*self.samples.classes, *names])
        if isinstance(self.samples, Clips):
            yield from _told(self.samples, self.preprocess)

    def contents(self) -> Mapping[str, Iterable[Content]]:
        return {name: contents_of(split, self.samples.classes) for name, split in self.samples.splits.items()}

    def learner(self, standing: Standing) -> tuple[Classifier, SampleModule]:
        config, train = self.config, self.samples.splits["train"]
        weights = class_weights(train, len(self.preprocess.classes)) if config.class_weights else None
        learning = [*self.new, *heads_of(self.network, len(self.preprocess.classes))]
        learner = Classifier(self.network, self.preprocess, config, learning, weights, self.steps_per_epoch, standing)
        return learner, SampleModule(self.samples, self.preprocess, config, standing)

    def measure(self, ended: Checkpoint) -> Measured:
        self.tell("attend", 1.0, ended)
        split, classes = self.samples.splits["test"], self.samples.classes
        device = pick_device(self.config.device)
        self.network.to(device)
        labels = scoring.labels_of(split)
        logits = scoring.classify(self.network, self.preprocess, split, device)
        names = [split.name(index) for index in range(len(split))]
        scoring.write_predictions(self.out / files.PREDICTIONS, names, logits, classes, labels)
        samples = attention.pick_samples(labels.tolist(), len(classes))
        most = attention.CLIPS_LOOKED_AT if self.preprocess.frames else attention.LOOKED_AT
        indices = attention.spread_out(len(split), samples, most)
        features = features_of(self.network, self.head)
        seen = attention.look(self.network, self.new, self.preprocess, split, indices, features, device)
        maps.write_maps(self.out / files.MAPS, seen, split, classes, len(samples))
        rows, best = ended.standing.rows, ended.standing.best_loss
        validated = next((row["val_accuracy"] for row in rows if row["val_loss"] == best), rows[-1]["val_accuracy"])
        metrics = scoring.measure(logits, labels) | {"val_accuracy": validated}
        return Measured(metrics, attention.gate_health(seen), attention.pointing(seen))

    @property
    def metadata(self) -> dict[str, str]:
        return {KEY: self.preprocess.to_json()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(split) for name, split in self.samples.splits.items()}

    @property
    def steps_per_epoch(self) -> int:
        return EpochBatches.per_epoch(self.sizes["train"], self.config.batch_size)


def _check_readable(samples: Pictures | Clips, preprocess: Preprocess) -> None:
    """Decode what is not read before the end of an epoch: no hours of training shall end at a damaged file."""
    for name, split in samples.splits.items():
        if isinstance(split, FolderClips) and name == "train":
            for index in range(
                len(split)
            ):  # a clip begins anywhere: whatever is damaged in a video, it shall be met now
                split.clip(index, [split.length(index) - 1])
        elif isinstance(split, FolderClips):
            seen = ClipSet(split, preprocess)
            for index in range(len(split)):
                seen.__getitems__([index])
                for view in range(0, seen.views, preprocess.test_crops):
                    seen.view([index], view)
        elif isinstance(split, FolderSplit) and name != "train":
            for index in range(len(split)):
                split.image(index)


def _fitted(samples: Pictures | Clips, preprocess: Preprocess) -> tuple[str, ...]:
    """Say how pictures of another shape are brought to that of the network, and how much of them is lost."""
    height, width = preprocess.size
    others = [size for size in samples.sizes if size[0] * width != size[1] * height]
    if not others:
        return ()
    told = f"{len(others)} of {len(samples.sizes)} sizes that were looked at have another shape than {height} x {width}"
    lost = lost_fraction(samples.sizes, preprocess.size, preprocess.crop)
    largest = max(lost_fraction([size], preprocess.size, preprocess.crop) for size in others)
    rules = {
        "crop": f"their sides are cut: {lost:.1%} of the pixels are lost, {largest:.1%} at most (fit=pad or "
        "fit=stretch keep all)",
        "pad": "they are padded with black, and nothing is lost",
        "stretch": "they are stretched, and nothing is lost",
    }
    return (f"{told}; {rules[preprocess.shape_rule]}",)


def _told(samples: Clips, preprocess: Preprocess) -> tuple[str, ...]:
    """What clips are made of, and how many videos are too short for one."""
    frames, stride = preprocess.frames, preprocess.frame_stride
    which = "one after another" if stride == 1 else f"{stride} apart"
    notes = [f"a clip is {frames} frames, {which}" if frames > 1 else "a clip is one frame"]
    short = sum(looped(split, preprocess) for split in samples.splits.values())
    if short:
        told = "shorter than that, and begin again at their first frame"
        notes.append(f"{short} of {sum(map(len, samples.splits.values()))} videos are {told}")
    return tuple(notes)
