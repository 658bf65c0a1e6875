"""A host of our own, small enough to reason about: its second block has a Sequential, its head a linear map."""

import pytest
import torch
from torch import nn


class Unit(nn.Module):
    """Convolve, normalise, and add the input."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn(self.conv(x))) + x


class Host(nn.Module):
    """Stem, a Sequential of two units, a pooled linear head."""

    def __init__(self, channels=5):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3)
        self.stage = nn.Sequential(Unit(channels), Unit(channels))
        self.head = nn.Linear(channels, 2)

    def forward(self, x):
        return self.head(self.stage(self.stem(x)).mean((2, 3)))


@pytest.fixture
def host():
    torch.manual_seed(0)
    return Host().eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 11, 13, generator=torch.Generator().manual_seed(1))
