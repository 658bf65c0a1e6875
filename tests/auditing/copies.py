"""Layers as other people write them: plain and right, and with the faults that public copies have.

They are written from the equations and from descriptions of the faults, not from anybody's code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainSE(nn.Module):
    def __init__(self, channels: int, hidden: int, *, bias: bool = True, convolutions: bool = False) -> None:
        super().__init__()
        make = (
            (lambda i, o, b: nn.Conv2d(i, o, 1, bias=b)) if convolutions else (lambda i, o, b: nn.Linear(i, o, bias=b))
        )
        self.excitation = nn.Sequential(
            make(channels, hidden, bias), nn.ReLU(), make(hidden, channels, bias), nn.Sigmoid()
        )
        self.convolutions = convolutions

    def forward(self, x: Tensor) -> Tensor:
        if self.convolutions:
            return x * self.excitation(F.adaptive_avg_pool2d(x, 1))
        return x * self.excitation(x.mean(dim=(2, 3)))[:, :, None, None]


class SEWithOneBias(PlainSE):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.excitation[2] = nn.Linear(hidden, channels, bias=False)


class SEOfMaxima(PlainSE):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.excitation(x.amax(dim=(2, 3)))[:, :, None, None]


class SEAddingX(PlainSE):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class SEOverAllSamples(PlainSE):
    """Its mean runs over the batch too."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excitation(x.mean(dim=(0, 2, 3)))[None, :, None, None]


class SEWithoutSigmoid(PlainSE):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.excitation[3] = nn.Identity()


class PlainECA(nn.Module):
    def __init__(self, kernel_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=(kernel_size - 1) // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1)
        gate = self.conv(pooled.squeeze(-1).transpose(1, 2)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(gate).expand_as(x)


class ECAInACircle(PlainECA):
    def forward(self, x: Tensor) -> Tensor:
        size = self.conv.kernel_size[0]
        pooled = F.pad(x.mean(dim=(2, 3)).unsqueeze(1), (size // 2, size // 2), mode="circular")
        return x * F.conv1d(pooled, self.conv.weight).squeeze(1).sigmoid()[:, :, None, None]


class ECAAcrossSamples(PlainECA):
    """Pools to (batch, channel) and lets the convolution run along the batch."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3)).t().unsqueeze(1)
        return x * self.conv(pooled).squeeze(1).t().sigmoid()[:, :, None, None]


class ECASqueezed(PlainECA):
    """Squeezes every axis of size one, so that a batch of one loses its axis."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1).squeeze()
        return x * self.conv(pooled.unsqueeze(1)).squeeze(1).sigmoid()[:, :, None, None]


class ECAOfEvenKernel(nn.Module):
    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 1, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        size = self.weight.shape[-1]
        pooled = F.pad(x.mean(dim=(2, 3)).unsqueeze(1), (size // 2, (size - 1) // 2))
        return x * F.conv1d(pooled, self.weight).squeeze(1).sigmoid()[:, :, None, None]


class PlainCBAM(nn.Module):
    """The release's modules in one, with its faults as methods to override."""

    def __init__(
        self, channels: int, hidden: int, *, kernel_size: int = 7, bias: bool = True, norm: bool = True
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, channels, bias=bias)
        )
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel_gate(x)[:, :, None, None]
        return x * self.spatial_gate(x)

    def channel_gate(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))

    def spatial_gate(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.bn(self.conv(self.stacked(x))))

    def stacked(self, x: Tensor) -> Tensor:
        return torch.cat([x.max(dim=1, keepdim=True).values, x.mean(dim=1, keepdim=True)], dim=1)


class CBAMOfManyParameters(PlainCBAM):
    """A 49x49 kernel with a bias, no normalisation, no biases in the perceptron, and the input added."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden, kernel_size=49, bias=False, norm=False)
        self.conv = nn.Conv2d(2, 1, 49, padding=24)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


class CBAMOfOneLayer(nn.Module):
    """No maxima and no bottleneck in the channel gate, no normalisation in the spatial one, the mean stacked first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.cv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
        return x * self.cv(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)).sigmoid()


class CBAMWithMeanFirst(PlainCBAM):
    def stacked(self, x: Tensor) -> Tensor:
        return super().stacked(x).flip(1)


class CBAMOfTwoMeans(PlainCBAM):
    def channel_gate(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1)
        return torch.sigmoid(self.mlp(pooled) + self.mlp(pooled))


class CBAMOfTwoSigmoids(PlainCBAM):
    def channel_gate(self, x: Tensor) -> Tensor:
        return self.mlp(F.adaptive_avg_pool2d(x, 1)).sigmoid() + self.mlp(F.adaptive_max_pool2d(x, 1)).sigmoid()


class CBAMOfTwoPerceptrons(PlainCBAM):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.mlp2 = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def channel_gate(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp2(F.adaptive_max_pool2d(x, 1)))


class CBAMEndingInReLU(PlainCBAM):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.mlp.append(nn.ReLU())


class CBAMWithoutSpatialSigmoid(PlainCBAM):
    def spatial_gate(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.stacked(x)))


class CBAMWithSpatialReLU(PlainCBAM):
    def spatial_gate(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.stacked(x))).relu().sigmoid()


class CBAMSpatialFirst(PlainCBAM):
    def forward(self, x: Tensor) -> Tensor:
        x = x * self.spatial_gate(x)
        return x * self.channel_gate(x)[:, :, None, None]


class CBAMInParallel(PlainCBAM):
    """Both gates of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel_gate(x)[:, :, None, None] * self.spatial_gate(x)


class CBAMAnsweringItsMap(PlainCBAM):
    """Right, but it hands out the map as well."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x * self.channel_gate(x)[:, :, None, None]
        gate = self.spatial_gate(x)
        return gate, x * gate


class PlainBAM(nn.Module):
    def __init__(
        self, channels: int, hidden: int, *, convs: int = 2, dilation: int = 4, padding: int | None = None
    ) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.spatial = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        padding = dilation if padding is None else padding
        for _ in range(convs):
            self.spatial.append(nn.Conv2d(hidden, hidden, 3, padding=padding, dilation=dilation))
            self.spatial.extend([nn.BatchNorm2d(hidden), nn.ReLU()])
        self.spatial.append(nn.Conv2d(hidden, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.sigmoid(self.combined(self.pooled_branch(x), self.spatial(x))))

    def pooled_branch(self, x: Tensor) -> Tensor:
        return self.channel(x.mean(dim=(2, 3)))[:, :, None, None]

    def combined(self, channel: Tensor, spatial: Tensor) -> Tensor:
        return channel + spatial


class ReleasedBAM(PlainBAM):
    """The release, as it would run: the branches multiplied, and the height taken for both sides of the pooling."""

    def pooled_branch(self, x: Tensor) -> Tensor:
        return self.channel(F.avg_pool2d(x, x.size(2), stride=x.size(2)).flatten(1))[:, :, None, None]

    def combined(self, channel: Tensor, spatial: Tensor) -> Tensor:
        return channel * spatial


class BAMOfOneMapValue(PlainBAM):
    """Three kernels whose padding is less than their dilation, so that the map shrinks, and is then spread out."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden, convs=3, dilation=2, padding=1)

    def combined(self, channel: Tensor, spatial: Tensor) -> Tensor:
        size = (7, 7)
        return channel.expand(*channel.shape[:2], *size) + spatial.expand(-1, channel.shape[1], *size)


class BAMAddingX(PlainBAM):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class BAMOfTwoSigmoids(PlainBAM):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.pooled_branch(x).sigmoid() + self.spatial(x).sigmoid())


class BAMNormalisedAtTheEnds(PlainBAM):
    """No normalisation in the perceptron, one at the end of each branch."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.BatchNorm1d(channels)
        )
        self.spatial.append(nn.BatchNorm2d(1))


class PlainNonLocal(nn.Module):
    """The embedded Gaussian with its parts as methods to override."""

    def __init__(self, channels: int, hidden: int, *, dims: int = 2, sub_sample: bool = False) -> None:
        super().__init__()
        conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dims]
        self.g = conv(channels, hidden, 1)
        self.theta = conv(channels, hidden, 1)
        self.phi = conv(channels, hidden, 1)
        self.W = nn.Sequential(conv(hidden, channels, 1), norm(channels))
        nn.init.zeros_(self.W[1].weight)
        step = (1, 2, 2) if dims == 3 else 2
        self.pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[dims](step) if sub_sample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = self.theta(x), self.pool(self.phi(x)), self.pool(self.g(x))
        weights = self.weights(torch.einsum("bci,bcj->bij", theta.flatten(2), phi.flatten(2)))
        y = torch.einsum("bij,bcj->bci", weights, g.flatten(2))
        return x + self.W(y.reshape(*y.shape[:2], *theta.shape[2:]))

    def weights(self, scores: Tensor) -> Tensor:
        return scores.softmax(dim=-1)


class ReleasedNonLocal(PlainNonLocal):
    """Pools the input once, before the projections, and scales, as the original release."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 2)
        theta, phi, g = self.theta(x).flatten(2), self.phi(pooled).flatten(2), self.g(pooled).flatten(2)
        weights = (theta.mT @ phi * theta.shape[1] ** -0.5).softmax(dim=-1)
        return x + self.W((g @ weights.mT).reshape(x.shape[0], -1, *x.shape[2:]))


class DotProductNonLocal(PlainNonLocal):
    def weights(self, scores: Tensor) -> Tensor:
        return scores / scores.shape[-1]


class NonLocalOverQueries(PlainNonLocal):
    def weights(self, scores: Tensor) -> Tensor:
        return scores.softmax(dim=1)


class NonLocalScaledUp(PlainNonLocal):
    """Divides by the inverse of the root."""

    def weights(self, scores: Tensor) -> Tensor:
        return (scores / self.theta.out_channels**-0.5).softmax(dim=-1)


class NonLocalWithDeadSoftmax(PlainNonLocal):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.softmax = nn.Softmax(dim=-1)

    def weights(self, scores: Tensor) -> Tensor:
        return scores


class NonLocalPoolingTime(PlainNonLocal):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden, dims=3, sub_sample=True)
        self.pool = nn.MaxPool3d(2)


class NonLocalPoolingQueries(PlainNonLocal):
    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (F.max_pool2d(part(x), 2) for part in (self.theta, self.phi, self.g))
        weights = self.weights(theta.flatten(2).mT @ phi.flatten(2))
        y = (g.flatten(2) @ weights.mT).reshape(*theta.shape)
        return x + self.W(F.interpolate(y, size=x.shape[2:]))


class NonLocalWithoutX(PlainNonLocal):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x


class NonLocalAwayFromIdentity(PlainNonLocal):
    """The zero start of its normalisation undone, as by a later loop over all normalisations."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        nn.init.ones_(self.W[1].weight)


class NonLocalOfOneLearnedNumber(nn.Module):
    """Queries, keys and values of the input's width, no output projection, a learned number in its place."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, hidden, 1)
        self.key_conv = nn.Conv2d(channels, hidden, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.query_conv, self.key_conv, self.value_conv))
        weights = torch.softmax(torch.bmm(query.permute(0, 2, 1), key), dim=-1)
        return self.gamma * torch.bmm(value, weights.permute(0, 2, 1)).view_as(x) + x


class GlobalContextWithDeadSoftmax(nn.Module):
    """A global context whose weights are never normalised; it is no non-local block either."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        self.softmax = nn.Softmax(dim=2)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        mask = self.conv_mask(x).flatten(2)
        context = (x.flatten(2) @ mask.mT).unsqueeze(-1)
        return x + self.transform(context)


class PlainGate(nn.Module):
    """The gate of the gated U-Nets."""

    def __init__(self, channels: int, gating: int, hidden: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, hidden, 2, stride=2, bias=False)
        self.phi = nn.Conv2d(gating, hidden, 1)
        self.psi = nn.Conv2d(hidden, 1, 1)
        self.W = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        theta = self.theta(x)
        phi = F.interpolate(self.phi(g), size=theta.shape[2:], mode="bilinear")
        return self.W(self.upsampled(self.psi(F.relu(theta + phi)), x) * x)

    def upsampled(self, scores: Tensor, x: Tensor) -> Tensor:
        return F.interpolate(torch.sigmoid(scores), size=x.shape[2:], mode="bilinear")


class GateResizingScores(PlainGate):
    def upsampled(self, scores: Tensor, x: Tensor) -> Tensor:
        return torch.sigmoid(F.interpolate(scores, size=x.shape[2:], mode="bilinear"))


class GateAlignedAtCorners(PlainGate):
    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        theta = self.theta(x)
        phi = F.interpolate(self.phi(g), size=theta.shape[2:], mode="bilinear", align_corners=True)
        gate = torch.sigmoid(self.psi(F.relu(theta + phi)))
        return self.W(F.interpolate(gate, size=x.shape[2:], mode="bilinear", align_corners=True) * x)


class GateAtTheSkip(nn.Module):
    """Gating signal first, every projection normalised, all on the grid of the skip connection, no W."""

    def __init__(self, gating: int, channels: int, hidden: int, *, swapped: bool = False) -> None:
        super().__init__()
        self.W_g = nn.Sequential(nn.Conv2d(gating, hidden, 1), nn.BatchNorm2d(hidden))
        self.W_x = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden))
        self.psi = nn.Sequential(nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())
        self.swapped = swapped

    def forward(self, g: Tensor, x: Tensor) -> Tensor:
        gate = self.psi(torch.relu(self.W_g(g) + self.W_x(x)))
        return gate * (g if self.swapped else x)
