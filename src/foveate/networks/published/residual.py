"""Read the sizes of a residual network from the shapes of its tensors: what all publishers of one share."""

from collections.abc import Sequence
from typing import Any

from foveate.errors import CheckpointError
from foveate.networks.published.publisher import Shapes

__all__ = ["holds", "is_residual", "once", "read_residual", "squeezes"]


def holds(shapes: Shapes, part: str) -> bool:
    """Whether any key has this part in it."""
    return any(part in key for key in shapes)


def is_residual(shapes: Shapes) -> bool:
    """Whether nearly all keys are those of a residual network with torchvision's names, or of a part of one."""
    usual = ("conv1.", "bn1.", "maxpool.", "layer1.", "layer2.", "layer3.", "layer4.", "fc.")
    parts = ("conv", "bn", "downsample", "se.", "0", "1", "3", "4", "6", "weight", "bias", "running", "num_batches")
    named = [key for key in shapes if key.startswith(usual)]
    inside = [key for key in named if not key.startswith("layer") or key.split(".", 2)[-1].startswith(parts)]
    return holds(shapes, "layer1.0.") and len(inside) >= 0.8 * len(shapes)


def read_residual(shapes: Shapes, *, stem: Sequence[str] | None = None, head: str | None = "fc") -> dict[str, Any]:
    """The options of a ResNet that its convolutions tell: block, depths, widths, groups, stem, shortcut, classes.

    Args:
        shapes: The shapes by key; blocks are `layer1.0.conv1` and so on.
        stem: The names of the stem's convolutions, one or three. Default: torchvision's and timm's.
        head: The name of the classifier; None for a backbone without one.
    """
    depths = _depths(shapes)
    if stem is None:
        stem = ("conv1.0", "conv1.3", "conv1.6") if holds(shapes, "conv1.0.weight") else ("conv1",)
    stem_shapes = [shapes.axes(f"{name}.weight", 4) for name in stem]
    options = _read_block(shapes)
    options |= _read_stem(stem_shapes, options["base_width"])
    options |= {"depths": depths, "in_channels": stem_shapes[0][1], "shortcut": _shortcut(shapes, len(depths))}
    if head is not None:
        options["num_classes"] = shapes.axes(f"{head}.weight", 2)[0]
    if "maxpool.0.weight" in shapes:
        options["stem_pool"] = "convolution"
    return options


def once(options: Sequence[dict[str, Any]]) -> dict[str, Any] | list[dict[str, Any]] | None:
    """The options of all stages: one mapping if they are everywhere the same, None if they are everywhere empty."""
    return (options[0] or None) if all(other == options[0] for other in options) else list(options)


def squeezes(shapes: Shapes, key: str, depths: Sequence[int], axes: int = 2) -> list[dict[str, Any]]:
    """The options of the bottlenecks in each stage: a reduction where one number explains them all, or else the widths.

    Args:
        shapes: The shapes by key.
        key: The first projection's weight, (hidden channels, channels, ...), with {stage} where the stage stands.
        depths: Blocks in each of the stages.
        axes: Axes of the weight.
    """
    weights = [shapes.axes(key.format(stage=stage), axes)[:2] for stage in range(1, len(depths) + 1)]
    reduction = max(1, weights[0][1] // weights[0][0])
    if all(hidden == max(1, channels // reduction) for hidden, channels in weights):
        return [{} if reduction == 16 else {"reduction": reduction}] * len(weights)
    return [{"hidden_channels": hidden} for hidden, _ in weights]


def _depths(shapes: Shapes) -> list[int]:
    """Blocks in each stage. A gap in the count is a missing key: a number in a key is no reason to build that much."""
    depths: list[int] = []
    while holds(shapes, f"layer{len(depths) + 1}."):
        prefix = f"layer{len(depths) + 1}."
        blocks = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
        for block in range(len(blocks)):
            if str(block) not in blocks:
                raise CheckpointError(f"{prefix}{block}.conv1.weight is missing")
        depths.append(len(blocks))
    if len(depths) < 3:
        raise CheckpointError(f"layer{len(depths) + 1}.0.conv1.weight is missing")
    if len(depths) > 4:
        raise CheckpointError(f"it has {len(depths)} stages; a residual network has three or four")
    return depths


def _read_block(shapes: Shapes) -> dict[str, Any]:
    first_channels, _, *kernel = shapes.axes("layer1.0.conv1.weight", 4)
    if kernel == [3, 3]:
        return {"block": "basic", "base_width": first_channels}
    inner_channels, group_channels, *_ = shapes.axes("layer1.0.conv2.weight", 4)
    out_channels, *_ = shapes.axes("layer1.0.conv3.weight", 4)
    base_width, groups = out_channels // 4, max(1, first_channels // group_channels)
    per_group = inner_channels * 64 / (groups * max(1, base_width))
    return {
        "block": "bottleneck",
        "base_width": base_width,
        "groups": groups,
        "width_per_group": int(per_group) if per_group.is_integer() else per_group,
        "first_width": first_channels / inner_channels,
    }


def _read_stem(stem_shapes: Sequence[tuple[int, ...]], base_width: int) -> dict[str, Any]:
    channels = [shape[0] for shape in stem_shapes]
    if len(channels) == 3:
        usual = [base_width // 2, base_width // 2, base_width]
        return {"stem": "deep"} | ({} if channels == usual else {"stem_channels": channels})
    kernels: dict[tuple[int, ...], str] = {(7, 7): "imagenet", (3, 3): "cifar"}
    kernel = stem_shapes[0][2:]
    if kernel not in kernels:
        raise CheckpointError(f"the stem's kernel must be 7x7, or 3x3 for small pictures; got {kernel[0]}x{kernel[1]}")
    return {"stem": kernels[kernel]} | ({} if channels == [base_width] else {"stem_channels": channels[0]})


def _shortcut(shapes: Shapes, stages: int) -> str:
    names = [f"layer{stage}.0.downsample" for stage in range(2, stages + 1)]
    if any(len(shapes.get(f"{name}.1.weight", ())) == 4 for name in names):
        return "pool"
    return "3x3" if any(shapes.get(f"{name}.0.weight", ())[2:] == (3, 3) for name in names) else "1x1"
