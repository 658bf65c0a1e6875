"""Starts from the weights of another run, or from those that the authors of the gate would have."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveate import to_publisher
from foveate.data.intensity import Intensity
from foveate.errors import CheckpointError
from foveate.networks.published import packed
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.network import build_network
from foveate.tasks.segment.preparation import Preparation

PREPARATION = Preparation(
    ["background", "a", "b"], [0, 1, 2], ["MRI"], 3, (1.0, 1.0, 1.0), [Intensity("nonzero")], (16, 16, 16)
)


def weights(init: Path | None = None, classes: int = 3, **settings: Any) -> dict[str, Tensor]:
    """What a run of a quarter of the released widths begins with."""
    prepared = dataclasses.replace(PREPARATION, classes=list("abcd"[:classes]), values=list(range(classes)))
    config = SegmentConfig(data="data", width=0.25, init=None if init is None else str(init), **settings)
    return build_network(config, prepared)[0].state_dict()


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run's weights, recognisable by their seed."""
    (tmp_path / "model.safetensors").write_bytes(packed(weights(seed=7)))
    return tmp_path / "model.safetensors"


def test_a_run_starts_from_another(trained: Path):
    started, other = weights(trained), weights(seed=7)
    assert all(torch.equal(started[key], other[key]) for key in started)


def test_another_number_of_classes_starts_the_heads_anew_and_is_told(trained: Path):
    with pytest.warns(UserWarning, match=r"no weights that fit heads, final, which starts anew$"):
        started = weights(trained, classes=2)
    other, fresh = weights(seed=7), weights(classes=2)
    heads = {key for key in started if key.startswith(("heads.", "final."))}
    assert heads
    assert all(torch.equal(started[key], fresh[key]) for key in heads)
    assert all(torch.equal(started[key], other[key]) for key in started.keys() - heads)


def test_gates_start_as_they_are_drawn_where_the_source_has_none(tmp_path: Path):
    path = tmp_path / "unet.safetensors"
    path.write_bytes(packed(weights(network="unet", seed=7)))
    started, other, fresh = weights(path), weights(network="unet", seed=7), weights()
    gates = {key for key in started if key.startswith(("skips.", "gating."))}
    assert all(torch.equal(started[key], fresh[key]) for key in gates)
    assert all(torch.equal(started[key], other[key]) for key in started.keys() - gates)


def network_from(init: Path, **settings: Any) -> torch.nn.Module:
    config = SegmentConfig(data="data", width=0.25, init=str(init), **settings)
    return build_network(config, PREPARATION)[0].eval()


@pytest.mark.parametrize("mechanism", ["attention-gate", "se", "nonlocal", "attention-gate+se"])
def test_in_a_trained_network_mechanisms_begin_as_the_identity(tmp_path: Path, mechanism: str):
    path = tmp_path / "unet.safetensors"
    path.write_bytes(packed(weights(network="unet", seed=7)))
    x = torch.randn(1, 1, 16, 16, 16)
    host = network_from(path, network="unet")(x)
    assert torch.equal(network_from(path, network="unet", mechanism=mechanism)(x), host)
    published = network_from(path, network="unet", mechanism=mechanism, start="published")(x)
    assert torch.equal(published, host) == (mechanism == "nonlocal")  # which has a zero of its own


def test_gates_of_the_host_itself_are_not_taken_for_a_new_mechanism(trained: Path):
    x = torch.randn(1, 1, 16, 16, 16)
    host = network_from(trained)(x)
    assert torch.equal(network_from(trained, mechanism="se")(x), host)


def test_trained_gates_are_not_hidden_behind_a_fresh_start(trained: Path):
    sentence = r"model.safetensors has weights of the mechanism at skips.2; start=published goes on with them$"
    with pytest.raises(CheckpointError, match=sentence):
        weights(trained, network="unet", mechanism="attention-gate")
    started = weights(trained, network="unet", mechanism="attention-gate", start="published")
    assert all(torch.equal(started[key], value) for key, value in weights(seed=7).items())


def test_a_run_starts_from_another_whose_mechanism_was_blended_in(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    other = weights(network="unet", mechanism="attention-gate", start="identity", seed=7)
    other["skips.2.blend.steps"].fill_(25)
    path.write_bytes(packed(other))
    assert weights(path, network="unet", mechanism="attention-gate")["skips.2.blend.steps"] == 25


def test_a_run_starts_from_a_checkpoint_of_the_release(tmp_path: Path):
    from foveate.networks.unet import attention_unet

    torch.manual_seed(7)
    released = attention_unet(in_channels=1, num_classes=3, spatial_dims=3, width=0.25)
    torch.save(to_publisher(released, "ozan-oktay/Attention-Gated-Networks"), tmp_path / "released.pth")
    started = weights(tmp_path / "released.pth")
    assert all(torch.equal(started[key], value) for key, value in released.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"network_options": {"widths": [4, 8, 16]}},
            r"decoder\.1\.0\.conv1\.bias has \(4,\) where the network has \(1,\)$",
        ),
        ({"network": "unet"}, r"of its keys .* strange, such as gating\.conv\.bias$"),
        ({"network_options": {"block": "residual"}}, r"of its keys .* missing, such as "),
    ],
)
def test_weights_of_another_network_are_refused(trained: Path, settings: dict[str, Any], told: str):
    with pytest.raises(CheckpointError, match=rf"model\.safetensors does not fit: {told}"):
        weights(trained, **settings)


def test_steps_that_no_key_tells_are_held_against_the_checkpoint(tmp_path: Path):
    from foveate.networks.unet import unet

    hearts: dict[str, Any] = {"kernel_size": (3, 3, 1), "fused_heads": False}
    released = unet(in_channels=1, num_classes=3, spatial_dims=3, width=0.25, strides=(2, 2, 1), **hearts)
    path = tmp_path / "unet_3D.pth"
    torch.save(to_publisher(released, "ozan-oktay/Attention-Gated-Networks"), path)
    with pytest.raises(CheckpointError, match=r"unet_3D\.pth was made with strides=\(2, 2, 1\); the network has 2$"):
        weights(path, network="unet", network_options=hearts)
    for strides in ([2, 2, 1], [[2, 2, 1]] * 4):
        started = weights(path, network="unet", network_options={**hearts, "strides": strides})
        assert all(torch.equal(started[key], value) for key, value in released.state_dict().items())


def test_weights_that_are_not_there_are_told(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"absent\.pth does not exist"):
        weights(tmp_path / "absent.pth")
