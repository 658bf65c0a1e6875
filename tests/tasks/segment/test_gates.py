"""The attention gate as a mechanism: it makes of a U-Net what attention_unet is, and is counted where it stands."""

import pytest
import torch

from foveate.networks import attention_unet
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.gates import parts_of
from foveate.tasks.segment.network import build_network
from foveate.tasks.segment.preparation import Preparation

PREPARATION = Preparation(["background", "organ"], [0, 1], ["MR"], 2, None, [], (32, 32))
SMALL = {"widths": [3, 5, 7, 11]}


def built(mechanism="none", network="unet", **more):
    config = SegmentConfig(data="scans", network=network, mechanism=mechanism, network_options=SMALL, **more)
    return build_network(config, PREPARATION)


def test_a_gated_unet_is_an_attention_unet():
    network, sites = built("attention-gate", seed=7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = attention_unet(in_channels=1, num_classes=2, widths=SMALL["widths"]).state_dict()
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
    assert sites == [{"name": "skips.2.gates.0", "channels": 5}, {"name": "skips.3.gates.0", "channels": 7}]


def test_gates_stand_beside_other_mechanisms_and_take_options():
    _, sites = built("attention-gate+se")
    names = [site["name"] for site in sites]
    assert names[:2] == ["skips.2.gates.0", "skips.3.gates.0"]
    assert names[2:] == [site["name"] for site in built("se")[1]]
    network, _ = built("attention-gate", options={"normalisation": "softmax"})
    assert network.get_submodule("skips.2.gates.0").normalisation == "softmax"
    assert built("none")[1] == built("none", network="attention_unet")[1] == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"network": "attention_unet"}, "attention-gate goes into a unet without gates; attention_unet has its own"),
        ({"options": {"se": {}}, "mechanism": "attention-gate+se"}, "options go to one mechanism; got"),
        ({"mechanism": "attention-gate+attention-gate"}, "attention-gate stands on a skip connection once; got"),
    ],
)
def test_what_gates_cannot_be_is_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        built(**{"mechanism": "attention-gate", **given})


def test_names_are_taken_apart():
    assert parts_of("none") == (False, "none")
    assert parts_of("se+attention-gate+spatial") == (True, "se+spatial")
    with pytest.raises(
        LookupError, match=r'^no mechanism "attention-gates"; .*; to segment there is attention-gate too$'
    ):
        parts_of("attention-gates")
