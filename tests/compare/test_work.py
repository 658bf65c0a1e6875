"""What workers do, on real networks and a handful of pictures."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from foveate.compare import Study, compare
from foveate.compare.cost import count_macs, count_parameters
from foveate.compare.work import _repeats, measure_arms, survey_arms, train_arm
from foveate.errors import RunError
from foveate.networks import resnet_tiny
from foveate.tasks.config import RunConfig


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A MedMNIST file of two classes: bright above, and bright below."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", 22), ("val", 6), ("test", 10)):
        labels = np.arange(size) % 2
        images = random.integers(0, 128, (size, 12, 12))
        for image, label in zip(images, labels, strict=True):
            image[6 * label : 6 * label + 6] += 127
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None]}
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    np.savez(path, **arrays)
    return str(path)


def study_of(pictures, arms, **settings):
    base = RunConfig(
        **{"data": pictures, "network": "resnet_tiny", "epochs": 2, "batch_size": 8, "device": "cpu", **settings}
    )
    return Study(base=base, arms=arms, seeds=(0, 1))


def configs(study):
    return {arm: study.config(study.entry(arm), 0) for arm in study.arms if arm != "wider"}


def test_the_survey_counts_parameters_and_sites_and_widens_the_host(pictures):
    study = study_of(pictures, ("none", "se", "placebo", "wider"))
    told = []
    found = survey_arms(configs(study), study.config(study.entry("wider"), 0), {}, report=told.append)
    plain, se = (
        count_parameters(resnet_tiny(num_classes=2, in_channels=1, mechanism=mechanism)) for mechanism in (None, "se")
    )
    assert found["arms"]["none"] == {"parameters": plain, "sites": 0}
    assert found["arms"]["se"] == {"parameters": se, "sites": 3}
    assert found["arms"]["placebo"] == {"parameters": plain, "sites": 3}
    wider = found["arms"]["wider"]
    assert (wider["matches"], wider["sites"]) == ("se", 0)
    assert wider["parameters"] == pytest.approx(se, rel=0.01)
    assert wider["parameters"] == count_parameters(resnet_tiny(num_classes=2, in_channels=1, width=wider["width"]))
    assert told == ["none", "se", "placebo", "wider"]
    assert found["versions"]["torch"]
    assert found["machine"]["cores"]


def test_arms_that_were_surveyed_before_count_for_the_wider_host(pictures):
    study = study_of(pictures, ("none", "eca", "wider"))
    known = {"nonlocal": 90_000}
    found = survey_arms({}, study.config(study.entry("wider"), 0), known, report=lambda _: None)
    assert found["arms"]["wider"]["matches"] == "nonlocal"
    assert found["arms"]["wider"]["parameters"] == pytest.approx(90_000, rel=0.01)


def test_a_study_without_a_larger_arm_has_no_wider_host(pictures):
    study = study_of(pictures, ("none", "placebo", "wider"))
    found = survey_arms(configs(study), study.config(study.entry("wider"), 0), {}, report=lambda _: None)
    assert found["left_out"] == {"wider": "wider was left out: no arm has more parameters than the host"}
    assert "wider" not in found["arms"]


@pytest.mark.slow
def test_every_arm_is_measured_in_every_round_at_the_size_of_the_pictures(pictures):
    study = study_of(pictures, ("none", "se"))
    told = []
    costs = measure_arms(configs(study), report=told.append)
    assert told == ["none", "se"] * 3
    for arm, mechanism in (("none", None), ("se", "se")):
        network = resnet_tiny(num_classes=2, in_channels=1, mechanism=mechanism)
        assert costs[arm]["parameters"] == count_parameters(network)
        assert costs[arm]["macs"] == count_macs(network, (1, 1, 12, 12))
        assert (costs[arm]["batch"], costs[arm]["step_batch"]) == (1, 8)
        assert 0 < costs[arm]["latency_ms"] <= costs[arm]["latency_p95_ms"]
        assert 0 < costs[arm]["step_ms"] <= costs[arm]["step_p95_ms"]
        assert 0 < costs[arm]["memory_mib"] < costs[arm]["step_memory_mib"]


@pytest.mark.parametrize(
    ("once_ms", "repeats"), [(0.1, 200), (2.0, 150), (30.0, 10), (38.0, 8), (900.0, 4), (5000.0, 2)]
)
def test_what_is_quick_is_measured_more_often(once_ms, repeats):
    assert _repeats(once_ms) == repeats


@pytest.mark.slow
def test_heavy_networks_are_measured_in_fewer_rounds(pictures, monkeypatch):
    monkeypatch.setattr("foveate.compare.work.ROUNDS_S", 0.0)
    told = []
    measure_arms(configs(study_of(pictures, ("none", "se"))), report=told.append)
    assert told == ["none", "se"]


@pytest.mark.slow
def test_a_heavy_training_step_is_measured_on_few_pictures(pictures, monkeypatch):
    monkeypatch.setattr("foveate.compare.work.STEP_MACS", 3.5 * count_macs(resnet_tiny(in_channels=1), (1, 1, 12, 12)))
    study = study_of(pictures, ("none",))
    assert measure_arms(configs(study), report=lambda _: None)["none"]["step_batch"] == 3


def test_a_machine_that_does_not_see_the_study_says_so(pictures, tmp_path):
    study = study_of(pictures, ("none",))
    with pytest.raises(RunError, match=f"does not see {tmp_path}; a study needs a folder that all its machines share"):
        train_arm(study.config(study.entry("none"), 0), tmp_path, report=lambda _: None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_study_from_pictures_to_verdicts(pictures, tmp_path):
    study = study_of(pictures, ("none", "se", "placebo", "wider"))
    result = compare(study, tmp_path, workers=1)
    assert (result.finished, result.failures) == (8, ())
    by_arm = {arm.arm: arm for arm in result.arms}
    assert by_arm["placebo"].values == by_arm["none"].values  # the same weights, pictures and augmentation, bit for bit
    loss = {arm.arm: arm for arm in result.metrics["loss"]}
    assert loss["placebo"].values == loss["none"].values
    assert loss["se"].values != loss["none"].values
    assert by_arm["placebo"].verdict == "no difference shown"
    assert result.sites == {"none": 0, "se": 3, "placebo": 3, "wider": 0}
    assert set(result.costs) == set(by_arm)
    assert len(result.notes) == 1
    assert compare(study, tmp_path) == result


SCRIPT = """
import sys
from pathlib import Path
import foveate.compare.work
from foveate.compare import Study, compare
from foveate.tasks.config import RunConfig
foveate.compare.work.ROUNDS, foveate.compare.work.MEASURE_MS = 1, 1.0  # in the workers too: they import this
if __name__ == "__main__":
    base = RunConfig(data=sys.argv[2], network="resnet_tiny", epochs=40, batch_size=8, device="cpu")
    compare(Study(base=base, arms=("none", "se"), seeds=(0,)), Path(sys.argv[1]), workers=1)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_study_that_was_killed_ends_with_the_same_bits(pictures, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, script, killed, pictures])
    while not list(killed.glob("runs/*/seed0/checkpoints/previous.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not list(killed.glob("runs/*/seed0/summary.json"))
    begun = [path.parts[-4] for path in killed.glob("runs/*/seed0/checkpoints/last.ckpt")]
    for out in (killed, whole):
        subprocess.run([sys.executable, script, out, pictures], check=True, timeout=280)
    for arm in ("none", "se"):
        taken_up, at_once = (
            json.loads((out / "runs" / arm / "seed0" / "summary.json").read_text()) for out in (killed, whole)
        )
        assert (taken_up["resumed"], at_once["resumed"]) == (int(arm in begun), 0)
        assert taken_up["metrics"] == at_once["metrics"]
        weights = [(out / "runs" / arm / "seed0" / "model.safetensors").read_bytes() for out in (killed, whole)]
        assert weights[0] == weights[1]
