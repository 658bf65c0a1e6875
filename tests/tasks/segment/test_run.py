"""Whole runs on the balls: train, resume, evaluate, predict and attend."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from foveate.errors import DataError, RunError, TrainingError
from foveate.tasks import keeper
from foveate.tasks.run import attend, evaluate, predict, train
from foveate.tasks.segment import memory
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.module import Segmenter
from foveate.tasks.segment.network import arrange, build_network, load_run
from foveate.tasks.segment.preparation import Preparation
from foveate.tasks.summary import Progress, read_summary

SMALL = {
    "network": "attention-unet",
    "network_options": {"widths": [4, 8, 16], "fused_heads": False},
    "patch_size": [16, 16, 8],
    "patches_per_epoch": 16,
    "batch_size": 4,
    "learning_rate": 2e-2,
    "validate_every": 2,
    "threads": 1,
    "device": "cpu",
}


def small(data: Path, **changes: object) -> SegmentConfig:
    return SegmentConfig(data=str(data), **(SMALL | changes))  # pyright: ignore[reportArgumentType]


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def run(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "balls"
    train(small(balls, epochs=10), out)
    return out


@pytest.mark.slow
def test_a_network_learns_and_leaves_a_whole_folder(run: Path):
    summary = read_summary(run)
    assert summary is not None
    assert (summary.task, summary.arm, summary.stopped_by) == ("segment", "none", "epochs")
    assert (summary.train_size, summary.val_size, summary.test_size) == (7, 1, 2)
    assert (summary.epochs, summary.steps) == (10, 40)
    assert summary.metrics["dice"] is not None
    assert summary.metrics["dice"] > 0.7
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["val_dice"]) for row in rows] == [False, True] * 5
    assert float(rows[-1]["val_dice"]) == summary.metrics["val_dice"]
    with (run / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in cases] == [("ball_08", "ball"), ("ball_09", "ball")]
    assert json.loads((run / "preparation.json").read_text())["patch_size"] == [16, 16, 8]
    assert evaluate(run, device="cpu")["dice"] == summary.metrics["dice"]
    assert evaluate(run, split="val", device="cpu")["cases"] == 1


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_bits(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = small(balls, epochs=2, mechanism="se", deep_supervision=True)
    train(config, tmp_path / "whole")

    class Break(BaseException):
        pass

    save = keeper.Keeper._save

    def save_and_break(self: keeper.Keeper, trainer: object) -> None:
        save(self, trainer)  # pyright: ignore[reportArgumentType]
        raise Break

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "SAVE_EVERY_S", 0.0)
        patch.setattr(keeper, "SAVE_SHARE", 1e9)
        patch.setattr(keeper.Keeper, "_save", save_and_break)
        with pytest.raises(Break):
            train(config, tmp_path / "broken")
    summary = train(config, tmp_path / "broken")
    assert summary.resumed == 1
    assert same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_label_maps_lie_in_the_space_of_the_scan_to_the_bit(run: Path, balls: Path, tmp_path: Path):
    import nibabel

    scan = balls / "imagesTr" / "ball_09.nii.gz"
    assert predict(run, [scan], tmp_path, device="cpu") == tmp_path
    given, label = nibabel.load(scan), nibabel.load(tmp_path / "ball_09.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
    probability = nibabel.load(tmp_path / "ball_09.ball.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
    for written in (label, probability):
        assert np.array_equal(written.affine, given.affine)  # pyright: ignore[reportAttributeAccessIssue]
        assert written.shape == given.shape  # pyright: ignore[reportAttributeAccessIssue]
        assert written.header["sform_code"] == given.header["sform_code"]  # pyright: ignore[reportAttributeAccessIssue]
    found = np.asarray(label.dataobj)  # pyright: ignore[reportAttributeAccessIssue]
    assert set(np.unique(found)) == {0, 1}
    likely = np.asarray(probability.dataobj) > 0.5  # pyright: ignore[reportAttributeAccessIssue]
    assert (likely == (found == 1)).all()
    truth = np.asarray(nibabel.load(balls / "labelsTr" / "ball_09.nii.gz").dataobj)  # pyright: ignore
    assert 2 * (found * truth).sum() / (found.sum() + truth.sum()) > 0.6
    assert (tmp_path / "ball_09.overlay.png").exists()


@pytest.mark.slow
def test_the_gates_are_drawn_and_written_over_the_scan(run: Path, balls: Path, tmp_path: Path):
    import nibabel

    scan = balls / "imagesTr" / "ball_08.nii.gz"
    written = attend(run, [scan], tmp_path, device="cpu")
    maps = [path for path in written if path.name.endswith(".nii.gz")]
    assert len(maps) == 1  # one gate: the first skip connection of three levels has none
    assert len(written) == 2
    gate, given = nibabel.load(maps[0]), nibabel.load(scan)  # pyright: ignore[reportPrivateImportUsage]
    assert np.array_equal(gate.affine, given.affine)  # pyright: ignore[reportAttributeAccessIssue]
    values = np.asarray(gate.dataobj)  # pyright: ignore[reportAttributeAccessIssue]
    assert values.shape == given.shape  # pyright: ignore[reportAttributeAccessIssue]
    assert 0 <= values.min() < values.max() <= 1


@pytest.mark.slow
def test_a_finished_run_stays_and_another_is_refused(run: Path, balls: Path):
    assert train(small(balls, epochs=10), run) == read_summary(run)
    with pytest.raises(RunError, match=r"belongs to another run: learning_rate is 0\.02 there and 0\.1 here"):
        train(small(balls, epochs=10, learning_rate=0.1), run)


@pytest.mark.slow
def test_bad_input_is_a_sentence(run: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match=r"absent\.nii\.gz does not exist$"):
        predict(run, [tmp_path / "absent.nii.gz"], tmp_path)
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes((balls / "imagesTr" / "ball_09.nii.gz").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"torn\.nii\.gz is damaged and cannot be read: "):
        predict(run, [torn], tmp_path / "out")
    scan = balls / "imagesTr" / "ball_09.nii.gz"
    with pytest.raises(DataError, match="two inputs are both called ball_09"):
        predict(run, [scan, scan], tmp_path)
    slice_of_series = tmp_path / "one.dcm"
    slice_of_series.write_bytes(b"")
    with pytest.raises(DataError, match="give the folder of the series"):
        predict(run, [slice_of_series], tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    with pytest.raises(TrainingError, match=r"^4 patches of \(16, 16, 8\) need at least .* a smaller patch_size"):
        train(small(balls, epochs=1), tmp_path / "large")
    assert not (tmp_path / "large" / "checkpoints").exists()


@pytest.mark.slow
def test_memory_that_ends_in_training_is_a_sentence(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(self: Segmenter, batch: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    monkeypatch.setattr(Segmenter, "loss_of", fail)
    with pytest.raises(
        TrainingError, match=r"^a step of batch_size 4 needs more memory than there is; a smaller batch"
    ):
        train(small(balls, epochs=1), tmp_path / "run")


@pytest.mark.slow
def test_two_processes_share_a_run(balls: Path, tmp_path: Path):
    # One of them has no case to validate with.
    config = small(balls, epochs=3, devices=2, patches_per_epoch=4, validate_every=1)
    summary = train(config, tmp_path / "run")
    assert (summary.steps, summary.val_size) == (3, 1)
    assert summary.metrics["cases"] == 2
    assert summary.metrics["val_dice"] is not None


@pytest.mark.slow
def test_a_series_of_slices_is_segmented_in_its_own_space(run: Path, tmp_path: Path):
    import nibabel
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder = tmp_path / "series"
    folder.mkdir()
    series = generate_uid()
    for number in range(6):
        header = pydicom.dataset.FileMetaDataset()
        header.TransferSyntaxUID, header.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        each = pydicom.Dataset()
        each.file_meta = header
        each.SOPClassUID, each.SOPInstanceUID, each.SeriesInstanceUID = CTImageStorage, generate_uid(), series
        each.Modality, each.PhotometricInterpretation = "MR", "MONOCHROME2"
        each.Rows, each.Columns, each.PixelSpacing = 20, 16, [1.5, 0.5]
        each.ImageOrientationPatient, each.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-7, 3, 2.5 * number]
        each.BitsAllocated, each.BitsStored, each.HighBit, each.PixelRepresentation = 16, 16, 15, 0
        each.SamplesPerPixel = 1
        each.PixelData = np.random.default_rng(number).integers(0, 200, (20, 16), np.uint16).tobytes()
        each.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    predict(run, [folder], tmp_path / "out", device="cpu")
    label = nibabel.load(tmp_path / "out" / "series.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
    assert label.shape == (16, 20, 6)  # pyright: ignore[reportAttributeAccessIssue]
    expected = [[-0.5, 0, 0, 7], [0, -1.5, 0, -3], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    assert np.array_equal(label.affine, expected)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_a_damaged_case_is_found_before_training_starts(balls: Path, tmp_path: Path):
    import shutil

    data = tmp_path / "balls"
    shutil.copytree(balls, data)
    torn = data / "labelsTr" / "ball_09.nii.gz"
    torn.write_bytes(torn.read_bytes()[:100])
    told: list[Progress] = []
    with pytest.raises(DataError, match=r"ball_09\.nii\.gz is damaged"):
        train(small(data, epochs=1), tmp_path / "run", progress=told.append)
    assert {state.stage for state in told} == {"check"}
    assert told[-1].fraction == 1


@pytest.mark.slow
def test_a_run_without_gates_has_nothing_to_attend_to(balls: Path, tmp_path: Path):
    out = tmp_path / "plain"
    told: list[Progress] = []
    train(
        small(balls, network="unet", epochs=1, patches_per_epoch=4, train_only="inserted", augment="none"),
        out,
        progress=told.append,
    )
    cases, *seen, space, channel = (line for state in told for line in state.notes)
    assert cases.startswith(f"read {balls}: 7 train, 1 val, 2 test cases of 2 classes (in the order of the names")
    assert seen[-1].endswith("spacing 1 x 1 x 2 mm; .nii.gz; channels MRI")
    assert space == "axes to right, anterior, superior; voxels of 1 x 1 x 2 mm; patches of 16 x 16 x 8"
    assert channel.startswith("MRI: mean 0")
    with pytest.raises(LookupError, match=r"has no gate or map with places to look at$"):
        attend(out, [balls / "imagesTr" / "ball_08.nii.gz"], tmp_path / "maps", device="cpu")


def test_weights_are_brought_to_the_layout_with_the_channels_last():
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3))
    arrange(network)
    row, picture, volume = (layer.weight for layer in network)
    assert row.is_contiguous()
    assert picture.is_contiguous(memory_format=torch.channels_last)
    assert volume.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [True, False])
def test_a_run_measures_in_the_layout_that_was_asked_for(balls: Path, tmp_path: Path, layout: bool):
    summary = train(small(balls, channels_last=layout, epochs=1), tmp_path / "run")
    network, _, _ = load_run(tmp_path / "run")
    weights = [each for each in network.parameters() if each.ndim == 5 and each.shape[1] > 1 and each[0, 0].numel() > 1]
    assert all(each.is_contiguous(memory_format=torch.channels_last_3d) == layout for each in weights)
    assert evaluate(tmp_path / "run", None, "test", device="cpu")["dice"] == summary.metrics["dice"]


@pytest.mark.slow
def test_a_network_of_monai_is_trained_as_it_is_and_opened_again(balls: Path, tmp_path: Path):
    options = {"channels": [4, 8], "strides": [2], "num_res_units": 1}
    config = small(balls, network="monai/UNet", network_options=options, epochs=1)
    summary = train(config, tmp_path / "run")
    assert (summary.network, summary.sites) == ("monai/UNet", [])
    found = evaluate(tmp_path / "run", None, "test", device="cpu")
    assert found["dice"] == summary.metrics["dice"]
    again = train(dataclasses.replace(config, init=str(tmp_path / "run" / "model.safetensors")), tmp_path / "again")
    assert again.parameters == summary.parameters


PREPARATION = Preparation(["background", "ball"], [0, 1], ["MRI"], 3, (1.0, 1.0, 1.0), [], (16, 16, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"network": "monai/Unett"}, LookupError, 'MONAI has no network "Unett"; did you mean "'),
        ({"network": "monai/UNet", "width": 2.0}, ValueError, "monai/UNet is taken as it is: width must be 1.0"),
        ({"network": "monai/UNet", "mechanism": "se"}, ValueError, "monai/UNet is taken as it is: mechanism must be n"),
        ({"network": "monai/UNet", "train_only": "inserted"}, ValueError, "is taken as it is: train_only must be all$"),
        ({"network": "monai/UNet", "network_options": {"depth": 3}}, ValueError, "with options {'depth': 3} cannot be"),
        (
            {"network": "monai/UNet", "network_options": {"channels": [4, 8], "strides": [2], "act": "nothing"}},
            ValueError,
            r"monai/UNet with options \{.*'nothing'\} cannot be built: ",
        ),
        (
            {"network": "monai/AttentionUnet", "network_options": {"channels": [2, 4, 8, 16, 32], "strides": [2] * 4}},
            ValueError,
            r"monai/AttentionUnet with options \{.*\} does not take patches of \(16, 16, 8\): ",
        ),
        (
            {
                "network": "monai/VarAutoEncoder",
                "network_options": {"in_shape": [1, 16, 16, 8], "latent_size": 2, "channels": [2], "strides": [2]},
            },
            ValueError,
            "monai/VarAutoEncoder",
        ),
    ],
)
def test_a_network_of_monai_that_does_not_fit_is_a_sentence(tmp_path: Path, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        build_network(small(tmp_path, **({"network_options": {}} | changes)), PREPARATION)
