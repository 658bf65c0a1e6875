import numpy as np
import pytest
import torch

from foveate.data.volumes import Volume
from foveate.tasks.segment.grid import grid_for, orientation, resized


def volume(shape: tuple[int, ...], affine: np.ndarray) -> Volume:
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    return Volume(torch.zeros(1, *shape), None, affine, spacing, "scan")


# Axes run superior, left and posterior, with steps of 5, 0.7 and 0.8 mm; and the whole a little oblique.
TURNED = np.array([[0, -0.7, 0.05, 3], [0.1, 0, -0.8, 7], [5, 0, 0, -2], [0, 0, 0, 1.0]])


def test_the_axes_are_found_whatever_the_file_has():
    assert orientation(np.eye(4)) == ((0, 1, 2), ())
    assert orientation(np.diag([-1.0, -1, 1, 1])) == ((0, 1, 2), (0, 1))
    assert orientation(TURNED) == ((1, 2, 0), (0, 1))


def test_there_and_back_without_resizing_is_the_same_to_the_bit():
    image = torch.randn(2, 5, 7, 11)
    grid = grid_for(volume((5, 7, 11), TURNED), None)
    there = grid.there(image)
    assert there.shape == (2, 7, 11, 5)
    assert torch.equal(grid.back(there), image)


def test_a_marker_lies_right_anterior_superior_on_the_networks_grid():
    image = torch.zeros(1, 5, 7, 11)
    image[0, 4, 0, 0] = 1  # the most superior, right and anterior voxel of the file
    there = grid_for(volume((5, 7, 11), TURNED), None).there(image)
    assert there[0, 6, 10, 4] == 1


def test_the_spacing_decides_the_size():
    affine = np.diag([0.7, 0.7, 5.0, 1.0])
    grid = grid_for(volume((50, 40, 10), affine), (1.4, 1.0, 2.5))
    assert (grid.shape, grid.size) == ((50, 40, 10), (25, 28, 20))


def test_labels_are_never_mixed_and_keep_their_kind():
    label = torch.randint(0, 3, (1, 9, 8, 7), dtype=torch.uint8) * 2
    grid = grid_for(volume((9, 8, 7), np.diag([1.0, 1, 3, 1])), (1, 1, 1))
    there = grid.there(label, labels=True)
    assert there.dtype == torch.uint8
    assert set(there.unique().tolist()) <= {0, 2, 4}


def test_what_is_resized_stays_in_its_place():
    # A ramp along an axis keeps its values at the same millimetres, so its mean stays, and no half voxel is lost.
    ramp = torch.arange(12.0).reshape(1, 12, 1, 1).expand(1, 12, 4, 4)
    there = resized(ramp, (6, 4, 4))
    torch.testing.assert_close(there[0, :, 0, 0], torch.arange(6.0) * 2 + 0.5)
    torch.testing.assert_close(resized(there, (12, 4, 4))[0, 2:-2, 0, 0], torch.arange(2.0, 10.0))


def test_pictures_stay_as_they_are():
    image = torch.randn(3, 6, 5)
    picture = Volume(image, None, np.eye(4), (1.0, 1.0), "picture")
    grid = grid_for(picture, None)
    assert torch.equal(grid.there(image), image)
    assert torch.equal(grid.back(image), image)


@pytest.mark.parametrize("name", ["there", "back"])
def test_the_grids_are_laid_on_each_other_in_both_directions(name):
    grid = grid_for(volume((6, 8, 10), TURNED), (1, 1, 1))
    sizes = {"there": ((1, 6, 8, 10), grid.size), "back": ((1, *grid.size), (6, 8, 10))}
    given, expected = sizes[name]
    assert getattr(grid, name)(torch.ones(given)).shape[1:] == expected
