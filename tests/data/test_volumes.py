import json
from pathlib import Path

import pytest
import torch
from tests.data.making import decathlon, real_data

from foveate.data.scans import read_case
from foveate.data.volumes import Case, Volumes, modality_of, open_volumes
from foveate.errors import DataError


def volumes(**splits: list[Case]) -> Volumes:
    held = {"train": [], "val": [], "test": [], **splits}
    unused = held.pop("unused", [])
    return Volumes("here", 3, ["CT"], ["background", "liver"], {0: 0, 1: 1}, held, "by hand", unused)


def case(name: str, label: str | None = None) -> Case:
    return Case(name, (Path(f"{name}.nii"),), None if label is None else Path(label))


@pytest.mark.parametrize(("missing", "held"), [("train", "val"), ("val", "train")])
def test_train_and_val_must_hold_a_case(tmp_path: Path, missing: str, held: str):
    split_file = tmp_path / "splits.json"
    split_file.write_text(json.dumps({held: ["case_0"], missing: []}))
    with pytest.raises(DataError, match=f"has no case in its {missing} split"):
        open_volumes(decathlon(tmp_path, 1), split_file=split_file)


def test_nothing_is_in_two_splits():
    with pytest.raises(DataError, match=r"here has a twice, in train and in test"):
        volumes(train=[case("a")], val=[case("b")], test=[case("a")])
    with pytest.raises(DataError, match=r"here has a twice, in train$"):
        volumes(train=[case("a"), case("a")], val=[case("b")])
    with pytest.raises(DataError, match=r"here has a\.nii twice, in train and in val"):
        volumes(train=[case("a")], val=[Case("b", (Path("a.nii"),))])
    with pytest.raises(DataError, match=r"here has one\.nii twice, in train and in unused"):
        volumes(train=[case("a", "one.nii")], val=[case("b")], unused=[case("c", "one.nii")])


@pytest.mark.parametrize(
    ("modality", "names"),
    [
        ("CT", ["CT", "ct", "CT_venous", "CBCT", "low-dose CT", "CTA", "NCCT", "CECT_portal", "LDCT"]),
        (
            "MR",
            ["MRI", "mr", "T1", "T1w", "T1gd", "t1ce", "T2-weighted", "T2*", "FLAIR", "ADC", "MR_T1", "T1n", "cine"],
        ),
        ("other", ["PET", "PET/CT", "ultrasound", "R", "image", "SUV", "electron microscopy", "CTV", "T3"]),
    ],
)
def test_modalities_are_told_by_their_names(modality: str, names: list[str]):
    assert {name: modality_of(name) for name in names} == dict.fromkeys(names, modality)


def test_cases_of_no_split_are_kept_apart(tmp_path: Path):
    split_file = tmp_path / "splits.json"
    split_file.write_text(json.dumps({"train": ["case_0"], "val": ["case_2"]}))
    volumes = open_volumes(decathlon(tmp_path, 3, test=["./imagesTs/case_9.nii.gz"]), split_file=split_file)
    assert [case.name for case in volumes.unused] == ["case_9", "case_1"]
    assert volumes.rule == "as splits.json says"


def test_the_hippocampus_is_read():
    volumes = open_volumes(real_data("hippocampus"))
    assert (volumes.spatial_dims, volumes.modalities) == (3, ["MRI"])
    assert volumes.classes == ["background", "Anterior", "Posterior"]
    assert {split: len(cases) for split, cases in volumes.splits.items()} == {"train": 116, "val": 12, "test": 32}
    assert volumes.splits["test"][0].name == "hippocampus_309"
    volume = read_case(volumes.splits["train"][0], volumes)
    assert (volume.image.shape, volume.spacing) == ((1, 35, 51, 35), (1, 1, 1))
    assert volume.label is not None
    assert volume.label.unique().tolist() == [0, 1, 2]


@pytest.mark.slow
def test_the_membranes_are_read():
    volumes = open_volumes(real_data("em_membranes"), fold=0, folds=4)
    assert (volumes.spatial_dims, volumes.modalities, volumes.classes) == (2, ["grey"], ["background", "foreground"])
    names = {split: [case.name for case in cases] for split, cases in volumes.splits.items()}
    assert (names["val"], names["test"]) == (["00", "01", "02", "03", "04", "05"], ["24", "25", "26", "27", "28", "29"])
    volume = read_case(volumes.splits["train"][0], volumes)
    assert volume.image.shape == (1, 512, 512)
    assert volume.label is not None
    assert 0.7 < volume.label.to(torch.float32).mean() < 0.9
