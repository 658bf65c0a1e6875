from itertools import permutations, product

import numpy as np
import pytest
import torch
from tests.data.making import OBLIQUE

from foveate.data.orientation import PLANES, cut_along

SIGNED = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def affine_of(order, signs, tilt) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (place, sign) in enumerate(zip(order, signs, strict=True)):
        affine[place, axis] = sign * (0.7, 0.9, 5.0)[axis]
    affine[:3, :3] = tilt @ affine[:3, :3]
    return affine


def tilted(degrees: float) -> np.ndarray:
    """Turned about two axes."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("tilt", [0, 20])
def test_slices_show_what_radiologists_see_and_go_back_to_their_voxels(plane, tilt):
    # A slope along right, front and head tells where each of the patient's directions goes, whatever the file's axes.
    for order, signs in SIGNED:
        affine = affine_of(order, signs, tilted(tilt))
        cut = cut_along(affine, plane)
        index = torch.stack(torch.meshgrid(*map(torch.arange, (2, 3, 5)), indexing="ij"), dim=-1).double()
        places = index @ torch.from_numpy(affine[:3, :3]).T  # (x, y, z, direction), in mm
        for axis, (direction, sign) in enumerate(zip(PLANES[plane], (1, -1, -1), strict=True)):
            steps = cut.there(places[..., direction]).diff(dim=axis)
            assert (sign * steps > 0).all()
            assert torch.allclose(steps.abs().max(), torch.tensor(cut.sizes((0.7, 0.9, 5.0))[axis]).double(), rtol=0.2)
        voxels = torch.arange(30).reshape(2, 3, 5)
        assert torch.equal(cut.back(cut.there(voxels)), voxels)


def test_a_voxel_at_the_left_of_an_axial_slice_is_in_its_last_column():
    # LPS: x runs to the left, y to the back and z to the head; shown from the feet, with the front above.
    marked = torch.zeros(3, 5, 2)
    marked[2, 0, 1] = 1  # left, front, above
    cut = cut_along(np.diag([-1.0, -1, 1, 1]), "axial")
    assert cut.there(marked).nonzero().tolist() == [[1, 0, 2]]
    assert torch.equal(cut.back(cut.there(marked)), marked)
    ras = marked.flip(0, 1)
    assert torch.equal(cut_along(np.eye(4), "axial").there(ras), cut.there(marked))


def test_planes_are_shown_as_documented():
    # RAS: the marker is at the right, at the back and at the feet.
    marked = torch.zeros(3, 5, 2)
    marked[2, 0, 0] = 1
    found = {plane: cut_along(np.eye(4), plane).there(marked).nonzero()[0].tolist() for plane in PLANES}
    assert found == {"axial": [0, 4, 0], "coronal": [0, 1, 0], "sagittal": [2, 1, 4]}


def test_an_oblique_file_is_cut_along_its_own_axes():
    cut = cut_along(OBLIQUE, "axial")  # counted from left to right and from the back to the front
    assert (cut.order, cut.flipped) == ((2, 1, 0), ())


def test_a_plane_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="plane is one of axial, coronal, sagittal; got 'oblique'"):
        cut_along(np.eye(4), "oblique")  # pyright: ignore[reportArgumentType]
