"""Volumetric attention: the features of one slice, gated by what the slices around it hold.

Wang, Han, Chen, Gao, Vasconcelos, "Volumetric Attention for 3D Medical Image Segmentation and Detection", MICCAI 2019,
https://arxiv.org/abs/2004.01997. No code of the authors is public: what the text leaves open is an option here, and
docs/mechanisms/volumetric.md says of each on what its default rests.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.layers import functional, gradients

__all__ = ["Embedded", "VolumetricAttention"]

ORDERS = ("channel_spatial", "spatial_channel", "parallel")
SCALES = ("mean", "sqrt", "none")


class Embedded(NamedTuple):
    """What the two branches keep of a bag of slices; None for a branch that is off.

    Args:
        channel: (batch, slice, embedding), F_emb of each slice.
        spatial: (batch, slice, height, width), the embedded maximum and mean over the channels of each slice.
    """

    channel: Tensor | None
    spatial: Tensor | None


class VolumetricAttention(nn.Module):
    """Gate the channels and the positions of a slice by sigmoids of attention-weighted sums over a bag of slices.

        e(X) = W2 relu(W1 mean over space of X)             f(X) = conv([max over channels; mean over channels] of X)
        w    = softmax over slices of e(x) . e(bag) / n     v    = softmax over slices of f(x) . f(bag) / n
        C    = sigmoid(W3 relu(sum of w e(bag)))            S    = sigmoid(conv(sum of v f(bag)))
        y    = S * (C * x)

    It takes two inputs, so it is no mechanism of the catalogue: a network needs a bag for it, as fv.networks.MaskRCNN
    has. Slices of the bag have no places: it is a set. The second gate sees the slice as the first one left it, and the
    bag as it came, so that each slice is embedded once whatever slice it stands beside.

    Args:
        channels: Channels of the input and of the output.
        reduction: W1 narrows to channels // reduction, but at least one. Default: 16.
        hidden_channels: Width behind W1, instead of reduction.
        embed_channels: Width behind W2, in which slices are compared. Default: that behind W1.
        channel: Whether there is a channel gate.
        spatial: Whether there is a spatial gate.
        order: "channel_spatial" (default) or "spatial_channel", one gate behind the other; or "parallel", both gates
            computed of x as it came.
        kernel_size: Extent of both spatial convolutions along each axis, odd. Default: 7.
        spatial_projection: Whether the sum of maps goes through a second convolution, as that of vectors does through
            W3 (default), or straight into the sigmoid. There is no ReLU between: in a quarter of all starts nine
            tenths of the one map are negative, and it would let nothing of them through.
        scale: What a dot product of n numbers is divided by: "mean", n (default); "sqrt", its root; "none", nothing.
            Undivided products over whole maps make the softmax a choice of one slice, the one itself if it is there.
        residual: Whether x is added to what is gated.
        add_target: Whether the slice itself joins the bag. It should not where the caller's bag holds it already.
        detach: Whether the gradient stops at the bag's features; W1, W2 and the convolution get that of the bag too.

    Shape:
        x (batch, channel, height, width) and bag (batch, slice, channel, height, width), or what `embed` made of the
        bag -> as x.

    Taps:
        channel_weights: (batch, slice), w; over the slices they sum to one.
        channel_gate: (batch, channel), C, in (0, 1).
        spatial_weights: (batch, slice), v; over the slices they sum to one.
        spatial_gate: (batch, *space), S, in (0, 1).

    Raises:
        ValueError: If both reduction and hidden_channels are given, or an option of a branch that is off; if the bag
            does not go with the slice.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        *,
        hidden_channels: int | None = None,
        embed_channels: int | None = None,
        channel: bool = True,
        spatial: bool = True,
        order: str | None = None,
        kernel_size: int | None = None,
        spatial_projection: bool | None = None,
        scale: str = "mean",
        residual: bool = False,
        add_target: bool = False,
        detach: bool = False,
    ) -> None:
        super().__init__()
        functional.check_channels(channels)
        functional.check_choice("order", "channel_spatial" if order is None else order, ORDERS)
        functional.check_choice("scale", scale, SCALES)
        if not (channel or spatial):
            raise ValueError("VolumetricAttention takes channel=True or spatial=True; got neither")
        if not channel:
            idle = {"reduction": reduction, "hidden_channels": hidden_channels, "embed_channels": embed_channels}
            _refuse("channel", **idle, order=order)
        if not spatial:
            _refuse("spatial", kernel_size=kernel_size, spatial_projection=spatial_projection, order=order)
        if embed_channels is not None and embed_channels < 1:
            raise ValueError(f"embed_channels must be at least 1; got {embed_channels}")
        self.channels, self.order, self.scale = channels, order or "channel_spatial", scale
        self.residual, self.add_target, self.detach = residual, add_target, detach
        self.channel, self.spatial = channel, spatial
        if channel:
            hidden_channels = functional.bottleneck(channels, reduction, hidden_channels, default=16)
            embed_channels = embed_channels or hidden_channels
            self.fc1 = nn.Linear(channels, hidden_channels)
            self.fc2 = nn.Linear(hidden_channels, embed_channels)
            self.fc3 = nn.Linear(embed_channels, channels)
            self.channel_weights = Tap("batch slice")
            self.channel_gate = Tap("batch channel")
        if spatial:
            kernel_size = 7 if kernel_size is None else kernel_size
            functional.check_kernel_size(kernel_size)
            self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)
            self.conv2 = None
            if spatial_projection is None or spatial_projection:
                self.conv2 = nn.Conv2d(1, 1, kernel_size, padding=kernel_size // 2)
            self.spatial_weights = Tap("batch slice")
            self.spatial_gate = Tap("batch *space")

    def forward(self, x: Tensor, bag: Tensor | Embedded) -> Tensor:
        functional.check_input("VolumetricAttention", x, self.channels, 2)
        if isinstance(bag, Embedded):
            return self.attend(x, bag)
        self._check_bag(bag)
        if bag.shape[0] != x.shape[0] or bag.shape[2:] != x.shape[1:]:
            wanted = f"({x.shape[0]}, slice, {', '.join(map(str, x.shape[1:]))})"
            raise ValueError(f"VolumetricAttention takes a bag of {wanted} here; got {tuple(bag.shape)}")
        return self.attend(x, self.embed(bag))

    def embed(self, bag: Tensor) -> Embedded:
        """All that the layer needs of a bag, (batch, slice, channel, height, width); it can be joined along slices and
        used again.
        """
        self._check_bag(bag)
        if self.detach:
            bag = bag.detach()
        slices = bag.flatten(0, 1)
        channel = self._embed_channels(slices).unflatten(0, bag.shape[:2]) if self.channel else None
        spatial = self._embed_positions(slices).unflatten(0, bag.shape[:2]) if self.spatial else None
        return Embedded(channel, spatial)

    def attend(self, x: Tensor, bag: Embedded) -> Tensor:
        """Gate a slice, (batch, channel, height, width), by a bag that is embedded already."""
        gated = x
        if self.order == "spatial_channel" and bag.spatial is not None:
            gated = gated * self._position_gate(x, bag.spatial).unsqueeze(1)
        if bag.channel is not None:
            gated = functional.scale(gated, self._gate_of_channels(gated, bag.channel))
        if self.order != "spatial_channel" and bag.spatial is not None:
            seen = x if self.order == "parallel" else gated
            gated = gated * self._position_gate(seen, bag.spatial).unsqueeze(1)
        return x + gated if self.residual else gated

    def _embed_channels(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(functional.mean(x, (2, 3))).relu())

    def _embed_positions(self, x: Tensor) -> Tensor:
        return self.conv1(torch.stack([gradients.maximum(x, (1,)), functional.mean(x, (1,))], dim=1)).squeeze(1)

    def _gate_of_channels(self, x: Tensor, bag: Tensor) -> Tensor:
        target = self._embed_channels(x)
        bag = self._with(target, bag)
        weights = self.channel_weights(self._weights(target, bag))
        return self.channel_gate(self.fc3((weights.unsqueeze(2) * bag).sum(dim=1).relu()).sigmoid())

    def _position_gate(self, x: Tensor, bag: Tensor) -> Tensor:
        target = self._embed_positions(x)
        bag = self._with(target, bag)
        weights = self.spatial_weights(self._weights(target, bag))
        mixed = (weights[:, :, None, None] * bag).sum(dim=1, keepdim=True)
        logits = mixed if self.conv2 is None else self.conv2(mixed)
        return self.spatial_gate(logits.squeeze(1).sigmoid())

    def _with(self, target: Tensor, bag: Tensor) -> Tensor:
        return torch.cat([bag, target.unsqueeze(1)], dim=1) if self.add_target else bag

    def _weights(self, target: Tensor, bag: Tensor) -> Tensor:
        """The softmax over slices, (batch, slice); in float32 at least, where products over maps have their sums."""
        wide = torch.promote_types(target.dtype, torch.float32)
        scores = (bag.to(wide) * target.to(wide).unsqueeze(1)).flatten(2).sum(dim=2)
        count = math.prod([target.shape[axis] for axis in range(1, target.ndim)])
        match self.scale:
            case "mean":
                scores = scores / count
            case "sqrt":
                scores = scores / count**0.5
        return scores.softmax(dim=1).to(target.dtype)

    def _check_bag(self, bag: Tensor) -> None:
        if bag.ndim != 5 or bag.shape[2] != self.channels or bag.shape[1] < 1:
            wanted = f"(batch, slice, {self.channels}, height, width) with at least one slice"
            raise ValueError(f"VolumetricAttention takes a bag of {wanted}; got {tuple(bag.shape)}")

    def extra_repr(self) -> str:
        given = ("channel", "spatial", "order", "scale", "residual", "add_target", "detach")
        return f"{self.channels}, " + ", ".join(f"{name}={getattr(self, name)!r}" for name in given)


def _refuse(branch: str, **options: object) -> None:
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"VolumetricAttention with {branch}=False has no use for {', '.join(given)}")
