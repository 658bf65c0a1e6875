"""foveate inspect, as a user meets it."""

import json

import pytest
import torch

from foveate import networks, save_checkpoint, to_publisher


@pytest.fixture
def checkpoint(tmp_path):
    """A function that writes the checkpoint of a small CBAM network, with changes."""

    def write(**changes):
        network = networks.ResNet(
            "basic", (1, 1, 1), base_width=32, num_classes=4, stem="cifar", mechanism="cbam", options={"reduction": 4}
        )
        state = to_publisher(network, "Jongchan/attention-module") | changes
        torch.save(
            {"state_dict": {key: value for key, value in state.items() if value is not None}}, tmp_path / "net.pth"
        )
        return tmp_path / "net.pth"

    return write


def test_it_says_whose_it_is_and_what_is_in_it(foveate, checkpoint):
    status, out, err = foveate("inspect", checkpoint())
    assert (status, err) == (0, "")
    for told in (
        "Jongchan/attention-module",
        "CBAM-ResNet-8 for small pictures",
        "[1, 1, 1]",
        "{'reduction': 4}",
        "whole",
    ):
        assert told in out
    assert "at 3x32x32" in out
    assert "None" not in out


def test_a_program_can_read_it(foveate, checkpoint):
    status, out, _ = foveate("inspect", checkpoint(), "--json")
    found = json.loads(out)
    assert status == 0
    assert found["publisher"] == "Jongchan/attention-module"
    assert found["architecture"]["mechanism"] == "cbam"
    assert found["parameters"] == sum(
        parameter.numel() for parameter in networks.ResNet(**found["architecture"]).parameters()
    )
    assert found["macs"] > 1e6
    assert found["problems"] == []


def test_what_does_not_fit_is_listed_and_the_status_is_two(foveate, checkpoint):
    damaged = checkpoint(**{"layer2.0.bn1.weight": None, "fc.bias": torch.zeros(7)})
    status, out, _ = foveate("inspect", damaged)
    assert status == 2
    assert "layer2.0.bn1.weight is missing" in out
    assert "fc.bias has shape (7,) where (4,) is wanted" in out
    assert json.loads(foveate("inspect", damaged, "--json")[1])["macs"] is None


def test_what_is_nobodys_is_said(foveate, tmp_path):
    torch.save({"a.b": torch.zeros(2)}, tmp_path / "net.pth")
    status, out, _ = foveate("inspect", tmp_path / "net.pth")
    assert status == 2
    assert "not known" in out
    assert "a.b" in out


def test_a_layer_has_no_cost_of_its_own(foveate, tmp_path):
    torch.save({"fc.0.weight": torch.zeros(2, 8), "fc.2.weight": torch.zeros(8, 2)}, tmp_path / "se.pth")
    status, out, _ = foveate("inspect", tmp_path / "se.pth")
    assert status == 0
    assert "a layer of SE" in out
    assert "macs" not in out


def test_our_own_files_are_known(foveate, tmp_path):
    save_checkpoint(networks.resnet_tiny(mechanism="eca"), tmp_path / "net.safetensors")
    assert json.loads(foveate("inspect", tmp_path / "net.safetensors", "--json")[1])["publisher"] == "foveate"


def test_a_file_that_is_none_is_one_sentence(foveate, tmp_path):
    (tmp_path / "net.pth").write_text("<html>")
    status, out, err = foveate("inspect", tmp_path / "net.pth")
    assert (status, out) == (2, "")
    sentence = "is a web page, not a checkpoint: the download gave a page instead of the file"
    assert err == f"foveate: {tmp_path}/net.pth {sentence}\n"
