import sys

import numpy as np
import pytest

from foveate.data.masks import check_extra, decode_masks, is_mask
from foveate.errors import MissingExtra

SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]  # from (1, 1) to (4, 3) of a picture 5 high and 6 wide
RUNS = {"size": [5, 6], "counts": [6, 2, 3, 2, 3, 2, 12]}  # the same, down the columns


def packed(mask):
    from pycocotools import mask as coco

    return {"size": [5, 6], "counts": coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()}


def test_polygons_runs_and_packed_runs_give_the_same_mask():
    square = np.zeros((5, 6), bool)
    square[1:3, 1:4] = True
    for segmentation in (SQUARE, RUNS, packed(square)):
        assert is_mask(segmentation, 5, 6)
        assert (decode_masks([segmentation], 5, 6).numpy() == square).all()


def test_several_polygons_are_one_mask_and_no_object_gives_none():
    parts = [*SQUARE, [4, 3, 6, 3, 6, 5, 4, 5]]
    assert decode_masks([SQUARE, parts], 5, 6).sum(dim=(1, 2)).tolist() == [6, 10]
    assert decode_masks([], 5, 6).shape == (0, 5, 6)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 1, 4, 1]],
        [[1, 1, 4, 1, 4, 3, 1]],
        [[1, 1, 4, 1, 4, float("nan")]],
        [1, 1, 4, 1, 4, 3],
        {"size": [6, 5], "counts": RUNS["counts"]},
        {"size": [5, 6], "counts": [6, 2]},
        {"size": [5, 6], "counts": [-1, 31]},
        {"size": [5, 6], "counts": ""},
        {"size": [5, 6]},
        {"size": [5, 6], "counts": "0"},
        {"size": [5, 6], "counts": "62323<~"},
        {"size": [5, 6], "counts": "nothing of this kind"},
        {"size": [5, 6], "counts": [6, 2.0, 22]},
        [[1, 1, 4, 1, 4, 1e9]],
    ],
)
def test_what_is_no_mask_is_told_without_decoding(segmentation):
    assert not is_mask(segmentation, 5, 6)


def test_packed_runs_of_any_length_are_those_of_cocos_own_code():
    from pycocotools import mask as coco

    noise = np.random.default_rng(0).random((97, 61)) > np.linspace(0, 1, 61)
    counts = coco.encode(np.asfortranarray(noise.astype(np.uint8)))["counts"].decode()
    segmentation = {"size": [97, 61], "counts": counts}
    assert is_mask(segmentation, 97, 61)
    assert (decode_masks([segmentation], 97, 61)[0].numpy() == noise).all()


def test_without_pycocotools_masks_name_the_extra(monkeypatch):
    check_extra()
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtra, match=r"pycocotools, which is not installed; pip install 'foveate\[detection\]'"):
        check_extra()
