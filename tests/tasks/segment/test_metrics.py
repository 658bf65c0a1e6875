import csv
import math

import numpy as np
import pytest

from foveate.tasks.segment.metrics import COLUMNS, MEASURES, Score, read_scores, score_case, summarise, write_scores

CLASSES = ["background", "liver"]


def block(shape: tuple[int, ...], *slices: slice) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[slices] = 1
    return label


def test_a_voxel_apart_is_as_far_as_the_spacing_says():
    # Two single voxels, two steps apart along an axis with 5 mm steps.
    predicted = block((5, 5, 5), slice(2, 3), slice(2, 3), slice(3, 4))
    truth = block((5, 5, 5), slice(2, 3), slice(2, 3), slice(1, 2))
    (score,) = score_case("a", predicted, truth, CLASSES, (1, 1, 5))
    assert (score.state, score.dice, score.precision, score.recall) == ("scored", 0, 0, 0)
    assert (score.hd95_mm, score.assd_mm, score.surface_dice) == (10, 10, 0)
    assert (score.truth_ml, score.predicted_ml, score.false_positive_ml) == (0.005, 0.005, 0.005)


def test_two_overlapping_bars_by_hand():
    # Truth at 2..5, prediction at 3..7 of a line: 3 in common of 4 and 5.
    truth, predicted = block((1, 10), slice(0, 1), slice(2, 6)), block((1, 10), slice(0, 1), slice(3, 8))
    (score,) = score_case("a", predicted, truth, CLASSES, (1.0, 2.0))
    assert score.dice == pytest.approx(6 / 9)
    assert score.precision == pytest.approx(3 / 5)
    assert score.recall == pytest.approx(3 / 4)
    assert score.false_positive_ml == pytest.approx(2 * 2 / 1000)
    # In one row every voxel touches the outside: forth 0 0 0 2 4, back 2 0 0 0.
    forth, back = [0, 0, 0, 2, 4], [2, 0, 0, 0]
    assert score.hd95_mm == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert score.assd_mm == pytest.approx(8 / 9)
    assert score.surface_dice == pytest.approx(6 / 9)
    (lenient,) = score_case("a", predicted, truth, CLASSES, (1.0, 2.0), tolerance_mm=2.0)
    assert lenient.surface_dice == pytest.approx(8 / 9)


def test_a_missed_structure_never_improves_a_mean():
    truth = block((6, 6, 6), slice(1, 4), slice(1, 4), slice(1, 4))
    off = np.roll(truth, 1, axis=0)
    empty = np.zeros_like(truth)
    poor = score_case("poor", off, truth, CLASSES, (1, 1, 3))
    missed = score_case("missed", empty, truth, CLASSES, (1, 1, 3))
    alone, both = summarise(poor), summarise(poor + missed)
    for name in ("dice", "precision", "recall", "surface_dice"):
        assert both[name] == pytest.approx(alone[name] / 2)  # pyright: ignore[reportOptionalOperand]
    diagonal = math.sqrt(6**2 + 6**2 + 18**2)
    for name in ("hd95_mm", "assd_mm"):
        assert both[name] == pytest.approx((alone[name] + diagonal) / 2)  # pyright: ignore[reportOptionalOperand]
    assert (both["cases"], both["missed"], both["scored"]) == (2, 1, 1)


def test_a_false_alarm_lowers_the_mean_and_an_absent_structure_is_counted_alone():
    truth = block((4, 4), slice(1, 3), slice(1, 3))
    empty = np.zeros_like(truth)
    right = score_case("right", truth, truth, CLASSES, (1, 1))
    alarm = score_case("alarm", truth, empty, CLASSES, (1, 1))
    absent = score_case("absent", empty, empty, CLASSES, (1, 1))
    assert (alarm[0].state, alarm[0].dice, alarm[0].precision, alarm[0].recall) == ("false alarm", 0, 0, None)
    assert alarm[0].false_positive_ml == pytest.approx(0.004)
    assert alarm[0].hd95_mm == pytest.approx(math.sqrt(32))
    found = summarise(right + alarm + absent)
    assert found["dice"] == 0.5
    assert found["recall"] == 1
    assert (found["cases"], found["false_alarm"], found["absent"], found["missed"]) == (3, 1, 1, 0)
    assert all(getattr(absent[0], name) is None for name in MEASURES if name != "false_positive_ml")


def test_intervals_over_cases_are_students():
    truth = block((1, 12), slice(0, 1), slice(0, 4))
    scores = []
    for case, shift in enumerate((0, 1, 2)):
        scores += score_case(str(case), np.roll(truth, shift, axis=1), truth, CLASSES, (1, 1))
    found = summarise(scores)
    # Dice 1, 0.75, 0.5: mean 0.75, deviation 0.25, and t(2) at 97.5 % is 4.302653.
    assert found["dice"] == pytest.approx(0.75)
    assert found["dice_low"] == pytest.approx(0.75 - 4.302653 * 0.25 / math.sqrt(3), rel=1e-6)
    assert found["dice_high"] == pytest.approx(0.75 + 4.302653 * 0.25 / math.sqrt(3), rel=1e-6)
    one = summarise(scores[:1])
    assert (one["dice"], one["dice_low"]) == (1, None)


def test_a_case_counts_once_however_many_classes_it_has():
    truth = np.zeros((1, 9), np.uint8)
    truth[0, :3], truth[0, 3:6] = 1, 2
    wrong = np.where(truth == 2, 0, truth)
    classes = ["background", "a", "b"]
    found = summarise(score_case("x", wrong, truth, classes, (1, 1)))
    assert (found["dice"], found["dice.a"], found["dice.b"]) == (0.5, 1, 0)


def test_the_rows_are_a_case_and_a_class_each(tmp_path):
    truth = block((4, 4), slice(1, 3), slice(1, 3))
    scores = score_case("a", truth, truth, CLASSES, (1, 1)) + score_case("b", truth * 0, truth * 0, CLASSES, (1, 1))
    write_scores(tmp_path / "cases.csv", scores)
    with (tmp_path / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["case"], row["structure"], row["state"]) for row in rows] == [
        ("a", "liver", "scored"),
        ("b", "liver", "absent"),
    ]
    assert (rows[0]["dice"], rows[1]["dice"]) == ("1.0", "")


def test_small_volumes_are_not_lost_in_the_file(tmp_path):
    score = Score(case="a", structure="cell", state="missed", truth_ml=2.5e-9 / 3, predicted_ml=0.0)
    write_scores(tmp_path / "cases.csv", [score])
    assert read_scores(tmp_path / "cases.csv")[0].truth_ml == pytest.approx(score.truth_ml, rel=1e-8)


def test_label_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"label maps of one shape .* got \(2, 2\), \(2, 3\) and \(1, 1\)"):
        score_case("a", np.zeros((2, 2)), np.zeros((2, 3)), CLASSES, (1, 1))


@pytest.mark.slow
def test_the_distances_are_those_of_monai():
    import torch
    from monai.metrics import hausdorff_distance, surface_dice, surface_distance  # pyright: ignore[reportAttributeAccessIssue]

    random = np.random.default_rng(0)
    spacing = (0.7, 1.3, 5.0)
    for _ in range(5):
        masks = []
        for _ in range(2):
            low, length = random.integers(0, 6, 3), random.integers(2, 8, 3)
            mask = block((14, 15, 16), *(slice(a, a + n) for a, n in zip(low, length, strict=True)))
            masks.append(mask ^ (mask & (random.random(mask.shape) < 0.1)))
        (score,) = score_case("a", *masks, CLASSES, spacing)
        y_pred, y = (torch.tensor(np.stack([1 - mask, mask]))[None].float() for mask in masks)
        hd = hausdorff_distance.compute_hausdorff_distance(y_pred, y, percentile=95, spacing=spacing)
        assd = surface_distance.compute_average_surface_distance(y_pred, y, symmetric=True, spacing=spacing)
        nsd = surface_dice.compute_surface_dice(y_pred, y, class_thresholds=[1.0], spacing=spacing)
        assert score.hd95_mm == pytest.approx(hd.item(), rel=1e-5)
        assert score.assd_mm == pytest.approx(assd.item(), rel=1e-5)
        assert score.surface_dice == pytest.approx(nsd.item(), rel=1e-5)
