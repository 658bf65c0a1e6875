"""Mask R-CNN of slices in its sizes, without and with volumetric attention."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from torch import nn

from foveate.networks.mask_rcnn import MaskRCNN

__all__ = [
    "mask_rcnn_resnet50",
    "mask_rcnn_resnet101",
    "mask_rcnn_tiny",
    "va_mask_rcnn_resnet50",
    "va_mask_rcnn_resnet101",
    "va_mask_rcnn_tiny",
]


class Settings(TypedDict, total=False):
    """What every builder takes; MaskRCNN says what each means, and ResNet what width does to the backbone."""

    num_classes: int
    bag: int
    bag_stride: int
    include_target: bool
    mechanism: str | Callable[[int], nn.Module] | None
    options: Mapping[str, Any] | None
    levels: Sequence[str] | None
    shared: bool
    norm: str
    norm_eps: float
    fpn_channels: int
    head_channels: int
    mask_channels: Sequence[int]
    anchor_sizes: Sequence[int]
    aspect_ratios: Sequence[float]
    min_size: int
    max_size: int
    image_mean: Sequence[float]
    image_std: Sequence[float]
    detector: Mapping[str, Any] | None
    width: float


VOLUMETRIC: Settings = {"mechanism": "volumetric", "bag": 9}
TINY: Settings = {
    "fpn_channels": 64,
    "head_channels": 128,
    "mask_channels": (32, 32),
    "min_size": 128,
    "max_size": 128,
}
TINY_DETECTOR = {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 100, "box_batch_size_per_image": 64}


def mask_rcnn_resnet50(**settings: Unpack[Settings]) -> MaskRCNN:
    """Mask R-CNN on ResNet-50: 44.0 million parameters with two classes; torchvision's maskrcnn_resnet50_fpn."""
    return _on({"block": "bottleneck", "depths": (3, 4, 6, 3)}, settings)


def mask_rcnn_resnet101(**settings: Unpack[Settings]) -> MaskRCNN:
    """Mask R-CNN on ResNet-101: 63.0 million parameters with two classes."""
    return _on({"block": "bottleneck", "depths": (3, 4, 23, 3)}, settings)


def mask_rcnn_tiny(**settings: Unpack[Settings]) -> MaskRCNN:
    """Mask R-CNN of 1.4 million parameters on a narrow ResNet-18, for slices of about 128 x 128 on processor cores."""
    numbers = {**TINY_DETECTOR, **(settings.get("detector") or {})}
    return _on({"block": "basic", "depths": (2, 2, 2, 2), "base_width": 16}, TINY | settings | {"detector": numbers})


def va_mask_rcnn_resnet50(**settings: Unpack[Settings]) -> MaskRCNN:
    """VA Mask R-CNN on ResNet-50: bags of 9, attention on all five levels, 44,425 parameters of it."""
    return mask_rcnn_resnet50(**(VOLUMETRIC | settings))


def va_mask_rcnn_resnet101(**settings: Unpack[Settings]) -> MaskRCNN:
    """VA Mask R-CNN on ResNet-101."""
    return mask_rcnn_resnet101(**(VOLUMETRIC | settings))


def va_mask_rcnn_tiny(**settings: Unpack[Settings]) -> MaskRCNN:
    """VA Mask R-CNN of 1.4 million parameters, for bags of 5 slices of about 128 x 128.

    A reduction of 4 leaves the 64 channels of a level as many hidden units as 16 leaves 256.
    """
    reduced: Settings = {} if "mechanism" in settings else {"options": {"reduction": 4}}
    return mask_rcnn_tiny(**(VOLUMETRIC | {"bag": 5} | reduced | settings))


def _on(backbone: dict[str, Any], settings: Settings) -> MaskRCNN:
    options: dict[str, Any] = dict(settings)
    width = options.pop("width", 1.0)
    return MaskRCNN(backbone if width == 1.0 else backbone | {"width": width}, **options)
