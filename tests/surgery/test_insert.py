import copy

import pytest
import timm
import torch
from torch import nn

from foveate.surgery import insert, inserted, remove


class Gate(nn.Module):
    """Scale each channel by sigmoid(linear(mean over space))."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        assert x.shape[1] == self.channels
        gate = self.fc(x.flatten(2).mean(2)).sigmoid()
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


def test_insertion_is_the_identity_and_removal_exact():
    host = timm.create_model("resnet18", num_classes=7).eval()
    x = torch.randn(2, 3, 64, 64)
    plain = copy.deepcopy(host.state_dict())
    with torch.no_grad():
        expected = host(x)
        sites = insert(host, "layer3.*", Gate)
        assert [site.name for site in sites] == ["layer3.0", "layer3.1"]
        assert list(inserted(host)) == ["layer3.0", "layer3.1"]
        assert torch.equal(host(x), expected)
        remove(host)
        assert list(host.state_dict()) == list(plain)
        assert torch.equal(host(x), expected)
