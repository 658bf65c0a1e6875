"""The rule for validation curves that still rise: gains worked out by hand, its false alarms and what it catches."""

from pathlib import Path

import numpy as np
import pytest

from foveate.report.read import Run
from foveate.report.rising import gain_at_end, still_rising


def runs(curves, measure="val_accuracy", finished=True):
    """Runs with the given validation curves."""
    summary = {"version": 1} if finished else {}
    return [
        Run(Path(), "se", seed, {}, summary, [{"epoch": i, measure: value} for i, value in enumerate(curve)])
        for seed, curve in enumerate(curves)
    ]


def noise(random, epochs, persistence):
    """Noise of standard deviation 0.02 that persists from epoch to epoch."""
    found = [0.02 * random.standard_normal()]
    for fresh in 0.02 * (1 - persistence**2) ** 0.5 * random.standard_normal(epochs - 1):
        found.append(persistence * found[-1] + fresh)
    return np.array(found)


@pytest.mark.parametrize(
    ("values", "gain"),
    [
        ([], None),
        ([0.5], None),
        ([0.5, 0.7], 0.2),
        ([0.1, 0.2, 0.3, 0.9], 0.6),
        ([0, 0, 0, 0, 0.1, 0.3, 0.5, 0.9], 0.5),
        ([0.1, 0.2, 0.4, 0.5, 0.6, 0.9], 0.3),
    ],
)
def test_the_gain_is_the_last_quarter_minus_the_one_before(values, gain):
    assert gain_at_end(values) == (None if gain is None else pytest.approx(gain))


def test_the_mean_gain_of_runs_that_rise_is_told():
    found = still_rising(runs([[0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.81], [0.5, 0.6, 0.7, 0.79]]))
    assert (found.measure, found.runs) == ("val_accuracy", 3)
    assert found.gain == pytest.approx(0.1)


def test_a_rise_of_less_than_half_a_point_is_none():
    assert still_rising(runs([[0.5, 0.504], [0.5, 0.5041], [0.5, 0.5042]])) is None


def test_runs_that_fall_or_are_not_finished_do_not_rise():
    assert still_rising(runs([[0.8, 0.7], [0.8, 0.71]])) is None
    assert still_rising(runs([[0.5, 0.7], [0.5, 0.71]], finished=False)) is None
    assert still_rising(runs([[0.5, 0.7]])) is None


def test_empty_cells_are_no_validations():
    assert still_rising(runs([[None, 0.5, None, 0.7], [None, 0.5, None, 0.71]], "val_dice")).measure == "val_dice"


@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_flat_noisy_curves_seldom_raise_an_alarm(persistence):
    """A level of 1 %: at most 3 % of 400 studies of six runs, three standard errors above."""
    random = np.random.default_rng(0)
    alarms = sum(
        still_rising(runs([0.8 + noise(random, 10, persistence) for _ in range(6)])) is not None for _ in range(400)
    )
    assert alarms <= 12


def test_curves_of_half_the_training_that_they_need_are_caught():
    random = np.random.default_rng(1)
    rise = 0.85 * (1 - 0.75 * np.exp(-np.arange(1, 11) / 5))
    caught = sum(still_rising(runs([rise + noise(random, 10, 0.3) for _ in range(12)])) is not None for _ in range(100))
    assert caught >= 97
