"""The parts of Mask R-CNN: a pyramid of features whose levels are attended, and torchvision's regions and heads.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, https://arxiv.org/abs/1612.03144.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from foveate.layers import VolumetricAttention
from foveate.layers.volumetric import Embedded
from foveate.networks.detr_backbone import Backbone, FrozenBatchNorm2d
from foveate.networks.resnet import ResNet

__all__ = ["DETECTOR", "ImageList", "Pyramid", "detector", "joined"]

Levels = dict[str, Tensor]
GROUPS = 32  # of a group normalisation, where the channels allow it
DETECTOR = tuple(
    name
    for name in inspect.signature(detection.MaskRCNN.__init__).parameters
    if name.startswith(("rpn_", "box_", "bbox_")) and not name.endswith(("generator", "head", "pool", "predictor"))
)
"""The arguments of torchvision's MaskRCNN that are numbers: how regions are proposed, sampled and kept."""


class Pyramid(nn.Module):
    """A residual network, the pyramid of its stages, and attention on levels of it; keys as torchvision's.

    Args:
        network: The ResNet, which is taken apart.
        channels: Channels of every level.
        norm: "batch", "frozen" or "group".
        norm_eps: Added to a variance by the batch normalisations.
    """

    def __init__(self, network: ResNet, channels: int, *, norm: str, norm_eps: float) -> None:
        super().__init__()
        self.body = Backbone(network, dilation=False, frozen=norm == "frozen")
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
                module.eps = norm_eps
        if norm == "group":
            _normalise_in_groups(self.body)
        self.fpn = FeaturePyramidNetwork(self.body.channels, channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = channels
        self.stages = [str(stage) for stage in range(len(self.body.channels))]
        self.levels = [*self.stages, "pool"]
        self.attended: dict[str, str] = {}
        self.attention = nn.ModuleDict()

    def attend_by(self, build: Callable[[int], nn.Module], levels: Sequence[str], *, shared: bool) -> None:
        """Put what is built on these levels, one on each or one on all."""
        self.attended = {level: "shared" if shared else level for level in levels}
        for name in dict.fromkeys(self.attended.values()):
            self.attention[name] = build(self.out_channels)

    @property
    def volumetric(self) -> bool:
        """Whether the slices of the bag are looked at."""
        return any(isinstance(module, VolumetricAttention) for module in self.attention.children())

    def forward(self, images: Tensor, place: int, include_target: bool) -> Levels:
        """The attended levels of one slice of each bag: (batch, slice, 3, height, width) -> (batch, channel, ...)."""
        if not self.volumetric:
            return self.attend(self.features(images[:, place]), {})
        others = [index for index in range(images.shape[1]) if index != place]
        if others and self._apart:
            target = self.features(images[:, place])
            with torch.no_grad():
                whole = self._bag_features(images[:, others])
                if include_target:
                    for name in self.attended:
                        before, after = whole[name].split([place, len(others) - place], dim=1)
                        whole[name] = torch.cat([before, target[name].unsqueeze(1), after], dim=1)
        else:
            whole = self._bag_features(images)
            target = {name: x[:, place] for name, x in whole.items()}
            if not include_target:
                whole = {name: x[:, others] for name, x in whole.items()}
        return self.attend(target, self.embed(whole))

    @property
    def _apart(self) -> bool:
        """Whether the target is read by itself, because the others get no gradient and share no batch statistics."""
        shared = any(isinstance(module, nn.BatchNorm2d) and module.training for module in self.body.modules())
        modules = self.attention.children()
        detached = all(module.detach for module in modules if isinstance(module, VolumetricAttention))
        return torch.is_grad_enabled() and detached and not shared

    def _bag_features(self, images: Tensor) -> Levels:
        """The levels of every slice of each bag: (batch, slice, 3, height, width) -> (batch, slice, channel, ...)."""
        return {name: x.unflatten(0, images.shape[:2]) for name, x in self.features(images.flatten(0, 1)).items()}

    def features(self, images: Tensor) -> Levels:
        """The levels of slices by themselves: (batch, 3, height, width) -> (batch, channel, *space of the level)."""
        return self.fpn(dict(zip(self.stages, self.body(images), strict=True)))

    def embed(self, bag: Levels) -> dict[str, Embedded]:
        """What volumetric attention needs of a bag: (batch, slice, channel, ...) by level; nothing for the others."""
        return {
            level: module.embed(bag[level])
            for level, name in self.attended.items()
            if isinstance(module := self.attention[name], VolumetricAttention)
        }

    def attend(self, features: Levels, bag: Mapping[str, Embedded]) -> Levels:
        """The levels of slices as attention passes them on, by what was embedded where it is volumetric."""
        passed = dict(features)
        for level, name in self.attended.items():
            x, module = features[level], self.attention[name]
            passed[level] = module(x, bag[level]) if isinstance(module, VolumetricAttention) else module(x)
        return passed


def joined(bags: Sequence[Mapping[str, Embedded]]) -> dict[str, Embedded]:
    """One bag of what was embedded slice by slice."""

    def cat(parts: Sequence[Tensor | None]) -> Tensor | None:
        present = [part for part in parts if part is not None]
        return torch.cat(present, dim=1) if present else None

    return {
        level: Embedded(*(cat(parts) for parts in zip(*(bag[level] for bag in bags), strict=True))) for level in bags[0]
    }


def detector(
    backbone: Pyramid,
    num_classes: int,
    *,
    anchor_sizes: Sequence[int],
    aspect_ratios: Sequence[float],
    head_channels: int,
    mask_channels: Sequence[int],
    options: Mapping[str, Any],
) -> detection.FasterRCNN:
    """torchvision's Mask R-CNN on a pyramid, or its Faster R-CNN; transform, rpn and roi_heads are used."""
    ratios = (tuple(aspect_ratios),) * len(anchor_sizes)
    anchors = AnchorGenerator(tuple((size,) for size in anchor_sizes), ratios)
    pools = [MultiScaleRoIAlign(backbone.stages, output_size=size, sampling_ratio=2) for size in (7, 14)]
    parts = {
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(backbone.out_channels, anchors.num_anchors_per_location()[0]),
        "box_roi_pool": pools[0],
        "box_head": TwoMLPHead(backbone.out_channels * 7**2, head_channels),
        "box_predictor": FastRCNNPredictor(head_channels, num_classes),
    }
    if not mask_channels:
        return detection.FasterRCNN(backbone, **parts, **options)
    return detection.MaskRCNN(
        backbone,
        **parts,
        mask_roi_pool=pools[1],
        mask_head=MaskRCNNHeads(backbone.out_channels, list(mask_channels), 1),
        mask_predictor=MaskRCNNPredictor(mask_channels[-1], mask_channels[-1], num_classes),
        **options,
    )


def _normalise_in_groups(body: nn.Module) -> None:
    for parent in list(body.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                count = child.num_features
                groups = next(groups for groups in range(min(GROUPS, count), 0, -1) if count % groups == 0)
                parent.add_module(name, nn.GroupNorm(groups, count))
