"""MONOCHROME1 says how values are shown: those with a unit stay, others are turned over so that more is brighter."""

from pathlib import Path

import numpy as np
import pytest
from tests.data.series import save_slice

from foveate.data.dicom import read_series

AIR, BONE, TOP = 0, 2000, 4095  # as stored, and the largest of 12 bits


def ends(folder: Path, **fields) -> tuple[float, float]:
    """The values of air, in the corner, and of the object, in the middle."""
    stored = np.full((8, 8), AIR, np.uint16)
    stored[2:6, 2:6] = BONE
    for number in range(3):
        fields = {"PhotometricInterpretation": "MONOCHROME1", "RescaleIntercept": -1024} | fields
        save_slice(folder / f"{number}.dcm", stored, (0, 0, 2 * number), **fields)
    image = read_series(folder).image[0]
    return float(image[0, 0, 0]), float(image[4, 4, 0])


@pytest.mark.parametrize(("modality", "unit"), [("CT", "HU"), ("CT", None), ("PT", None)])
def test_values_of_ct_and_pet_stay(tmp_path: Path, modality, unit):
    assert ends(tmp_path, Modality=modality, RescaleType=unit) == (AIR - 1024, BONE - 1024)


@pytest.mark.parametrize("modality", ["CR", "DX", "MG"])
def test_radiographs_are_turned_over_within_their_stored_bits(tmp_path: Path, modality):
    fields = {"Modality": modality, "RescaleType": "US", "RescaleIntercept": 0}
    assert ends(tmp_path, **fields) == (TOP - AIR, TOP - BONE)


def test_radiographs_are_turned_over_after_they_are_rescaled(tmp_path: Path):
    assert ends(tmp_path, Modality="DX", RescaleSlope=2) == (2 * TOP - 1024, 2 * (TOP - BONE) - 1024)


def test_values_whose_rescaling_names_a_unit_stay(tmp_path: Path):
    assert ends(tmp_path, Modality="OT", RescaleType="OD", RescaleIntercept=0) == (AIR, BONE)


def test_values_of_monochrome2_stay_in_every_modality(tmp_path: Path):
    for modality in ("CT", "DX"):
        fields = {"Modality": modality, "PhotometricInterpretation": "MONOCHROME2"}
        assert ends(tmp_path / modality, **fields) == (AIR - 1024, BONE - 1024)
