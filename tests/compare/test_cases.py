"""Values by arm, seed and case from scores, and studies of segmentations that are compared by them."""

import numpy as np
import pytest
import standin
from scipy import stats

from foveate.compare import Study, summarise
from foveate.compare.cases import case_values, comparable_values
from foveate.compare.folder import run_folder, write_json
from foveate.compare.result import differences_between, differences_to
from foveate.compare.statistics import BETTER, UNSHOWN, compare_to_baseline_by_case
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.metrics import Score, score_case, write_scores

# Dice of cases, by seed: the means over the seeds are 0.61, 0.71, 0.51, 0.81 and 0.66, 0.74, 0.58, 0.84.
NONE = {0: [0.60, 0.70, 0.50, 0.80], 1: [0.62, 0.72, 0.52, 0.82]}
GATED = {0: [0.64, 0.73, 0.57, 0.83], 1: [0.68, 0.75, 0.59, 0.85]}


def score(case, dice, **more):
    return Score(**{"case": case, "structure": "organ", "state": "scored", "truth_ml": 1.0, "predicted_ml": 1.0,
                    "dice": dice, **more})  # fmt: skip


def runs(table, **more):
    return {seed: [score(f"case{i}", dice, **more) for i, dice in enumerate(row)] for seed, row in table.items()}


def test_a_case_is_the_mean_over_its_classes_where_they_are_defined():
    scores = [
        score("a", 0.5),
        score("a", 0.9, structure="tumour"),
        score("b", None),
        score("b", 0.4, structure="tumour"),
    ]
    assert case_values({0: scores, 1: [score("a", 0.3)]}, "dice") == {"a": pytest.approx(0.5), "b": 0.4}


def test_cases_of_every_run_are_told_by_arm_and_seed():
    found = comparable_values({"none": runs(NONE), "se": runs(GATED)}, "dice")
    assert found["se"][1] == {"case0": 0.68, "case1": 0.75, "case2": 0.59, "case3": 0.85}
    assert list(found["none"]) == [0, 1]


def test_a_false_alarm_costs_something_and_what_all_leave_out_does_not():
    empty, there = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    there[1:3, 1:3, 1:3] = 1

    def found(predicted):
        return {0: score_case("a", predicted, empty, ("background", "organ"), (1, 1, 1))}

    def values(measure, **arms):
        return {arm: by_seed[0] for arm, by_seed in comparable_values(arms, measure).items()}

    alarm, silent = found(there), found(empty)
    assert values("dice", a=alarm, b=silent) == {"a": {"a": 0.0}, "b": {"a": 1.0}}
    assert values("hd95_mm", a=alarm, b=silent) == {"a": {"a": pytest.approx(48**0.5)}, "b": {"a": 0.0}}
    assert values("false_positive_ml", a=alarm, b=silent) == {"a": {"a": pytest.approx(0.008)}, "b": {"a": 0.0}}
    for measure in ("dice", "hd95_mm", "recall"):
        assert values(measure, a=silent, b=silent) == {"a": {}, "b": {}}
    assert values("recall", a=alarm, b=silent) == {"a": {}, "b": {}}


def write_study(out, tables, **more):
    """A study's folder of segmentations in which tables[arm][seed] are the Dice of the cases."""
    seeds = tuple(max(tables.values(), key=len))
    study = Study(base=SegmentConfig(data="scans", network="unet", epochs=1), arms=tuple(tables), seeds=seeds)
    entries = [study.entry(arm) for arm in tables]
    write_json(out / "study.json", study.plan() | {"arms": entries})
    for entry in entries:
        for seed, row in tables[entry["arm"]].items():
            folder = run_folder(out, entry["arm"], seed)
            folder.mkdir(parents=True)
            metrics = {"dice": float(np.mean(row))}
            config = study.config(entry, seed)
            (folder / "summary.json").write_text(standin.summary(config, task="segment", metrics=metrics).to_json())
            write_scores(folder / "cases.csv", runs({seed: row}, **more)[seed])


def test_a_study_of_segmentations_pairs_its_seeds_and_cases(tmp_path):
    write_study(tmp_path, {"none": NONE, "se": GATED})
    result = summarise(tmp_path)
    assert tuple(result.metrics) == ("dice", "false_positive_ml", "hd95_mm")
    none, se = result.arms
    assert (none.mean, none.values) == (pytest.approx(0.66), pytest.approx((0.65, 0.67)))
    low, high = stats.t.interval(0.95, 3, loc=0.66, scale=stats.sem([0.61, 0.71, 0.51, 0.81]))
    assert (none.low, none.high) == pytest.approx((low, high))
    assert (se.pairs, se.trainings, se.remark) == (4, 4, "two seeds: a wider interval")
    assert se.seed_differences == pytest.approx((0.0425, 0.0475))
    expected = compare_to_baseline_by_case(comparable_values({"none": runs(NONE), "se": runs(GATED)}, "dice"), "none")
    assert (se.diff_low, se.p_corrected) == (expected["se"].low, expected["se"].p)
    assert differences_to(result, ["se"], "none") == expected
    assert differences_between(result, [("se", "none")]) == list(expected.values())


def test_a_difference_over_cases_that_one_training_made_is_not_shown(tmp_path):
    better = {0: [0.70, 0.80, 0.61, 0.91], 1: [0.61, 0.71, 0.52, 0.81]}  # clear over the cases of seed 0 alone
    write_study(tmp_path, {"none": NONE, "se": better})
    se = summarise(tmp_path).arms[1]
    assert se.seed_differences[1] < 0 < se.seed_differences[0]
    assert se.diff_low < 0 < se.diff_high
    assert se.verdict == UNSHOWN


def test_fewer_false_positives_are_no_gain_where_more_is_missed(tmp_path):
    write_study(tmp_path, {"none": NONE | {2: NONE[0]}, "se": GATED | {2: GATED[0]}})
    for arm, base in (("none", 2.0), ("se", 1.0)):
        for seed in range(3):
            scores = [score(f"case{i}", 0.5, false_positive_ml=base + i / 10 + seed / 50 * base) for i in range(4)]
            write_scores(run_folder(tmp_path, arm, seed) / "cases.csv", scores)
    assert summarise(tmp_path).metrics["false_positive_ml"][1].verdict == BETTER
    path = run_folder(tmp_path, "se", 1) / "cases.csv"
    write_scores(path, [*scores[:3], score("case3", 0.0, state="missed")])
    se = summarise(tmp_path).metrics["false_positive_ml"][1]
    assert se.verdict == UNSHOWN
    assert se.remark.endswith("1 more missed than by none")


def test_with_one_seed_the_reader_is_told_that_training_was_not_repeated(tmp_path):
    write_study(tmp_path, {"none": {0: GATED[0]}, "se": {0: NONE[0]}})
    result = summarise(tmp_path)
    assert (result.arms[1].verdict, result.arms[1].remark) == (UNSHOWN, "one seed: no interval")
    assert result.notes[-1].startswith("training was not repeated")


def test_a_run_whose_cases_cannot_be_read_failed(tmp_path):
    write_study(tmp_path, {"none": NONE, "se": GATED})
    (tmp_path / "runs" / "se" / "seed1" / "cases.csv").write_text("case,dice\na,b\n")
    result = summarise(tmp_path)
    assert [(failure.arm, failure.seed) for failure in result.failures] == [("se", 1)]
    assert "cases.csv cannot be read as the scores of cases" in result.failures[0].sentence
    assert result.arms[1].pairs == 4
    assert result.arms[1].remark == "1 of 2 seeds in common with none; one seed: no interval"
