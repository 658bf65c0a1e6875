"""Attention gates: each position of a skip connection is weighed by what a coarser feature says about it.

Oktay, Schlemper et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018,
https://arxiv.org/abs/1804.03999; Schlemper, Oktay et al., "Attention Gated Networks: Learning to Leverage Salient
Regions in Medical Images", Medical Image Analysis 2019, https://arxiv.org/abs/1808.08114.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional

__all__ = ["INSTANCE_NORMS", "RESIZES", "AttentionGate", "start_as_gated_networks"]

RESIZES = {1: "linear", 2: "bilinear", 3: "trilinear"}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
NORMALISATIONS = ("sigmoid", "softmax", "mean", "mean_flow", "range")


class AttentionGate(nn.Module):
    """norm(W(a * x)), with a = sigmoid(psi relu(theta x + phi g)) computed on theta's coarser grid and resized to x's.

    It takes two inputs, so it is no mechanism of the catalogue: a host needs a coarser feature for it, as a U-Net has.
    Theta is a strided convolution without bias where the paper has a 1x1 projection, and W with its normalisation is
    not in the paper's equations: both as released. The release's "concatenation" is the default, "concatenation_debug"
    is activation="softplus", "concatenation_residual" is normalisation="softmax", and the gate for classification has
    stride=1, bias=False and output=False.

    Args:
        channels: Channels of the input x and of the output.
        gating_channels: Channels of the gating signal g.
        hidden_channels: Width of theta and phi, the paper's F_int. Default: channels // 2, but at least one.
        activation: "relu" or "softplus" of the sum of theta and phi.
        normalisation: What makes coefficients of the scores q = psi(...): "sigmoid"; "softmax" over all positions;
            "mean", q / sum q, which can be negative; "mean_flow", the same of q - min q; "range", (q - min q) / (max q
            - min q). On scores that are all alike the release divides by zero; here the two means give equal shares and
            the range gives one.
        stride: Step of theta, and its kernel: one number or one for each axis. Default: 2.
        bias: Whether phi has a bias.
        output: Whether the product goes through W and its normalisation; False gives a * x.
        norm: The normalisation behind W: "batch" (as released, default) or "instance".
        align_corners: How grids are laid on each other when they are resized, as in torch.nn.functional.interpolate.
            False is what the released code computes today, True what it computed on PyTorch 0.3, when it was published.
        spatial_dims: Spatial axes of the input, 1 to 3.

    Shape:
        x (batch, channel, *space) and g (batch, gating channel, *coarser space), on any grid -> as x.

    Taps:
        gate: (batch, *space), the coefficients a; in (0, 1) with "sigmoid"; of any sign with "mean".

    Raises:
        ValueError: If x has fewer positions than the stride along an axis; in training, if the batch has one position.
    """

    def __init__(
        self,
        channels: int,
        gating_channels: int,
        hidden_channels: int | None = None,
        *,
        activation: str = "relu",
        normalisation: str = "sigmoid",
        stride: int | Sequence[int] = 2,
        bias: bool = True,
        output: bool = True,
        norm: str | None = None,
        align_corners: bool = False,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        functional.check_channels(channels)
        functional.check_spatial_dims(spatial_dims)
        functional.check_choice("activation", activation, ("relu", "softplus"))
        functional.check_choice("normalisation", normalisation, NORMALISATIONS)
        functional.check_choice("norm", norm or "batch", ("batch", "instance"))
        if gating_channels < 1:
            raise ValueError(f"gating_channels must be at least 1; got {gating_channels}")
        if norm is not None and not output:
            raise ValueError(f"norm goes with W, and output=False has none; got norm={norm!r}")
        hidden_channels = functional.bottleneck(channels, None, hidden_channels, default=2)
        self.channels, self.gating_channels, self.spatial_dims = channels, gating_channels, spatial_dims
        self.activate = nn.Softplus() if activation == "softplus" else nn.ReLU(inplace=True)
        self.activation, self.normalisation, self.align_corners = activation, normalisation, align_corners
        self.stride = _per_axis(stride, spatial_dims)
        conv = functional.CONVOLUTIONS[spatial_dims]
        self.theta = conv(channels, hidden_channels, self.stride, self.stride, bias=False)
        self.phi = conv(gating_channels, hidden_channels, 1, bias=bias)
        self.psi = conv(hidden_channels, 1, 1)
        self.gate = Tap("batch *space")
        self.out, self.norm = nn.Identity(), nn.Identity()
        if output:
            self.out = conv(channels, channels, 1)
            batch, instance = functional.BATCH_NORMS[spatial_dims], INSTANCE_NORMS[spatial_dims]
            self.norm = instance(channels, affine=True) if norm == "instance" else batch(channels)
        start_as_gated_networks(self)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        self._check(x, g)
        theta = self.theta(x)
        scores = self.psi(self.activate(theta + self._resized(self.phi(g), theta.shape[2:])))
        gate = self._resized(coefficients(scores, self.normalisation), x.shape[2:])
        gate = self.gate(gate.squeeze(1)).unsqueeze(1)
        return self.norm(self.out((x * gate).to(x.dtype)))

    def _resized(self, x: Tensor, space: Sequence[int]) -> Tensor:
        """x on another grid; open sizes, as in an export, are never compared."""
        if not torch.compiler.is_compiling() and x.shape[2:] == space:
            return x
        return F.interpolate(x, size=space, mode=RESIZES[self.spatial_dims], align_corners=self.align_corners)

    def _check(self, x: Tensor, g: Tensor) -> None:
        functional.check_input("AttentionGate", x, self.channels, self.spatial_dims)
        if g.ndim != x.ndim or g.shape[:2] != (x.shape[0], self.gating_channels):
            wanted = f"({x.shape[0]}, {self.gating_channels}, *space) with spatial_dims={self.spatial_dims}"
            raise ValueError(f"AttentionGate takes a gating signal of {wanted}; got {tuple(g.shape)}")
        if any(size < step for size, step in zip(x.shape[2:], self.stride, strict=True)):
            raise ValueError(f"AttentionGate takes at least {self.stride} positions; got {tuple(x.shape[2:])}")
        functional.check_batch_statistics("AttentionGate", self.norm, x)

    def extra_repr(self) -> str:
        options = f"normalisation={self.normalisation!r}, align_corners={self.align_corners}"
        return f"{self.channels}, {self.gating_channels}, {options}, spatial_dims={self.spatial_dims}"


def coefficients(scores: Tensor, normalisation: str) -> Tensor:
    """What the scores (batch, 1, *space) weigh, over all positions of a sample; in float32 at least where they sum."""
    if normalisation == "sigmoid":
        return scores.sigmoid()
    q = scores.flatten(2).to(torch.promote_types(scores.dtype, torch.float32))
    match normalisation:
        case "softmax":
            weights = q.softmax(dim=2)
        case "mean":
            size = q.abs().sum(dim=2, keepdim=True)
            weights = _divided(q, q.sum(dim=2, keepdim=True), size, flat=1 / q.shape[2])
        case "mean_flow":
            above, size = q - q.min(dim=2, keepdim=True).values, q.abs().sum(dim=2, keepdim=True)
            weights = _divided(above, above.sum(dim=2, keepdim=True), size, flat=1 / q.shape[2])
        case _:
            lowest, highest = q.min(dim=2, keepdim=True).values, q.max(dim=2, keepdim=True).values
            size = torch.maximum(lowest.abs(), highest.abs())
            weights = _divided(q - lowest, highest - lowest, size, flat=1)
    return weights.reshape(scores.shape)


def _divided(part: Tensor, whole: Tensor, size: Tensor, flat: float) -> Tensor:
    """part / whole; a constant where the whole is no more than rounding leaves of numbers of that size."""
    nothing = whole.abs() <= torch.finfo(whole.dtype).eps * size
    return torch.where(nothing, flat, part / whole.masked_fill(nothing, 1))


def _per_axis(stride: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    steps = (stride,) * spatial_dims if isinstance(stride, int) else tuple(stride)
    if len(steps) != spatial_dims or min(steps) < 1:
        raise ValueError(f"stride is one positive number or {spatial_dims} of them; got {stride}")
    return steps


def start_as_gated_networks(module: nn.Module) -> None:
    """Draw convolutions from Kaiming's normal distribution (fan in) and norm weights from N(1, 0.02), as released."""
    for child in module.modules():
        if isinstance(child, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(child.weight)
        elif isinstance(child, (*functional.BATCH_NORMS.values(), *INSTANCE_NORMS.values())):
            nn.init.normal_(child.get_parameter("weight"), 1.0, 0.02)
