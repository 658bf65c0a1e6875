"""A study of segmentations from scans to verdicts, with the attention gate among its arms."""

import json

import pytest
import standin
from tests.tasks.segment.conftest import write_balls

from foveate.compare import Study, compare
from foveate.compare import work as workers
from foveate.errors import DataError
from foveate.tasks.segment.config import SegmentConfig

SMALL = {"patch_size": [16, 16, 8], "patches_per_epoch": 4, "batch_size": 4, "augment": "none", "validate_every": 1}


def study_of(data, arms, **more):
    options = {"widths": [2, 3, 4], "fused_heads": False}
    base = SegmentConfig(data=str(data), network="unet", network_options=options, epochs=1, device="cpu", **SMALL)
    return Study(base=base, arms=arms, seeds=(0,), **more)


@pytest.mark.slow
def test_a_study_goes_from_scans_to_differences_over_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ROUNDS", 1)
    monkeypatch.setattr(workers, "MEASURE_MS", 1.0)
    study = study_of(write_balls(tmp_path / "balls", 7), ("none", "attention-gate", "placebo"))
    engine = standin.InlineEngine()
    result = compare(study, tmp_path / "out", engine=engine)
    assert (result.finished, result.total, result.failures) == (3, 3, ())
    assert result.sites == {"none": 0, "attention-gate": 1, "placebo": 5}
    none, gated, placebo = result.arms
    assert (placebo.values, placebo.difference, placebo.p_corrected) == (none.values, 0.0, None)  # one case, to the bit
    assert gated.seed_differences == (gated.difference,)
    assert result.costs["attention-gate"]["macs"] > result.costs["none"]["macs"] == result.costs["placebo"]["macs"]
    summary = json.loads((tmp_path / "out" / "runs" / "attention-gate" / "seed0" / "summary.json").read_text())
    assert summary["gate_health"]["skips.2.gates.0.gate"]["alive"]
    done = len(engine.done)
    assert compare(study, tmp_path / "out", engine=engine) == result
    assert len(engine.done) == done


def test_what_a_study_of_segmentations_cannot_be_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^where is for runs that classify; got 'encoder' for segment$"):
        study_of("scans", ("none",), where="encoder")
    with pytest.raises(LookupError, match="to segment there is attention-gate too"):
        compare(study_of("scans", ("none", "gate")), tmp_path)


@pytest.mark.slow
def test_scans_without_a_case_to_test_with_are_refused(tmp_path):
    data, splits = write_balls(tmp_path / "balls", 2), tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["ball_00"], "val": ["ball_01"]}))
    study = study_of(data, ("none",))
    config = study.config(study.entry("none"), 0)
    with pytest.raises(DataError, match="has no case in its test split, so that nothing can be compared"):
        workers.survey_arms(
            {"none": type(config)(**{**vars(config), "split_file": str(splits)})}, None, {}, report=print
        )
