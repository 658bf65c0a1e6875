"""Inflation: a layer or a network of pictures becomes one of clips, and computes on a still clip what it did, but for
what the zeros before its first and behind its last frame reach.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (I3D), CVPR 2017,
https://arxiv.org/abs/1705.07750: a kernel is repeated along time and divided by the number of repetitions.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["inflate", "inflate_parts", "inflate_state", "inflate_weight"]

Module = TypeVar("Module", bound=nn.Module)
FLAT = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
Time = int | Callable[[str, nn.Conv2d], int]


def inflate_weight(weight: Tensor, time: int) -> Tensor:
    """A kernel for pictures as one for clips, w / time in each of `time` frames.

    Shape:
        (out channel, in channel, height, width) -> (out channel, in channel, time, height, width)
    """
    return (weight / time).unsqueeze(2).repeat(1, 1, time, 1, 1)


def inflate_state(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights under a network's keys, with the kernels for pictures inflated where the network has one for clips."""
    own = network.state_dict()
    found = {}
    for key, value in state.items():
        kernel = key in own and own[key].ndim == 5 and value.ndim == 4
        found[key] = inflate_weight(value, own[key].shape[2]) if kernel else value
    return found


def inflate(module: Module, time: Time = 1) -> Module:
    """A copy of a layer or a network that takes (batch, channel, time, height, width).

    Steps and pooling stay within a frame. Along time a convolution is padded with zeros, so that on a still clip all
    frames but those within reach of the ends are what the network makes of the picture. What a module's own forward
    does with two axes of space, such as a mean over the last two, stays as it is and cannot be seen here.

    Args:
        module: Convolutions, normalisation, pooling and the layers of this library in any arrangement.
        time: Frames of every kernel of more than one pixel, odd; or what tells those of any kernel from its name and
            the convolution, such as `lambda name, convolution: 3 if name.endswith("conv1") else 1`.

    Raises:
        ValueError: If a kernel's frames have no middle.
        TypeError: If a part takes pictures only and is not known here.
    """
    inflated = copy.deepcopy(module)
    part = _as_part(inflated, time, "")
    if part is not None:
        return part
    inflate_parts(inflated, time)
    if hasattr(inflated, "architecture"):
        inflated.architecture = None  # pyright: ignore[reportArgumentType] # of the network for pictures
    return inflated


def inflate_parts(module: nn.Module, time: Time) -> None:
    """Replace every part of a module that has two axes of space by one that has three; see `inflate`."""
    _inflate_parts(module, time, "", {})


def _inflate_parts(module: nn.Module, time: Time, name: str, done: dict[nn.Module, nn.Module | None]) -> None:
    """As inflate_parts; `done` holds what became of the parts met before, for a module may stand in several places."""
    architecture = getattr(module, "architecture", None)
    if architecture is not None and architecture.kind not in ("resnet", "mobilenet_v2"):
        raise TypeError(f"inflate takes layers, a ResNet or a MobileNetV2 of ours; got {type(module).__name__}")
    if getattr(module, "normalisation", "sigmoid") != "sigmoid":
        wanted = "a gate that is normalised at each position, by sigmoid"
        raise TypeError(f"inflate takes {wanted}; got normalisation={module.normalisation!r}, over all frames then")
    if getattr(module, "spatial_dims", None) == 2:
        module.spatial_dims = 3  # pyright: ignore[reportArgumentType]
        step = getattr(module, "stride", None)
        if isinstance(step, tuple):
            module.stride = (1, *step)  # pyright: ignore[reportArgumentType] # of an attention gate
    for child_name, child in list(module._modules.items()):
        if child is None:
            continue
        path = f"{name}.{child_name}" if name else child_name
        if child not in done:
            done[child] = _as_part(child, time, path)
            if done[child] is None:
                _inflate_parts(child, time, path, done)
        if done[child] is not None:
            setattr(module, child_name, done[child])


def _as_part(module: Any, time: Time, name: str) -> Any:
    """The counterpart for clips of one of torch's layers for pictures; None for any other module."""
    kind = next((kind for kind in FLAT if isinstance(module, kind)), None)
    if kind is not None and (type(module).forward is not kind.forward or hasattr(module, "parametrizations")):
        raise TypeError(
            f"{name or 'the module'} is a {kind.__name__} with a forward of its own; got {type(module).__name__}"
        )
    if isinstance(module, nn.Conv2d):
        frames = time(name, module) if callable(time) else time if max(module.kernel_size) > 1 else 1
        return _convolution(module, name, frames)
    if isinstance(module, nn.BatchNorm2d):
        norm = nn.BatchNorm3d(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        norm.weight, norm.bias = module.weight, module.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(norm, name, getattr(module, name))
        return norm.train(module.training)
    if isinstance(module, nn.MaxPool2d) and not module.return_indices:
        return nn.MaxPool3d(
            _within_frame(module.kernel_size, 1),
            _within_frame(module.stride, 1),
            _within_frame(module.padding, 0),
            _within_frame(module.dilation, 1),
            ceil_mode=module.ceil_mode,
        )
    if isinstance(module, nn.AvgPool2d) and module.divisor_override is None:
        return nn.AvgPool3d(
            _within_frame(module.kernel_size, 1),
            _within_frame(module.stride, 1),
            _within_frame(module.padding, 0),
            ceil_mode=module.ceil_mode,
            count_include_pad=module.count_include_pad,
        )
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return nn.AdaptiveAvgPool3d(1)
    if type(module).__name__.endswith("2d") or isinstance(module, nn.Upsample | nn.PixelShuffle | nn.PixelUnshuffle):
        raise TypeError(f"{name or 'the module'} must be a layer that can be inflated; got {module}")
    return None


def _convolution(convolution: nn.Conv2d, name: str, frames: int) -> nn.Conv3d:
    if frames < 1 or frames % 2 == 0:
        raise ValueError(f"the frames of a kernel must be odd and positive; got {frames} for {name or 'the module'}")
    if isinstance(convolution.padding, str):
        raise TypeError(f"{name or 'the module'} must have its padding in numbers; got {convolution.padding!r}")
    inflated = nn.Conv3d(
        convolution.in_channels,
        convolution.out_channels,
        _within_frame(convolution.kernel_size, frames),
        _within_frame(convolution.stride, 1),
        _within_frame(convolution.padding, frames // 2),
        _within_frame(convolution.dilation, 1),
        convolution.groups,
        bias=False,
        padding_mode=convolution.padding_mode,
        device="meta",
    )
    with torch.no_grad():
        weight = inflate_weight(convolution.weight, frames)
    inflated.weight = nn.Parameter(weight, requires_grad=convolution.weight.requires_grad)
    inflated.bias = convolution.bias
    return inflated.train(convolution.training)


def _within_frame(size: Any, time: int) -> tuple[int, int, int]:
    """A size along height and width, and `time` along time."""
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return time, height, width
