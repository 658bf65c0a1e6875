"""Everything that decides a run, frozen, checked, and kept as config.json in its folder."""

import dataclasses
import difflib
import json
import math
import shlex
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from foveate.errors import RunError
from foveate.files import irregular
from foveate.rules import MAX_FILE_MIB, MAX_PIXELS, ReadRules
from foveate.tasks.embedded import DEMO_SETTINGS, EMBEDDED_SETTINGS
from foveate.tasks.kinds import fits, kinds, words
from foveate.tasks.limits import check_bits, check_numbers, check_pairs, check_pixels

__all__ = [
    "DEMO_SETTINGS",
    "RunConfig",
    "TrainingConfig",
    "command_for",
    "config_for",
    "kind_of_config",
    "parse_setting",
    "read_config",
    "task_for",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What the runs of every task have; a task's own configuration adds to it. The same values give the same bits.

    Args:
        task: The job: "classify", "segment", "detect", "lesions" (to detect in slices of volumes) or "translate".
        data: Where the data are.
        network: A name of the networks' catalogue.
        mechanism: A name of the mechanisms' catalogue, a chain such as "eca+spatial", or "none".
        options: Options of the mechanism, such as {"reduction": 8}.
        network_options: Options of the network's builder, such as {"stem": "cifar"}.
        arm: What the run is called in a study. Default: the mechanism.
        init: A checkpoint (.safetensors, or .pth of tensors only) to start from.
        seed: Decides the weights, the order of the data and its augmentation.
        epochs: How many epochs there are. Default: 30, or no limit with max_time_s.
        max_time_s: Stop after this many seconds of training.
        patience: Stop after this many epochs that validation finds no better, and keep the weights of the best.
        batch_size: Pictures, or patches, a step, over all devices together.
        betas: How fast AdamW forgets gradients and their squares.
        epsilon: What AdamW adds to their root.
        optimizer: "adamw" or "sgd" (momentum 0.9).
        schedule: How the learning rate falls: "cosine", "step" (a tenth at half, a hundredth at three quarters), "drop"
            (a tenth at two thirds) or "constant".
        warmup_epochs: Epochs in which the learning rate rises from zero.
        train_only: "all", or "inserted": only the mechanism and the head learn, the host is frozen.
        host_learning_rate: Another learning rate for all that is neither mechanism nor head.
        precision: "32", "bf16" or "16" (mixed).
        device: "auto", "cpu", "cuda" or "mps".
        devices: Processes, one a device.
        threads: Threads of the arithmetic. Default: as torch is set; a resumed run keeps what it began with.
        width: Multiplies every width of the host.
        num_workers: Processes that read data; it does not change the numbers.
        max_pixels: Limit on the pixels of an image, a frame or a slice; larger ones are refused before they are
            unpacked.
        max_file_mib: Limit on what a file, and a volume, unpacks to, likewise.
    """

    task: str
    data: str
    network: str
    mechanism: str = "none"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    network_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    arm: str | None = None
    init: str | None = None
    seed: int = 0
    epochs: int | None = None
    max_time_s: float | None = None
    patience: int | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.999])
    epsilon: float = 1e-8
    schedule: Literal["cosine", "step", "drop", "constant"] = "cosine"
    warmup_epochs: float = 1.0
    train_only: Literal["all", "inserted"] = "all"
    host_learning_rate: float | None = None
    precision: Literal["32", "bf16", "16"] = "32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    threads: int | None = None
    width: float = 1.0
    num_workers: int = 0
    max_pixels: int = MAX_PIXELS
    max_file_mib: int = MAX_FILE_MIB

    def __post_init__(self) -> None:
        for name, kind in kinds(type(self)).items():
            value = getattr(self, name)
            if not fits(value, kind):
                raise ValueError(f"{name} takes {words(kind)}; got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be finite; got {value!r}")
        if type(self) is not CONFIGS.get(self.task, lambda: None)():
            raise ValueError(f'task must be "{_task_of(type(self))}"; got {self.task!r}')
        if self.epochs is None and self.max_time_s is None:
            object.__setattr__(self, "epochs", 30)
        check_numbers(self)
        check_pairs(self)
        self.check()

    REPLACES = types.MappingProxyType(
        {"max_time_s": "epochs"}
    )  # a setting, and the suited one that it takes the place of

    @classmethod
    def suited(cls, data: str) -> dict[str, Any]:
        """Settings that suit some data better than the defaults, where nothing else is asked for."""
        return {}

    def check(self) -> None:
        """Refuse what a task's own settings cannot be."""

    @property
    def read_rules(self) -> ReadRules:
        """The limits and choices of the readers of this run."""
        return ReadRules(self.max_pixels, self.max_file_mib, getattr(self, "scale", "auto"))

    def warmup(self, steps_per_epoch: int) -> float:
        """Steps in which the learning rate rises."""
        return self.warmup_epochs * steps_per_epoch

    @property
    def arm_name(self) -> str:
        """What the run is called: the arm, or else the mechanism."""
        return self.arm or self.mechanism

    def to_json(self) -> str:
        """The text of config.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from names and values; an unknown name is a LookupError that says which one was meant."""
        for name in values:
            _check_name(cls, name)
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read config.json; anything wrong with it is a RunError that names the file."""
        try:
            return cls.from_dict(_read_json(path))
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"{path} is not a run's configuration: {error.args[0]}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingConfig):
    """One training run that classifies pictures; what is not below is in TrainingConfig.

    Args:
        data: A folder of class folders, a MedMNIST npz file, or "demo" for the embedded pictures; for a network of
            clips a folder of class folders of videos, or "direction" or "mover".
        network: A name of the networks' catalogue, "timm/NAME" or "torchvision/NAME".
        start: "identity" inserts the mechanism as the identity, "published" builds it as its paper does, "auto" is
            identity where the host has trained weights (pretrained or init) and published otherwise.
        where: Pattern of the modules that the mechanism follows, for insertion. Default: the host's usual places.
        pretrained: Start from the host's published weights.
        augment: "none", "digits" (shifts), "standard" (shifts and flips), "crops" (random resized crops and flips),
            "trivial" (standard and TrivialAugment) or "jitter" (crops from pictures whose shorter side is 256/224 to
            320/224 of theirs, and flips). One draw for all frames of a clip.
        bits: Bits of grey images of 16 bits, 8 to 16: 2**bits - 1 becomes white. Default: the smallest of 8, 10, 12, 14
            and 16 that hold the training images.
        image_size: Side to which pictures are brought. Default: that of the images that the weights were trained on, if
            a run starts from weights and it is known; else the pictures' own where all are alike, else 224.
        mean: Of each channel, of pixels in 0..1. Default: as of the weights, likewise; else of the training data.
        std: Likewise.
        crop: Fraction of the scaled picture's shorter side that is cut out. Default: as of the weights; else 1.
        interpolation: How pictures are scaled, "bilinear" or "bicubic". Default: as of the weights; else bilinear.
        fit: How pictures of another shape than the network's are brought to it: "crop" (scaled until the shorter side
            fits, and cut in the middle), "pad" (scaled until all fits, and padded) or "stretch" (each side by itself).
            Default: as of the weights; else crop.
        class_weights: Weigh the loss by the inverse frequency of the classes.
        frames: How many frames of a video make a clip. Default: 32 where the network steps in time as published; or 8.
        frame_stride: From one frame of a clip to the next. Default: as far as most training videos are long enough
            for, at most 8.
        test_clips: In how many clips, evenly spread, a video is looked at outside of training. Default: 1, the middle.
        test_crops: In how many parts along its longer side each of them is, 1 or 3; probabilities are averaged over
            all. Default: 1.
    """

    task: str = "classify"
    data: str = "demo"
    network: str = "resnet18"
    start: Literal["auto", "identity", "published"] = "auto"
    where: str | None = None
    pretrained: bool = False
    augment: Literal["none", "digits", "standard", "crops", "trivial", "jitter"] = "standard"
    bits: int | None = None
    image_size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    fit: Literal["crop", "pad", "stretch"] | None = None
    class_weights: bool = False
    label_smoothing: float = 0.0
    frames: int | None = None
    frame_stride: int | None = None
    test_clips: int | None = None
    test_crops: int | None = None

    @classmethod
    def suited(cls, data: str) -> dict[str, Any]:
        return dict(EMBEDDED_SETTINGS.get(data, {}))

    def check(self) -> None:
        for name in ("image_size", "frames", "frame_stride", "test_clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        check_bits(self.bits)
        check_pixels(self.mean, self.std, self.crop)
        if self.test_crops not in (None, 1, 3):
            raise ValueError(f"test_crops must be 1 or 3; got {self.test_crops}")
        if self.fit in ("pad", "stretch") and self.crop not in (None, 1):
            raise ValueError(f'crop {self.crop} needs fit="crop"; got fit="{self.fit}"')
        if self.fit in ("pad", "stretch") and self.test_crops == 3:
            raise ValueError(f'test_crops 3 looks at parts that fit="crop" cuts; got fit="{self.fit}"')
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1; got {self.label_smoothing}")
        if self.pretrained and self.init is not None:
            raise ValueError("pretrained and init both say where the weights come from; give one of them")
        if self.mechanism == "none" and self.where is not None:
            raise ValueError(f"where {self.where!r} needs a mechanism; mechanism is none")

    @property
    def identity(self) -> bool:
        """Whether the mechanism starts as the identity, "auto" resolved."""
        return self.start == "identity" or (self.start == "auto" and (self.pretrained or self.init is not None))


def _segment() -> type[TrainingConfig]:
    from foveate.tasks.segment.config import SegmentConfig

    return SegmentConfig


def _detect() -> type[TrainingConfig]:
    from foveate.tasks.detect.config import DetectConfig

    return DetectConfig


def _lesions() -> type[TrainingConfig]:
    from foveate.tasks.lesions.config import LesionConfig

    return LesionConfig


def _translate() -> type[TrainingConfig]:
    from foveate.tasks.translate.config import TranslateConfig

    return TranslateConfig


CONFIGS: dict[str, Callable[[], type[TrainingConfig]]] = {
    "classify": lambda: RunConfig,
    "segment": _segment,
    "detect": _detect,
    "lesions": _lesions,
    "translate": _translate,
}


def kind_of_config(task: str) -> type[TrainingConfig]:
    """The configuration of the runs of a task; an unknown task is a LookupError."""
    if task not in CONFIGS:
        raise LookupError(f'no task "{task}"; there are {", ".join(CONFIGS)}')
    return CONFIGS[task]()


def task_for(task: str, data: str, network: str | None) -> str:
    """The task that is meant: of "detect" it is "lesions" where the network, or else the data, are of volumes."""
    if task != "detect":
        return task
    if network is not None:
        from foveate.networks.catalogue import describe

        return "lesions" if describe(network).task == "lesions" else task
    from foveate.data.stacks import holds_stacks

    return "lesions" if holds_stacks(data) else task


def read_config(path: Path) -> TrainingConfig:
    """Read the config.json of a run of any task; anything wrong with it is a RunError that names the file."""
    try:
        kind = kind_of_config(str(_read_json(path).get("task", "classify")))
    except LookupError as error:
        raise RunError(f"{path} is not a run's configuration: {error.args[0]}") from None
    return kind.from_file(path)


def _read_json(path: Path) -> dict[str, Any]:
    kind = irregular(path)
    if kind is not None:
        raise RunError(f"{path} must be a file; it is {kind}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as a run's configuration: {error}") from None
    if not isinstance(values, dict):
        raise RunError(f"{path} must hold one JSON object; got {type(values).__name__}")
    return values


def config_for(data: str, *, task: str = "classify", **given: Any) -> TrainingConfig:
    """The configuration for some data: what was given, else what suits them, else the defaults of the task."""
    kind = kind_of_config(task)
    settings = kind.suited(data)
    for name, replaced in kind.REPLACES.items():
        if name in given:
            settings.pop(replaced, None)
    return kind.from_dict({**settings, "data": data, **given})


def command_for(config: TrainingConfig, out: Path) -> str:
    """The `foveate train` command that makes this run again."""
    usual = config_for(config.data, task=config.task)
    task = "detect" if config.task == "lesions" else config.task
    words = ["foveate", "train", task, "--data", config.data]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "network" and config.task == "lesions":  # which says that volumes are meant
            words += ["--network", value]
        elif field.name not in ("task", "data") and value != getattr(usual, field.name):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            words += ["--set", f"{field.name}={text}"]
    return shlex.join([*words, "--out", str(out)])


def parse_setting(text: str, config: type[TrainingConfig] = RunConfig) -> tuple[str, Any]:
    """Split "key=value" and read the value as its field's kind: numbers, true, false, none, JSON or plain text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"a setting is key=value; got {text!r}")
    name = name.strip().replace("-", "_")
    _check_name(config, name)
    kind = kinds(config)[name]
    if value.lower() in ("none", "null") and fits(None, kind):
        return name, None
    if fits(value, kind) and not value.startswith("["):
        return name, value
    try:
        parsed = json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except (ValueError, RecursionError):
        parsed = value
    if not fits(parsed, kind) and fits(value, kind):
        return name, value
    if not fits(parsed, kind):
        raise ValueError(f"{name} takes {words(kind)}; got {value!r}")
    return name, parsed


def _task_of(config: type[TrainingConfig]) -> str:
    return next(task for task, kind in CONFIGS.items() if kind() is config)


def _check_name(config: type[TrainingConfig], name: str) -> None:
    names = [field.name for field in dataclasses.fields(config)]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"it takes {', '.join(names)}"
        raise LookupError(f'a run has no setting "{name}"; {hint}')
