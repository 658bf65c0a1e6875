import numpy as np
import torch

from foveate.tasks.segment.overlays import GAP, SMALLEST_SIDE, middle, planes


def test_three_planes_lie_as_radiologists_look_at_them():
    shape = (20, 30, 40)
    image, label = torch.rand(shape), torch.zeros(shape, dtype=torch.uint8)
    label[15:19, 22:28, 30:38] = 1  # right, anterior and superior
    sheet = np.asarray(planes(image, label, (1, 1, 1), labels=True)).astype(int)
    scale = -(-SMALLEST_SIDE // 20)
    widths, heights = [20, 20, 30], [30, 40, 40]
    assert sheet.shape == (40 * scale, sum(widths) * scale + 2 * GAP, 3)
    left = 0
    for width, height, right in zip(widths, heights, (True, True, False), strict=True):
        plane = sheet[: height * scale, left : left + width * scale]
        blue = plane[..., 2] - plane[..., 0] > 40  # the first label is blue
        row, column = (float(places.mean()) for places in np.nonzero(blue))
        assert row < height * scale / 2  # anterior, or superior, above
        assert (column < width * scale / 2) == right  # the patient's right on the left; anterior on the right
        left += width * scale + GAP


def test_thick_slices_are_drawn_thick():
    sheet = planes(torch.rand(20, 20, 4), torch.rand(20, 20, 4), (1, 1, 5))
    scale = -(-SMALLEST_SIDE // 20)
    assert sheet.size == (60 * scale + 2 * GAP, 20 * scale)


def test_the_middle_of_nothing_is_that_of_the_scan():
    assert middle(np.zeros((4, 6, 8)), labels=True) == (2, 3, 4)


def test_a_picture_is_one_plane():
    assert planes(torch.rand(30, 60), torch.rand(30, 60), (1, 1)).size == (60 * 8, 30 * 8)
