import pytest
import torch
from torch import nn

from foveate.surgery import find_sites
from foveate.surgery.dry_run import inputs_of
from foveate.surgery.example import examples_for, resized


def first_shape(host):
    return tuple(next(examples_for(host)).args[0].shape)


@pytest.mark.parametrize(
    ("host", "shape"),
    [
        (nn.Conv1d(2, 5, 3), (1, 2, 128)),
        (nn.Conv2d(4, 5, 3), (1, 4, 64, 64)),
        (nn.Conv3d(1, 5, 3), (1, 1, 32, 32, 32)),
        (nn.Sequential(nn.Linear(7, 5), nn.ReLU()), (1, 7)),
    ],
)
def test_the_first_layer_tells_channels_and_rank(host, shape):
    assert first_shape(host) == shape


def test_declared_sizes_come_first():
    host = nn.Conv2d(1, 5, 3)
    host.pretrained_cfg = {"input_size": (3, 40, 48)}
    assert first_shape(host) == (1, 1, 40, 48)
    host.img_size = (24, 32)
    assert first_shape(host) == (1, 1, 24, 32)
    host.img_size = 56
    assert first_shape(host) == (1, 1, 56, 56)


def test_sizes_are_tried_until_the_host_takes_one():
    host = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 13 * 13, 3))
    (site,) = find_sites(host, "0")
    assert site.shape == (1, 2, 26, 26)  # a host for pictures of 28 x 28


def test_the_example_has_the_precision_of_the_host():
    (site,) = find_sites(nn.Sequential(nn.Conv2d(3, 5, 3)).double(), "0")
    assert site.channels == 5


def test_what_cannot_be_guessed_is_asked_for():
    with pytest.raises(
        ValueError, match=r"what Sequential takes cannot be guessed; pass example=, an input \(it starts"
    ):
        find_sites(nn.Sequential(nn.Embedding(3, 5)), "0")
    with pytest.raises(ValueError, match=r"pass example=.*it starts with neither"):
        find_sites(nn.Sequential(nn.ReLU()), "0")

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(3, 5, 1)

        def forward(self, left, right):
            return self.conv(left - right)

    with pytest.raises(ValueError, match=r"what Pair takes .*tried \(1, 3, 128\): .*missing 1 required positional"):
        find_sites(Pair(), "conv")
    (site,) = find_sites(Pair(), "conv", example=(torch.zeros(2, 3, 7), torch.zeros(2, 3, 7)))
    assert site.shape == (2, 5, 7)


def test_an_example_that_the_host_refuses_raises_what_the_host_raises(host):
    with pytest.raises(RuntimeError, match="expected input"):
        find_sites(host, "stem", example=torch.zeros(1, 4, 7, 7))


def test_another_size_keeps_batch_and_channels():
    assert [tuple(inputs.args[0].shape) for inputs in resized(inputs_of(torch.zeros(2, 3, 224, 64)))] == [
        (2, 3, 96, 96),
        (2, 3, 448, 128),
    ]
    (pictures,) = next(resized(inputs_of([torch.zeros(3, 32, 64)]))).args
    assert [tuple(picture.shape) for picture in pictures] == [(3, 32, 96)]
    assert not list(resized(inputs_of(torch.zeros(2, 3))))
    assert not list(resized(inputs_of((torch.zeros(2, 3, 5), 1))))
