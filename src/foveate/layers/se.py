"""Squeeze-and-excitation: a gate per channel from a bottleneck over the channels' means.

Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, and with Albanie and Wu at greater length,
https://arxiv.org/abs/1709.01507.
"""

from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional

__all__ = ["SE"]


class SE(nn.Module):
    """Multiply each channel by sigmoid(W2 relu(W1 z)), z being the channel's mean over space.

    The paper's equation has no bias, the authors' release has one (the default). The squeezes "max" and "none" are the
    paper's ablations.

    Args:
        channels: Channels of the input and of the output.
        reduction: The paper's r: the bottleneck has channels // r channels, but at least one. Default: 16.
        hidden_channels: Width of the bottleneck, instead of reduction.
        squeeze: "average" or "max" over space, or "none": every position is gated by itself, through 1x1 projections.
        bias: Whether both projections have a bias.

    Shape:
        (batch, channel, *space) -> the same, with one, two or three spatial axes.

    Taps:
        gate: (batch, channel), in (0, 1); with squeeze="none" (batch, channel, *space).

    Raises:
        ValueError: If both reduction and hidden_channels are given.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        *,
        hidden_channels: int | None = None,
        squeeze: str = "average",
        bias: bool = True,
    ) -> None:
        super().__init__()
        functional.check_channels(channels)
        functional.check_choice("squeeze", squeeze, ("average", "max", "none"))
        hidden_channels = functional.bottleneck(channels, reduction, hidden_channels, default=16)
        self.channels = channels
        self.squeeze = squeeze
        self.fc1 = nn.Linear(channels, hidden_channels, bias=bias)
        self.fc2 = nn.Linear(hidden_channels, channels, bias=bias)
        self.gate = Tap("batch channel *space" if squeeze == "none" else "batch channel")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("SE", x, self.channels)
        if self.squeeze == "none":
            gate = self.excite(x.movedim(1, -1)).movedim(-1, 1)  # the projections take the channel last
            return x * self.gate(gate)
        gate = self.excite(functional.pool(x, self.squeeze))  # (batch, channel)
        return functional.scale(x, self.gate(gate))

    def excite(self, squeezed: Tensor) -> Tensor:
        """The paper's equation 3, over the last axis."""
        return self.fc2(self.fc1(squeezed).relu()).sigmoid()

    def extra_repr(self) -> str:
        return f"{self.channels}, squeeze={self.squeeze!r}"
