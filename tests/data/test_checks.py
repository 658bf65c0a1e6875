import json
from pathlib import Path

import numpy as np
import pytest
from tests.data.making import OBLIQUE, blob, decathlon, noise, pairs, real_data, save_nifti, save_picture

from foveate.data.checks import check_cases
from foveate.data.volumes import open_volumes
from foveate.errors import DataError


def test_sound_data_is_described(tmp_path: Path):
    told: list[tuple[int, int]] = []
    facts = check_cases(open_volumes(decathlon(tmp_path, 5)), lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert [(fact.name, fact.split) for fact in facts] == [
        ("case_0", "train"),
        ("case_1", "train"),
        ("case_2", "train"),
        ("case_3", "val"),
        ("case_4", "test"),
    ]
    assert facts[2].shape == (5, 7, 3)
    assert facts[2].spacing == pytest.approx(np.linalg.norm(OBLIQUE[:3, :3], axis=0), rel=1e-6)
    foreground = int(blob(5, 7, 3, seed=2).sum())
    assert facts[2].voxels == (105 - foreground, foreground)


def test_every_fault_is_told_in_a_sentence_of_its_own(tmp_path: Path):
    volumes = open_volumes(decathlon(tmp_path, 12))
    images, labels = tmp_path / "imagesTr", tmp_path / "labelsTr"
    (images / "case_0.nii.gz").unlink()
    (images / "case_1.nii.gz").write_bytes((images / "case_1.nii.gz").read_bytes()[:-40])
    save_nifti(images / "case_2.nii.gz", noise(5, 7, 3, 2), OBLIQUE)
    save_nifti(images / "case_3.nii.gz", np.full((5, 7, 3), np.nan, np.float32), OBLIQUE)
    save_nifti(labels / "case_4.nii.gz", blob(7, 5, 3), OBLIQUE)
    save_nifti(labels / "case_5.nii.gz", blob(5, 7, 3))
    save_nifti(labels / "case_6.nii.gz", blob(5, 7, 3) * 3, OBLIQUE)
    (labels / "case_7.nii.gz").unlink()
    (labels / "case_8.nii.gz").write_bytes(b"")
    told: list[int] = []
    with pytest.raises(DataError) as raised:
        check_cases(volumes, lambda done, total: told.append(done))
    wanted = (
        "imagesTr/case_0.nii.gz does not exist",
        "imagesTr/case_1.nii.gz is damaged and cannot be read: Compressed file ended",
        "imagesTr/case_2.nii.gz must hold 1 channel: MRI; it is (5, 7, 3, 2), which is 2",
        "imagesTr/case_3.nii.gz must hold finite values; of its 105 voxels it has 105 that are not a number",
        "labelsTr/case_4.nii.gz is (7, 5, 3) and ",
        "labelsTr/case_5.nii.gz and ",
        "labelsTr/case_6.nii.gz holds labels that no class has: 3 in ",
        "labelsTr/case_7.nii.gz does not exist",
        "labelsTr/case_8.nii.gz is damaged and cannot be read: ",
    )
    lines = str(raised.value).splitlines()
    assert len(lines) == len(wanted)
    for line, sentence in zip(lines, wanted, strict=True):
        assert sentence in line
    assert told == list(range(1, 13))


def test_many_faults_are_counted(tmp_path: Path):
    volumes = open_volumes(pairs(tmp_path, 24))
    for number in range(24):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        check_cases(volumes)
    lines = str(raised.value).splitlines()
    assert (len(lines), lines[-1]) == (21, "and 4 more")


def test_a_train_split_without_foreground_is_told(tmp_path: Path):
    volumes = open_volumes(decathlon(tmp_path, 5))
    for number in range(3):
        save_nifti(tmp_path / "labelsTr" / f"case_{number}.nii.gz", blob(5, 7, 3) * 0, OBLIQUE)
    with pytest.raises(DataError, match=r"has nothing but background in the labels of its train split"):
        check_cases(volumes)


def test_a_class_that_training_never_shows_is_told(tmp_path: Path):
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    volumes = open_volumes(decathlon(tmp_path, 5, labels=labels))
    save_nifti(tmp_path / "labelsTr" / "case_4.nii.gz", blob(5, 7, 3, classes=3), OBLIQUE)
    with pytest.raises(DataError, match=r"has no voxel of class 'tumour' in its train split"):
        check_cases(volumes)


def test_an_image_in_two_splits_is_told_whatever_it_is_called(tmp_path: Path):
    volumes = open_volumes(pairs(tmp_path, 10))
    same = noise(5, 7, seed=1).astype(np.uint8)
    save_picture(tmp_path / "images" / "9.png", same)
    with pytest.raises(DataError, match=r"images/9\.png in test is the same image as .*images/1\.png in train"):
        check_cases(volumes)
    # Two of one split, and empty pictures, are no reason to stop.
    save_picture(tmp_path / "images" / "9.png", same * 0)
    save_picture(tmp_path / "images" / "0.png", same * 0)
    save_picture(tmp_path / "images" / "2.png", same)
    assert len(check_cases(volumes)) == 10


def test_pictures_and_masks_are_checked(tmp_path: Path):
    said = {"labels": {"background": 0, "cell": 255}}
    (pairs(tmp_path, 6) / "dataset.json").write_text(json.dumps(said))
    volumes = open_volumes(tmp_path)
    save_picture(tmp_path / "masks" / "1.png", blob(7, 5) * np.uint8(255))
    save_picture(tmp_path / "masks" / "2.png", blob(5, 7))
    with pytest.raises(DataError) as raised:
        check_cases(volumes)
    first, second = str(raised.value).splitlines()
    assert "masks/1.png is (7, 5) and" in first
    assert "masks/2.png holds labels that no class has: 1 in" in second


@pytest.mark.slow
def test_the_hippocampus_is_sound():
    facts = check_cases(open_volumes(real_data("hippocampus")))
    assert len(facts) == 160
    assert all(min(fact.voxels) > 0 for fact in facts)
