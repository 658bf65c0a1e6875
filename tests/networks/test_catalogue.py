import pytest
import torch

from foveate import networks
from foveate.compare.cost import count_macs
from foveate.networks import catalogue
from foveate.tasks.config import RunConfig
from foveate.tasks.hosts import build

FAST = ("resnet18", "resnet_tiny", "mobilenet_v2", "se_resnet18")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in catalogue.NETWORKS]
)
def test_every_network_is_built_under_its_name_and_takes_the_input_of_its_entry(name):
    entry = catalogue.describe(name)
    assert entry.name == name
    assert hasattr(networks, entry.builder.split(":")[1])
    shape = [int(size) for size in entry.input.split("x")]
    if entry.task == "translate":
        with torch.device("meta"):
            network = catalogue.build(name, num_tokens=7)
            source, target = (torch.zeros(2, tokens, dtype=torch.long) for tokens in shape)
        assert network(source, target).shape == (2, shape[1], 7)
        return
    with torch.device("meta"):
        network = catalogue.build(name, num_classes=7, **({} if entry.built_in else {"mechanism": "placebo"}))
    if isinstance(network, networks.MaskRCNN):  # how many regions there are depends on numbers: up to them
        bags = torch.zeros(2, network.bag, *shape[-3:], device="meta")
        levels = network.backbone(bags, network.bag // 2, True)
        assert levels["0"].shape == (2, network.backbone.out_channels, shape[-2] // 4, shape[-1] // 4)
        assert shape[:-3] == ([network.bag] if network.bag > 1 else [])
        return
    output, space = network(torch.zeros(2, *shape, device="meta")), shape[1:] if entry.task == "segment" else []
    if entry.task == "detect":
        queries = 20 if name == "detr_tiny" else 100
        assert (output["pred_logits"].shape, output["pred_boxes"].shape) == ((2, queries, 8), (2, queries, 4))
    else:
        assert output.shape == (2, 7, *space)


def test_the_tiny_network_is_small_enough_for_one_core():
    with torch.device("meta"):
        network = catalogue.build("resnet_tiny", in_channels=1)
    assert count_macs(network, (1, 1, 40, 40)) < 6e6


def test_a_misspelt_network_is_answered_with_the_right_one():
    with pytest.raises(LookupError, match='no network "resnet5"; did you mean "resnet50"'):
        catalogue.build("resnet5")
    with pytest.raises(LookupError, match='no network "vgg"; there are resnet18, '):
        catalogue.describe("vgg")


def test_a_network_for_another_task_is_refused_in_one_sentence():
    sentence = "^unet is there to segment, not to classify: `foveate list networks` has others$"
    with pytest.raises(LookupError, match=sentence):
        catalogue.describe("unet", "classify")
    with pytest.raises(LookupError, match=sentence):
        build(RunConfig(network="unet"))
    assert catalogue.describe("attention-unet", "segment").name == "attention_unet"


def test_a_network_with_a_mechanism_built_in_takes_no_other():
    with pytest.raises(TypeError, match=r"^se_resnet50 has se built in; a host for another mechanism is resnet50$"):
        catalogue.build("se_resnet50", mechanism="eca")


def test_a_misspelt_option_is_answered_with_those_there_are():
    with pytest.raises(TypeError, match='resnet18 has no option "mechansm"; it takes num_classes, in_channels, mech'):
        catalogue.build("resnet18", mechansm="se")
