"""The bottleneck attention module: one gate per channel and position, from a channel and a spatial branch.

Park, Woo, Lee, Kweon, "BAM: Bottleneck Attention Module", BMVC 2018, https://arxiv.org/abs/1807.06514.
"""

from collections import OrderedDict

from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, gradients

__all__ = ["BAM"]


class BAM(nn.Module):
    """Compute x * (1 + sigmoid(channel branch + spatial branch)).

    The paper adds the branches, the authors' release multiplies them: its checkpoints need combine="product". The
    normalisations stand where the release has them, between the projections and not behind the last, and it starts as
    released: Kaiming normal convolutions, biases at zero.

    Args:
        channels: Channels of the input and of the output.
        reduction: The paper's r: both branches narrow to channels // reduction channels, but at least one. Default: 16.
        hidden_channels: Width of both branches, instead of reduction.
        dilation: Dilation of the spatial branch's two kernels of three, at least 1.
        combine: "sum" (the paper) or "product" (the release) of the two branches.
        spatial_dims: Spatial axes of the input, 1 to 3: the spatial branch has kernels over them.

    Shape:
        (batch, channel, *space) -> the same, with spatial_dims spatial axes of any sizes.

    Taps:
        gate: (batch, channel, *space), in (0, 1).

    Raises:
        ValueError: If both reduction and hidden_channels are given; in training, if the batch is one sample.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        *,
        hidden_channels: int | None = None,
        dilation: int = 4,
        combine: str = "sum",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        functional.check_channels(channels)
        functional.check_choice("combine", combine, ("sum", "product"))
        functional.check_spatial_dims(spatial_dims)
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1; got {dilation}")
        hidden_channels = functional.bottleneck(channels, reduction, hidden_channels, default=16)
        self.channels = channels
        self.combine = combine
        self.spatial_dims = spatial_dims
        self.channel = nn.Sequential(
            OrderedDict(
                reduce=nn.Linear(channels, hidden_channels),
                norm=nn.BatchNorm1d(hidden_channels),
                relu=nn.ReLU(),
                expand=nn.Linear(hidden_channels, channels),
            )
        )
        conv, norm = functional.CONVOLUTIONS[spatial_dims], functional.BATCH_NORMS[spatial_dims]
        dilated = {"kernel_size": 3, "padding": dilation, "dilation": dilation}
        self.spatial = nn.Sequential(
            OrderedDict(
                reduce=conv(channels, hidden_channels, kernel_size=1),
                norm=norm(hidden_channels),
                relu=nn.ReLU(),
                conv1=conv(hidden_channels, hidden_channels, **dilated),
                norm1=norm(hidden_channels),
                relu1=nn.ReLU(),
                conv2=conv(hidden_channels, hidden_channels, **dilated),
                norm2=norm(hidden_channels),
                relu2=nn.ReLU(),
                project=conv(hidden_channels, 1, kernel_size=1),
            )
        )
        functional.start_as_released(self)
        self.gate = Tap("batch channel *space")

    def forward(self, x: Tensor) -> Tensor:
        functional.check_input("BAM", x, self.channels, self.spatial_dims)
        squeezed = functional.pool(x, "average")  # (batch, channel)
        functional.check_batch_statistics("BAM", self.channel.get_submodule("norm"), squeezed)
        channel, position = self.channel(squeezed), self.spatial_logits(x).squeeze(1)
        gate = functional.gate_over_positions(channel, position, x, product=self.combine == "product")
        return gradients.one_plus_gate(x, self.gate(gate))

    def spatial_logits(self, x: Tensor) -> Tensor:
        """What the spatial branch gives, (batch, 1, *space)."""
        convolutions = tuple(functional.CONVOLUTIONS.values())
        for part in self.spatial:
            x = gradients.convolve_apart(part, x) if isinstance(part, convolutions) else part(x)
        return x

    def extra_repr(self) -> str:
        return f"{self.channels}, combine={self.combine!r}, spatial_dims={self.spatial_dims}"
