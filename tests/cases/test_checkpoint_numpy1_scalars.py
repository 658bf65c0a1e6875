"""NumPy numbers and arrays beside the weights of a checkpoint, as NumPy 1 and NumPy 2 pickle them."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from foveate import networks
from foveate.errors import CheckpointError
from foveate.networks.published import inspect, to_publisher
from foveate.tasks.weights import start_from

BESIDE = {
    "a number": {"best": np.float64(0.9)},
    "numbers of other kinds": {
        "best": np.float32(0.9),
        "epoch": np.int64(3),
        "done": np.bool_(True),
        "half": np.float16(1),
    },
    "arrays": {
        "curve": np.linspace(0, 1, 5),
        "classes": np.array(["a", "b"]),
        "random": np.random.RandomState(0).get_state(),
    },
    "a setting that is a path": {"args": {"data": Path("data/train")}},
}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    network = networks.ResNet("basic", (1, 1, 1), base_width=8, num_classes=4, stem="cifar")
    return to_publisher(network, "torchvision")


def write(path: Path, held: dict[str, Any], version: int) -> Path:
    """Save a checkpoint with the names that a version of NumPy has for its modules."""
    content = io.BytesIO()
    torch.save(held, content)
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            body = old.read(name)
            if name.endswith("data.pkl") and version == 1:
                body = body.replace(b"numpy._core.", b"numpy.core.")
            new.writestr(name, body)
    return path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_they_do_no_harm(beside, version, state, tmp_path):
    path = write(tmp_path / "net.pth", {"state_dict": state, **beside}, version)
    assert inspect(path).publisher == "torchvision"


@pytest.mark.parametrize("version", [1, 2])
def test_numbers_among_the_weights_are_left_out(version, state, tmp_path):
    path = write(tmp_path / "net.pth", {**state, "best": np.float64(0.9), "epoch": 3, "arch": "resnet"}, version)
    assert not inspect(path).problems


def test_a_host_of_torchvision_starts_from_one(tmp_path):
    held = torchvision.models.resnet18(num_classes=3).state_dict()
    path = write(tmp_path / "net.pth", {"state_dict": held, "best": np.float64(0.9)}, 1)
    host = torchvision.models.resnet18(num_classes=3)
    start_from(host, path, (), ("fc",), ours=False)
    assert torch.equal(host.state_dict()["conv1.weight"], held["conv1.weight"])


def test_other_objects_are_still_refused(state, tmp_path):
    torch.save({"state_dict": state, "best": zipfile.ZipInfo("a")}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"holds a pickled zipfile\.ZipInfo; only tensors are read"):
        inspect(tmp_path / "net.pth")
