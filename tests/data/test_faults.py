from pathlib import Path

import pytest

from foveate.data.faults import read_errors
from foveate.errors import DataError, MissingExtra

HERE = Path("a.nii")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file"), "a.nii does not exist"),
        (PermissionError(13, "Permission denied"), "a.nii cannot be read: Permission denied"),
        (MemoryError(), "a.nii does not fit into memory"),
        (ValueError("expected 5\nbytes"), "a.nii is damaged and cannot be read: expected 5"),
        (EOFError(), "a.nii is damaged and cannot be read: EOFError"),
        (OSError("no gzip"), "a.nii is damaged and cannot be read: no gzip"),
    ],
)
def test_an_error_becomes_a_sentence_that_names_the_file(error: Exception, told: str):
    with pytest.raises(DataError) as raised, read_errors(HERE):
        raise error
    assert str(raised.value) == told


def test_a_sentence_of_ours_stays_as_it_is():
    with pytest.raises(MissingExtra, match="this needs nibabel"), read_errors(HERE):
        raise MissingExtra("nibabel", "medical")
