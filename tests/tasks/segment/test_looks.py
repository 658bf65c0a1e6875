"""What is kept of a run to look at: health over patches of cases, and one slice of each with its maps."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data.volumes import open_volumes
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.looks import SIDE, _Fit, _middle_slice, gate_health, write_slices
from foveate.tasks.segment.network import build_network
from foveate.tasks.segment.preparation import Preparation

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


def test_a_slice_is_fitted_at_one_scale():
    drawn = _Fit((10, 20), (1.0, 1.0))(np.ones((10, 20), np.float32), Image.Resampling.NEAREST, np.nan)
    rows, columns = np.nonzero(np.isfinite(drawn))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (SIDE // 2, SIDE)
    assert _Fit((10, 20), (2.0, 1.0))(np.ones((10, 20), np.uint8), Image.Resampling.NEAREST, 0).all()


def test_the_slice_has_something_on_it():
    truth = np.zeros((4, 4, 9), np.uint8)
    truth[0, 0, 1] = truth[:2, 0, 7] = 1
    assert _middle_slice(truth) == 7
    assert _middle_slice(np.zeros((4, 4, 9), np.uint8)) == 4
