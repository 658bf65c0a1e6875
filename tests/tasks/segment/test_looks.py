"""What is kept of a run to look at: health over patches of cases, and one slice of each with its maps."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from foveate.capture import Tap
from foveate.data.volumes import open_volumes
from foveate.networks.unet import UNet
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.inference import slide
from foveate.tasks.segment.looks import _middle_slice, gate_health, looker, write_slices
from foveate.tasks.segment.network import build_network
from foveate.tasks.segment.preparation import Preparation
from foveate.tasks.square import SIDE, Square

CPU = torch.device("cpu")


@pytest.fixture
def built(balls):
    from foveate.data.intensity import suggest_intensity

    volumes = open_volumes(balls)
    rules = suggest_intensity(volumes)
    preparation = Preparation(volumes.classes, [0, 1], volumes.modalities, 3, (1.0, 1.0, 2.0), rules, (16, 16, 8))
    options = {"widths": [2, 3, 4], "fused_heads": False}
    config = SegmentConfig(data=str(balls), network="unet", mechanism="attention-gate+eca", network_options=options)
    return build_network(config, preparation)[0], preparation, config, volumes


@pytest.mark.slow
def test_every_tap_of_the_mechanism_has_its_health_even_over_one_case(built):
    network, preparation, _, volumes = built
    volumes.splits["test"][1:] = []
    whole = dataclasses.replace(preparation, patch_size=(20, 18, 10))  # which can be cut in one way only
    health = gate_health(network, whole, volumes, CPU)
    assert health["skips.2.gates.0.gate"]["axes"] == "batch *space"
    assert sum(name.endswith("mechanism.gate") for name in health) == 5  # blocks of three levels, and back up of two
    assert all(found["alive"] for found in health.values())


@pytest.mark.slow
def test_slices_hold_the_truth_the_prediction_and_the_gates(built, tmp_path):
    network, preparation, config, volumes = built
    write_slices(tmp_path, network, preparation, config, volumes, CPU)
    index, arrays = json.loads((tmp_path / "maps.json").read_text()), np.load(tmp_path / "maps.npz")
    assert [entry["kind"] for entry in index["maps"]] == ["prediction", "spatial"]  # gates of channels have no places
    assert [sample["name"] for sample in index["samples"]] == ["ball_08", "ball_09"]
    assert index["samples"][0]["label"].startswith("ball_08, slice ")
    assert index["samples"][0]["prediction"].startswith("Dice 0.")
    assert arrays["images"].shape == (2, SIDE, SIDE, 3)
    truth, gate = arrays["truth"][0], arrays["spatial_0"][0]
    assert set(np.unique(truth)) == {0, 1}
    assert arrays["images"][0][truth == 1].mean() > 1.5 * arrays["images"][0][truth == 0].mean()
    assert np.isfinite(gate[truth == 1]).all()
    assert 0 < np.nanmin(gate) < np.nanmax(gate) < 1


class Doubled(nn.Module):
    """Two channels of one."""

    def forward(self, x):
        return x.repeat(1, 2, *[1] * (x.ndim - 2))


class Seen(nn.Module):
    """A block of an encoder, with what reaches it for a map."""

    def __init__(self, block):
        super().__init__()
        self.block, self.gate = block, Tap("batch *space")

    def forward(self, x):
        self.gate(x.mean(dim=1))
        return self.block(x)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(
    ("space", "patch", "strides"),
    [
        ((64, 48), (32, 32), 4),  # many windows
        ((37, 50), (32, 16), 4),
        ((9, 11), (32, 48), 4),  # smaller than a window
        ((9, 40), (32, 16), 4),  # along one axis
        ((9, 11), (13, 10), 4),  # a window that the steps do not divide: fewer than one step down
        ((40, 50), (22, 35), (4, 2)),
        ((11, 7, 5), (16, 8, 3), (2, 2, 1)),
        ((3, 2), (5, 4), 4),
    ],
)
def test_what_is_seen_of_a_place_is_drawn_at_the_place(space, patch, strides, norm):
    dims = len(space)
    network = UNet(1, 2, widths=(2, 2, 2), strides=strides, norm=norm, spatial_dims=dims).eval()
    network.encoder["1"] = Doubled()
    for level in "23":
        network.encoder[level] = Seen(network.encoder[level])
    look = looker(network, {"encoder.2.gate": "batch *space"}, dims)
    places = [tuple(int(share * (length - 1)) for length in space) for share in (0, 0.4, 0.7, 1)]
    for place in places:
        image = torch.zeros(1, 1, *space)
        image[(0, 0, *place)] = 1  # which max pooling hands on
        seen = slide(look, image, patch, overlap=0.5, device=CPU)[0, 0]
        assert seen.shape == space
        found = np.unravel_index(int(seen.argmax()), space)
        for at, true, step in zip(found, place, network.strides[0], strict=True):
            assert abs(at - true) <= step / 2, f"seen at {found} what is at {place}"


def test_a_slice_is_fitted_at_one_scale():
    drawn = Square((10, 20), (1.0, 1.0))(np.ones((10, 20), np.float32), Image.Resampling.NEAREST, np.nan)
    rows, columns = np.nonzero(np.isfinite(drawn))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (SIDE // 2, SIDE)
    assert Square((10, 20), (2.0, 1.0))(np.ones((10, 20), np.uint8), Image.Resampling.NEAREST, 0).all()


def test_the_slice_has_something_on_it():
    truth = np.zeros((4, 4, 9), np.uint8)
    truth[0, 0, 1] = truth[:2, 0, 7] = 1
    assert _middle_slice(truth) == 7
    assert _middle_slice(np.zeros((4, 4, 9), np.uint8)) == 4
