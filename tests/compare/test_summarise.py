"""What is read out of a study's folder, with runs missing, failing and lacking a metric."""

import json

import pytest
import standin

from foveate.compare import Study, summarise
from foveate.compare.folder import Failure, read_json, run_folder, write_failures, write_json
from foveate.compare.statistics import compare_to_baseline
from foveate.errors import RunError
from foveate.tasks.config import RunConfig


def write_study(out, values, arms=("none", "se"), seeds=(0, 1, 2), notes=(), metric="accuracy", **changes):
    """A study's folder in which values[arm][seed] is the metric of a finished run; a missing one is not finished."""
    study = Study(base=RunConfig(device="cpu", epochs=1), arms=arms, seeds=seeds)
    entries = [study.entry(arm) for arm in arms]
    write_json(out / "study.json", study.plan() | {"arms": entries, "notes": list(notes)})
    for entry in entries:
        for seed, value in values.get(entry["arm"], {}).items():
            folder = run_folder(out, entry["arm"], seed)
            folder.mkdir(parents=True)
            summary = standin.summary(study.config(entry, seed), **{"metrics": {metric: value}, **changes})
            (folder / "summary.json").write_text(summary.to_json())


def test_arms_keep_their_order_and_their_values_by_seed(tmp_path):
    write_study(tmp_path, {"se": {0: 0.7, 1: 0.8, 2: 0.9}, "none": {0: 0.5, 1: 0.7, 2: 0.6}})
    none, se = summarise(tmp_path).arms
    assert (none.arm, none.seeds, none.values, none.verdict) == ("none", (0, 1, 2), (0.5, 0.7, 0.6), "")
    assert (se.arm, se.values, se.mean) == ("se", (0.7, 0.8, 0.9), pytest.approx(0.8))
    assert (se.pairs, se.difference) == (3, pytest.approx(0.2))
    values = {"none": {0: 0.5, 1: 0.7, 2: 0.6}, "se": {0: 0.7, 1: 0.8, 2: 0.9}}
    expected = compare_to_baseline(values, "none")["se"]
    assert (se.diff_low, se.diff_high, se.p_corrected) == (expected.low, expected.high, expected.p)
    assert (se.trainings, se.detectable, se.seed_differences) == (6, expected.detectable, expected.by_seed)


def test_p_values_are_corrected_over_the_arms_of_a_metric(tmp_path):
    values = {
        "none": {0: 0.5, 1: 0.52, 2: 0.51},
        "se": {0: 0.6, 1: 0.63, 2: 0.62},
        "eca": {0: 0.51, 1: 0.5, 2: 0.53},
        "cbam": {0: 0.7, 1: 0.75, 2: 0.69},
    }
    write_study(tmp_path, values, arms=tuple(values))
    arms = summarise(tmp_path).arms
    expected = compare_to_baseline(values, "none")
    assert [arm.p_corrected for arm in arms[1:]] == [difference.p for difference in expected.values()]
    assert arms[0].p_corrected is None
    assert arms[2].p_corrected > compare_to_baseline({name: values[name] for name in ("none", "eca")}, "none")["eca"].p


def test_an_interval_that_holds_zero_names_no_winner(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.7, 2: 0.6}, "se": {0: 0.9, 1: 0.71, 2: 0.61}})
    se = summarise(tmp_path).arms[1]
    assert se.diff_low < 0 < se.diff_high
    assert se.verdict == "no difference shown"


def test_a_lower_loss_is_better(tmp_path):
    values = {"none": {0: 0.5, 1: 0.7, 2: 0.6}, "se": {0: 0.3, 1: 0.51, 2: 0.4}}
    write_study(tmp_path, values, metric="loss")
    assert summarise(tmp_path, ["loss"]).arms[1].verdict == "better"


def test_runs_that_are_missing_are_left_out_and_the_reader_is_told(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6, 2: 0.7}, "se": {0: 0.6, 2: 0.9}})
    result = summarise(tmp_path)
    assert result.arms[1].seeds == (0, 2)
    assert result.arms[1].pairs == 2
    assert result.arms[1].remark == "2 of 3 seeds in common with none; two seeds: a wider interval"
    assert (result.finished, result.total) == (5, 6)


def test_one_seed_has_no_interval_and_this_is_said(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5}, "se": {0: 0.9}}, seeds=(0,))
    se = summarise(tmp_path).arms[1]
    assert (se.difference, se.diff_low, se.p_corrected) == (pytest.approx(0.4), None, None)
    assert (se.verdict, se.remark) == ("no difference shown", "one seed: no interval")


def test_equal_differences_have_no_interval_and_this_is_said(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 0.7}}, seeds=(0, 1))
    se = summarise(tmp_path).arms[1]
    assert (se.diff_low, se.verdict, se.remark) == (
        None,
        "no difference shown",
        "equal differences: no spread to judge by",
    )


def test_an_arm_without_runs_is_listed_with_nothing(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}})
    se = summarise(tmp_path).arms[1]
    assert (se.values, se.mean, se.difference, se.remark) == ((), None, None, "no seed in common with none")


def test_metrics_that_no_run_has_are_listed_with_nothing(tmp_path):
    pointing = {"network": None, "mechanism": None, "chance": None, "samples": 0}
    write_study(tmp_path, {"none": {0: 0.5}, "se": {0: 0.6}}, seeds=(0,), pointing=pointing)
    for arm in summarise(tmp_path).metrics["pointing.network"]:
        assert (arm.values, arm.mean) == ((), None)
    assert summarise(tmp_path).metrics["pointing.network"][1].remark == "not measured"


def test_the_metrics_are_accuracy_first_then_loss_and_pointing(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5}, "se": {0: 0.6}}, seeds=(0,))
    result = summarise(tmp_path)
    assert list(result.metrics) == ["accuracy", "loss", "pointing.network"]
    assert result.arms == result.metrics["accuracy"]
    assert [arm.values for arm in result.metrics["pointing.network"]] == [(0.5,), (0.5,)]


def test_a_metric_that_there_is_not_is_refused(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5}})
    with pytest.raises(LookupError, match='no metric "accurracy"; there are accuracy, loss, '):
        summarise(tmp_path, ["accurracy"])


def test_dead_gates_are_flagged_except_those_held_on_purpose(tmp_path):
    health = {"layer1.0.mechanism.gate": {"alive": True}, "layer2.0.mechanism.gate": {"alive": False}}
    values = {arm: {0: 0.5, 1: 0.6} for arm in ("none", "se", "placebo")}
    write_study(tmp_path, values, arms=tuple(values), seeds=(0, 1), gate_health=health)
    result = summarise(tmp_path)
    assert result.dead_gates["se"] == ("layer2.0.mechanism.gate (seed 0)", "layer2.0.mechanism.gate (seed 1)")
    assert "placebo" not in result.dead_gates
    assert result.sites == {"none": 0, "se": 1, "placebo": 1}


def test_costs_failures_and_notes_come_along(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6}}, seeds=(0, 1), notes=["wider was left out"])
    write_failures(tmp_path, [Failure("se", 1, "No space left on device")])
    write_json(tmp_path / "costs.json", {"none": {"parameters": 11}})
    result = summarise(tmp_path)
    assert result.failures == (Failure("se", 1, "No space left on device"),)
    assert result.costs == {"none": {"parameters": 11}}
    assert result.notes == ("wider was left out",)


def test_a_failure_is_forgotten_when_the_run_is_finished(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5}, "se": {0: 0.6}}, seeds=(0,))
    write_failures(tmp_path, [Failure("se", 0, "it failed, and then it did not")])
    assert summarise(tmp_path).failures == ()


def test_the_result_can_be_written_as_json(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 0.8}}, seeds=(0, 1))
    told = json.loads(json.dumps(summarise(tmp_path).to_dict(), allow_nan=False))
    assert told["folder"] == str(tmp_path)
    assert told["arms"][1]["values"] == [0.6, 0.8]
    assert told["metrics"]["accuracy"] == told["arms"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is not the folder of a study: it has no study.json"),
        ('{"version": 1, "ta', r"study\.json cannot be read \(.*\); remove it and run the same command again"),
        ('{"version": 7}', r"study\.json has version 7; this foveate reads version 1"),
        ("[]", r"study\.json has version None; this foveate reads version 1"),
        ('{"version": 1, "task": "classify"}', r"study\.json is damaged: it lacks data, network, start"),
    ],
)
def test_a_folder_that_is_no_study_or_damaged_is_said(tmp_path, content, told):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(RunError, match=told):
        summarise(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("left_out", ..., "it lacks left_out"),
        ("notes", ..., "it lacks notes"),
        ("notes", "none", "its notes is 'none'"),
        ("seeds", ["0"], r"its seeds is \['0'\]"),
        ("arms", ["se"], r"its arms is \['se'\]"),
        ("arms", [{"arm": "se", "mechanism": "se", "width": 1}], "an arm in it has no sound options: {'arm': 'se'"),
    ],
)
def test_a_study_with_damaged_fields_is_said(tmp_path, name, value, told):
    write_study(tmp_path, {"none": {0: 0.5}})
    plan = read_json(tmp_path / "study.json") | {name: value}
    write_json(tmp_path / "study.json", {key: value for key, value in plan.items() if value is not ...})
    with pytest.raises(RunError, match=rf"study\.json is damaged: {told}"):
        summarise(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sites", 4), ("metrics", {"accuracy": "high"}), ("gate_health", {"gate": True}), ("seed", True)],
)
def test_a_summary_of_other_kinds_is_a_failed_run(tmp_path, name, value):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 0.8}}, seeds=(0, 1))
    path = run_folder(tmp_path, "se", 1) / "summary.json"
    write_json(path, read_json(path) | {name: value})
    result = summarise(tmp_path)
    told = f"{path} is damaged: its {name} is {value!r}; remove it and run again to finish the run anew"
    assert result.failures == (Failure("se", 1, told),)
    assert result.arms[1].seeds == (0,)


def test_runs_that_differ_in_more_than_arm_and_seed_are_noted(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 0.8}}, seeds=(0, 1), notes=["a note"])
    assert summarise(tmp_path).notes == ("a note",)
    path = run_folder(tmp_path, "se", 1) / "summary.json"
    changes = {"versions": {"torch": "2.9"}, "machine": {"device": "cuda", "gpu": "H100"}, "train_size": 97}
    write_json(path, read_json(path) | changes)
    told = "the version of torch (unknown, 2.9), the device (unknown, cuda), the GPU (unknown, H100)"
    told += ", the amount of training data (101, 97)"
    assert summarise(tmp_path).notes == ("a note", f"finished runs differ in more than arm and seed: {told}")


def test_damaged_failures_are_said(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5}})
    (tmp_path / "failures.json").write_text('[{"arm": "se"}]')
    with pytest.raises(RunError, match=r"failures\.json is damaged \(.*\); remove it and run the same command again"):
        summarise(tmp_path)


def test_a_study_without_a_finished_run_says_so(tmp_path):
    write_study(tmp_path, {})
    with pytest.raises(RunError, match="has no finished run"):
        summarise(tmp_path)


def test_a_baseline_without_any_arm_in_the_plan_compares_nothing(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 0.8}}, seeds=(0, 1))
    write_json(tmp_path / "study.json", read_json(tmp_path / "study.json") | {"baseline": "plain"})
    assert [arm.remark for arm in summarise(tmp_path).arms] == ["no seed in common with plain"] * 2


def test_a_value_too_large_to_be_measured_is_none(tmp_path):
    write_study(tmp_path, {"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 1e300}}, seeds=(0, 1))
    se = summarise(tmp_path).arms[1]
    assert (se.values, se.pairs) == ((0.6,), 1)
