"""The gates as their authors' code computes them, written out from the equations with that code's operations.

Which operations it takes decides what a gate costs: these pool, expand and multiply as the released code does. Modules
have the names of ours, so that the same weights go into both. Here are no checks and no options.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PUBLISHED"]


class PublishedSE(nn.Module):
    """Adaptive pooling, two projections, and a gate expanded to the size of the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, channels // 16), nn.Linear(channels // 16, channels)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.adaptive_avg_pool2d(x, 1).view(x.shape[:2])
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))
        return x * gate.view(*x.shape[:2], 1, 1).expand_as(x)


class PublishedECA(nn.Module):
    """Adaptive pooling, a convolution across the channels, and a gate expanded to the size of the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel_size = int((math.log2(channels) + 1) / 2) // 2 * 2 + 1
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        across = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        gate = torch.sigmoid(self.conv(across).transpose(-1, -2).unsqueeze(-1))
        return x * gate.expand_as(x)


class PublishedCBAM(nn.Module):
    """The shared perceptron once for each pool, then the maximum and mean over channels through a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, channels // 16), nn.Linear(channels // 16, channels)
        conv, norm = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1, momentum=0.01)
        self.spatial = nn.Sequential(OrderedDict(conv=conv, norm=norm))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        logits = torch.zeros(())
        for pool in (F.avg_pool2d, F.max_pool2d):
            squeezed = pool(x, size, stride=size).view(x.shape[:2])
            logits = logits + self.fc2(F.relu(self.fc1(squeezed)))
        x = x * torch.sigmoid(logits).unsqueeze(2).unsqueeze(3).expand_as(x)
        squeezed = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.spatial(squeezed))


class PublishedBAM(nn.Module):
    """Both branches expanded to the size of the features, multiplied, and one plus their sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 16
        self.channel = nn.Sequential(
            OrderedDict(
                reduce=nn.Linear(channels, hidden),
                norm=nn.BatchNorm1d(hidden),
                relu=nn.ReLU(),
                expand=nn.Linear(hidden, channels),
            )
        )
        self.spatial = nn.Sequential(
            OrderedDict(
                reduce=nn.Conv2d(channels, hidden, 1),
                norm=nn.BatchNorm2d(hidden),
                relu=nn.ReLU(),
                conv1=nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4),
                norm1=nn.BatchNorm2d(hidden),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4),
                norm2=nn.BatchNorm2d(hidden),
                relu2=nn.ReLU(),
                project=nn.Conv2d(hidden, 1, 1),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.avg_pool2d(x, x.shape[2:], stride=x.shape[2:]).flatten(1)
        channel = self.channel(squeezed).unsqueeze(2).unsqueeze(3).expand_as(x)
        gate = 1 + torch.sigmoid(channel * self.spatial(x).expand_as(x))
        return gate * x


class PublishedScSE(nn.Module):
    """The maximum of the features gated by channel and of the features gated by position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, channels)
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        squeezed = x.reshape(batch, channels, -1).mean(dim=2)
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))
        by_channel = torch.mul(x, gate.view(batch, channels, 1, 1))
        by_position = torch.mul(x, torch.sigmoid(self.conv(x)).view(batch, 1, height, width))
        return torch.max(by_channel, by_position)


PUBLISHED = {
    "se": PublishedSE,
    "eca": PublishedECA,
    "cbam": PublishedCBAM,
    "bam": PublishedBAM,
    "scse": PublishedScSE,
}
