"""Efficient channel attention: a gate per channel from a 1-D convolution across channels.

Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
CVPR 2020, https://arxiv.org/abs/1910.03151.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, gradients

__all__ = ["ECA", "adaptive_kernel_size"]


def adaptive_kernel_size(channels: int, gamma: float = 2.0, beta: float = 1.0) -> int:
    """The odd number nearest (log2(channels) + beta) / gamma, rounding up (the code of the paper's figure 3)."""
    size = int(abs(math.log2(channels) + beta) / gamma)
    return size if size % 2 else size + 1


class ECA(nn.Module):
    """Multiply each channel by sigmoid(conv1d(mean over space)), the convolution running across channels.

    The released checkpoints set the kernel by hand: ResNet-50 has 3, 5, 5, 7 in its stages, where the formula has
    5, 5, 5, 7.

    Args:
        channels: Channels of the input and of the output.
        kernel_size: Neighbouring channels that decide one gate, odd. Default: adaptive_kernel_size(channels).

    Shape:
        (batch, channel, *space) -> the same, with one, two or three spatial axes.

    Taps:
        gate: (batch, channel), in (0, 1).

    Raises:
        ValueError: If kernel_size is even or not positive.
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        functional.check_channels(channels)
        if kernel_size is None:
            kernel_size = adaptive_kernel_size(channels)
        functional.check_kernel_size(kernel_size)
        self.channels = channels
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gate = Tap("batch channel")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("ECA", x, self.channels)
        squeezed = functional.pool(x, "average")  # (batch, channel)
        return functional.scale(x, self.gate(self._across(squeezed).sigmoid()))

    def _across(self, squeezed: Tensor) -> Tensor:
        """The convolution over (batch, channel), as a product: torch's takes longer over one channel than that."""
        if gradients.exporting() or not gradients.is_plain(self.conv):
            return self.conv(squeezed.unsqueeze(1)).squeeze(1)
        size = self.conv.kernel_size[0]
        return F.pad(squeezed, (size // 2, size // 2)).unfold(1, size, 1) @ self.conv.weight.flatten()

    def extra_repr(self) -> str:
        return f"{self.channels}"
