from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.swin_transformer import SwinTransformer

from foveate.networks.resnet import resnet_tiny
from foveate.tasks.stage import Stage, as_grid, grad_cam, last_stage


class Counter(nn.Module):
    """Two features, copied from the picture's two channels; a class for each, its logit the feature's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


def test_grad_cam_by_hand():
    network = Counter().eval()
    image = torch.zeros(2, 2, 3, 5)
    image[:, 0, 1, 2] = 7.0  # evidence for class 0
    image[:, 1, 2, 4] = 5.0  # evidence for class 1
    image[:, 0, 0, 0] = -4.0
    logits, heat = grad_cam(network, Stage("features", "channels_first"), image, torch.tensor([0, 1]))
    torch.testing.assert_close(logits, torch.tensor([[3.0, 5.0], [3.0, 5.0]]) / 15)
    # d logit / d feature is 1/15 everywhere: the heat is relu(feature) / 15.
    torch.testing.assert_close(heat[0], image[0, 0].relu() / 15)
    torch.testing.assert_close(heat[1], image[1, 1] / 15)


def test_without_labels_the_predicted_class_is_asked_for():
    image = torch.zeros(1, 2, 3, 5)
    image[0, 1, 2, 4] = 5.0
    _, heat = grad_cam(Counter().eval(), Stage("features", "channels_first"), image, None)
    assert heat.flatten().argmax() == 14


def test_looking_leaves_no_trace():
    network = resnet_tiny().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stage = last_stage(network, (3, 40, 40), 64)
    assert stage is not None
    logits, heat = grad_cam(network, stage, torch.randn(3, 3, 40, 40), None)
    assert heat.shape == (3, 5, 5)
    assert not logits.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class ChannelsLast(nn.Module):
    """A stage whose features end with their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x.movedim(1, -1)).mean(dim=(1, 2)))


@pytest.mark.parametrize(
    ("build", "size", "features", "stage", "grid"),
    [
        (partial(resnet_tiny, mechanism="cbam"), 32, 64, Stage("layer3", "channels_first"), (4, 4)),
        (models.mobilenet_v3_small, 64, 576, Stage("features", "channels_first"), (2, 2)),
        (ChannelsLast, 7, 3, Stage("norm", "channels_last"), (7, 7)),
        (
            partial(SwinTransformer, [2, 2], 8, [1, 1], [1, 2], [4, 4]),
            32,
            16,
            Stage("permute", "channels_first"),
            (8, 8),
        ),
        # Behind a transformer's last attention only the class token has a gradient.
        (
            partial(models.VisionTransformer, 32, 8, 2, 2, 16, 32),
            32,
            16,
            Stage("encoder.layers.encoder_layer_1.ln_1", "tokens"),
            (4, 4),
        ),
    ],
)
def test_the_last_places_of_a_host_are_found(
    build: Callable[[], nn.Module], size: int, features: int, stage: Stage, grid: tuple[int, int]
):
    host = build().eval()
    assert last_stage(host, (3, size, size), features) == stage
    _, heat = grad_cam(host, stage, torch.randn(2, 3, size, size), None)
    square = as_grid(heat)
    assert square is not None
    assert square.shape == (2, *grid)


def test_a_network_without_places_has_no_stage():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    assert last_stage(flat, (3, 8, 8), 192) is None


def test_tokens_become_a_grid_without_the_class_token():
    tokens = torch.arange(10.0).repeat(2, 1)
    grid = as_grid(tokens)
    assert grid is not None
    assert grid[0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert as_grid(torch.ones(2, 47)) is None  # 6 x 6 and eleven more are no grid
    assert as_grid(torch.ones(2, 3, 5)) is not None
    assert as_grid(torch.ones(2, 3, 5, 7)) is not None  # with time
    assert as_grid(torch.ones(2, 3, 5, 7, 2)) is None
