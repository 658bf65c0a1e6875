"""Mask R-CNN of slices, with attention between the pyramid and what reads it: VA Mask R-CNN.

He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, https://arxiv.org/abs/1703.06870; Wang et al., "Volumetric
Attention for 3D Medical Image Segmentation and Detection", MICCAI 2019, https://arxiv.org/abs/2004.01997. No code of
the latter is public: docs/mechanisms/volumetric.md says what is its text and what is a choice of ours.

    slice and its bag - residual network - pyramid - attention - regions - boxes, classes and masks
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from foveate.layers import VolumetricAttention, catalogue, functional
from foveate.layers.volumetric import Embedded
from foveate.networks.architecture import Architecture
from foveate.networks.resnet import ResNet

__all__ = [
    "MaskRCNN",
    "bag_slices",
    "mask_rcnn_resnet50",
    "mask_rcnn_resnet101",
    "mask_rcnn_tiny",
    "stack_slices",
    "va_mask_rcnn_resnet50",
    "va_mask_rcnn_resnet101",
    "va_mask_rcnn_tiny",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FAR = 9.0  # how far out of 0..1 a picture may reach: noise does not get there, Hounsfield units and bytes do


class MaskRCNN(nn.Module):
    """Mask R-CNN of 2.5-D pictures, three adjacent slices as channels; a bag of them where there is attention for it.

    Residual network and pyramid are `backbone.body` and `backbone.fpn`, regions `rpn`, heads `roi_heads`, keys as in
    torchvision, whose code they are but for the residual network; attention is `backbone.attention.LEVEL`. With bag=1
    and mechanism=None it is the plain 2.5-D network. `sites` names each mechanism with its channels; `architecture`
    says what builds the network again, and is None where the mechanism was given as a callable.

    Args:
        backbone: What makes the ResNet: block, depths and the like.
        num_classes: Classes with the background, which is the first: 2 for one kind of lesion, 91 as COCO counts.
        bag: Pictures in a bag, one of which is the target. 1: no bag.
        bag_stride: Slices from one picture of a bag to the next, in `detect`; a caller's bags are the caller's.
        include_target: Whether the target is in the bag that it is compared with.
        mechanism: What stands between the pyramid and the regions: "volumetric"; another name of the catalogue, a chain
            such as "eca+spatial", or what makes a module from a number of channels, on the target's features alone.
            Default: nothing.
        options: Options of a mechanism given by name.
        levels: On which levels of the pyramid it stands, "0" the finest, "pool" behind the coarsest. Default: all.
        shared: Whether one mechanism stands on all levels, instead of one on each.
        norm: The residual network's normalisation: "batch" (default, trained); "frozen", constants, with the stem and
            stage 1, which only loaded weights make sense of; "group".
        norm_eps: Added to a variance by the batch normalisations; torchvision's weights of COCO are used with 0.
        fpn_channels: Channels of every level.
        head_channels: Width of the boxes' head.
        mask_channels: Channels of each convolution of the masks' head.
        anchor_sizes: Side of the anchors in pixels of the resized picture, one of each level. torchvision's 32 to 512
            are too large for lesions.
        aspect_ratios: Height by width of the anchors.
        min_size: To which the shorter side of a picture is resized.
        max_size: Which the longer side does not exceed.
        image_mean: Of the three channels, which is taken off.
        image_std: Of the three channels, by which is divided.
        detector: Numbers of torchvision's MaskRCNN by their names there, such as box_score_thresh.

    Shape:
        images: a list of (3, height, width), or with a bag of (bag, 3, height, width), in 0..1; in training also
        targets, a list of dicts of the target slices: boxes (object, 4), x1, y1, x2, y2 in pixels, labels (object) from
        1, masks (object, height, width). In training -> a dict of losses; else -> a list of dicts: boxes, labels,
        scores, and masks (object, 1, height, width) in 0..1.

    Raises:
        ValueError: Sizes that do not fit; pictures of another shape or far out of 0..1; boxes without an extent.
    """

    anew: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "num_classes": ("roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits"),
        "aspect_ratios": ("rpn.head.cls_logits", "rpn.head.bbox_pred"),
        "mechanism": "backbone.attention",
    }
    """What a checkpoint cannot fill if one of these options is another one there."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        *,
        num_classes: int = 2,
        bag: int = 1,
        bag_stride: int = 1,
        include_target: bool = True,
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Mapping[str, Any] | None = None,
        levels: Sequence[str] | None = None,
        shared: bool = False,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        fpn_channels: int = 256,
        head_channels: int = 1024,
        mask_channels: Sequence[int] = (256, 256, 256, 256),
        anchor_sizes: Sequence[int] = (8, 16, 32, 64, 128),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        min_size: int = 1024,
        max_size: int = 1024,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        detector: Mapping[str, Any] | None = None,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        from foveate.networks import mask_rcnn_parts as parts  # torchvision takes a second to import

        self.architecture = Architecture.of("mask_rcnn", arguments)
        functional.check_choice("norm", norm, ("batch", "frozen", "group"))
        counts = {"num_classes": (num_classes, 2), "bag": (bag, 1), "bag_stride": (bag_stride, 1)}
        for name, (count, least) in counts.items():
            if count < least:
                raise ValueError(f"MaskRCNN takes {name} of at least {least}; got {count}")
        if not include_target and (bag == 1 or mechanism != "volumetric"):
            raise ValueError("include_target=False takes the target out of the bag that volumetric attention looks at")
        for name in detector or {}:
            if name not in parts.DETECTOR:
                raise TypeError(f'detector has no option "{name}"; it takes {", ".join(parts.DETECTOR)}')
        self.bag, self.bag_stride, self.include_target = bag, bag_stride, include_target
        self.norm, self.norm_eps, self.min_size, self.max_size = norm, norm_eps, min_size, max_size
        self.anchor_sizes = tuple(anchor_sizes)
        pyramid = parts.Pyramid(ResNet(**backbone), fpn_channels, norm=norm, norm_eps=norm_eps)
        if len(anchor_sizes) != len(pyramid.levels):
            raise ValueError(f"anchor_sizes are one for each of {len(pyramid.levels)} levels; got {self.anchor_sizes}")
        sizes = {"min_size": min_size, "max_size": max_size}
        colours = {"image_mean": list(image_mean), "image_std": list(image_std)}
        built = parts.detector(
            pyramid,
            num_classes,
            anchor_sizes=anchor_sizes,
            aspect_ratios=aspect_ratios,
            head_channels=head_channels,
            mask_channels=mask_channels,
            options={**sizes, **colours, **(detector or {})},
        )
        self.transform: Any = built.transform
        self.backbone = pyramid
        self.rpn, self.roi_heads = built.rpn, built.roi_heads
        # Last, so that one seed gives one host whatever the mechanism.
        self.sites = self._place(mechanism, options, levels, shared)

    def _place(
        self,
        mechanism: str | Callable[[int], nn.Module] | None,
        options: Mapping[str, Any] | None,
        levels: Sequence[str] | None,
        shared: bool,
    ) -> dict[str, int]:
        """Build the mechanisms where they go; the name of each and its channels."""
        if mechanism is None:
            given = {"options": options, "levels": levels, "shared": shared or None}
            if idle := [name for name, value in given.items() if value is not None]:
                raise ValueError(f"{', '.join(idle)} need a mechanism; got mechanism=None")
            return {}
        if levels is not None and (not levels or not set(levels) <= set(self.backbone.levels)):
            raise ValueError(f"levels are some of {', '.join(self.backbone.levels)}; got {tuple(levels)}")
        if not isinstance(mechanism, str):
            if options is not None:
                raise ValueError("options are for a mechanism given by name; a callable has its own")
            build = mechanism
        elif mechanism == "volumetric":
            catalogue.check_options("VolumetricAttention", options or {}, catalogue.options_of(mechanism))
            build = partial(VolumetricAttention, **options or {})
        else:
            build = partial(catalogue.build, mechanism, **options or {})
        self.backbone.attend_by(build, levels or self.backbone.levels, shared=shared)
        return {f"backbone.attention.{name}": self.backbone.out_channels for name in self.backbone.attention}

    @property
    def head_names(self) -> list[str]:
        """The modules that give classes."""
        return ["roi_heads.box_predictor", "roi_heads.mask_predictor"]

    def forward(
        self,
        images: Sequence[Tensor] | Tensor,
        targets: Sequence[Mapping[str, Tensor]] | None = None,
        *,
        place: int | None = None,
    ) -> Any:
        """Losses or detections of the target slices.

        Args:
            images: Bags, or single pictures where bag=1.
            targets: Of the target slices; only training reads them.
            place: Where in its bag each target is, from 0. Default: the middle, bag // 2.
        """
        images = list(images)
        if not images:
            raise ValueError("MaskRCNN takes at least one picture; got none")
        place = self.bag // 2 if place is None else place
        if not 0 <= place < self.bag:
            raise ValueError(f"place is 0 to {self.bag - 1} in a bag of {self.bag}; got {place}")
        for image in images:
            _check_image(image, self.bag)
        given = [dict(target) for target in _checked(targets, images)] if self.training else [None] * len(images)
        resized = [self._resized(*each) for each in zip(images, given, strict=True)]
        pictures = [picture for picture, _ in resized]
        batch = self.transform.batch_images(pictures).unflatten(1, (self.bag, -1))
        levels = self.backbone(batch, place, self.include_target)
        read = [target for _, target in resized] if self.training else None
        return self._answer(levels, batch[:, place], pictures, images, read)

    def detect(self, slices: Sequence[Tensor] | Tensor) -> Iterator[dict[str, Tensor]]:
        """What forward gives for every slice of a volume, in their order, each slice read once for all its bags.

        Args:
            slices: As for read_volume.

        Raises:
            ValueError: As from read_volume.
        """
        for index, levels in enumerate(self.read_volume(slices)):
            with torch.no_grad():
                picture = self._resized(slices[index])[0]
                batch = self.transform.batch_images([picture])
                found = self._answer(levels, batch, [picture], [slices[index]], None)
            yield found[0]

    def read_volume(self, slices: Sequence[Tensor] | Tensor) -> Iterator[dict[str, Tensor]]:
        """The levels of the pyramid, as attention passes them on, of every slice of a volume in their order.

        A bag is centred at its slice, its pictures bag_stride slices apart; beyond an end of the volume the last slice
        there stands again. What is held of slices that were read is bounded by what a bag spans.

        Args:
            slices: The 2.5-D pictures of one volume in their order, each (3, height, width): see stack_slices.

        Raises:
            ValueError: If the network is in training, or the slices differ in their shape.
        """
        from foveate.networks.mask_rcnn_parts import joined

        if self.training:
            raise ValueError("a volume is read by a network in evaluation; call network.eval() before")
        features: dict[int, dict[str, Tensor]] = {}  # of slices that are read and have not been the target
        embedded: dict[int, dict[str, Embedded]] = {}  # of slices that are still in a bag
        for index in range(len(slices)):
            bag = bag_slices(index, len(slices), self.bag, self.bag_stride) if self.backbone.volumetric else [index]
            with torch.no_grad():
                for other in sorted({index, *bag} - embedded.keys()):
                    if slices[other].shape != slices[0].shape:
                        shapes = f"{tuple(slices[0].shape)} and {tuple(slices[other].shape)}"
                        raise ValueError(f"the slices of a volume have one shape; got {shapes}")
                    _check_image(slices[other], bag=1)
                    batch = self.transform.batch_images([self._resized(slices[other])[0]])
                    features[other] = self.backbone.features(batch)
                    embedded[other] = self.backbone.embed({name: x[:, None] for name, x in features[other].items()})
                if not self.include_target:
                    del bag[self.bag // 2]
                levels = self.backbone.attend(features.pop(index), joined([embedded[other] for other in bag]))
            for other in [other for other in embedded if other <= index - self.bag // 2 * self.bag_stride]:
                del embedded[other]
            yield levels

    def _resized(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """A picture or a bag as torchvision normalises and resizes pictures, (channel, height, width); its target."""
        return self.transform.resize(self.transform.normalize(image).reshape(-1, *image.shape[-2:]), target)

    def _answer(
        self,
        levels: dict[str, Tensor],
        batch: Tensor,
        pictures: Sequence[Tensor],
        images: Sequence[Tensor],
        targets: list[dict[str, Tensor]] | None,
    ) -> Any:
        """What regions and heads make of the levels: losses, or what they found in the pictures as they came."""
        from foveate.networks.mask_rcnn_parts import ImageList

        sizes, originals = ([(each.shape[-2], each.shape[-1]) for each in some] for some in (pictures, images))
        proposals, losses = self.rpn(ImageList(batch, sizes), levels, targets)
        found, head_losses = self.roi_heads(levels, proposals, sizes, targets)
        return head_losses | losses if self.training else self.transform.postprocess(found, sizes, originals)


def stack_slices(volume: Tensor) -> Tensor:
    """The 2.5-D pictures of a volume: (slice, height, width) -> (slice, 3, height, width), each with its neighbours.

    Beyond an end of the volume the last slice there stands again.
    """
    if volume.ndim != 3:
        raise ValueError(f"a volume is (slice, height, width); got {tuple(volume.shape)}")
    return torch.stack([torch.cat([volume[:1], volume[:-1]]), volume, torch.cat([volume[1:], volume[-1:]])], dim=1)


def bag_slices(index: int, depth: int, bag: int, bag_stride: int = 1) -> list[int]:
    """Which slices of a volume are in the bag of one, whose own place is bag // 2; beyond an end the last one again."""
    first = index - bag // 2 * bag_stride
    return [min(max(first + step * bag_stride, 0), depth - 1) for step in range(bag)]


def _check_image(image: Tensor, bag: int) -> None:
    wanted = "(3, height, width), three adjacent slices as channels"
    if bag > 1:
        wanted = f"bags of ({bag}, 3, height, width), each picture three adjacent slices as channels"
    if image.shape[:-2] != ((3,) if bag == 1 else (bag, 3)):
        raise ValueError(f"MaskRCNN takes {wanted}; got {tuple(image.shape)}")
    if image.ndim != (3 if bag == 1 else 4) or image.shape[-3] != 3 or (bag > 1 and image.shape[0] != bag):
        raise ValueError(f"MaskRCNN takes {wanted}; got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"MaskRCNN takes floating point numbers in 0..1; got {image.dtype}")
    low, high = image.aminmax()
    if not (low >= -FAR and high <= 1 + FAR):
        found = f"{low.item():g} to {high.item():g}"
        raise ValueError(f"MaskRCNN takes numbers in 0..1, as a window of Hounsfield units is scaled; got {found}")


def _checked(
    targets: Sequence[Mapping[str, Tensor]] | None, images: Sequence[Tensor]
) -> Sequence[Mapping[str, Tensor]]:
    """The targets of a training step."""
    if targets is None or len(targets) != len(images):
        found = "none" if targets is None else len(targets)
        raise ValueError(f"training takes a target for each of {len(images)} pictures; got {found}")
    for index, target in enumerate(targets):
        if lacking := {"boxes", "labels", "masks"} - target.keys():
            raise ValueError(f"a target has boxes, labels and masks; target {index} lacks {', '.join(sorted(lacking))}")
        boxes, masks = target["boxes"], target["masks"]
        count, space = len(target["labels"]), tuple(images[index].shape[-2:])
        if boxes.shape != (count, 4) or masks.shape != (count, *space):
            wanted = f"boxes ({count}, 4) and masks ({count}, {space[0]}, {space[1]})"
            raise ValueError(
                f"target {index} of {count} labels takes {wanted}; got {tuple(boxes.shape)} and {tuple(masks.shape)}"
            )
        flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
        if flat.any():
            wanted = (
                "boxes are x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2, also where an object is one pixel wide"
            )
            raise ValueError(f"{wanted}; target {index} has {boxes[flat][0].tolist()}")
    return targets


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
    "detector": {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 100, "box_batch_size_per_image": 64},
}


def mask_rcnn_resnet50(**settings: Unpack[Settings]) -> MaskRCNN:
    """Mask R-CNN on ResNet-50: 44.0 million parameters with two classes; torchvision's maskrcnn_resnet50_fpn."""
    return _on({"block": "bottleneck", "depths": (3, 4, 6, 3)}, settings)


def mask_rcnn_resnet101(**settings: Unpack[Settings]) -> MaskRCNN:
    """Mask R-CNN on ResNet-101: 63.0 million parameters with two classes."""
    return _on({"block": "bottleneck", "depths": (3, 4, 23, 3)}, settings)


def mask_rcnn_tiny(**settings: Unpack[Settings]) -> MaskRCNN:
    """Mask R-CNN of 1.4 million parameters on a narrow ResNet-18, for slices of about 128 x 128 on processor cores."""
    return _on({"block": "basic", "depths": (2, 2, 2, 2), "base_width": 16}, TINY | settings)


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
