"""What may be named on the command line to predict, and what it is taken for; no file is opened."""

from pathlib import Path

import pytest

from foveate.errors import DataError
from foveate.tasks.scans import given_scans
from foveate.tasks.segment import run
from foveate.tasks.segment.preparation import Preparation
from foveate.tasks.segment.run import predict


def preparation(channels: int) -> Preparation:
    modalities = [f"T{channel}" for channel in range(channels)]
    return Preparation(["background", "ball"], [0, 1], modalities, 3, (1.0, 1.0, 1.0), [], (16, 16, 16))


def files(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"precious")
    return [folder / name for name in names]


def test_channels_are_put_together_wherever_they_are_named(tmp_path: Path):
    second, first = files(tmp_path, "s_0001.nii.gz", "s_0000.nii.gz")
    assert given_scans([second, first], 2) == {"s": (first, second)}
    assert given_scans([tmp_path], 2) == {"s": (first, second)}
    assert list(given_scans([second, first], 1)) == ["s_0001", "s_0000"]
    (whole,) = files(tmp_path, "all_0007.nii.gz")
    assert given_scans([whole], 2) == {"all": (whole,)}


def test_a_channel_that_is_not_there_is_told(tmp_path: Path):
    given = files(tmp_path, "s_0000.nii.gz", "s_0002.nii.gz", "s_0001.nii.gz")
    with pytest.raises(DataError, match=r"^s takes s_0000 to s_0002, a file a channel; got s_0000\.nii\.gz, s_0002"):
        given_scans(given[:2], 3)
    assert given_scans(given, 3) == {"s": tuple(sorted(given))}


def test_no_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "preparation_of", lambda folder: preparation(1))
    (scan,) = files(tmp_path / "imagesTr", "a.nii.gz")
    for name in ("a.nii.gz", "a.ball.nii.gz", "a.overlay.png"):
        (there,) = files(tmp_path / name, name)
        with pytest.raises(ValueError, match=rf"^results must not replace a file; .*{name} exists$"):
            predict(tmp_path / "run", [scan], there.parent, device="cpu")


def test_results_do_not_go_among_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "preparation_of", lambda folder: preparation(1))
    files(tmp_path / "series", "1.dcm")
    with pytest.raises(ValueError, match=r"^results must not replace the scans .* holds .*series$"):
        predict(tmp_path / "run", [tmp_path / "series"], tmp_path / "series", device="cpu")


@pytest.mark.parametrize("name", ["1.dcm", "IM0001", "1.2.840.10008"])
def test_a_folder_of_slices_and_a_picture_is_refused(tmp_path: Path, name: str):
    files(tmp_path, name, "preview.png")
    with pytest.raises(DataError, match=rf"holds preview\.png beside slices of a DICOM series, such as {name}; give a"):
        given_scans([tmp_path], 1)
