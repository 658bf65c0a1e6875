import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.making import blob, decathlon, noise, pairs, save_nifti, save_picture
from tests.data.series import save_series

from foveate.data.dicom import read_series
from foveate.data.labels import as_classes, as_values
from foveate.data.layouts import list_cases
from foveate.data.planes import read_mask
from foveate.data.scans import read_case, read_image
from foveate.data.volumes import Case, open_volumes
from foveate.errors import DataError


def names(cases) -> list[str]:
    return [case.name for case in cases]


def nnunet(root: Path, ending: str = ".nii.gz", channels: int = 2, parts: str = "Tr", **about) -> Path:
    """A data set of two cases in nnU-Net's layout; `about` goes into its dataset.json."""
    save = save_nifti if ending.startswith(".nii") else save_picture
    shape = (5, 7, 3) if ending.startswith(".nii") else (5, 7)
    for part in parts.split():
        for name in "ab":
            for channel in range(channels):
                image = noise(*shape, seed=channel).astype(np.uint8)
                save(root / f"images{part}" / f"{part}_{name}_{channel:04}{ending}", image)
            save(root / f"labels{part}" / f"{part}_{name}{ending}", blob(*shape))
    said = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "liver": 1}, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(said | about))
    return root


def test_the_decathlon_is_listed(tmp_path: Path):
    listing = list_cases(decathlon(tmp_path, 3, test=["./imagesTs/case_9.nii.gz"]))
    assert (listing.spatial_dims, listing.modalities) == (3, ["MRI"])
    assert (listing.classes, listing.values) == (["background", "liver"], {0: 0, 1: 1})
    assert names(listing.cases) == ["case_0", "case_1", "case_2"]
    assert listing.cases[0].images == (tmp_path / "imagesTr/case_0.nii.gz",)
    assert listing.cases[0].label == tmp_path / "labelsTr/case_0.nii.gz"
    assert (listing.val, listing.test) == (None, None)
    assert names(listing.unlabelled) == ["case_9"]


def test_a_dataset_json_may_have_another_name_and_a_byte_order_mark(tmp_path: Path):
    said = (decathlon(tmp_path, 3) / "dataset.json").rename(tmp_path / "fold_0.json")
    said.write_text(said.read_text(), encoding="utf-8-sig")
    assert len(list_cases(said).cases) == 3


def test_validation_and_test_with_labels_are_taken_from_dataset_json(tmp_path: Path):
    entries = [{"image": f"{part}.nii.gz", "label": f"{part}_label.nii.gz"} for part in "vwt"]
    listing = list_cases(decathlon(tmp_path, 3, validation=entries[:2], test=[entries[2], {"image": "u.nii.gz"}]))
    assert listing.val is not None
    assert listing.test is not None
    assert (names(listing.val), names(listing.test), names(listing.unlabelled)) == (["v", "w"], ["t"], ["u"])


def test_files_called_alike_in_a_folder_a_case_are_told_apart(tmp_path: Path):
    cases = []
    for name in ("x", "y"):
        files = [f"{name}/{kind}.nii.gz" for kind in ("t1", "t2", "seg")]
        for file in files:
            save_nifti(tmp_path / file, blob(5, 7, 3))
        cases.append({"image": files[:2], "label": files[2]})
    said = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "tumour"}, "training": cases}
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    listing = list_cases(tmp_path)
    assert names(listing.cases) == ["x/t1", "y/t1"]
    assert listing.cases[1].images == (tmp_path / "y/t1.nii.gz", tmp_path / "y/t2.nii.gz")


def test_label_values_are_ordered_and_need_not_be_dense(tmp_path: Path):
    listing = list_cases(decathlon(tmp_path, 3, labels={"20": "spleen", "0": "nothing", "3": "liver"}))
    assert listing.classes == ["nothing", "liver", "spleen"]
    assert listing.values == {0: 0, 3: 1, 20: 2}


def test_a_dataset_json_may_say_which_value_is_the_background(tmp_path: Path):
    root = pairs(tmp_path, top=1)
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 1, "membrane": 0}}))
    listing = list_cases(root)
    assert (listing.classes, listing.values) == (["background", "membrane"], {1: 0, 0: 1})
    drawn = as_classes(read_mask(root / "masks" / "0.png"), listing.values, root)
    assert (drawn == 1 - blob(5, 7, seed=0)).all()
    assert (as_values(drawn, listing.values) == blob(5, 7, seed=0)).all()


def test_nnunet_is_listed_with_a_file_a_channel(tmp_path: Path):
    listing = list_cases(nnunet(tmp_path))
    assert listing.modalities == ["CT", "PET"]
    assert listing.classes == ["background", "liver"]
    assert names(listing.cases) == ["Tr_a", "Tr_b"]
    assert [path.name for path in listing.cases[0].images] == ["Tr_a_0000.nii.gz", "Tr_a_0001.nii.gz"]
    assert listing.cases[0].label == tmp_path / "labelsTr/Tr_a.nii.gz"


def test_nnunet_of_pictures_and_with_a_labelled_test_set_is_listed(tmp_path: Path):
    listing = list_cases(nnunet(tmp_path, ".png", parts="Tr Ts"))
    assert listing.spatial_dims == 2
    assert names(listing.test or []) == ["Ts_a", "Ts_b"]
    for path in (tmp_path / "labelsTs").iterdir():
        path.unlink()
    (tmp_path / "labelsTs").rmdir()
    listing = list_cases(tmp_path)
    assert listing.test is None
    assert names(listing.unlabelled) == ["Ts_a", "Ts_b"]


@pytest.mark.parametrize("masks", ["masks", "labels"])
def test_pairs_of_pictures_are_listed_and_0_and_255_are_two_classes(tmp_path: Path, masks: str):
    listing = list_cases(pairs(tmp_path, 3, masks=masks))
    assert (listing.spatial_dims, listing.modalities) == (2, ["grey"])
    assert (listing.classes, listing.values) == (["background", "foreground"], {0: 0, 255: 1})
    assert names(listing.cases) == ["0", "1", "2"]


def test_pairs_may_end_differently_and_lie_deeper(tmp_path: Path):
    pairs(tmp_path, 3, "patient/{}.png")
    path = tmp_path / "images" / "patient" / "1.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    assert names(list_cases(tmp_path).cases) == ["patient/0", "patient/1", "patient/2"]


def test_every_value_in_the_masks_is_a_class_in_whichever_case_it_is(tmp_path: Path):
    pairs(tmp_path, 3, top=1)
    save_picture(tmp_path / "masks" / "2.png", blob(5, 7) * np.uint8(7))
    listing = list_cases(tmp_path)
    assert (listing.classes, listing.values) == (["background", "1", "7"], {0: 0, 1: 1, 7: 2})
    for number in range(3):
        save_picture(tmp_path / "masks" / f"{number}.png", np.full((5, 7), number + 1, np.uint8))
    assert list_cases(tmp_path).classes == ["background", "1", "2", "3"]


def test_pairs_of_scans_are_listed(tmp_path: Path):
    for name in ("a.nii", "b.nii.gz"):
        save_nifti(tmp_path / "images" / name, noise(5, 7, 3))
        save_nifti(tmp_path / "labels" / name, blob(5, 7, 3, classes=3))
    listing = list_cases(tmp_path)
    assert (listing.spatial_dims, listing.modalities) == (3, ["image"])
    assert listing.classes == ["background", "1", "2"]
    assert names(listing.cases) == ["a", "b"]


def test_a_dataset_json_names_what_pairs_hold(tmp_path: Path):
    said = {"labels": {"background": 0, "cell": 255}, "channel_names": {"0": "phase contrast"}}
    (pairs(tmp_path, 3) / "dataset.json").write_text(json.dumps(said))
    listing = list_cases(tmp_path)
    assert (listing.modalities, listing.classes) == (["phase contrast"], ["background", "cell"])


def test_one_picture_in_colour_makes_three_channels(tmp_path: Path):
    save_picture(pairs(tmp_path, 3) / "images" / "1.png", noise(5, 7, 3).astype(np.uint8))
    assert list_cases(tmp_path).modalities == ["red", "green", "blue"]


def test_folders_of_splits_stand_above_pairs_or_below(tmp_path: Path):
    for split in ("train", "valid", "test"):
        pairs(tmp_path / "above" / split, 2)
        pairs(tmp_path / "below", 2, f"{split}/{{}}.png")
    for root, val in (("above", "val"), ("below", "valid")):
        listing = list_cases(tmp_path / root)
        assert names(listing.cases) == ["train/0", "train/1"]
        assert names(listing.val or []) == [f"{val}/0", f"{val}/1"]
        assert names(listing.test or []) == ["test/0", "test/1"]


def test_folders_that_validate_and_do_not_test_leave_nothing_for_testing(tmp_path: Path):
    for split in ("train", "val"):
        pairs(tmp_path / split, 1)
    assert list_cases(tmp_path).test == []


def test_pictures_for_testing_may_have_no_masks(tmp_path: Path):
    pairs(tmp_path / "train", 3)
    save_picture(tmp_path / "test" / "images" / "9.png", blob(5, 7))
    listing = list_cases(tmp_path)
    assert (listing.val, listing.test) == (None, None)
    assert names(listing.unlabelled) == ["test/9"]


def test_hidden_files_are_passed_over(tmp_path: Path):
    pairs(tmp_path / "pairs", 2)
    nnunet(tmp_path / "nnunet")
    for folder in ("pairs/images", "pairs/masks", "nnunet/imagesTr", "nnunet/labelsTr"):
        (tmp_path / folder / "._a.nii.gz").write_text("Mac OS X")
        (tmp_path / folder / ".DS_Store").touch()
        (tmp_path / folder / ".cache").mkdir()
        (tmp_path / folder / ".cache" / "a.png").touch()
    assert len(list_cases(tmp_path / "pairs").cases) == len(list_cases(tmp_path / "nnunet").cases) == 2
    entry = {"image": "./imagesTr/._case_0.nii.gz", "label": "./labelsTr/._case_0.nii.gz"}
    said = json.loads((decathlon(tmp_path / "ten", 3) / "dataset.json").read_text())
    (tmp_path / "ten" / "dataset.json").write_text(json.dumps(said | {"training": [entry, *said["training"]]}))
    assert len(list_cases(tmp_path / "ten").cases) == 3


def test_a_name_that_only_one_side_has_is_told(tmp_path: Path):
    pairs(tmp_path, 5)
    (tmp_path / "masks" / "1.png").unlink()
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.raises(
        DataError, match=r"masks holds nothing for 1 of .*images, nor for 1 more; both must hold the same"
    ):
        list_cases(tmp_path)
    pairs(tmp_path, 6)
    (tmp_path / "images" / "5.png").unlink()
    with pytest.raises(DataError, match=r"images holds nothing for 5 of .*masks; both must hold the same names"):
        list_cases(tmp_path)


def test_two_files_of_one_name_are_told(tmp_path: Path):
    save_picture(pairs(tmp_path, 3) / "images" / "1.tif", blob(5, 7))
    with pytest.raises(DataError, match=r"images/1\.png and .*images/1\.tif have one name; a case is one file"):
        list_cases(tmp_path)


def test_a_file_of_another_kind_is_told(tmp_path: Path):
    (pairs(tmp_path, 3) / "images" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"images/notes\.txt is no scan and no picture \(\.nii\.gz, \.nii, \.png"):
        list_cases(tmp_path)


def test_a_folder_of_no_known_layout_is_told(tmp_path: Path):
    with pytest.raises(DataError, match=r"must hold a dataset\.json that lists its cases, .*; it holds nothing"):
        list_cases(tmp_path)
    pairs(tmp_path, 3)
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match=r"one of labels and masks; it holds images, labels, masks"):
        list_cases(tmp_path)
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        list_cases(tmp_path / "nowhere")


def test_other_folders_beside_the_splits_are_told(tmp_path: Path):
    for split in ("train", "extra"):
        pairs(tmp_path, 2, f"{split}/{{}}.png")
    with pytest.raises(DataError, match=r"images must hold train, val and test and nothing beside; got extra"):
        list_cases(tmp_path)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"training": "all"}, r"must list cases under 'training'; got 'all'"),
        (
            {"training": [{"image": "a.nii"}]},
            r"must list {\"image\": FILE, \"label\": FILE} .*; got {'image': 'a\.nii'}",
        ),
        ({"training": [{"image": [3], "label": "b.nii"}]}, r"must list .* got {'image': \[3\], 'label': 'b\.nii'}"),
        ({"training": []}, r"has no case with a label to train with"),
        ({"labels": ["liver"]}, r"must name labels as {\"0\": \"background\", \.\.\.}; got \['liver'\]"),
        (
            {"labels": {"background": 0, "liver": "one"}},
            r"must name labels as .*; got {'background': 0, 'liver': 'one'}",
        ),
        (
            {"labels": {"1": "liver", "2": "spleen"}},
            r"must name the background, which is 0 or .*, and others, from 0 up",
        ),
        ({"labels": {"0": "background"}}, r"must name the background, which is 0 or .*, and others, from 0 up"),
        ({"labels": {"background": 1, "liver": -1}}, r"must name the background, .*, and others, from 0 up"),
        ({"labels": {"0": "background", "1": "liver", "2": "liver"}}, r"must give each label one name"),
        ({"labels": {"background": 0, "liver": 1, "tumour": 1}}, r"must give each label one name"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, r"has regions of several labels, .* not supported"),
        ({"labels": {"background": 0, "ignore": 1}}, r"must keep the background, which is 0, and another class"),
        ({"modality": {"0": "CT", "2": "PET"}}, r"must name channels as {\"0\": \"CT\", \.\.\.}; got {'0': 'CT', '2'"),
        ({"modality": 5}, r"must name channels as {\"0\": \"CT\", \.\.\.}; got 5"),
    ],
)
def test_a_dataset_json_that_makes_no_sense_is_told(tmp_path: Path, said: dict, told: str):
    with pytest.raises(DataError, match=r"dataset\.json " + told if "no case" not in told else told):
        list_cases(decathlon(tmp_path, 1, **said))


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "is damaged and cannot be read"), ("[]", "must describe a data set in a JSON object; got list")],
)
def test_a_damaged_dataset_json_is_told(tmp_path: Path, content: str, told: str):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=rf"dataset\.json {told}"):
        list_cases(tmp_path)


def test_what_nnunet_lacks_is_told(tmp_path: Path):
    with pytest.raises(DataError, match=r"must say the file_ending of imagesTr, one of \.nii\.gz, .*; got '\.mha'"):
        list_cases(nnunet(tmp_path / "a", file_ending=".mha"))
    (nnunet(tmp_path / "b") / "imagesTr" / "Tr_b_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"Tr_b_0001\.nii\.gz is channel 1 of case Tr_b, whose channel 0 is missing"):
        list_cases(tmp_path / "b")
    (nnunet(tmp_path / "c") / "imagesTr" / "stray.nii.gz").touch()
    with pytest.raises(
        DataError, match=r"stray\.nii\.gz must be called CASE_0000\.nii\.gz, with the number of its channel"
    ):
        list_cases(tmp_path / "c")
    (nnunet(tmp_path / "d") / "labelsTr" / "Tr_b.nii.gz").unlink()
    with pytest.raises(
        DataError, match=r"labelsTr holds nothing for Tr_b of .*imagesTr; both must hold the same names"
    ):
        list_cases(tmp_path / "d")


def test_masks_that_cannot_be_classes_are_told(tmp_path: Path):
    save_picture(pairs(tmp_path / "a", 1) / "masks" / "0.png", np.arange(300, dtype=np.uint16).reshape(15, 20))
    with pytest.raises(
        DataError, match=r"0\.png must hold classes, 0 and up, 256 at most; it has 300 values up to here"
    ):
        list_cases(tmp_path / "a")
    save_nifti(tmp_path / "b" / "images" / "0.nii", noise(5, 7, 3))
    save_nifti(tmp_path / "b" / "labels" / "0.nii", -blob(5, 7, 3).astype(np.int16))
    with pytest.raises(DataError, match=r"0\.nii must hold classes, 0 and up, 256 at most; it has -1"):
        list_cases(tmp_path / "b")
    with pytest.raises(DataError, match=r"no label holds anything but 0, the background"):
        list_cases(pairs(tmp_path / "c", 2, top=0))


def dicom_pairs(root: Path, count: int = 3, prefix: str = "") -> Path:
    """DICOM series in folders and their labels in files that share their place."""
    for number in range(count):
        folder = save_series(root / "images" / f"{prefix}scan{number}")
        affine = read_series(folder).affine
        save_nifti(root / "labels" / f"{prefix}scan{number}.nii.gz", blob(7, 5, 3, seed=number), affine)
    return root


def test_folders_of_dicom_slices_are_cases(tmp_path: Path):
    (dicom_pairs(tmp_path) / "images/scan0/DICOMDIR").write_bytes(b"none of the slices")
    volumes = open_volumes(tmp_path)
    assert (volumes.spatial_dims, volumes.modalities, volumes.classes) == (3, ["CT"], ["background", "foreground"])
    case = volumes.splits["train"][0]
    assert case == Case("scan0", (tmp_path / "images/scan0",), tmp_path / "labels/scan0.nii.gz")
    volume = read_case(case, volumes)
    assert (volume.name, volume.header, tuple(volume.image.shape)) == ("scan0", None, (1, 7, 5, 3))
    assert volume.label is not None
    assert np.array_equal(volume.label, blob(7, 5, 3))


def test_folders_of_dicom_slices_may_lie_in_splits(tmp_path: Path):
    for split in ("train", "val"):
        dicom_pairs(tmp_path, 1, f"{split}/")
    assert {split: names(cases) for split, cases in open_volumes(tmp_path).splits.items()} == {
        "train": ["train/scan0"],
        "val": ["val/scan0"],
        "test": [],
    }


def test_slices_may_have_no_ending_and_say_no_modality(tmp_path: Path):
    for number in range(3):
        folder = save_series(tmp_path / f"images/{number}", Modality=None)
        for file in list(folder.iterdir()):
            file.rename(folder / f"IM{file.stem}")
        save_nifti(tmp_path / f"labels/{number}.nii.gz", blob(7, 5, 3), read_series(folder).affine)
    volumes = open_volumes(tmp_path)
    assert (len(volumes.splits["train"]), volumes.modalities) == (1, ["image"])
    save_nifti(tmp_path / "images/more/3.nii.gz", noise(7, 5, 3))
    (tmp_path / "images/more/notes").write_bytes(b"no slice")
    with pytest.raises(DataError, match="images/more/notes is no scan and no picture"):
        open_volumes(tmp_path)


def test_a_series_is_held_against_its_label_and_against_what_the_data_says(tmp_path: Path):
    root = dicom_pairs(tmp_path)
    volumes = open_volumes(root)
    case = volumes.splits["train"][0]
    assert case.label is not None
    save_nifti(case.label, blob(7, 5, 3), np.diag([0.9, 0.7, 5, 1]))
    with pytest.raises(DataError, match=r"scan0\.nii\.gz and .*images/scan0 must lie in one place"):
        read_case(case, volumes)
    save_nifti(case.label, blob(7, 5, 4))
    with pytest.raises(DataError, match=r"scan0\.nii\.gz is \(7, 5, 4\) and .*images/scan0 \(7, 5, 3\)"):
        read_case(case, volumes)
    wanted = r"images/scan0 holds a DICOM series, of one channel .*; the data has 2 channels: CT, PET and 3 axes"
    with pytest.raises(DataError, match=wanted):
        read_image(case.images, ["CT", "PET"], 3, "a")


def test_slices_beside_folders_and_names_held_twice_are_refused(tmp_path: Path):
    root = dicom_pairs(tmp_path)
    save_nifti(root / "images/scan0.nii.gz", noise(7, 5, 3))
    with pytest.raises(
        DataError, match=r"images/scan0 and .*scan0\.nii\.gz have one name; a case is one file or folder"
    ):
        list_cases(root)
    (root / "images/scan0.nii.gz").unlink()
    (root / "images/stray.dcm").write_bytes(b"a slice")
    with pytest.raises(
        DataError, match=r"images/stray\.dcm is no scan and no picture .* or a folder of DICOM slices\)"
    ):
        list_cases(root)
