"""Pipes, devices, sockets and folders that are called like files are told, never opened."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foveate.data import open_pictures
from foveate.data.boxes import open_boxes
from foveate.data.dicom import read_series
from foveate.data.nifti import read_nifti, read_nifti_shape
from foveate.data.planes import read_mask, read_plane
from foveate.data.reading import read_header, read_picture
from foveate.data.stacks import holds_stacks
from foveate.data.text import read_lines
from foveate.data.video import count_frames
from foveate.data.volumes import open_volumes
from foveate.errors import CheckpointError, DataError
from foveate.networks.published import read_file

READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("a.png", read_header),
    ("a.png", lambda path: read_picture(path, 3)),
    ("a.tif", lambda path: read_plane(path, 1)),
    ("a.png", read_mask),
    ("a.nii", read_nifti),
    ("a.nii.gz", read_nifti_shape),
    ("a.mp4", count_frames),
    ("train.en.gz", read_lines),
    ("train.json", lambda path: open_boxes(path.parent)),
]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A reader that waits for a pipe fails instead."""

    def late(*_: object) -> None:
        raise TimeoutError("a pipe was opened")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_pipe_is_told(tmp_path: Path, name, read):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} must be a file; it is a named pipe"):
        read(tmp_path / name)


@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_device_is_told(tmp_path: Path, name, read):
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match=rf"{name} must be a file; it is a device"):
        read(tmp_path / name)


@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_folder_is_told(tmp_path: Path, name, read):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name} must be a file; it is a folder"):
        read(tmp_path / name)


def test_a_socket_is_told(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("a.png")
        with pytest.raises(DataError, match=r"a\.png must be a file; it is a socket"):
            read_header(Path("a.png"))


def test_a_pipe_among_slices_is_told(tmp_path: Path):
    os.mkfifo(tmp_path / "0.dcm")
    with pytest.raises(DataError, match=r"0\.dcm must be a file; it is a named pipe"):
        read_series(tmp_path)


def test_what_kind_data_are_is_told_without_opening_a_pipe(tmp_path: Path):
    os.mkfifo(tmp_path / "train.json")
    assert not holds_stacks(tmp_path)


def test_class_folders_and_image_folders_tell_folders_that_are_called_like_images(tmp_path: Path):
    for kind in ("a", "b"):
        (tmp_path / "classes" / kind / "1.png").mkdir(parents=True)
    with pytest.raises(DataError, match=r"1\.png must be a file, as its name ends like a picture; it is a folder"):
        open_pictures(tmp_path / "classes")
    (tmp_path / "pairs" / "images" / "1.nii.gz").mkdir(parents=True)
    (tmp_path / "pairs" / "masks").mkdir(parents=True)
    with pytest.raises(DataError, match=r"1\.nii\.gz must be a file, as its name ends like an image; it is a folder"):
        open_volumes(tmp_path / "pairs")


def test_weights_in_a_pipe_or_a_folder_are_told(tmp_path: Path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth must be a file of weights; it is a named pipe"):
        read_file(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"must be a file of weights; it is a folder"):
        read_file(tmp_path)
