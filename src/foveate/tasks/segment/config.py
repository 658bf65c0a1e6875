"""SegmentConfig: everything that decides a run that segments."""

import dataclasses
from typing import Literal

from foveate.rules import Scale
from foveate.tasks.config import TrainingConfig

__all__ = ["SegmentConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentConfig(TrainingConfig):
    """One training run that segments volumes, or pictures with masks; what is not below is in TrainingConfig.

    Args:
        data: A folder in the layout of the Medical Segmentation Decathlon or nnU-Net, or pairs of folders.
        network: A name of the networks' catalogue, such as "attention_unet", or "monai/NAME" for one of MONAI's.
        start: "identity" lets the mechanism begin as the identity, "published" as its paper says, "auto" is identity if
            the run starts from weights (init) and published otherwise.
        fold: Which fold of the training cases is for validation. Default: their last tenth.
        folds: How many there are.
        split_file: A JSON file of "train", "val" and "test", or nnU-Net's splits_final.json with a fold.
        spacing: Size in mm of the voxels that the network sees, along right, anterior and superior. Default: the median
            of the training cases. Pictures have none.
        window: HU of a CT that become 0 and 1, such as [-160, 240], or a name such as "liver"; of pictures the values
            that do, such as [0, 4095]. Default: intensities as the modality suggests.
        scale: Which voxel size counts if the sform and the pixdim of a NIfTI file differ: "sform", "pixdim" (with the
            qform), or "auto", the one that is not 1 x 1 x 1; where that does not decide, the file is refused.
        ignore: Label values that are neither learned nor scored, such as [255]. Default: what a dataset.json calls
            "ignore"; void values that nothing describes are asked for.
        threshold: The lowest value of the foreground in masks of two classes whose edges are grey, such as 128.
        patch_size: Voxels of a patch along each axis. Default: by the median size of the training cases.
        patches_per_epoch: Patches in an epoch. Default: as many as training cases, but at least 100.
        foreground: The share of patches around a voxel that is not background.
        augment: "none", "flips", "standard" (flips, small rotations and scalings, noise, brightness, contrast, gamma)
            or "elastic" (standard and elastic deformation).
        flip_axes: Axes that may be flipped. Default: all.
        loss: "dice_ce" (Dice and cross-entropy) or "soft_dice" (as the Attention U-Net was trained in its release).
        batch_dice: Sum the Dice of dice_ce over the batch.
        deep_supervision: A loss for every level of the decoder, each worth half of the finer one.
        validate_every: Epochs between two validations; the last epoch has one too.
        overlap: Of neighbouring windows in inference.
        flips: Average the predictions over flips in inference.
        largest_component: Keep the largest connected part of each class.
        channels_last: Train in the memory layout with the channels last, in which convolutions of few channels are
            quicker; some networks are not, and the last bits of the numbers differ.
        cache_mib: Memory for prepared cases; those beyond it are prepared again each time.
    """

    task: str = "segment"
    data: str = ""
    network: str = "attention_unet"
    start: Literal["auto", "identity", "published"] = "auto"
    fold: int | None = None
    folds: int = 5
    split_file: str | None = None
    batch_size: int = 2
    weight_decay: float = 1e-4
    spacing: list[float] | None = None
    window: list[float] | str | None = None
    scale: Scale = "auto"
    ignore: list[int] | None = None
    threshold: int | None = None
    patch_size: list[int] | None = None
    patches_per_epoch: int | None = None
    foreground: float = 1 / 3
    augment: Literal["none", "flips", "standard", "elastic"] = "standard"
    flip_axes: list[int] | None = None
    loss: Literal["dice_ce", "soft_dice"] = "dice_ce"
    batch_dice: bool = False
    deep_supervision: bool = False
    validate_every: int = 10
    overlap: float = 0.5
    flips: bool = False
    largest_component: bool = False
    channels_last: bool = True
    cache_mib: int = 4096

    def check(self) -> None:
        if not self.data:
            raise ValueError("a segmentation needs data: a folder of volumes or pictures with their labels; none given")
        for name in ("folds", "patches_per_epoch", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        for name in ("spacing", "patch_size"):
            value = getattr(self, name)
            if value is not None and (not value or min(value) <= 0):
                raise ValueError(f"{name} must be positive along each axis; got {value}")
        if isinstance(self.window, list) and (len(self.window) != 2 or self.window[0] >= self.window[1]):
            raise ValueError(f"window takes its low and its high end, such as [-160, 240]; got {self.window}")
        if self.threshold is not None and self.threshold < 1:
            raise ValueError(f"threshold must be 1 or more; got {self.threshold}")
        if self.threshold is not None and self.ignore:
            raise ValueError(f"threshold leaves no value to ignore; got {self.threshold} and ignore {self.ignore}")
        if not 0 <= self.foreground <= 1:
            raise ValueError(f"foreground must be from 0 to 1; got {self.foreground}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be from 0 to below 1; got {self.overlap}")
        if self.cache_mib < 0:
            raise ValueError(f"cache_mib must be 0 or more; got {self.cache_mib}")
        if self.batch_dice and self.loss != "dice_ce":
            raise ValueError(f'batch_dice belongs to the loss "dice_ce"; loss is "{self.loss}"')
        if self.flip_axes is not None and self.augment == "none":
            raise ValueError(f'flip_axes {self.flip_axes} need augmentation; augment is "none"')

    @property
    def identity(self) -> bool:
        """Whether the mechanism begins as the identity, "auto" resolved."""
        return self.mechanism != "none" and (
            self.start == "identity" or (self.start == "auto" and self.init is not None)
        )
