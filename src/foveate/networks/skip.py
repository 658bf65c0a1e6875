"""Skip connections of a U-Net, as they are or gated."""

from typing import Any

import torch
from torch import Tensor, nn

from foveate.layers import AttentionGate
from foveate.layers.attention_gate import start_as_gated_networks
from foveate.networks.conv_block import conv_norm

__all__ = ["Skip"]


class Skip(nn.Module):
    """What the encoder hands to the decoder: as it is, or gated by the coarser feature; then through a mechanism.

    Args:
        channels: Channels of the feature.

    Shape:
        x (batch, channel, *space) and g (batch, gating channel, *coarser space) -> as x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.ModuleList()
        self.combine: nn.Module | None = None
        self.mechanism: nn.Module | None = None

    def add_gates(
        self, count: int, gating_channels: int, *, fused: bool, norm: str, spatial_dims: int, **options: Any
    ) -> None:
        """Put gates here and, with `fused`, a 1x1 convolution behind all of them, with normalisation and ReLU.

        Unless the options say otherwise, a gate is as wide as the feature, as in the released networks.
        """
        given: dict[str, Any] = {"hidden_channels": self.channels} | options
        if norm != "batch" and given.get("output", True):
            given.setdefault("norm", norm)
        for _ in range(count):
            self.gates.append(AttentionGate(self.channels, gating_channels, spatial_dims=spatial_dims, **given))
        if not fused:
            return
        self.combine = nn.Sequential(conv_norm(count * self.channels, self.channels, norm, spatial_dims))
        self.combine.append(nn.ReLU(inplace=True))
        start_as_gated_networks(self.combine)

    def place(self, mechanism: nn.Module, *, inside: bool) -> None:
        """Put a mechanism behind the gates. There is nothing that it could stand inside."""
        self.mechanism = mechanism

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        if len(self.gates) > 0:
            x = torch.cat([gate(x, g) for gate in self.gates], dim=1)
        if self.combine is not None:
            x = self.combine(x)
        return x if self.mechanism is None else self.mechanism(x)
