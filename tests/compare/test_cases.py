"""Arms paired case by case: worked out by hand, and the same from scipy.stats."""

import numpy as np
import pytest
import standin
from scipy import stats

from foveate.compare import Study, summarise
from foveate.compare.cases import case_values, paired_by_case
from foveate.compare.folder import run_folder, write_json
from foveate.compare.result import difference_between
from foveate.compare.statistics import BETTER, UNSHOWN, WORSE
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


def test_the_difference_over_cases_is_that_of_scipy():
    means = [np.mean([table[0], table[1]], axis=0) for table in (GATED, NONE)]
    expected = stats.ttest_rel(*means)
    found = paired_by_case(runs(GATED), runs(NONE), "dice")
    assert found.pairs == 4
    assert found.mean == pytest.approx((0.05 + 0.03 + 0.07 + 0.03) / 4)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert found.seeds == pytest.approx((0.0425, 0.0475))  # which the cases say nothing of


def test_only_seeds_and_cases_that_both_arms_have_are_paired():
    arm, baseline = runs(GATED), runs(NONE)
    del arm[1], baseline[0][2]
    found = paired_by_case(arm, baseline, "dice")
    assert (found.pairs, found.seeds) == (3, pytest.approx(((0.04 + 0.03 + 0.03) / 3,)))
    assert paired_by_case({}, baseline, "dice").pairs == 0


def test_a_case_is_the_mean_over_its_classes_where_they_are_defined():
    scores = [
        score("a", 0.5),
        score("a", 0.9, structure="tumour"),
        score("b", None),
        score("b", 0.4, structure="tumour"),
    ]
    assert case_values({0: scores, 1: [score("a", 0.3)]}, "dice") == {"a": pytest.approx(0.5), "b": 0.4}


def test_a_false_alarm_costs_something_and_what_both_leave_out_does_not():
    empty, there = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    there[1:3, 1:3, 1:3] = 1

    def found(predicted):
        return {0: score_case("a", predicted, empty, ("background", "organ"), (1, 1, 1))}

    alarm, silent = found(there), found(empty)
    assert paired_by_case(alarm, silent, "dice").mean == -1
    assert paired_by_case(silent, alarm, "hd95_mm").mean == pytest.approx(-(48**0.5))
    assert paired_by_case(alarm, silent, "false_positive_ml").mean == pytest.approx(0.008)
    for measure in ("dice", "hd95_mm", "recall"):
        assert paired_by_case(silent, silent, measure).pairs == 0
    assert paired_by_case(alarm, silent, "recall").pairs == 0


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


def test_a_study_of_segmentations_pairs_its_cases(tmp_path):
    write_study(tmp_path, {"none": NONE, "se": GATED})
    result = summarise(tmp_path)
    assert tuple(result.metrics) == ("dice", "false_positive_ml", "hd95_mm")
    none, se = result.arms
    assert (none.mean, none.values) == (pytest.approx(0.66), pytest.approx((0.65, 0.67)))
    low, high = stats.t.interval(0.95, 3, loc=0.66, scale=stats.sem([0.61, 0.71, 0.51, 0.81]))
    assert (none.low, none.high) == pytest.approx((low, high))
    assert (se.pairs, se.verdict, se.remark) == (4, BETTER, "")
    assert se.seed_differences == pytest.approx((0.0425, 0.0475))
    assert difference_between(result, "se", "none") == paired_by_case(runs(GATED), runs(NONE), "dice")


def test_a_claim_takes_one_sign_in_every_seed(tmp_path):
    better = {0: [0.70, 0.80, 0.61, 0.91], 1: [0.61, 0.71, 0.52, 0.81]}  # over cases clear, but not in seed 1
    write_study(tmp_path, {"none": NONE, "se": better})
    se = summarise(tmp_path).arms[1]
    assert se.diff_low > 0
    assert se.p_corrected < 0.05
    assert se.seed_differences[1] < 0 < se.seed_differences[0]
    assert se.verdict == UNSHOWN
    assert not difference_between(summarise(tmp_path), "se", "none").one_sign


def test_fewer_false_positives_are_no_gain_where_more_is_missed(tmp_path):
    write_study(tmp_path, {"none": NONE, "se": GATED})
    for arm, base in (("none", 2.0), ("se", 1.0)):
        for seed in NONE:
            scores = [score(f"case{i}", 0.5, false_positive_ml=base + i / 10 * base) for i in range(4)]
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
    assert result.arms[1].verdict == WORSE
    assert result.notes[-1].startswith("training was not repeated")


def test_a_run_whose_cases_cannot_be_read_failed(tmp_path):
    write_study(tmp_path, {"none": NONE, "se": GATED})
    (tmp_path / "runs" / "se" / "seed1" / "cases.csv").write_text("case,dice\na,b\n")
    result = summarise(tmp_path)
    assert [(failure.arm, failure.seed) for failure in result.failures] == [("se", 1)]
    assert "cases.csv cannot be read as the scores of cases" in result.failures[0].sentence
    assert (result.arms[1].pairs, result.arms[1].remark) == (4, "1 of 2 seeds in common with none")
