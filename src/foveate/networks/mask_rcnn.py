"""Mask R-CNN of slices, with attention between the pyramid and what reads it: VA Mask R-CNN.

He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, https://arxiv.org/abs/1703.06870; Wang et al., "Volumetric
Attention for 3D Medical Image Segmentation and Detection", MICCAI 2019, https://arxiv.org/abs/2004.01997. No code of
the latter is public: docs/mechanisms/volumetric.md says what is its text and what is a choice of ours.

    slice and its bag - residual network - pyramid - attention - regions - boxes, classes and masks
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foveate.layers import VolumetricAttention, catalogue, functional
from foveate.layers.volumetric import Embedded
from foveate.networks.architecture import Architecture
from foveate.networks.mask_rcnn_inputs import Slices, bag_slices, centred_target, check_image, check_targets
from foveate.networks.resnet import ResNet

__all__ = ["MaskRCNN"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Size = tuple[int, int]  # height and width


class MaskRCNN(nn.Module):
    """Mask R-CNN of 2.5-D pictures, three adjacent slices as channels; a bag of them where there is attention for it.

    Residual network and pyramid are `backbone.body` and `backbone.fpn`, regions `rpn`, heads `roi_heads`, keys as in
    torchvision, whose code they are but for the residual network; attention is `backbone.attention.LEVEL`. With bag=1
    and mechanism=None it is the plain 2.5-D network. `sites` names each mechanism with its channels; `architecture`
    says what builds the network again, and is None where the mechanism was given as a callable.

    With options={"detach": True} of volumetric attention, the slices around the target are read without a gradient;
    not so under norm="batch" in training, whose statistics are those of whole bags and let a gradient through.

    Args:
        backbone: What makes the ResNet: block, depths and the like.
        num_classes: Classes with the background, which is the first: 2 for one kind of lesion, 91 as COCO counts.
        bag: Pictures in a bag, one of which is the target. 1: no bag.
        bag_stride: Slices from one picture of a bag to the next, in `detect` of a volume that is given no other; a
            caller's bags are the caller's.
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
        mask_channels: Channels of each convolution of the masks' head. (): no masks, which makes a Faster R-CNN.
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
        1, masks (object, height, width) of 0 and 1. In training -> a dict of losses; else -> a list of dicts: boxes,
        labels, scores, and masks (object, 1, height, width) in 0..1. A network without masks reads and gives none.

    Raises:
        ValueError: Sizes that do not fit; pictures of another shape or far out of 0..1; boxes without an extent or
            beside the picture; labels that are no class; masks of other numbers.
    """

    anew: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "num_classes": ("roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits"),
        "aspect_ratios": ("rpn.head.cls_logits", "rpn.head.bbox_pred"),
        "mask_channels": ("roi_heads.mask_head", "roi_heads.mask_predictor"),
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
        for name in detector or {}:
            if name not in parts.DETECTOR:
                raise TypeError(f'detector has no option "{name}"; it takes {", ".join(parts.DETECTOR)}')
        if not len(image_mean) == len(image_std) == 3:
            raise ValueError(f"image_mean and image_std are of 3 channels; got {len(image_mean)} and {len(image_std)}")
        self.bag, self.bag_stride, self.include_target = bag, bag_stride, include_target
        self.norm, self.norm_eps, self.min_size, self.max_size = norm, norm_eps, min_size, max_size
        self.anchor_sizes, self.num_classes = tuple(anchor_sizes), num_classes
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
        self.masks = bool(mask_channels)
        # Last, so that one seed gives one host whatever the mechanism.
        self.sites = self._place(mechanism, options, levels, shared)
        if not include_target and (bag == 1 or not pyramid.volumetric):
            raise ValueError("include_target=False takes the target out of the bag that volumetric attention looks at")
        if include_target and any(getattr(self.get_submodule(site), "add_target", False) for site in self.sites):
            raise ValueError("add_target=True puts the target into a bag without it: with include_target=False only")

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
        return ["roi_heads.box_predictor", *["roi_heads.mask_predictor"] * self.masks]

    def training_targets(self, images: Sequence[Tensor] | Tensor) -> list[dict[str, Tensor]]:
        """One object in the middle of each picture, for a training step whose cost is measured."""
        return [centred_target(image, masks=self.masks) for image in images]

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
            check_image(image, self.bag)
        given: list[Any] = [None] * len(images)
        if self.training:
            given = check_targets(targets, images, self.num_classes, masks=self.masks)
        resized = [self._resized(*each) for each in zip(images, given, strict=True)]
        pictures = [picture for picture, _ in resized]
        batch = self.transform.batch_images(pictures).unflatten(1, (self.bag, -1))
        levels = self.backbone(batch, place, self.include_target)
        read = [target for _, target in resized] if self.training else None
        sizes, originals = ([_space(each) for each in some] for some in (pictures, images))
        return self._answer(levels, batch[:, place], sizes, originals, read)

    def detect(
        self, slices: Slices, bag_stride: int | None = None, only: Collection[int] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """What forward gives for every slice of a volume, in their order, each slice read once for all its bags.

        Args:
            slices: As for read_volume.
            bag_stride: As for read_volume.
            only: The slices that are wanted. Default: all.

        Raises:
            ValueError: As from read_volume.
        """
        for index, (levels, batch, size, original) in enumerate(self._read(slices, bag_stride)):
            if only is None or index in only:
                with torch.no_grad():
                    found = self._answer(levels, batch, [size], [original], None)
                yield found[0]

    def read_volume(self, slices: Slices, bag_stride: int | None = None) -> Iterator[dict[str, Tensor]]:
        """The levels of the pyramid, as attention passes them on, of every slice of a volume in their order.

        A bag is centred at its slice, its pictures bag_stride slices apart; beyond an end of the volume the last slice
        there stands again. Each slice is taken once from `slices` and let go when it is read; what is held of slices
        that were read is bounded by what a bag spans.

        Args:
            slices: The 2.5-D pictures of one volume in their order, each (3, height, width), as from stack_slices: a
                tensor, or whatever has a length and gives the slice of an index, such as one that reads files.
            bag_stride: Slices from one picture of a bag to the next in this volume, whose slices may be thinner or
                thicker than others. Default: that of the network.

        Raises:
            ValueError: If the network is in training, the stride is less than 1, or the slices differ in their shape.
        """
        for levels, *_ in self._read(slices, bag_stride):
            yield levels

    def _read(self, slices: Slices, bag_stride: int | None) -> Iterator[tuple[dict[str, Tensor], Tensor, Size, Size]]:
        """The attended levels of each slice, a batch with the shape of what was read, and its sizes resized and as it
        came.
        """
        from foveate.networks.mask_rcnn_parts import joined

        if self.training:
            raise ValueError("a volume is read by a network in evaluation; call network.eval() before")
        stride = self.bag_stride if bag_stride is None else bag_stride
        if stride < 1:
            raise ValueError(f"a volume is read with bag_stride of at least 1; got {stride}")
        shape = None  # of the slices, all alike
        features: dict[int, dict[str, Tensor]] = {}  # of slices that are read and have not been the target
        embedded: dict[int, dict[str, Embedded]] = {}  # of slices that are still in a bag
        for index in range(len(slices)):
            bag = bag_slices(index, len(slices), self.bag, stride) if self.backbone.volumetric else [index]
            with torch.no_grad():
                for other in sorted({index, *bag} - embedded.keys()):
                    image = slices[other]
                    check_image(image, bag=1)
                    if shape not in (None, image.shape):
                        raise ValueError(
                            f"the slices of a volume have one shape; got {tuple(shape)} and {tuple(image.shape)}"
                        )
                    picture, _ = self._resized(image)
                    batch = self.transform.batch_images([picture])
                    shape, original, size = image.shape, _space(image), _space(picture)
                    like = batch.new_empty(1).expand(batch.shape)
                    features[other] = self.backbone.features(batch)
                    embedded[other] = self.backbone.embed({name: x[:, None] for name, x in features[other].items()})
                    del image, picture, batch
                if not self.include_target:
                    del bag[self.bag // 2]
                levels = self.backbone.attend(features.pop(index), joined([embedded[other] for other in bag]))
            for other in [other for other in embedded if other <= index - self.bag // 2 * stride]:
                del embedded[other]
            yield levels, like, size, original

    def _resized(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """A picture or a bag as torchvision normalises and resizes pictures, (channel, height, width); its target."""
        return self.transform.resize(self.transform.normalize(image).reshape(-1, *image.shape[-2:]), target)

    def _answer(
        self,
        levels: dict[str, Tensor],
        batch: Tensor,
        sizes: list[Size],
        originals: list[Size],
        targets: list[dict[str, Tensor]] | None,
    ) -> Any:
        """What regions and heads make of the levels: losses, or what they found, in pixels of the original sizes."""
        from foveate.networks.mask_rcnn_parts import ImageList

        proposals, losses = self.rpn(ImageList(batch, sizes), levels, targets)  # of the batch its shape alone
        found, head_losses = self.roi_heads(levels, proposals, sizes, targets)
        return head_losses | losses if self.training else self.transform.postprocess(found, sizes, originals)


def _space(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]
