import pytest
import torch

from foveate import networks
from foveate.compare.cost import count_macs
from foveate.networks import catalogue

SLOW = ("resnet101", "resnet152", "resnext101_32x4d", "resnext101_32x8d")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in catalogue.NETWORKS]
)
def test_every_network_is_built_under_its_name_and_takes_the_input_of_its_entry(name):
    entry = catalogue.describe(name)
    assert entry.name == name
    assert hasattr(networks, name)
    with torch.device("meta"):
        network = catalogue.build(name, num_classes=7, mechanism="placebo")
    shape = [int(size) for size in entry.input.split("x")]
    assert network(torch.zeros(2, *shape, device="meta")).shape == (2, 7)


def test_the_tiny_network_is_small_enough_for_one_core():
    with torch.device("meta"):
        network = catalogue.build("resnet_tiny", in_channels=1)
    assert count_macs(network, (1, 1, 40, 40)) < 6e6


def test_a_misspelt_network_is_answered_with_the_right_one():
    with pytest.raises(LookupError, match='no network "resnet5"; did you mean "resnet50"'):
        catalogue.build("resnet5")
    with pytest.raises(LookupError, match='no network "vgg"; there are resnet18, '):
        catalogue.describe("vgg")


def test_a_misspelt_option_is_answered_with_those_there_are():
    with pytest.raises(TypeError, match='resnet18 has no option "mechansm"; it takes num_classes, in_channels, mech'):
        catalogue.build("resnet18", mechansm="se")
