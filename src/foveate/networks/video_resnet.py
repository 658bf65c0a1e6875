"""Residual networks of clips, C2D and I3D, with non-local blocks at the published places.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018, https://arxiv.org/abs/1711.07971.
Carreira and Zisserman, "Quo Vadis, Action Recognition?" (I3D), CVPR 2017, https://arxiv.org/abs/1705.07750.

C2D sees each frame by itself and meets the others in pooling alone: where no pool and no step lie along time before the
last mean, it is blind to their order. I3D has kernels over time in the stem and in some blocks: all of stage 1, every
second one of stages 2 and 3 from the first on, every second one of stage 4 from the second on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Unpack, get_args

from torch import Tensor, nn

from foveate.networks.architecture import Architecture
from foveate.networks.inflation import inflate_parts, inflate_state
from foveate.networks.resnet import ResNet, Settings

__all__ = [
    "Geometry",
    "Inflation",
    "VideoResNet",
    "c2d_resnet50",
    "c2d_resnet101",
    "c2d_tiny",
    "i3d_resnet50",
    "i3d_resnet101",
    "i3d_tiny",
]

Inflation = Literal["none", "3x1x1", "3x3x3"]
Geometry = Literal["released", "released_8", "paper", "slowfast", "frames"]
STEM_FRAMES = 5  # of I3D's first kernel
FIRST_INFLATED = (0, 0, 0, 1)  # block of each stage; every second one follows, in stage 1 every one


Triple = tuple[int, int, int]


class Steps(NamedTuple):
    """The steps along time: that of the first convolution, and the two pools, each as kernel, stride and padding."""

    convolution: int
    pool: tuple[Triple, Triple, Triple]
    pool2: tuple[Triple, Triple, Triple] | None


STEPS: dict[str, Steps] = {
    "released": Steps(2, ((2, 3, 3), (2, 2, 2), (0, 0, 0)), ((2, 1, 1), (2, 1, 1), (0, 0, 0))),
    "released_8": Steps(1, ((1, 3, 3), (1, 2, 2), (0, 0, 0)), ((2, 1, 1), (2, 1, 1), (0, 0, 0))),
    "paper": Steps(2, ((3, 3, 3), (2, 2, 2), (1, 1, 1)), ((3, 1, 1), (2, 1, 1), (1, 0, 0))),
    "slowfast": Steps(1, ((1, 3, 3), (1, 2, 2), (0, 1, 1)), ((2, 1, 1), (2, 1, 1), (0, 0, 0))),
    "frames": Steps(1, ((1, 3, 3), (1, 2, 2), (0, 1, 1)), None),
}


class VideoResNet(ResNet):
    """A ResNet of clips; keys as those of the ResNet, whose kernels have one more axis.

    Its weights are those of the ResNet, inflated, where `load_pictures` takes them; at first they are drawn.

    Args:
        block: "basic" or "bottleneck".
        depths: Blocks in each stage, three or four stages.
        inflation: Which kernels span time: "none" (C2D); "3x1x1" (I3D), the first 1x1 of a bottleneck; "3x3x3", its
            3x3, or the first one of a basic block. The stem's then spans five frames.
        geometry: The steps along time. "released": for clips of 32 frames, first convolution and two pools by 2 each,
            pools without padding. "released_8": likewise for 8 frames, the second pool only. "paper": the first table
            of the paper, padded pools of three frames. "slowfast": as "released_8", padded in space. "frames": none,
            every frame is kept up to the last mean.
        settings: Of ResNet, but for stem_pool, which the geometry decides; a stem without a pool has none here either.

    Shape:
        (batch, in_channels, time, height, width) -> (batch, num_classes).

    Raises:
        ValueError: An option that has no meaning here, or a clip that is too short for the steps along time.
    """

    def __init__(
        self,
        block: Literal["basic", "bottleneck"],
        depths: Sequence[int],
        *,
        inflation: Inflation = "none",
        geometry: Geometry = "released",
        **settings: Any,
    ) -> None:
        arguments = {"block": block, "depths": depths, "inflation": inflation, "geometry": geometry, **settings}
        for option, value, choices in (("inflation", inflation, Inflation), ("geometry", geometry, Geometry)):
            if value not in get_args(choices):
                raise ValueError(f"{option} must be one of {', '.join(get_args(choices))}; got {value!r}")
        if block == "basic" and inflation == "3x1x1":
            raise ValueError("inflation 3x1x1 is of a bottleneck's 1x1 convolution; basic blocks take 3x3x3")
        if settings.get("stem_pool") is not None:
            raise ValueError(f"stem_pool is decided by the geometry, {geometry}; got {settings['stem_pool']!r}")
        placed = {name: settings.pop(name, None) for name in ("mechanism", "options", "position", "stages", "blocks")}
        super().__init__(block, depths, **settings)
        self.geometry, self.inflation = geometry, inflation
        inflate_parts(self, lambda name, convolution: self._frames(name))
        self._step()
        self._draw(bool(settings.get("zero_init_last")))
        self.architecture = Architecture.of("video_resnet", arguments)
        self.sites = self.place(**placed)

    def _frames(self, name: str) -> int:
        """How many frames a convolution spans."""
        if self.inflation == "none":
            return 1
        if name in ("conv1", "conv1.0"):  # of a deep stem the first
            return STEM_FRAMES
        convolution = "conv2" if self.inflation == "3x3x3" and self.block == "bottleneck" else "conv1"
        stage, _, rest = name.removeprefix("layer").partition(".")
        index, _, part = rest.partition(".")
        if part != convolution:
            return 1
        first = FIRST_INFLATED[int(stage) - 1]
        return 3 if stage == "1" or (int(index) - first) % 2 == 0 else 1

    def _step(self) -> None:
        """Give the stem its steps along time, and stage 1 the pool behind it."""
        steps = STEPS[self.geometry]
        first = next(module for module in self.conv1.modules() if isinstance(module, nn.Conv3d))
        first.stride = (steps.convolution, *first.stride[1:])
        if isinstance(self.maxpool, nn.MaxPool3d):
            self.maxpool = nn.MaxPool3d(*steps.pool)
        self.pool2 = nn.Identity() if steps.pool2 is None else nn.MaxPool3d(*steps.pool2)
        frames = 1
        for pool, sizes in ((self.pool2, steps.pool2), (self.maxpool, steps.pool)):
            if sizes is not None and isinstance(pool, nn.MaxPool3d):
                (kernel, *_), (stride, *_), (padding, *_) = sizes
                frames = max(1, (frames - 1) * stride + kernel - 2 * padding)
        self.fewest_frames = (frames - 1) * steps.convolution + 1  # of which one is left in the end

    def load_pictures(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a ResNet for pictures with the same blocks, each kernel inflated.

        Mechanisms keep what they have where the state has none, and the classifier where its classes are others.

        Raises:
            ValueError: If a weight is missing, or has another shape.
        """
        own, inflated = self.state_dict(), inflate_state(state, self)
        kept = tuple(f"{site}." for site in self.sites)
        if "fc.weight" in state and state["fc.weight"].shape != own["fc.weight"].shape:
            kept += ("fc.",)
        taken = {}
        for key, value in own.items():
            if key.startswith(kept) and (key not in state or key.startswith("fc.")):
                continue
            if key not in state and key.endswith("num_batches_tracked"):  # absent from old files
                continue
            if key not in state:
                raise ValueError(f"the weights of a ResNet of {self.depths} blocks are wanted; {key} is missing")
            if inflated[key].shape != value.shape:
                found = tuple(state[key].shape)
                raise ValueError(f"{key} must fit {tuple(value.shape)}, or be such a kernel of a picture; got {found}")
            taken[key] = inflated[key]
        self.load_state_dict(taken, strict=False)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if x.shape[2] < self.fewest_frames:
            wanted = f"{self.fewest_frames} frames or more with the geometry {self.geometry}"
            raise ValueError(f"{type(self).__name__} takes {wanted}; got {x.shape[2]}")
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        first, *others = self._stages()
        x = self.pool2(first(x))
        for stage in others:
            x = stage(x)
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


class VideoSettings(Settings, total=False):
    """What every builder takes; ResNet and VideoResNet say what each means."""

    inflation: Inflation
    geometry: Geometry


PUBLISHED: VideoSettings = {"num_classes": 400, "dropout": 0.5}  # Kinetics


def c2d_resnet50(**settings: Unpack[VideoSettings]) -> VideoResNet:
    """C2D of ResNet-50: 24.3 million parameters for 400 classes, 20.2 G multiply-accumulates at 32x224x224."""
    return VideoResNet("bottleneck", (3, 4, 6, 3), **(PUBLISHED | settings))


def c2d_resnet101(**settings: Unpack[VideoSettings]) -> VideoResNet:
    """C2D of ResNet-101: 43.3 million parameters, 35.1 G."""
    return VideoResNet("bottleneck", (3, 4, 23, 3), **(PUBLISHED | settings))


def i3d_resnet50(**settings: Unpack[VideoSettings]) -> VideoResNet:
    """I3D of ResNet-50, inflated 3x1x1: 28.0 million parameters, 32.8 G; 3x3x3: 33.4 million, 38.7 G."""
    return VideoResNet("bottleneck", (3, 4, 6, 3), **(PUBLISHED | {"inflation": "3x1x1"} | settings))


def i3d_resnet101(**settings: Unpack[VideoSettings]) -> VideoResNet:
    """I3D of ResNet-101, inflated 3x1x1: 51.8 million parameters, 51.4 G; 3x3x3: 63.0 million, 61.9 G."""
    return VideoResNet("bottleneck", (3, 4, 23, 3), **(PUBLISHED | {"inflation": "3x1x1"} | settings))


SMALL: VideoSettings = {"num_classes": 10, "stem": "tiny", "geometry": "frames"}


def c2d_tiny(**settings: Unpack[VideoSettings]) -> VideoResNet:
    """Three stages of one basic block, 16, 32 and 64 channels, for clips of about 8x48x48 on one processor core."""
    return VideoResNet("basic", (1, 1, 1), base_width=16, **(SMALL | settings))


def i3d_tiny(**settings: Unpack[VideoSettings]) -> VideoResNet:
    """As c2d_tiny, with kernels of five frames in the stem and of three in each block."""
    return VideoResNet("basic", (1, 1, 1), base_width=16, **(SMALL | {"inflation": "3x3x3"} | settings))
