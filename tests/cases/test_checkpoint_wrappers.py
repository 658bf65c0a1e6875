"""State dicts as other trainers write them: behind prefixes, with counters, and averaged."""

import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from foveate import networks
from foveate.errors import CheckpointError
from foveate.networks.published import from_checkpoint, inspect, read_file, to_publisher
from foveate.tasks.weights import start_from

torch.manual_seed(0)
NETWORK = networks.ResNet("basic", (1, 1, 1), base_width=8, num_classes=4, stem="cifar", mechanism="se").eval()
STATE = to_publisher(NETWORK, "moskomule/senet.pytorch")
OTHER = {key: value + 1 if value.is_floating_point() else value for key, value in STATE.items()}


def behind(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state after thop.profile, which counts in every module."""
    parents = {
        "".join(f"{part}." for part in key.split(".")[:depth]) for key in state for depth in range(key.count(".") + 1)
    }
    return state | {
        f"{at}total_{what}": torch.zeros(1, dtype=torch.float64) for at in parents for what in ("ops", "params")
    }


ALONE = {
    "lightning": {"state_dict": behind("model."), "epoch": 1, "pytorch-lightning_version": "2.5.0", "callbacks": {}},
    "lightning, another attribute": {"state_dict": behind("net."), "loops": {}, "hyper_parameters": {"lr": 0.1}},
    "averaged": behind("module.") | {"n_averaged": torch.tensor(3)},
    "averaged inside lightning": {"state_dict": behind("model.module.") | {"model.n_averaged": torch.tensor(3)}},
    "prefixes in another order": behind("module.model.net."),
    "prefixes in yet another order": behind("net._orig_mod.module.model."),
    "the same prefix twice": behind("model.model."),
    "thop": counted(STATE),
    "thop behind a prefix": {"state_dict": counted(behind("module."))},
    "thop, then averaged": {"model": {"module": counted(behind("module.")), "n": 3}},
    "under ema alone": {"ema": {"module": behind("module."), "decay": 0.999, "updates": 7}},
    "under ema_state_dict alone": {"ema_state_dict": behind("model."), "step": 5},
    "under model_ema alone": {"model_ema": behind("module.") | {"n_averaged": torch.tensor(9)}},
    "under an unusual name": {
        "classifier": STATE,
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []},
    },
}


@pytest.mark.parametrize("held", ALONE.values(), ids=ALONE)
def test_they_are_read(held, tmp_path):
    torch.save(held, tmp_path / "net.pth")
    network, x = from_checkpoint(tmp_path / "net.pth"), torch.randn(2, 3, 16, 16)
    assert torch.equal(network(x), NETWORK(x))


AVERAGES = {
    "timm": {"state_dict": STATE, "state_dict_ema": OTHER},
    "torchvision": {"model": STATE, "model_ema": behind("module.", OTHER) | {"n_averaged": torch.tensor(9)}},
    "ema": {"ema": behind("module.", OTHER), "net": STATE},
}


@pytest.mark.parametrize("held", AVERAGES.values(), ids=AVERAGES)
def test_the_weights_that_are_not_averaged_are_read_and_told(held, tmp_path):
    torch.save(held, tmp_path / "net.pth")
    with pytest.warns(
        UserWarning, match=r"net\.pth holds averaged weights under '[a-z_]+' too; those under '[a-z_]+' are"
    ):
        assert torch.equal(inspect(tmp_path / "net.pth").state["fc.weight"], STATE["fc.weight"])


BESIDE = {
    "an average in the same module": behind("model.") | behind("ema_model.module.", OTHER),
    "an average without dots": behind("model.") | {f"model_ema.{key.replace('.', '')}": OTHER[key] for key in OTHER},
    "the weights of a loss": behind("model.") | {"criterion.weight": torch.ones(4)},
}


@pytest.mark.parametrize("state", BESIDE.values(), ids=BESIDE)
def test_other_tensors_beside_a_prefix_are_told(state):
    with pytest.warns(
        UserWarning, match=r"the state dict holds \d+ tensors beside the network that are not read, such as"
    ):
        assert torch.equal(inspect({"state_dict": state}).state["fc.weight"], STATE["fc.weight"])


def test_two_networks_under_unusual_names_are_refused():
    with pytest.raises(CheckpointError, match="must hold one network; it has tensors under student, teacher"):
        inspect({"student": STATE, "teacher": OTHER})


@pytest.mark.parametrize("prefix", ["model.", "module.net.", "ema.module."])
def test_a_host_of_torchvision_starts_from_them(prefix, tmp_path):
    held = torchvision.models.resnet18(num_classes=3).state_dict()
    torch.save({"state_dict": counted(behind(prefix, held))}, tmp_path / "net.pth")
    host = torchvision.models.resnet18(num_classes=3)
    start_from(host, tmp_path / "net.pth", (), ("fc",), ours=False)
    assert torch.equal(host.state_dict()["layer4.1.bn2.weight"], held["layer4.1.bn2.weight"])
    assert torch.equal(host.state_dict()["conv1.weight"], held["conv1.weight"])


def test_a_counter_is_no_reason_to_name_another_key():
    found = inspect(counted({key: value for key, value in STATE.items() if key != "conv1.weight"}))
    assert found.problems[0].startswith("conv1.weight is missing")
    assert len(found.problems) == 1


def test_compressed_parts_of_a_checkpoint_are_refused_before_they_are_unpacked(tmp_path: Path):
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "stored.pth")
    with zipfile.ZipFile(tmp_path / "stored.pth") as stored, zipfile.ZipFile(tmp_path / "small.pth", "w") as small:
        for name in stored.namelist():
            small.writestr(name, stored.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"small.pth holds compressed parts, which torch.save never writes"):
        read_file(tmp_path / "small.pth")
    assert read_file(tmp_path / "stored.pth")[0]["weight"].shape == (1000,)
