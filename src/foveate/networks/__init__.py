"""Published networks: one file each."""

from foveate.networks.mobilenet import MobileNetV2, mobilenet_v2
from foveate.networks.places import non_local_blocks
from foveate.networks.resnet import (
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnet_tiny,
    resnext50_32x4d,
    resnext101_32x4d,
    resnext101_32x8d,
    senet154,
)

__all__ = [
    "MobileNetV2",
    "ResNet",
    "mobilenet_v2",
    "non_local_blocks",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet_tiny",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "senet154",
]
