"""torchvision's Mask R-CNN: maskrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn, which is the same without masks, and
whatever else stands on a pyramid of a ResNet there.

A file from before torchvision 0.13, such as that of COCO, has other names than one that is written now; each is a
publisher here.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from foveate.errors import CheckpointError
from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes, part_name
from foveate.networks.published.residual import holds, read_residual

__all__ = ["TORCHVISION_MASKS", "TORCHVISION_MASKS_OLD"]

STAGES, LAYERS = 4, 8  # of a pyramid, and of a head for masks at most
OLD_PARTS = (
    *((f"backbone.fpn.inner_blocks.{k}.0", f"backbone.fpn.inner_blocks.{k}") for k in range(STAGES)),
    *((f"backbone.fpn.layer_blocks.{k}.0", f"backbone.fpn.layer_blocks.{k}") for k in range(STAGES)),
    ("rpn.head.conv.0.0", "rpn.head.conv"),
    *((f"roi_heads.mask_head.{k}.0", f"roi_heads.mask_head.mask_fcn{k + 1}") for k in range(LAYERS)),
)
# As torchvision trained on COCO: what no key tells.
COCO = {"anchor_sizes": [32, 64, 128, 256, 512], "min_size": 800, "max_size": 1333}
BODY = "backbone.body."


def _recognise(parts: Sequence[tuple[str, str]], shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    def name(key: str) -> str:
        return part_name(key, parts)

    if not {f"{BODY}conv1.weight", "rpn.head.cls_logits.weight"} <= set(shapes) or holds(shapes, "backbone.attention."):
        return None
    if not {name("backbone.fpn.inner_blocks.0.0.weight"), name("rpn.head.conv.0.0.weight")} <= set(shapes):
        return None
    if holds(shapes, "backbone.fpn.inner_blocks.0.1.") or holds(shapes, "rpn.head.conv.1."):
        raise CheckpointError("its pyramid is normalised, as in the second version; only the first is known here")
    body = Shapes({key.removeprefix(BODY): shape for key, shape in shapes.items() if key.startswith(BODY)})
    try:
        backbone = read_residual(body, head=None)
    except CheckpointError as error:
        raise CheckpointError(f"in {BODY.removesuffix('.')} {error}") from None
    masks: list[int] = []
    while len(masks) < LAYERS and (key := name(f"roi_heads.mask_head.{len(masks)}.0.weight")) in shapes:
        masks.append(shapes.axes(key, 4)[0])
    network = {
        "backbone": backbone,
        "num_classes": shapes.axes("roi_heads.box_predictor.cls_score.weight", 2)[0],
        "fpn_channels": shapes.axes(name("backbone.fpn.inner_blocks.0.0.weight"), 4)[0],
        "head_channels": shapes.axes("roi_heads.box_head.fc6.weight", 2)[0],
        "mask_channels": masks,
    }
    trained = holds(body, "num_batches_tracked")  # constants have no counter, and came with weights
    norm = {"norm": "batch", "norm_eps": 1e-5} if trained else {"norm": "frozen", "norm_eps": 0.0}
    return Found(Architecture("mask_rcnn", network | COCO | norm), {**COCO, **norm})


def _publisher(name: str, parts: Sequence[tuple[str, str]]) -> Publisher:
    free = ("anchor_sizes", "min_size", "max_size", "norm", "norm_eps")
    return Publisher(name, partial(_recognise, parts), lambda key, network: part_name(key, parts), free=free)


TORCHVISION_MASKS = _publisher("torchvision/maskrcnn", ())
TORCHVISION_MASKS_OLD = _publisher("torchvision/maskrcnn before 0.13", OLD_PARTS)
