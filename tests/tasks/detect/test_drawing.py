from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from foveate.tasks.detect.drawing import Panel, draw_found, write_picture, write_sheet
from foveate.tasks.detect.found import Found

GREY = torch.full((3, 40, 60), 100, dtype=torch.uint8)
BOXES = torch.tensor([[10.0, 20, 25, 35], [40.0, 25, 52, 31]])
FOUND = Found(torch.tensor([0.75, 0.5]), torch.tensor([0, 3]), BOXES)
CLASSES = ["fox", "owl", "elk", "emu"]


def colour(label: int) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in colormaps["tab10"](label)[:3])


@pytest.mark.parametrize("query", [0, 1])
def test_a_box_is_drawn_at_its_place_in_the_colour_of_its_class(query: int):
    drawn = np.asarray(draw_found(GREY, FOUND, [query], CLASSES))
    assert drawn.shape == (320, 480, 3)  # enlarged eight times, so that words can be read
    left, top, right, bottom = (8 * int(edge) for edge in BOXES[query])
    inked = (drawn == colour(int(FOUND.labels[query]))).all(axis=2)
    rows, columns = ((top + bottom) // 2, (left + right) // 2)
    assert inked[rows, [left, left + 1, right - 1, right]].all()
    assert inked[[top, bottom - 1, bottom], columns].all()
    assert not inked[bottom + 1 :].any()
    assert not inked[rows, [left - 1, left + 2, right - 2, right + 1]].any()
    assert (drawn[top + 3 : bottom - 3, left + 3 : right - 3] == 100).all()
    # The name is above the box, white on the colour.
    assert inked[top - 9, left : left + 40].any()
    assert (drawn[top - 16 : top, left : left + 80] > 200).all(axis=2).any()


def test_large_pictures_keep_their_size():
    assert draw_found(torch.zeros(3, 320, 400, dtype=torch.uint8), FOUND, [], CLASSES).size == (400, 320)
    assert draw_found(torch.zeros(3, 319, 400, dtype=torch.uint8), FOUND, [], CLASSES).size == (800, 638)


def test_masks_are_half_of_their_colour_the_best_above_the_others():
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 5:9, 5:9], masks[1, 7:12, 7:12] = True, True
    held = Found(FOUND.scores, FOUND.labels, torch.zeros(2, 4), masks)
    drawn = np.asarray(draw_found(GREY, held, [0, 1], CLASSES)).astype(int)
    first, second = (50 + np.array(colour(label)) / 2 for label in (0, 3))
    assert abs(drawn[8 * 6 + 4, 8 * 6 + 4] - first).max() <= 1
    assert abs(drawn[8 * 11 + 4, 8 * 11 + 4] - second).max() <= 1
    assert abs(drawn[8 * 8 + 4, 8 * 8 + 4] - first).max() <= 1
    assert (drawn[8 * 20, 8 * 20] == 100).all()


def test_boxes_beyond_the_picture_are_drawn_as_far_as_they_are_in_it():
    held = Found(torch.tensor([0.5]), torch.tensor([1]), torch.tensor([[-5.0, -7, 70, 50]]))
    drawn = np.asarray(draw_found(GREY, held, [0], CLASSES))
    assert (drawn == colour(1)).all(axis=2).any()  # its name is still there
    thin = Found(torch.tensor([0.5]), torch.tensor([1]), torch.tensor([[9.0, 9, 9, 9]]))
    assert (np.asarray(draw_found(GREY, thin, [0], CLASSES)) == colour(1)).all(axis=2).any()


def test_a_panel_has_its_marks_in_pixels_and_its_map_over_all_of_the_picture():
    heat = torch.tensor([[0.0, 1.0, 0.5]])
    axes = Figure().subplots()
    Panel("a title", GREY, heat, [(10, 20, 25, 35)], (33, 7)).draw(axes)
    assert axes.get_title() == "a title"
    (picture,) = axes.images
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 60), (40, 0))
    assert list(picture.get_extent()) == [0, 60, 40, 0]  # the left edge of the first pixel is at 0, as boxes have it
    pixels = np.asarray(picture.get_array())
    for column, value in ((0, 0.0), (19, 0.0), (20, 1.0), (39, 1.0), (40, 0.5)):
        wanted = 0.5 * 100 / 255 + 0.5 * np.array(colormaps["inferno"](value)[:3])
        assert pixels[7, column] == pytest.approx(wanted, abs=1e-6)
    assert len(axes.patches) == 2  # the mark and its light edge
    assert {(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in axes.patches} == {((10, 20), 15, 15)}  # pyright: ignore[reportAttributeAccessIssue]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[33, 7]]] * 2


def test_a_map_that_is_the_same_everywhere_is_drawn():
    axes = Figure().subplots()
    Panel("flat", GREY, torch.full((3, 5), 0.25)).draw(axes)
    assert np.isfinite(np.asarray(axes.images[0].get_array())).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 4), (3, 4), (5, 3)])
def test_a_sheet_has_as_many_panels_as_are_given(tmp_path: Path, count: int, columns: int):
    green = torch.zeros(3, 20, 30, dtype=torch.uint8)
    green[1] = 255
    panels = [Panel(f"panel {number}", green) for number in range(count)]
    path = write_sheet(tmp_path / "sheet.png", panels, "all of them", columns)
    drawn = np.asarray(Image.open(path).convert("RGB"))
    _, found = ndimage.label((drawn == (0, 255, 0)).all(axis=2))  # pyright: ignore[reportGeneralTypeIssues]
    assert found == count
    assert drawn.shape[1] == min(count, columns) * 330


def test_a_picture_is_written_as_it_is(tmp_path: Path):
    drawn = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3))
    path = write_picture(tmp_path / "new" / "picture.png", drawn)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(drawn))
