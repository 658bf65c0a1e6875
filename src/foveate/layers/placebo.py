"""A control for comparisons: a gate that is held at one.

A network with placebos has the sites, the taps and the multiplications of one with gates, and computes what the network
without them computes. Whatever else differs between two such arms of a study is noise.
"""

from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional

__all__ = ["Placebo"]


class Placebo(nn.Module):
    """Multiply each channel by one.

    Args:
        channels: Channels of the input and of the output.

    Shape:
        (batch, channel, *space) -> the same, with one, two or three spatial axes.

    Taps:
        gate: (batch, channel), exactly 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gate = Tap("batch channel")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("Placebo", x, self.channels)
        gate = x.new_ones(x.shape[:2])
        return functional.scale(x, self.gate(gate))

    def extra_repr(self) -> str:
        return f"{self.channels}"
