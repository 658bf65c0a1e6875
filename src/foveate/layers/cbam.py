"""The convolutional block attention module: a gate per channel, then a gate per position.

Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018, https://arxiv.org/abs/1807.06521.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, gradients, recomputing

__all__ = ["CBAM", "SpatialGate"]

POOLS = ("average", "max", "lp", "lse")


def spatial_branch(kernel_size: int, spatial_dims: int, zero_init: bool) -> nn.Sequential:
    """The convolution and the normalisation that turn the (max, mean) over channels into the logits of a spatial gate.

    The normalisation is not in the paper's equation; it, its momentum and its zero start are the release's.
    """
    functional.check_kernel_size(kernel_size)
    functional.check_spatial_dims(spatial_dims)
    conv = functional.CONVOLUTIONS[spatial_dims](2, 1, kernel_size, padding=kernel_size // 2, bias=False)
    norm = functional.BATCH_NORMS[spatial_dims](1, momentum=0.01)
    if zero_init:
        nn.init.zeros_(norm.weight)
    branch = nn.Sequential(OrderedDict(conv=conv, norm=norm))
    functional.start_as_released(branch)
    return branch


def spatial_logits(branch: nn.Sequential, x: Tensor, layer: str) -> Tensor:
    """The logits of a spatial gate, (batch, 1, *space). The maximum comes first as released; the paper has it last."""
    conv, norm = branch
    functional.check_batch_statistics(layer, norm, x)
    return norm(gradients.convolve(conv, torch.stack([functional.maximum(x, (1,)), functional.mean(x, (1,))], dim=1)))


class SpatialGate(nn.Module):
    """Multiply each position by sigmoid(norm(conv([max over channels, mean over channels]))): CBAM's second half.

    Args:
        channels: Channels of the input and of the output.
        kernel_size: Extent of the convolution along each spatial axis, odd.
        zero_init: Start the normalisation's weight at 0 as released: the gate starts at 1/2 everywhere. False: at 1.
        spatial_dims: Spatial axes of the input, 1 to 3: the convolution runs over them.

    Shape:
        (batch, channel, *space) -> the same, with spatial_dims spatial axes.

    Taps:
        gate: (batch, *space), in (0, 1).

    Raises:
        ValueError: If kernel_size is even or not positive; in training, if the batch holds a single position.
    """

    def __init__(self, channels: int, kernel_size: int = 7, *, zero_init: bool = True, spatial_dims: int = 2) -> None:
        super().__init__()
        functional.check_channels(channels)
        self.channels = channels
        self.spatial_dims = spatial_dims
        self.spatial = spatial_branch(kernel_size, spatial_dims, zero_init)
        self.gate = Tap("batch *space")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("SpatialGate", x, self.channels, self.spatial_dims)
        gate = spatial_logits(self.spatial, x, "SpatialGate").squeeze(1).sigmoid()
        return gradients.scale_positions(x, self.gate(gate))

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}"


class CBAM(nn.Module):
    """Gate each channel by sigmoid(sum over pools of W2 relu(W1 pool(x))), then each position as SpatialGate does.

    The pools share one perceptron, and their logits are summed before the sigmoid. order="parallel" is our
    reading of the paper's ablation: both branches see x, their logits are added, one sigmoid gates channels and places.

    Args:
        channels: Channels of the input and of the output.
        reduction: The paper's r: the perceptron narrows to channels // reduction, but at least one. Default: 16.
        hidden_channels: Width of the perceptron, instead of reduction.
        pools: Any of "average", "max", "lp" (root of the sum of squares) and "lse" (log of the sum of exponentials).
        spatial: Whether there is a spatial gate. Without it the layer takes any space.
        order: "channel_first" (default), "spatial_first" or "parallel".
        kernel_size: Extent of the spatial convolution along each axis, odd. Default: 7.
        zero_init: Start the spatial normalisation's weight at 0 as released (default): the spatial gate starts at 1/2
            everywhere. False: at 1.
        spatial_dims: Spatial axes of the input, 1 to 3: the spatial convolution runs over them.

    Shape:
        (batch, channel, *space) -> the same, with spatial_dims spatial axes; one to three with spatial=False.

    Taps:
        channel_gate: (batch, channel), in (0, 1); not with order="parallel".
        spatial_gate: (batch, *space), in (0, 1); not with order="parallel" or spatial=False.
        gate: (batch, channel, *space), in (0, 1); only with order="parallel".

    Raises:
        ValueError: If both reduction and hidden_channels are given, or spatial=False and an option of the spatial gate;
            in training, if the batch holds a single position.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        *,
        hidden_channels: int | None = None,
        pools: tuple[str, ...] = ("average", "max"),
        spatial: bool = True,
        order: str | None = None,
        kernel_size: int | None = None,
        zero_init: bool | None = None,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        functional.check_channels(channels)
        _check_pools(pools)
        functional.check_choice("order", order or "channel_first", ("channel_first", "spatial_first", "parallel"))
        hidden_channels = functional.bottleneck(channels, reduction, hidden_channels, default=16)
        self.channels = channels
        self.pools = tuple(pools)
        self.order = (order or "channel_first") if spatial else "channel_only"
        self.spatial_dims = spatial_dims if spatial else None
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)
        functional.start_as_released(self)
        if spatial:
            zero_init = zero_init is None or zero_init
            self.spatial = spatial_branch(7 if kernel_size is None else kernel_size, spatial_dims, zero_init)
        else:
            _refuse_without_spatial(order=order, kernel_size=kernel_size, zero_init=zero_init)
        if self.order == "parallel":
            self.gate = Tap("batch channel *space")
        else:
            self.channel_gate = Tap("batch channel")
        if self.order in ("channel_first", "spatial_first"):
            self.spatial_gate = Tap("batch *space")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("CBAM", x, self.channels, self.spatial_dims)
        match self.order:
            case "channel_first":
                gate = self.channel_gate(self.channel_logits(x).sigmoid())
                gated = functional.scale(x, gate)
                source = recomputing.held(x)
                with recomputing.recomputed(gated, lambda: functional.scale(source(), gate)):
                    return self.gate_positions(gated, own=True)
            case "spatial_first":
                return self.gate_channels(self.gate_positions(x))
            case "channel_only":
                return self.gate_channels(x)
            case _:
                spatial = spatial_logits(self.spatial, x, "CBAM").squeeze(1)
                return x * self.gate(functional.gate_over_positions(self.channel_logits(x), spatial, x))

    def channel_logits(self, x: Tensor) -> Tensor:
        """The summed answers of the shared perceptron to every pool, (batch, channel)."""
        squeezed = torch.stack([functional.pool(x, kind) for kind in self.pools])  # (pool, batch, channel)
        return self.fc2(self.fc1(squeezed).relu()).sum(dim=0)

    def gate_channels(self, x: Tensor) -> Tensor:
        """Multiply by M_c of the paper's equation 2."""
        return functional.scale(x, self.channel_gate(self.channel_logits(x).sigmoid()))

    def gate_positions(self, x: Tensor, *, own: bool = False) -> Tensor:
        """Multiply by M_s of the paper's equation 3."""
        gate = spatial_logits(self.spatial, x, "CBAM").squeeze(1).sigmoid()
        return gradients.scale_positions(x, self.spatial_gate(gate), own=own)

    def extra_repr(self) -> str:
        return f"{self.channels}, pools={self.pools}, order={self.order!r}, spatial_dims={self.spatial_dims}"


def _check_pools(pools: tuple[str, ...]) -> None:
    if isinstance(pools, str) or not pools:
        raise ValueError(f'pools must be a tuple such as ("average", "max"); got {pools!r}')
    if len(set(pools)) < len(pools):
        raise ValueError(f"each of pools counts once; got {pools}")
    for kind in pools:
        functional.check_choice("each of pools", kind, POOLS)


def _refuse_without_spatial(**options: object) -> None:
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"CBAM with spatial=False has no spatial gate for {', '.join(given)}")
