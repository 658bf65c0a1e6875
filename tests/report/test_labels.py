"""Labels beside their marks."""

import pytest

from foveate.report.labels import Mark, place_labels, side_by_side

FRAME = (0.0, 0.0, 400.0, 300.0)


def test_a_lonely_label_stands_right_beside_its_mark() -> None:
    (label,) = place_labels([Mark("se", 100, 100, None, None)], FRAME)
    assert (label.x, label.anchor, label.leader) == (109, "start", False)


def test_a_label_stays_in_the_chart() -> None:
    (label,) = place_labels([Mark("a long name", 390, 100, None, None)], FRAME)
    assert label.anchor == "end"


def test_labels_of_a_crowd_do_not_cover_each_other() -> None:
    marks = [Mark(f"arm{i}", 200 + 3 * i, 150 + 2 * i, None, None) for i in range(6)]
    boxes = [label.box for label in place_labels(marks, FRAME)]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


@pytest.mark.parametrize(
    ("positions", "moved"),
    [([5.0, 90.0], [5.0, 90.0]), ([50.0, 50.0], [45.0, 55.0]), ([9.0, 1.0, 5.0], [15.0, -5.0, 5.0])],
)
def test_marks_are_moved_apart_and_no_further(positions: list[float], moved: list[float]) -> None:
    assert side_by_side(positions) == moved
