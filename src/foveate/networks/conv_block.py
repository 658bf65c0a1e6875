"""Blocks of convolutions, plain or residual, over one to three spatial axes, with room for one mechanism.

Plain: relu(norm(conv(x))), repeated. Residual (He et al., CVPR 2016): relu(F(x) + S(x)), where F is the same stack
without its last ReLU, and S the identity, or a 1x1 convolution with a normalisation where the channels change.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from foveate.layers import catalogue, functional
from foveate.layers.attention_gate import INSTANCE_NORMS

__all__ = ["ConvBlock", "conv_norm", "mechanism_maker", "norm_layer"]


def mechanism_maker(
    mechanism: str | Callable[[int], nn.Module] | None,
    options: Mapping[str, Any] | None,
    spatial_dims: int,
    **where: object,
) -> tuple[Callable[[int], nn.Module], str] | None:
    """What makes a mechanism from a number of channels, and where it usually goes; None without a mechanism.

    Raises:
        ValueError: If options, or any of `where`, are given without a mechanism, or options with a callable.
    """
    if mechanism is None:
        if idle := [name for name, value in {"options": options, **where}.items() if value is not None]:
            raise ValueError(f"{', '.join(idle)} need a mechanism; got mechanism=None")
        return None
    if isinstance(mechanism, str):
        place = catalogue.describe(mechanism).place
        return partial(catalogue.build, mechanism, spatial_dims=spatial_dims, **(options or {})), place
    if options is not None:
        raise ValueError("options are for a mechanism given by name; a callable has its own")
    return mechanism, "every block"


def norm_layer(norm: str, channels: int, spatial_dims: int) -> nn.Module:
    """A "batch" or an "instance" normalisation, both with weights."""
    if norm == "batch":
        return functional.BATCH_NORMS[spatial_dims](channels)
    return INSTANCE_NORMS[spatial_dims](channels, affine=True)


def conv_norm(in_channels: int, out_channels: int, norm: str, spatial_dims: int) -> OrderedDict[str, nn.Module]:
    """A 1x1 convolution and a normalisation, by name."""
    conv = functional.CONVOLUTIONS[spatial_dims](in_channels, out_channels, 1)
    return OrderedDict(conv=conv, norm=norm_layer(norm, out_channels, spatial_dims))


class ConvBlock(nn.Module):
    """A stack of convolutions, each with a normalisation and a ReLU.

    Convolutions keep their biases before a normalisation, as Attention Gated Networks were released.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        convs: Convolutions of the stack.
        kernel_size: Of the convolutions, odd: one number or one for each axis.
        kind: "plain" or "residual".
        norm: "batch" or "instance".
        spatial_dims: Spatial axes of the input, 1 to 3.

    Shape:
        (batch, in_channels, *space) -> (batch, out_channels, *space).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        convs: int = 2,
        kernel_size: int | Sequence[int] = 3,
        kind: str = "plain",
        norm: str = "batch",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        functional.check_choice("block", kind, ("plain", "residual"))
        functional.check_choice("norm", norm, ("batch", "instance"))
        functional.check_spatial_dims(spatial_dims)
        kernel = (kernel_size,) * spatial_dims if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(kernel) != spatial_dims:
            raise ValueError(f"kernel_size is one number or one for each of {spatial_dims} axes; got {kernel_size}")
        for size in kernel:
            functional.check_kernel_size(size)
        padding = tuple(size // 2 for size in kernel)
        self.convs, self.kind, self.channels = convs, kind, out_channels
        widths = (in_channels, *[out_channels] * convs)
        for index in range(convs):
            conv = functional.CONVOLUTIONS[spatial_dims](widths[index], widths[index + 1], kernel, padding=padding)
            self.add_module(f"conv{index + 1}", conv)
            self.add_module(f"norm{index + 1}", norm_layer(norm, out_channels, spatial_dims))
        self.shortcut: nn.Module | None = None
        if kind == "residual" and in_channels != out_channels:
            self.shortcut = nn.Sequential(conv_norm(in_channels, out_channels, norm, spatial_dims))
        self.relu = nn.ReLU(inplace=True)
        self.mechanism: nn.Module | None = None
        self.inside = False

    def place(self, mechanism: nn.Module, *, inside: bool) -> None:
        """Put a mechanism behind the block or, with inside, on the residual branch of a residual one."""
        self.mechanism, self.inside = mechanism, inside and self.kind == "residual"

    def forward(self, x: Tensor) -> Tensor:
        branch = self.normalised(x, self.convs)
        if self.kind == "residual":
            if self.inside and self.mechanism is not None:
                branch = self.mechanism(branch)
            branch = branch + (x if self.shortcut is None else self.shortcut(x))
        x = self.relu(branch)
        return x if self.inside or self.mechanism is None else self.mechanism(x)

    def normalised(self, x: Tensor, convs: int) -> Tensor:
        """x behind so many convolutions, up to the normalisation of the last."""
        if convs > 1:
            x = self.relu(self.normalised(x, convs - 1))
        x = self.get_submodule(f"conv{convs}")(x)
        return self.get_submodule(f"norm{convs}")(x)
