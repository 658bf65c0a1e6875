"""Maps as pictures."""

import base64
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.capture import pointing_hits
from foveate.report.overlays import LEVELS, MAP_BYTES, colour_bar_uri, largest_side, overlays, picture_uri, profile
from foveate.report.read import Map, Maps, Sample


def decoded(uri: str) -> Image.Image:
    assert uri.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def sample(height: int = 40, width: int = 40, box: tuple[float, float, float, float] = (0.5, 0.0, 1.0, 0.5)) -> Sample:
    return Sample("a.png", "7", "7", np.zeros((height, width, 3), np.uint8), box, (height, width))


def test_a_map_is_drawn_from_its_minimum_to_its_maximum_with_its_peak_judged() -> None:
    values = np.full((1, 4, 4), 0.2, np.float32)
    values[0, 0, 3] = 0.9
    (overlay,) = overlays(Map("tap", "spatial", values), [sample()], 64)
    assert (overlay.low, overlay.high) == pytest.approx((0.2, 0.9))
    assert overlay.inside is True
    assert (overlay.peak_x, overlay.peak_y) == (0.875, 0.125)  # the centre of the largest cell
    indices = np.asarray(decoded(overlay.uri))
    assert indices[0, 3] == LEVELS - 1
    assert indices[3, 0] == 0


@pytest.mark.parametrize(("row", "column"), [(3, 0), (0, 0), (3, 3)])
def test_a_peak_beside_the_box_is_outside(row: int, column: int) -> None:
    values = np.zeros((1, 4, 4), np.float32)
    values[0, row, column] = 1
    assert overlays(Map("tap", "spatial", values), [sample()], 64)[0].inside is False


def test_cells_that_are_equally_large_must_all_lie_inside() -> None:
    values = np.zeros((1, 4, 4), np.float32)
    values[0, 0, 2] = values[0, 1, 3] = 1
    assert overlays(Map("tap", "spatial", values), [sample()], 64)[0].inside is True
    values[0, 3, 0] = 1
    assert overlays(Map("tap", "spatial", values), [sample()], 64)[0].inside is False


def test_a_map_points_where_the_measured_share_says_it_does() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width = (int(side) for side in random.integers(7, 41, 2))
        x = np.sort(random.choice(width * 4, 2, replace=False)) / 4  # box edges on pixels and between them
        y = np.sort(random.choice(height * 4, 2, replace=False)) / 4
        values = random.integers(0, 9, (1, *random.integers(2, 8, 2))).astype(np.float32)
        mask = torch.zeros(1, height, width)
        mask[0, math.floor(y[0]) : math.ceil(y[1]), math.floor(x[0]) : math.ceil(x[1])] = 1
        box = (x[0] / width, y[0] / height, x[1] / width, y[1] / height)
        (overlay,) = overlays(Map("tap", "spatial", values), [sample(height, width, box)], 64)
        assert overlay.inside == pointing_hits(torch.from_numpy(values), mask).item()


def test_a_flat_map_is_not_stretched_and_has_no_peak() -> None:
    values = np.full((1, 3, 3), 0.5, np.float32)
    values[0, 1, 1] += 1e-6
    (overlay,) = overlays(Map("tap", "spatial", values), [sample()], 64)
    assert overlay.peak_x is None
    assert overlay.inside is False  # the run counts it, too
    assert len(np.unique(np.asarray(decoded(overlay.uri)))) == 1


def test_a_map_that_is_not_finite_is_still_drawn() -> None:
    values = np.full((1, 3, 3), np.nan, np.float32)
    assert overlays(Map("tap", "spatial", values), [sample()], 64)[0].peak_x is None


def test_large_maps_are_reduced_and_pictures_too() -> None:
    values = np.random.default_rng(0).random((1, 90, 70), np.float32)
    (overlay,) = overlays(Map("tap", "spatial", values), [sample(90, 70)], 24)
    assert decoded(overlay.uri).size == (24, 24)
    assert decoded(picture_uri(np.zeros((500, 700, 3), np.uint8))).size == (160, 114)
    assert decoded(picture_uri(np.zeros((500, 1000, 3), np.uint8))).size == (320, 160)  # such as a sheet of frames


def test_the_maps_of_a_page_stay_within_the_budget() -> None:
    entry = Map("tap", "spatial", np.zeros((16, 112, 112), np.float32))
    crowded = [Maps((), (), (entry,) * 20)] * 9
    side = largest_side(crowded)
    assert largest_side([Maps((), (), (entry,))]) == 64
    assert side < 32
    assert 16 * 20 * 9 * side * side * 4 / 3 < MAP_BYTES


def test_a_channel_profile_has_a_row_a_class_and_says_how_classes_differ() -> None:
    values = np.zeros((3, 5), np.float32)
    values[1, :] = 0.4
    drawn = profile(Map("tap", "channel_profile", values))
    assert decoded(drawn.uri).size == (5, 3)
    assert drawn.spread == pytest.approx(0.4)
    wide = profile(Map("tap", "channel_profile", np.tile(np.arange(1100, dtype=np.float32), (200, 1))))
    assert decoded(wide.uri).size == (512, 100)
    assert wide.channels == 1100


def test_the_colour_bar_goes_from_dark_to_light() -> None:
    bar = np.asarray(decoded(colour_bar_uri()).convert("L"), float)[0]
    assert (np.diff(bar) >= 0).all()
    assert bar[-1] - bar[0] > 150
