"""Attention in clips: each axis is summed, picked and laid out where it should be."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from foveate.tasks.film import RUNS, SPACE, SPACETIME, TIME, between_frames, on_sheet, received, row_at, sheet

# Batch, then the queries' time, height and width, then the keys'; of runs their number before each.
SIZES = {
    SPACETIME: (2, 3, 5, 7, 11, 13, 17),
    SPACE: (2, 3, 5, 7, 13, 17),
    TIME: (2, 5, 7, 3, 11),
    RUNS: (2, 3, 5, 7, 11, 13, 17, 19),
}
POINTS = [(0.5, 0.41, 0.8), (1.0, 0.0, 0.99)]


def weights_of(axes: str) -> Tensor:
    return torch.rand(SIZES[axes], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def cell(part: float, count: int) -> int:
    return min(int(part * count), count - 1)


@pytest.mark.parametrize("axes", [SPACETIME, SPACE, TIME, RUNS])
def test_a_row_is_that_of_the_query_at_the_point_and_nothing_beyond_what_it_sees(axes: str):
    weights = weights_of(axes)
    found = row_at(weights, axes, torch.tensor(POINTS))
    for clip, (time, down, right) in enumerate(POINTS):
        if axes == SPACETIME:
            frame, y, x = cell(time, 3), cell(down, 5), cell(right, 7)
            assert torch.equal(found[clip], weights[clip, frame, y, x])
        elif axes == SPACE:
            frame, y, x = cell(time, 3), cell(down, 5), cell(right, 7)
            assert torch.equal(found[clip, frame], weights[clip, frame, y, x])
            assert [bool(part.isnan().all()) for part in found[clip]] == [other != frame for other in range(3)]
        elif axes == TIME:
            frame = cell(time, 3)
            for key, y, x in product(range(11), range(5), range(7)):
                assert found[clip, key, y, x] == weights[clip, y, x, frame, key]
        else:
            run, frame = divmod(cell(time, 3 * 5), 5)
            y, x = cell(down, 7), cell(right, 11)
            assert found.shape == (2, 3 * 13, 17, 19)
            assert torch.equal(found[clip, run * 13 : run * 13 + 13], weights[clip, run, frame, y, x])
            seen = [bool(part.isfinite().all()) for part in found[clip]]
            assert seen == [key // 13 == run for key in range(3 * 13)]
            assert found[clip].isnan().sum() == 2 * 13 * 17 * 19


@pytest.mark.parametrize("axes", [SPACETIME, SPACE, TIME, RUNS])
def test_what_a_place_receives_is_the_mean_over_the_queries_that_see_it(axes: str):
    weights = weights_of(axes)
    found = received(weights, axes)
    for clip in range(2):
        if axes == SPACETIME:
            rows = [weights[clip, t, y, x] for t, y, x in product(range(3), range(5), range(7))]
            expected = sum(rows, torch.zeros(11, 13, 17)) / len(rows)
        elif axes == SPACE:
            frames = [[weights[clip, t, y, x] for y, x in product(range(5), range(7))] for t in range(3)]
            expected = torch.stack([sum(rows, torch.zeros(13, 17)) / len(rows) for rows in frames])
        elif axes == TIME:
            expected = torch.zeros(11, 5, 7, dtype=torch.float64)
            for key, y, x in product(range(11), range(5), range(7)):
                expected[key, y, x] = sum(weights[clip, y, x, t, key] for t in range(3)) / 3
        else:
            parts = []
            for run in range(3):
                rows = [weights[clip, run, t, y, x] for t, y, x in product(range(5), range(7), range(11))]
                parts.append(sum(rows, torch.zeros(13, 17, 19)) / len(rows))
            expected = torch.cat(parts)
        torch.testing.assert_close(found[clip], expected.double())


@pytest.mark.parametrize("axes", [SPACETIME, TIME, RUNS])
def test_what_a_frame_gives_to_a_frame_is_summed_over_its_places_and_averaged_over_who_asks(axes: str):
    weights = weights_of(axes)
    found = between_frames(weights, axes)
    assert found is not None
    asking, looked_at = {SPACETIME: (3, 11), TIME: (3, 11), RUNS: (5, 13)}[axes]
    assert found.shape == (2, asking, looked_at)
    for clip, frame in product(range(2), range(asking)):
        if axes == SPACETIME:
            given = [weights[clip, frame, y, x].sum(dim=(1, 2)) for y, x in product(range(5), range(7))]
        elif axes == TIME:
            given = [weights[clip, y, x, frame] for y, x in product(range(5), range(7))]
        else:
            places = product(range(3), range(7), range(11))
            given = [weights[clip, run, frame, y, x].sum(dim=(1, 2)) for run, y, x in places]
        torch.testing.assert_close(found[clip, frame], torch.stack(given).mean(dim=0))


def test_weights_within_a_frame_give_nothing_to_another():
    assert between_frames(weights_of(SPACE), SPACE) is None


def test_weights_that_sum_to_one_give_rows_that_sum_to_one():
    shape = SIZES[SPACETIME]
    weights = torch.rand(*shape[:4], math.prod(shape[4:])).softmax(dim=-1).reshape(shape)
    found = between_frames(weights, SPACETIME)
    assert found is not None
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("frames", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 5, 1), (7, 4, 2), (8, 4, 2), (32, 8, 4)]
)
def test_a_sheet_has_its_frames_from_left_to_right_and_from_the_top_down(frames: int, columns: int, rows: int):
    film = torch.arange(2 * frames * 3 * 5).reshape(2, frames, 3, 5).float()
    drawn = sheet(film, frames, beyond=-1)
    assert drawn.shape == (2, rows * 3, columns * 5)
    for frame in range(rows * columns):
        row, column = divmod(frame, columns)
        tile = drawn[:, row * 3 : row * 3 + 3, column * 5 : column * 5 + 5]
        assert torch.equal(tile, film[:, frame]) if frame < frames else (tile == -1).all()


def test_a_frame_of_a_shorter_film_stands_for_those_whose_middle_lies_in_it():
    film = torch.arange(3.0)[:, None, None]
    assert sheet(film, 6, math.nan).nan_to_num(-1).tolist() == [[0, 0, 1], [1, 2, 2]]
    assert sheet(film, 7, math.nan).nan_to_num(-1).tolist() == [[0, 0, 1, 1], [1, 2, 2, -1]]


@pytest.mark.parametrize(("frames", "cells"), [(5, 2), (9, 4), (13, 6), (8, 4), (8, 3), (7, 7)])
def test_the_ring_stands_in_a_frame_that_shows_the_cell_which_asks(frames: int, cells: int):
    weights = torch.zeros(
        1, cells, 1, 1, 1, 1
    )  # within frames: what the cell that asks sees is a number, the rest none
    point = torch.tensor([[(frames // 2 + 0.5) / frames, 0.5, 0.5]])
    drawn = sheet(row_at(weights, SPACE, point), frames, math.nan)[0]
    y, x = on_sheet(point, frames)[0].tolist()
    assert drawn[int(y * drawn.shape[0]), int(x * drawn.shape[1])] == 0


def test_a_sheet_of_colours_keeps_them_apart_and_its_kind():
    film = torch.randint(0, 255, (2, 3, 4, 5, 7), dtype=torch.uint8)  # a clip of RGB frames
    drawn = sheet(film, 4, 0)
    assert (drawn.shape, drawn.dtype) == ((2, 3, 10, 14), torch.uint8)
    assert torch.equal(drawn[:, :, 5:, 7:], film[:, :, 3])


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 13])
def test_a_point_lies_on_the_sheet_where_its_frame_does(frames: int):
    for frame, (y, x) in product(range(frames), [(0, 0), (1, 4), (2, 6)]):
        film = torch.zeros(1, frames, 3, 7)
        film[0, frame, y, x] = 1
        drawn = sheet(film, frames, 0)[0]
        point = torch.tensor([[(frame + 0.5) / frames, (y + 0.5) / 3, (x + 0.5) / 7]])
        down, right = on_sheet(point, frames)[0].tolist()
        assert drawn[int(down * drawn.shape[0]), int(right * drawn.shape[1])] == 1


def test_a_point_at_the_end_of_time_is_in_the_last_frame():
    assert on_sheet(torch.tensor([[1.0, 0.5, 0.5]]), 8).tolist() == [[0.75, 0.875]]
