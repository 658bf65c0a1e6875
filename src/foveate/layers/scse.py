"""Concurrent spatial and channel squeeze-and-excitation: a gate per channel beside a gate per position.

Roy, Navab, Wachinger, "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks",
MICCAI 2018, https://arxiv.org/abs/1803.02579. The four ways to combine the two are in the longer "Recalibrating Fully
Convolutional Networks with Spatial and Channel Squeeze & Excitation Blocks", TMI 2019, https://arxiv.org/abs/1808.08127.
"""

import torch
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, gradients

__all__ = ["ScSE"]


class ScSE(nn.Module):
    """Combine x scaled by sigmoid(W2 relu(W1 z)) per channel with x scaled by sigmoid(w . x) per position.

    z is the channel's mean over space. The first paper adds the two; the authors' code takes their maximum.

    Args:
        channels: Channels of the input.
        reduction: The channel bottleneck has channels // reduction channels, but at least one. Default: 2.
        hidden_channels: Width of the channel bottleneck, instead of reduction.
        combine: "add", "multiply", "max", or "concat" along the channels.

    Shape:
        (batch, channel, *space) -> the same, with one, two or three spatial axes; 2 * channels with combine="concat".

    Taps:
        channel_gate: (batch, channel), in (0, 1).
        spatial_gate: (batch, *space), in (0, 1).

    Raises:
        ValueError: If both reduction and hidden_channels are given.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        *,
        hidden_channels: int | None = None,
        combine: str = "add",
    ) -> None:
        super().__init__()
        functional.check_channels(channels)
        functional.check_choice("combine", combine, ("add", "multiply", "max", "concat"))
        hidden_channels = functional.bottleneck(channels, reduction, hidden_channels, default=2)
        self.channels = channels
        self.combine = combine
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.conv = nn.Conv1d(channels, 1, kernel_size=1)
        self.channel_gate = Tap("batch channel")
        self.spatial_gate = Tap("batch *space")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("ScSE", x, self.channels)
        squeezed = functional.pool(x, "average")  # (batch, channel)
        channel_gate = self.channel_gate(self.fc2(self.fc1(squeezed).relu()).sigmoid())
        spatial_gate = self.spatial_gate(self._position_logits(x).sigmoid())
        if self.combine == "add":
            return gradients.scale_by_sum(x, channel_gate, spatial_gate)
        by_channel = functional.scale(x, channel_gate)
        by_position = gradients.scale_positions(x, spatial_gate)
        match self.combine:
            case "multiply":
                return by_channel * by_position
            case "max":
                return gradients.larger(by_channel, by_position)
            case _:
                return torch.cat([by_channel, by_position], dim=1)

    def _position_logits(self, x: Tensor) -> Tensor:
        """The convolution to one channel, (batch, *space)."""
        if not gradients.is_plain(self.conv):
            return self.conv(x.flatten(start_dim=2)).reshape(x.shape[0], *x.shape[2:])
        return gradients.project_channels(x, self.conv.weight.squeeze(2), self.conv.bias).squeeze(1)

    def extra_repr(self) -> str:
        return f"{self.channels}, combine={self.combine!r}"
