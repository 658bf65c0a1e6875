"""LesionConfig: everything that decides a run that detects in slices of volumes."""

import dataclasses
import math
import types
from typing import Any, Literal

from foveate.rules import Scale
from foveate.tasks.config import TrainingConfig

__all__ = ["LesionConfig"]

# What suits the embedded volumes, slices of 128 x 128 that are learned from random weights.
EMBEDDED = "lesions"
EMBEDDED_SETTINGS: dict[str, Any] = {
    "network": "mask_rcnn_tiny",
    "epochs": 6,
    "batch_size": 4,
    "learning_rate": 2e-3,
    "bag_stride": 2,
    "augment": "flips",
    "threads": 1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LesionConfig(TrainingConfig):
    """One training run that detects in slices of volumes; what is not below is in TrainingConfig.

    A slice is seen with its two neighbours, as three channels; where there is volumetric attention also by a bag of
    such pictures around it. A bag never leaves its volume: beyond an end the last slice there stands again.

    Args:
        data: Volumes with label maps (NIfTI, DICOM), DeepLesion, slices in COCO's layout, or "lesions" for the embedded
            volumes; foveate.data.open_stacks says how they are laid out.
        network: A name of the networks' catalogue: mask_rcnn_*, the plain network, or with mechanism="volumetric" that
            with attention over a bag, which va_mask_rcnn_* is by itself.
        start: "identity" lets the mechanism begin as the identity, "published" as its paper says, "auto" is identity if
            the run starts from weights (init or pretrained) and published otherwise.
        labels: Whether the values of label maps are "classes", whose connected parts are the lesions, or "instances".
        classes: The names of the classes that are lesions, such as ["cancer"]; what else is labelled is background.
            Default: all.
        channel: Which channel of volumes with several. Default: the only one.
        plane: Along which slices are cut: "axial", "coronal" or "sagittal".
        fold: Which fold of the training volumes is for validation. Default: their last tenth.
        folds: How many there are.
        split_file: A JSON file of "train", "val" and "test", or nnU-Net's splits_final.json with a fold.
        window: HU of a CT that become 0 and 1, such as [-160, 240], or a name such as "liver". Default: -200 to 300,
            the range that is told of Volumetric Attention. Other scans are standardised volume by volume.
        scale: Which voxel size counts if the sform and the pixdim of a NIfTI file differ: "sform", "pixdim" (with the
            qform), or "auto", the one that is not 1 x 1 x 1; where that does not decide, the file is refused.
        slice_mm: From one slice that the network sees to the next; volumes are resampled. Default: as they are.
        pixel_mm: Side of a pixel that the network sees, likewise.
        image_size: To which the longer side of a slice is resized. Default: the network's own, 1024, or 128 of tiny.
        bag: Pictures in a bag. Default: the network's own, 9, or 5 of tiny.
        bag_stride: Slices from one picture of a bag to the next. Default: 1.
        bag_mm: Instead the same in millimetres, rounded to whole slices of each volume, of which it is at least one.
        include_target: Whether the target is in the bag that it is compared with.
        anchor_sizes: Sides of the anchors in resized pixels, one for each of five levels. Default: the network's own.
        norm: The normalisation of the residual network: "batch", "frozen" or "group". Default: "group" where `init` has
            it; "frozen" with other weights; "batch" from random ones.
        pretrained: Start from weights that torchvision publishes: Mask R-CNN of COCO on ResNet-50, else ImageNet's.
        clip: The norm that the gradients of a step are cut to; None for none.
        augment: "none", "flips", or "standard" (flips, sizes from 4/5 to 5/4, shifts), alike in a whole bag.
        empty: Slices without a lesion in an epoch for each slice with one; every epoch draws others.
        score: The least score of what goes into label maps and pictures; measures count all scores.
        validate_every: Epochs between two validations; the last epoch has one too. `patience` counts all epochs.
        cache_mib: Memory for prepared volumes, a quarter of it for those of validation. Where the training volumes have
            no room together, an epoch goes through groups of them that have, so that each is read once.
    """

    task: str = "lesions"
    data: str = EMBEDDED
    network: str = "mask_rcnn_resnet50"
    start: Literal["auto", "identity", "published"] = "auto"
    labels: Literal["classes", "instances"] = "classes"
    classes: list[str] | None = None
    channel: str | None = None
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    fold: int | None = None
    folds: int = 5
    split_file: str | None = None
    window: list[float] | str | None = None
    scale: Scale = "auto"
    slice_mm: float | None = None
    pixel_mm: float | None = None
    image_size: int | None = None
    bag: int | None = None
    bag_stride: int | None = None
    bag_mm: float | None = None
    include_target: bool = True
    anchor_sizes: list[int] | None = None
    norm: Literal["batch", "frozen", "group"] | None = None
    pretrained: bool = False
    batch_size: int = 2
    learning_rate: float = 1e-4
    clip: float | None = 10.0
    augment: Literal["none", "flips", "standard"] = "standard"
    empty: float = 1.0
    score: float = 0.5
    validate_every: int = 10
    cache_mib: int = 4096

    REPLACES = types.MappingProxyType({"max_time_s": "epochs", "bag_mm": "bag_stride"})

    @classmethod
    def suited(cls, data: str) -> dict[str, Any]:
        return dict(EMBEDDED_SETTINGS) if data == EMBEDDED else {}

    def check(self) -> None:
        for name in ("folds", "image_size", "bag", "bag_stride", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        for name in ("slice_mm", "pixel_mm", "bag_mm", "clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be greater than 0; got {value}")
        if self.anchor_sizes is not None and min(self.anchor_sizes, default=0) < 1:
            raise ValueError(f"anchor_sizes are 1 or more; got {self.anchor_sizes}")
        if self.bag_stride is not None and self.bag_mm is not None:
            found = f"{self.bag_stride} and {self.bag_mm}"
            raise ValueError(f"bag_stride and bag_mm both say how far apart a bag's pictures are; got {found}")
        if isinstance(self.window, list) and not (
            len(self.window) == 2 and -math.inf < self.window[0] < self.window[1] < math.inf
        ):
            raise ValueError(f"window takes its low and its high end, such as [-160, 240]; got {self.window}")
        if self.empty < 0 or self.cache_mib < 0:
            raise ValueError(f"empty and cache_mib must be 0 or more; got {self.empty} and {self.cache_mib}")
        if not 0 <= self.score <= 1:
            raise ValueError(f"score must be from 0 to 1; got {self.score}")
        if self.pretrained and self.init is not None:
            raise ValueError("pretrained and init both say where the weights come from; give one of them")
        if self.norm == "frozen" and not self.trained:
            raise ValueError('norm "frozen" holds what loaded weights have measured; give init or pretrained')

    @property
    def trained(self) -> bool:
        """Whether the run starts from weights."""
        return self.pretrained or self.init is not None

    @property
    def identity(self) -> bool:
        """Whether the mechanism begins as the identity, "auto" resolved."""
        return self.start == "identity" or (self.start == "auto" and self.trained)
