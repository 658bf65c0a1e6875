from pathlib import Path

import numpy as np
import pytest

from foveate.data import labels
from foveate.data.labels import as_classes, as_values, tally
from foveate.errors import DataError

HERE = Path("a.nii.gz")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.float32, np.float64, bool])
def test_every_kind_of_whole_number_is_counted(kind, monkeypatch):
    monkeypatch.setattr(labels, "PART", 5)  # several parts
    array = np.array([[0, 1, 1, 0], [1, 1, 0, 1]]).astype(kind)
    assert tally(array, HERE) == {0: 3, 1: 5}
    assert tally(np.asfortranarray(array), HERE) == {0: 3, 1: 5}


def test_far_values_are_counted():
    assert tally(np.array([-7, 10**12, 10**12]), HERE) == {-7: 1, 10**12: 2}


def test_label_values_become_classes_and_go_back(monkeypatch):
    monkeypatch.setattr(labels, "PART", 5)
    values = {0: 0, 11: 1, 255: 2}
    array = np.array([[0, 255, 11], [11, 11, 0]])
    classes = as_classes(array.astype(np.float32) + 1e-4, values, HERE)
    assert classes.dtype == np.uint8
    assert classes.tolist() == [[0, 2, 1], [1, 1, 0]]
    assert as_values(classes, values).tolist() == array.tolist()
    assert as_classes(np.asfortranarray(array), values, HERE).tolist() == [[0, 2, 1], [1, 1, 0]]
    assert as_classes(array, {255: 0, 0: 1, 11: 2}, HERE).tolist() == [[1, 0, 2], [2, 2, 1]]


def test_many_classes_take_more_bits():
    values = {value: value for value in range(300)}
    classes = as_classes(np.array([299, 0]), values, HERE)
    assert classes.dtype == np.int64
    assert classes.tolist() == [299, 0]


def test_values_of_no_class_are_told_with_their_voxels():
    with pytest.raises(
        DataError, match=r"a\.nii\.gz holds .* no class has: 2 in 2 voxels, 7 in 1 voxel; .* have 0, 1$"
    ):
        as_classes(np.array([0, 7, 2, 2, 1]), {0: 0, 1: 1}, HERE)
    with pytest.raises(DataError, match=r"19 in 1 voxel and 11 more values; .* have 0, 1, .*, 11 \.\.\. 1000$"):
        as_classes(np.arange(31), {value: value for value in (*range(12), 1000)}, HERE)


def test_fractions_are_no_labels():
    with pytest.raises(DataError, match=r"a\.nii\.gz must hold a whole number .* got 0\.5, as in 2 voxels"):
        tally(np.array([0, 0.5, 1, 0.5]), HERE)
    with pytest.raises(DataError, match=r"got nan$"):
        tally(np.array([0, np.nan]), HERE)


def test_a_class_that_there_is_not_has_no_value():
    with pytest.raises(ValueError, match=r"labels are classes from 0 to 1; got 0 to 2"):
        as_values(np.array([0, 2]), {0: 0, 255: 1})
