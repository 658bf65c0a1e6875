"""A study of networks that detect in volumes: what its arms cost, and its report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import standin
from tests.tasks.lesions.conftest import write_lesions
from tests.tasks.lesions.test_commands import small

from foveate.compare import Study, compare
from foveate.compare import work as workers
from foveate.compare.cost import count_macs, count_parameters
from foveate.errors import DataError
from foveate.report import write_report
from foveate.tasks.lesions.hosts import build, preparation_for

ARMS = ("none", "volumetric")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lesions(tmp_path_factory.mktemp("study") / "data", 5)


def configs(study: Study) -> dict[str, Any]:
    return {arm: study.config(study.entry(arm), 0) for arm in study.arms if arm != "wider"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ROUNDS", 1)
    monkeypatch.setattr(workers, "MEASURE_MS", 1.0)
    monkeypatch.setattr(workers, "LONGEST_MS", 1.0)


@pytest.mark.slow
def test_each_arm_is_measured_on_what_it_looks_at(data: Path, quick: Callable[..., None]):
    study = Study(base=small(data, bag=3, batch_size=2), arms=ARMS, seeds=(0,))
    built = {arm: build(config, preparation_for(config)) for arm, config in configs(study).items()}
    assert {arm: shape for arm, (_, shape, _) in built.items()} == {"none": (3, 20, 24), "volumetric": (3, 3, 20, 24)}
    assert {arm: len(sites) for arm, (_, _, sites) in built.items()} == {"none": 0, "volumetric": 5}
    costs = workers.measure_arms(configs(study), report=lambda _: None)
    for arm, (network, shape, _) in built.items():
        assert costs[arm]["parameters"] == count_parameters(network)
        assert costs[arm]["macs"] == count_macs(network, (1, *shape))
        assert costs[arm]["step_batch"] == 2  # the same for both, whatever the heavier one takes
        assert costs[arm]["latency_ms"] > 0
        assert costs[arm]["step_ms"] > 0
    assert costs["volumetric"]["macs"] > costs["none"]["macs"]


def test_a_network_with_a_mechanism_of_its_own_is_no_host_of_a_study(data: Path):
    study = Study(base=small(data, network="va_mask_rcnn_tiny"), arms=("none", "eca"), seeds=(0,))
    told = r"^a study takes a plain host, mask_rcnn_\*, of which volumetric is an arm; got va_mask_rcnn_tiny$"
    with pytest.raises(ValueError, match=told):
        workers.survey_arms(configs(study), None, {}, report=lambda _: None)


@pytest.mark.slow
def test_the_wider_host_has_the_parameters_of_the_largest_arm(data: Path):
    study = Study(base=small(data), arms=(*ARMS, "wider"), seeds=(0,))
    found = workers.survey_arms(configs(study), study.config(study.entry("wider"), 0), {}, report=lambda _: None)
    assert {arm: each["sites"] for arm, each in found["arms"].items()} == {"none": 0, "volumetric": 5, "wider": 0}
    wider = found["arms"]["wider"]
    assert wider["matches"] == "volumetric"
    assert wider["parameters"] == pytest.approx(found["arms"]["volumetric"]["parameters"], rel=0.01)


@pytest.mark.slow
def test_a_study_goes_from_volumes_to_a_report(data: Path, tmp_path: Path, quick: Callable[..., None]):
    study = Study(base=small(data, bag=3, slice_mm=2.0), arms=ARMS, seeds=(0,))
    result = compare(study, tmp_path / "out", engine=standin.InlineEngine())
    assert (result.finished, result.total, result.failures) == (2, 2, ())
    assert result.sites == {"none": 0, "volumetric": 5}
    for each in result.metrics["sensitivity"]:
        held = json.loads((tmp_path / "out" / "runs" / each.arm / "seed0" / "summary.json").read_text())
        assert each.values == (held["metrics"]["sensitivity"],)
    page = write_report(tmp_path / "out").read_text(encoding="utf-8")
    assert '<h2 id="froc">Found, at how many false positives</h2>' in page
    assert "Which slices it draws on" in page
    assert "weight 0" in page
    assert "means of the slices: 0." in page
    for words in ("Sensitivity", "FROC, mean", "mAP50"):
        assert words in page
    alone = write_report(tmp_path / "out" / "runs" / "none" / "seed0").read_text(encoding="utf-8")
    assert 'id="froc"' in alone
    assert "Which slices it draws on" not in alone


def test_data_without_a_volume_to_test_with_are_refused(data: Path):
    names = [f"ball_{number:02}" for number in range(5)]
    split = data / "split.json"
    split.write_text(json.dumps({"train": names[:4], "val": names[4:], "test": []}))
    with pytest.raises(DataError, match=r"data has no volume in its test split, so that nothing can be compared$"):
        preparation_for(small(data, split_file=str(split)))
