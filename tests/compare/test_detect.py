"""A study of detectors from pictures to a report."""

import json

import pytest
import standin
from tests.tasks.detect.conftest import OPTIONS, small, write_shapes

from foveate import save_checkpoint
from foveate.compare import Study, compare
from foveate.compare import work as workers
from foveate.errors import DataError
from foveate.networks import detr_tiny
from foveate.report import write_report
from foveate.tasks.detect.hosts import build, preparation_for


@pytest.mark.slow
def test_a_study_goes_from_pictures_to_a_report_with_differences_over_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ROUNDS", 1)
    monkeypatch.setattr(workers, "MEASURE_MS", 1.0)
    data, out = write_shapes(tmp_path / "data"), tmp_path / "out"
    learns = {"epochs": 5, "learning_rate": 3e-3, "schedule": "constant", "augment": "none"}
    study = Study(base=small(data, **learns), arms=("none", "se", "placebo"), seeds=(0, 1))
    engine = standin.InlineEngine()
    result = compare(study, out, engine=engine)
    assert (result.finished, result.total, result.failures) == (6, 6, ())
    assert result.sites == {"none": 0, "se": 3, "placebo": 3}
    held = {
        (arm, seed): json.loads((out / "runs" / arm / f"seed{seed}" / "summary.json").read_text())
        for arm in ("none", "se", "placebo")
        for seed in (0, 1)
    }
    found = {each.arm: each for each in result.metrics["pointing.network"]}
    assert len({value for each in found.values() for value in each.values}) > 1
    for arm, each in found.items():
        values = tuple(held[arm, seed]["pointing"]["network"] for seed in (0, 1))
        assert each.values == values
        if arm != "none":
            plain = [held["none", seed]["pointing"]["network"] for seed in (0, 1)]
            assert each.pairs == 2
            assert each.difference == pytest.approx(sum(values) / 2 - sum(plain) / 2)
    for seed in (0, 1):  # to the bit
        assert held["placebo", seed]["metrics"] == held["none", seed]["metrics"]
        assert held["placebo", seed]["pointing"]["network"] == held["none", seed]["pointing"]["network"]
    assert result.costs["se"]["macs"] > result.costs["none"]["macs"] == result.costs["placebo"]["macs"]
    done = len(engine.done)
    assert compare(study, out, engine=engine) == result
    assert len(engine.done) == done
    page = write_report(out).read_text()
    for words in ("mAP50", "Recall, 100 boxes", "Pointing, queries", "6 of 6"):
        assert words in page


def test_networks_are_built_before_anything_is_trained(tmp_path):
    data, path = write_shapes(tmp_path / "data", {"train": 4, "val": 1, "test": 1}), tmp_path / "detr.safetensors"
    save_checkpoint(detr_tiny(num_classes=2, num_queries=11, width=0.25, frozen=True, **OPTIONS), path)
    wider = small(data, width=0.375)
    counted, shape, _ = build(wider, preparation_for(wider), "meta")
    real, _, _ = build(wider, preparation_for(wider))
    assert next(counted.parameters()).is_meta
    assert shape == (3, 32, 53)
    assert sum(p.numel() for p in counted.parameters()) == sum(p.numel() for p in real.parameters())
    config = small(data, mechanism="cbam", init=str(path))
    network, _, sites = build(config, preparation_for(config))
    assert network.state_dict()["query_embed.weight"].shape == (11, 16)
    assert [site["name"] for site in sites] == [f"backbone.layer{stage}.0.bn2" for stage in (1, 2, 3)]


def test_data_without_a_picture_to_test_with_are_refused(tmp_path):
    data = write_shapes(tmp_path / "data", {"train": 4, "val": 1})
    study = Study(base=small(data, epochs=1), arms=("none",), seeds=(0,))
    with pytest.raises(DataError, match=r"data has no picture in its test split, so that nothing can be compared$"):
        workers.survey_arms({"none": study.config(study.entry("none"), 0)}, None, {}, report=print)
