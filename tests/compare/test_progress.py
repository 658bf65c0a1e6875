"""The time that a study says is left, by a clock that is set by hand."""

import pytest

from foveate.compare.engine import Event
from foveate.compare.progress import Tracker
from foveate.tasks.summary import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def said(key, fraction):
    arm, seed = key
    return Event(
        key,
        "progress",
        Progress(
            arm=arm,
            seed=seed,
            stage="train",
            epoch=1,
            epochs=2,
            fraction=fraction,
            seconds_left=None,
        ),
    )


A, B, C, D = ("none", 0), ("se", 0), ("none", 1), ("se", 1)


def test_nothing_is_said_of_the_time_before_there_is_something_to_go_by():
    tracker = Tracker(4, 0, [A, B, C, D], workers=1, clock=Clock())
    assert tracker.follow(Event(A, "started")).seconds_left is None
    assert tracker.follow(said(A, 0.0)).seconds_left is None


def test_a_run_under_way_is_extended_to_the_runs_that_wait():
    clock = Clock()
    tracker = Tracker(2, 0, [A, B], workers=1, clock=clock)
    tracker.follow(Event(A, "started"))
    tracker.follow(said(A, 0.0))
    clock.now += 10
    state = tracker.follow(said(A, 0.25))  # 40 s in all: 30 s of it, and 40 s of the other
    assert state.seconds_left == pytest.approx(70)
    assert state.running == (said(A, 0.25).value,)


def test_finished_runs_tell_the_time_of_their_arm_and_of_arms_that_have_none():
    clock = Clock()
    tracker = Tracker(5, 0, [A, B, C, ("none", 2), ("cbam", 0)], workers=1, clock=clock)
    for key, seconds in ((A, 10), (B, 30)):
        tracker.follow(Event(key, "started"))
        tracker.follow(said(key, 0.0))
        clock.now += seconds
        state = tracker.follow(Event(key, "finished"))
    assert state.done == 2
    assert state.seconds_left == pytest.approx(10 + 10 + (10 + 30) / 2)


def test_workers_share_what_is_left():
    clock = Clock()
    tracker = Tracker(3, 0, [A, C, ("none", 2)], workers=2, clock=clock)
    tracker.follow(Event(A, "started"))
    tracker.follow(said(A, 0.0))
    clock.now += 8
    assert tracker.follow(Event(A, "finished")).seconds_left == pytest.approx(8)


def test_a_run_that_was_taken_up_counts_for_the_part_that_was_done():
    clock = Clock()
    tracker = Tracker(2, 0, [A, C], workers=1, clock=clock)
    tracker.follow(Event(A, "started"))
    tracker.follow(said(A, 0.75))
    clock.now += 5
    assert tracker.follow(Event(A, "finished")).seconds_left == pytest.approx(20)


def test_a_failed_run_is_counted_and_its_time_is_no_guide():
    tracker = Tracker(3, 1, [A, B], workers=1, clock=Clock())
    tracker.follow(Event(A, "started"))
    tracker.follow(said(A, 0.5))
    state = tracker.follow(Event(A, "failed", "the loss is not finite"), "none, seed 0, failed")
    assert (state.total, state.done, state.failed, state.running) == (3, 1, 1, ())
    assert state.seconds_left is None
    assert state.message == "none, seed 0, failed"


def test_a_run_that_starts_again_in_another_worker_is_timed_anew():
    clock = Clock()
    tracker = Tracker(1, 0, [A], workers=1, clock=clock)
    for wasted in (1000, 0):
        tracker.follow(Event(A, "started"))
        tracker.follow(said(A, 0.0))
        clock.now += wasted
    clock.now += 6
    assert tracker.follow(said(A, 0.5)).seconds_left == pytest.approx(6)
