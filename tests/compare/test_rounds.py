"""A study whose seeds are added in rounds stops where it may, and decides the same when it is interrupted."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import standin

from foveate.compare import Study, compare, summarise
from foveate.compare.cases import comparable_values
from foveate.compare.ray_engine import RayEngine
from foveate.compare.rounds import Rounds
from foveate.compare.sequential import Rule, settled_in
from foveate.compare.statistics import compare_to_baseline, compare_to_baseline_by_case
from foveate.compare.work import Work, train_arm
from foveate.errors import RunError
from foveate.tasks.config import RunConfig
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.metrics import Score, read_scores, write_scores

ARMS = ("none", "se", "eca", "cbam", "placebo")
NOISE = {"none": 0.01, "se": 0.01, "eca": 0.01, "cbam": 0.02}


SIX = Rule(6, precision=0.015)


def study_of(arms=ARMS, rule=SIX, **behaviour):
    base = RunConfig(epochs=2, device="cpu", network_options={"noise": NOISE} | behaviour)
    return Study(base=base, arms=arms, auto=rule)


def run(study, out, **options):
    engine, told = standin.InlineEngine(), []
    result = compare(study, out, engine=engine, progress=told.append, work=standin.WORK, command="x", **options)
    return result, [key for key in engine.done if key not in ("survey", "measure")], told


def plan_of(out):
    return json.loads((out / "study.json").read_text())


def test_settled_arms_are_not_trained_again_and_the_others_are(tmp_path):
    result, done, _ = run(study_of(), tmp_path)
    settled = {arm: each.seeds for each in result.rounds for arm in each.settled}
    assert len(set(settled.values())) > 1
    for arm in ARMS[1:]:
        assert sum(key[0] == arm for key in done) == settled.get(arm, 6)
    assert sum(key[0] == "none" for key in done) == result.rounds[-1].seeds
    assert len(done) == len(set(done)) == result.finished == result.total == result.rounds[-1].trainings


def test_the_same_call_again_only_reads(tmp_path):
    first, _, _ = run(study_of(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again, done, told = run(study_of(), tmp_path)
    assert (again, done, told) == (first, [], [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_verdicts_intervals_and_p_agree_with_the_rounds(tmp_path):
    result, _, _ = run(study_of(), tmp_path)
    settled = settled_in(result.rounds)
    for arm in result.arms[1:]:
        shown = settled.get(arm.arm) in ("better", "worse")
        assert (arm.verdict == settled.get(arm.arm)) == shown
        assert (arm.diff_low > 0 or arm.diff_high < 0) == (arm.p_corrected < 0.05) == shown
    first, cbam = result.rounds[0], next(arm for arm in result.arms if arm.arm == "cbam")
    values = {arm.arm: dict(zip(arm.seeds, arm.values, strict=True)) for arm in result.arms}
    seen = {arm: {seed: values[arm][seed] for seed in seeds} for arm, seeds in first.runs.items()}
    told = compare_to_baseline(seen, "none", alpha=first.level)["cbam"]
    assert (cbam.diff_low, cbam.diff_high, cbam.p_corrected) == (told.low, told.high, told.p)


def test_the_rounds_are_in_study_json_and_in_the_result(tmp_path):
    result, _, told = run(study_of(), tmp_path)
    auto = plan_of(tmp_path)["auto"]
    assert (auto["most"], auto["precision"]) == (6, 0.015)
    assert [each["settled"] for each in auto["rounds"]] == [each.settled for each in result.rounds]
    assert json.loads(json.dumps(result.to_dict()))["rounds"] == auto["rounds"]
    assert any(state.message.startswith("3 seeds: ") for state in told)


def test_what_was_not_settled_by_the_most_seeds_is_said(tmp_path):
    result, _, _ = run(
        study_of(("none", "eca"), Rule(4, precision=1e-6), noise={"none": 0.001, "eca": 0.0011}), tmp_path
    )
    assert (settled_in(result.rounds), result.ended) == ({}, "seeds")


def test_the_default_precision_is_a_test_sample_where_that_is_more_than_a_point(tmp_path):
    result, _, _ = run(study_of(rule=Rule(4)), tmp_path)
    assert result.rounds[0].precision == 1 / 17


def test_a_killed_study_comes_to_the_same_decisions_wherever_it_was_killed(tmp_path):
    out, copies = tmp_path / "study", []

    def copy(state):
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(out, copies[-1])  # what a kill would leave

    engine = standin.InlineEngine()
    whole = compare(study_of(), out, engine=engine, progress=copy, work=standin.WORK, command="x")
    trained = set(engine.done)
    assert len(whole.rounds) > 2
    for folder in copies[3::9]:
        (folder / ".lock").unlink(missing_ok=True)
        result, done, _ = run(study_of(), folder)
        assert (result.rounds, result.arms, result.ended) == (whole.rounds, whole.arms, whole.ended)
        assert set(done) <= trained


def test_a_study_whose_looks_were_not_written_down_looks_again(tmp_path):
    whole, _, _ = run(study_of(), tmp_path)
    (tmp_path / "study.json").unlink()
    again, done, _ = run(study_of(), tmp_path)
    assert (again.rounds, again.arms, done) == (whole.rounds, whole.arms, [])


def test_a_run_that_was_lost_is_trained_again_and_the_decisions_stay(tmp_path):
    whole, _, _ = run(study_of(), tmp_path)
    shutil.rmtree(tmp_path / "runs" / "se" / "seed1")
    again, done, _ = run(study_of(), tmp_path)
    assert done == [("se", 1)]
    assert (again.rounds, again.arms) == (whole.rounds, whole.arms)


def test_an_arm_that_fails_is_left_behind_and_catches_up_in_another_call(tmp_path):
    def train(config, folder, *, progress=None):
        if (config.arm, config.seed) == ("cbam", 2):
            raise ValueError("the loss is not finite; got nan")
        standin.train(config, folder, progress=progress)

    work = Work(standin.survey, standin.measure, partial(train_arm, train=train))
    first = compare(study_of(), tmp_path, engine=standin.InlineEngine(), work=work)
    assert "cbam" not in settled_in(first.rounds)
    assert len(first.failures) == 1
    again, done, _ = run(study_of(), tmp_path)
    assert ("cbam", 2) in done
    assert again.failures == ()
    assert again.rounds[: len(first.rounds)] == first.rounds
    assert {arm for each in again.rounds[len(first.rounds) :] for arm in each.arms} == {"cbam"}


def test_a_baseline_that_fails_ends_the_rounds(tmp_path):
    result, done, _ = run(study_of(fail="none"), tmp_path)
    assert (len(done), result.rounds) == (15, ())
    assert all(arm.diff_low is None for arm in result.arms)


def test_no_round_begins_that_would_end_too_late(tmp_path):
    limited = Rule(6, precision=0.015, total_time_s=1.0)  # a run of the stand-in says that it took 0.5 s
    result, done, _ = run(study_of(rule=limited), tmp_path)
    assert len(done) == 15
    assert (len(result.rounds), result.ended) == (1, "time")
    assert run(study_of(rule=limited), tmp_path)[1:] == ([], [])  # it only reads
    more, done, _ = run(study_of(), tmp_path)
    assert len(done) > 0
    assert more.ended != "time"


def test_a_study_of_fixed_seeds_can_go_on_in_rounds(tmp_path):
    fixed = Study(base=study_of().base, arms=ARMS, seeds=(0, 1, 2))
    run(fixed, tmp_path / "both")
    result, done, _ = run(study_of(), tmp_path / "both")
    whole, _, _ = run(study_of(), tmp_path / "whole")
    assert (result.rounds, result.arms) == (whole.rounds, whole.arms)
    assert all(seed > 2 for _, seed in done)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (study_of(rule=Rule(7, precision=0.015)), "its seeds are auto:6, not auto:7"),
        (Study(base=study_of().base, arms=ARMS, seeds=(0, 1, 2)), "its seeds are auto:6, not 3"),
        (study_of(arms=("none", "se")), "its arms are cbam, eca, none, placebo, se, not none, se"),
    ],
)
def test_what_the_error_was_shared_out_by_cannot_change(tmp_path, changed, told):
    run(study_of(), tmp_path)
    with pytest.raises(RunError, match=f"holds another study: {told}; .* start over with --fresh"):
        run(changed, tmp_path)


@pytest.mark.parametrize("damage", [{"most": 2}, {"asked": []}, {"rounds": [{"seeds": 3}]}])
def test_damaged_rounds_are_named(tmp_path, damage):
    run(study_of(), tmp_path)
    plan = plan_of(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(plan | {"auto": plan["auto"] | damage}))
    with pytest.raises(RunError, match=r"study\.json of .* is damaged: its auto is .*; start over with --fresh"):
        run(study_of(), tmp_path)
    with pytest.raises(RunError, match=r"study\.json of the study is damaged"):
        summarise(tmp_path)


def segment(config, folder, *, progress=None):
    """Leave the Dice of eight cases; that of se is higher by 0.05, and cases differ alike in every run."""
    draw = random.Random(f"{config.arm} {config.seed}")
    gain = 0.05 if config.arm == "se" else 0.0
    dice = [0.6 + 0.03 * case + gain + draw.gauss(0, 0.01) for case in range(8)]
    folder.mkdir(parents=True)
    write_scores(
        folder / "cases.csv",
        [
            Score(case=f"case{i}", structure="a", state="scored", truth_ml=1.0, predicted_ml=1.0, dice=value)
            for i, value in enumerate(dice)
        ],
    )
    summary = standin.summary(config, task="segment", metrics={"dice": sum(dice) / 8})
    (folder / "summary.json").write_text(summary.to_json())


def test_a_task_that_pairs_cases_is_judged_by_them_in_every_round(tmp_path):
    base = SegmentConfig(data="scans", network="unet", epochs=1, device="cpu")
    study = Study(base=base, arms=("none", "se", "eca"), auto=Rule(5, precision=1e-4))
    work = Work(standin.survey, standin.measure, partial(train_arm, train=segment))
    result = compare(study, tmp_path, engine=standin.InlineEngine(), work=work)
    assert settled_in(result.rounds)["se"] == "better"
    first = result.rounds[0]
    scores = {
        arm: {seed: read_scores(tmp_path / f"runs/{arm}/seed{seed}/cases.csv") for seed in range(3)}
        for arm in ("none", "se", "eca")
    }
    expected = compare_to_baseline_by_case(comparable_values(scores, "dice"), "none", alpha=first.level)["se"]
    se = result.arms[1]
    assert (se.diff_low, se.diff_high, se.p_corrected, se.pairs) == (expected.low, expected.high, expected.p, 8)
    assert len(se.seeds) == 3


def test_rounds_need_a_rule(tmp_path):
    with pytest.raises(ValueError, match="rounds need a rule; got a study with a fixed number of seeds"):
        Rounds(Study(base=RunConfig(epochs=1), arms=("none",)), tmp_path, {})


SCRIPT = """
import signal
import sys
from pathlib import Path
import standin
import test_rounds
from foveate.compare import LocalEngine, compare, study
if __name__ == "__main__":
    study._check_names = lambda *_: None  # they are right, and torch takes seconds
    asked = test_rounds.study_of(seconds=0.05)
    compare(asked, Path(sys.argv[1]), engine=LocalEngine(2), work=standin.WORK, command="x")
"""


@pytest.mark.slow
def test_a_study_that_is_killed_at_any_time_comes_to_the_same_decisions(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, _, _ = run(study_of(seconds=0.05), tmp_path / "whole")
    for finished in (4, 15, 17):
        out = tmp_path / f"killed{finished}"
        process = subprocess.Popen([sys.executable, script, out], stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(6000):
            if len(list(out.glob("runs/*/*/summary.json"))) >= finished:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        assert len(list(out.glob("runs/*/*/summary.json"))) < whole.finished
        subprocess.run([sys.executable, script, out], check=True, timeout=120)
        result = summarise(out)
        assert (result.rounds, result.arms, result.ended) == (whole.rounds, whole.arms, whole.ended)


@pytest.mark.slow
def test_rounds_go_on_on_a_ray_cluster(tmp_path):
    pytest.importorskip("ray")
    whole, _, _ = run(study_of(), tmp_path / "here")
    with RayEngine() as engine:
        result = compare(study_of(), tmp_path / "there", engine=engine, work=standin.WORK, command="x")
    assert (result.rounds, result.arms) == (whole.rounds, whole.arms)
