"""FROC against counting by hand, and by brute force."""

import random

import pytest
import torch

from foveate.tasks.lesions.froc import RATES, Froc, write_curve

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def froc(*slices) -> Froc:
    """Slices as (boxes, scores, true boxes), all of class 0."""
    made = Froc()
    for boxes, scores, true in slices:
        held = torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.zeros(len(scores), dtype=torch.long)
        made.update(*held, torch.tensor(true).reshape(-1, 4), torch.zeros(len(true), dtype=torch.long))
    return made


def test_lesions_count_above_the_score_of_the_first_false_positive_that_is_too_many():
    found = froc(([BOX, FAR], [0.9, 0.8], [BOX]), ([BOX, FAR, FAR], [0.3, 0.7, 0.6], [BOX]))
    assert found.sensitivity(0.5) == 0.5  # one false positive over two slices, then that at 0.7 is too many
    assert found.sensitivity(1) == 0.5
    assert found.sensitivity(2) == 1.0
    assert found.sensitivity(0) == 0.5  # 0.9 is above every false positive


def test_a_second_box_on_a_lesion_is_neither_right_nor_wrong():
    once, twice = froc(([BOX], [0.9], [BOX])), froc(([BOX, BOX], [0.9, 0.8], [BOX]))
    assert (once.best, once.wrong) == (twice.best, twice.wrong) == ([pytest.approx(0.9)], [])


def test_a_box_of_another_class_or_of_little_overlap_finds_nothing():
    made = Froc()
    boxes = torch.tensor([BOX, [0.0, 0.0, 10.0, 4.9]])
    made.update(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 0]), torch.tensor([BOX]), torch.tensor([0]))
    assert made.best == [-1.0]
    assert len(made.wrong) == 2
    half = froc(([[0.0, 0.0, 10.0, 5.0]], [0.5], [BOX]))  # one half is enough
    assert half.best == [0.5]


def test_a_lesion_that_ties_with_a_false_positive_that_is_too_many_does_not_count():
    assert froc(([BOX, FAR], [0.5, 0.5], [BOX])).sensitivity(0.5) == 0.0
    assert froc(([BOX, FAR], [0.5, 0.5], [BOX])).sensitivity(1) == 1.0


def test_without_lesions_or_boxes():
    assert froc(([FAR], [0.5], [])).sensitivity(0.5) is None
    assert froc(([FAR], [0.5], [])).summary()["froc"] is None
    assert froc(([], [], [BOX])).sensitivity(16) == 0.0
    assert Froc().curve() == []


def test_every_rate_and_the_curve_agree_with_counting_at_each_score():
    draw = random.Random(3)
    slices = []
    for _ in range(40):
        true = [[x, 0.0, x + 8.0, 8.0] for x in (0.0, 20.0) if draw.random() < 0.6]
        boxes = [box for box in true if draw.random() < 0.7] + [FAR] * draw.randrange(4)
        slices.append((boxes, [round(draw.random(), 2) for _ in boxes], true))
    made = froc(*slices)

    def counted(score: float) -> tuple[float, float]:
        """False positives a slice and sensitivity of the boxes with at least this score."""
        hits = wrong = total = 0
        for boxes, scores, true in slices:
            kept = [box for box, value in zip(boxes, scores, strict=True) if value >= score - 1e-6]
            total += len(true)
            hits += sum(box in kept for box in true)
            wrong += sum(box not in true for box in kept)
        return wrong / len(slices), hits / total

    for score, wrong, found in made.curve():
        assert counted(score) == pytest.approx((wrong, found))
    scores = sorted({value for _, each, _ in slices for value in each})
    for rate in RATES:
        best = max((found for score in scores for wrong, found in [counted(score)] if wrong <= rate), default=0.0)
        assert made.sensitivity(rate) == pytest.approx(best)
    told = made.summary()
    assert list(told) == ["sensitivity", *(f"sensitivity_{rate}" for rate in RATES[1:]), "froc"]
    assert told["froc"] == pytest.approx(sum(made.sensitivity(rate) for rate in RATES) / len(RATES))


def test_a_curve_is_written_from_the_strictest_score_to_the_laxest(tmp_path):
    write_curve(tmp_path / "froc.csv", froc(([BOX, FAR], [0.75, 0.25], [BOX])).curve())
    assert (tmp_path / "froc.csv").read_text() == "score,false_positives,sensitivity\n0.75,0,1\n0.25,1,1\n"


def test_a_crowd_is_no_lesion_and_a_box_within_it_is_not_wrong():
    made = Froc()
    boxes, crowd = torch.tensor([BOX, FAR, [200.0, 200.0, 210.0, 210.0]]), [40.0, 40.0, 90.0, 90.0]
    there = torch.tensor([BOX, crowd]), torch.zeros(2, dtype=torch.long), torch.tensor([False, True])
    made.update(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long), *there)
    assert (made.best, made.wrong) == ([pytest.approx(0.9)], [pytest.approx(0.7)])
    made.update(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.long), *there)
    assert made.best[1:] == [-1.0]
