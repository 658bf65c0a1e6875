"""DetectConfig: everything that decides a run that detects."""

import dataclasses
from typing import Any, Literal

from foveate.tasks.config import TrainingConfig
from foveate.tasks.limits import check_bits

__all__ = ["DetectConfig"]

LOSSES = ("loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice")
COSTS = ("classes", "boxes", "giou")
# What suits the embedded pictures, which have 72 pixels a side and are learned from random weights.
DEMO_SETTINGS: dict[str, Any] = {
    "network": "detr_tiny",
    "epochs": 40,
    "batch_size": 8,
    "learning_rate": 5e-4,
    "warmup_epochs": 1.0,
    "augment": "none",  # digits have a side that is up, and a left
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectConfig(TrainingConfig):
    """One training run that finds boxes, or boxes and masks; what is not below is in TrainingConfig.

    The defaults are those of DETR's release, but that of `schedule`, which falls by the run's own length, and those
    that depend on where the weights come from: a run from random weights trains all of the backbone, at the full rate.

    Args:
        data: A folder of COCO json files and pictures, such a file, or "demo" for the embedded pictures.
        network: A name of the networks' catalogue.
        images: The folder that file names are relative to. Default: looked for around the file.
        masks: Whether masks are learned too. With train_only="inserted" they alone are, as in the release's second
            stage, where the network at rest goes on dropping features; here it does not.
        start: "identity" inserts the mechanism into the backbone as the identity, "published" builds it as its paper
            does, "auto" is identity where the run starts from weights and published otherwise.
        where: Pattern of the modules of the backbone that the mechanism follows, for insertion. Default: as published.
        init: A checkpoint to start from: of a DETR, or of a ResNet, which becomes the backbone.
        pretrained: Start the backbone from the weights of ImageNet that torchvision publishes.
        num_queries: Objects at most. Default: those of the checkpoint; from random weights the network's own, or twice
            the objects of the fullest picture, at least ten, where these are fewer.
        frozen: Whether the backbone's batch normalisations are constants and its first layers rest. Default: where the
            run starts from weights.
        backbone_learning_rate: Of the backbone; 0 leaves it as it is. Default: a tenth of learning_rate where the run
            starts from weights, else all of it.
        clip: The norm that the gradients of a step are cut to; None for none.
        bits: As in RunConfig: bits of grey images of 16 bits. Default: by the training images.
        short: The length that a picture's shorter side gets. Default: 800 where the run starts from weights, whose
            objects had this size, else the median of the training pictures, at most 800; and at most longest.
        longest: The limit of the longer side. Default: short times 1333 / 800.
        augment: "none", "flips", or "standard" (flips, sizes and crops as in the release, in proportion to short).
        auxiliary: A loss for every layer of the decoder.
        no_object: What a query without an object weighs in the cross-entropy.
        costs: What counts in matching, where it is not as published, such as {"giou": 1.0}; see Costs.
        weights: What losses weigh, where it is not as published, such as {"loss_giou": 1.0}.
        validate_every: Epochs between two validations; the last epoch has one too.
    """

    task: str = "detect"
    data: str = "demo"
    network: str = "detr_resnet50"
    images: str | None = None
    masks: bool = False
    start: Literal["auto", "identity", "published"] = "auto"
    where: str | None = None
    pretrained: bool = False
    num_queries: int | None = None
    frozen: bool | None = None
    batch_size: int = 2
    learning_rate: float = 1e-4
    backbone_learning_rate: float | None = None
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "step", "drop", "constant"] = "drop"
    warmup_epochs: float = 0.0
    clip: float | None = 0.1
    bits: int | None = None
    short: int | None = None
    longest: int | None = None
    augment: Literal["none", "flips", "standard"] = "standard"
    auxiliary: bool = True
    no_object: float = 0.1
    costs: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    validate_every: int = 10

    @classmethod
    def suited(cls, data: str) -> dict[str, Any]:
        return dict(DEMO_SETTINGS) if data == "demo" else {}

    def check(self) -> None:
        for name in ("num_queries", "short", "longest", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        check_bits(self.bits)
        if self.short is not None and self.longest is not None and self.longest < self.short:
            raise ValueError(f"longest must be at least short; got {self.longest} and {self.short}")
        if self.backbone_learning_rate is not None and self.backbone_learning_rate < 0:
            raise ValueError(f"backbone_learning_rate must be 0 or more; got {self.backbone_learning_rate}")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip must be greater than 0; got {self.clip}")
        if not 0 < self.no_object <= 1:
            raise ValueError(f"no_object must be from above 0 to 1; got {self.no_object}")
        for name, known in (("costs", COSTS), ("weights", LOSSES)):
            for key, value in getattr(self, name).items():
                if key not in known:
                    raise LookupError(f'{name} has no "{key}"; it takes {", ".join(known)}')
                if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                    raise ValueError(f"{name} takes numbers of 0 or more; got {value!r} for {key}")
        for name, counted in (("costs", COSTS), ("weights", LOSSES if self.masks else LOSSES[:3])):
            if all(getattr(self, name).get(key, 1) == 0 for key in counted):
                raise ValueError(f"{name} must not all be zero; got {getattr(self, name)}")
        if self.host_learning_rate is not None:
            raise ValueError(
                f"a detector has a backbone_learning_rate; got host_learning_rate={self.host_learning_rate}"
            )
        if self.pretrained and self.init is not None:
            raise ValueError("pretrained and init both say where the weights come from; give one of them")
        if self.mechanism == "none" and self.where is not None:
            raise ValueError(f"where {self.where!r} needs a mechanism; mechanism is none")

    @property
    def trained(self) -> bool:
        """Whether the run starts from weights."""
        return self.pretrained or self.init is not None

    @property
    def identity(self) -> bool:
        """Whether the mechanism starts as the identity, "auto" resolved."""
        return self.start == "identity" or (self.start == "auto" and self.trained)

    @property
    def inserted(self) -> bool:
        """Whether the mechanism is inserted into the backbone, instead of built into it."""
        return self.mechanism != "none" and (self.identity or self.where is not None)

    @property
    def freezes(self) -> bool:
        """Whether the backbone's batch normalisations are constants, the default resolved."""
        return self.trained if self.frozen is None else self.frozen

    @property
    def backbone_rate(self) -> float:
        """The learning rate of the backbone, the default resolved."""
        if self.backbone_learning_rate is not None:
            return self.backbone_learning_rate
        return self.learning_rate / 10 if self.trained else self.learning_rate
