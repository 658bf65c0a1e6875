"""Geometry of the charts."""

import itertools

import pytest

from foveate.report.figures import Entry, dots, lines, scatter, styles


def test_no_two_arms_look_alike() -> None:
    arms = ["none", *(f"m{i}" for i in range(12)), "placebo", "wider"]
    drawn = styles(arms, "none")
    assert len({(style.colour, style.marker, style.hollow) for style in drawn.values()}) == len(arms)
    assert drawn["none"].colour == "ink"
    assert drawn["wider"].colour == "control"
    few = list(styles(arms[1:9], "none").values())
    assert len({style.marker for style in few}) == 8  # told apart without any colour


def test_better_is_higher_and_dearer_is_further_right() -> None:
    entries = [Entry("none", 3.0, 0.80, 0.78, 0.82, ""), Entry("se", 4.0, 0.85, 0.84, 0.86, "")]
    chart = scatter(entries, styles(["none", "se"], "none"), ("ms", "%"), factor=100, baseline="none")
    assert chart is not None
    first, second = chart.points
    assert second.mark.x > first.mark.x
    assert second.mark.y < first.mark.y
    assert first.mark.low is not None
    assert first.mark.high is not None
    assert first.mark.high < first.mark.y < first.mark.low
    assert first.low_ends
    assert chart.reference == first.mark.y
    assert all(chart.top <= y <= chart.bottom for y, _ in chart.y_axis.ticks)
    assert {"80", "84"} <= {text for _, text in chart.y_axis.ticks}


def test_marks_at_one_cost_stand_side_by_side() -> None:
    names = ["none", "se", "eca", "placebo"]
    entries = [Entry(name, 5.0, 0.8, None, None, "") for name in names]
    chart = scatter(entries, styles(names, "none"), ("ms", "%"), factor=100, baseline="none")
    assert chart is not None
    for a, b in itertools.combinations(chart.points, 2):
        assert abs(a.mark.x - b.mark.x) >= 9


def test_intervals_beyond_what_is_possible_leave_the_chart_without_an_end() -> None:
    entries = [Entry("none", 3.0, 0.5, -0.4, 1.4, ""), Entry("se", 4.0, 0.6, 0.58, 0.62, "")]
    chart = scatter(entries, styles(["none", "se"], "none"), ("ms", "%"), factor=100, baseline="none")
    assert chart is not None
    none, se = chart.points
    assert (none.low_ends, none.high_ends, se.low_ends, se.high_ends) == (False, False, True, True)
    assert (none.mark.high, none.mark.low) == (chart.top, chart.bottom)
    assert all(0 <= float(text) <= 100 for _, text in chart.y_axis.ticks)


def test_costs_of_many_sizes_are_drawn_by_ratios() -> None:
    entries = [
        Entry("none", 1e5, 0.8, None, None, ""),
        Entry("se", 1e6, 0.8, None, None, ""),
        Entry("eca", 1e7, 0.8, None, None, ""),
    ]
    chart = scatter(entries, styles(["none", "se", "eca"], "none"), ("n", "%"), factor=100, baseline="none")
    assert chart is not None
    x = [point.mark.x for point in chart.points]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)


def test_curves_share_their_axes_and_carry_the_mean_of_the_baseline() -> None:
    arms = {"none": [[(1.0, 0.5), (2.0, 0.6)], [(1.0, 0.7), (2.0, 0.8), (3.0, 0.9)]], "se": [[(1.0, 0.9)]], "eca": []}
    panels = lines(arms, styles(list(arms), "none"), ("epochs", "%"), factor=100, baseline="none")
    none, se, eca = panels
    assert none.last == "70.0"  # the mean goes as far as every seed goes
    assert len(none.seeds) == 2
    assert none.reference == ""
    assert se.reference == none.mean
    assert se.x_axis == none.x_axis
    assert se.y_axis == none.y_axis
    assert eca.mean == ""
    assert [text for _, text in none.x_axis.ticks] == ["1", "2", "3"]  # no half epochs
    assert lines({"none": []}, styles(["none"], "none"), ("", ""), factor=1, baseline="none") == []


def test_pointing_has_a_line_at_chance_and_leaves_out_arms_without_any() -> None:
    drawn = dots(
        [("none", [0.5, 0.7], []), ("se", [], []), ("cbam", [0.8], [0.4])],
        styles(["none", "se", "cbam"], "none"),
        0.2,
        "%",
    )
    assert drawn is not None
    assert drawn.chance is not None
    assert [row.name for row in drawn.rows] == ["none", "cbam"]
    none, cbam = drawn.rows
    assert cbam.mechanism is not None
    assert cbam.network is not None
    assert none.network is not None
    assert drawn.chance < cbam.mechanism < none.network < cbam.network
    assert none.mechanism is None
    assert dots([], {}, None, "") is None
