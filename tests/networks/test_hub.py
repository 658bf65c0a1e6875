"""Networks go to the Hugging Face hub and come back as they were; the hub is a folder here."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from torch import Tensor, nn

import foveate
from foveate.errors import CheckpointError, MissingExtra
from foveate.networks import ResNet, hub, resnet_tiny, resnext50_32x4d
from foveate.networks.architecture import KINDS, Architecture
from foveate.networks.hub import from_hub, papers, push_to_hub, save_pretrained
from foveate.surgery import insert


def small(**options) -> ResNet:
    torch.manual_seed(0)
    return resnet_tiny(num_classes=4, **options).eval()


def pictures() -> Tensor:
    return torch.randn(2, 3, 24, 33, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder in which repositories are folders, as the hub."""
    folder = tmp_path / "hub"

    def upload(self, *, repo_id, folder_path, **options) -> str:
        shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/{options['revision'] or 'main'}"

    def download(repo_id, filename, **_) -> str:
        return str(folder / repo_id / filename)

    def create(self, repo_id, **_):
        if repo_id == "taken/name":
            raise PermissionError("403 Forbidden: you have no right to write there")
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", lambda **options: download(**options))
    hub._shared.cache_clear()
    yield folder
    hub._shared.cache_clear()


def test_a_folder_gives_the_network_back_bit_for_bit(tmp_path: Path, capfd):
    network = small(mechanism="cbam", options={"reduction": 4})
    save_pretrained(network, tmp_path / "shared")
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    back = from_hub(tmp_path / "shared")
    assert not back.training
    assert torch.equal(back(pictures()), network(pictures()))
    assert Architecture.read((tmp_path / "shared" / "config.json").read_text()) == network.architecture
    assert capfd.readouterr() == ("", "")


def test_the_model_card_names_network_mechanism_parameters_and_papers(tmp_path: Path):
    network = small(mechanism="eca+spatial")
    save_pretrained(network, tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.to_dict()["library_name"] == "foveate"
    assert "# ECA+SPATIAL-ResNet-8" in card.text
    assert "| mechanism | `eca+spatial`: a gate per channel" in card.text
    assert f"| parameters | {sum(parameter.numel() for parameter in network.parameters()):,} |" in card.text
    for paper in ("Wang et al., CVPR 2020", "Woo et al., ECCV 2018", "He et al., CVPR 2016"):
        assert paper in card.text
    assert f"Foveate {foveate.__version__}" in card.text


def test_a_card_that_somebody_wrote_stays(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    save_pretrained(small(), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_network_goes_to_a_repository_and_comes_back(cloud: Path):
    network = small(mechanism="nonlocal")
    assert push_to_hub(network, "somebody/nl", branch="tried", private=True) == "https://hub/somebody/nl/tried"
    assert 'fv.from_hub("somebody/nl")' in (cloud / "somebody" / "nl" / "README.md").read_text()
    assert torch.equal(from_hub("somebody/nl", revision="tried")(pictures()), network(pictures()))
    with pytest.raises(TypeError, match="resnet has no option 'dilatation'"):
        from_hub("somebody/nl", dilatation=True)


def test_what_does_not_work_is_a_sentence(cloud: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match=r"other must hold model\.safetensors, .*; it holds nothing"):
        from_hub(tmp_path / "other")
    (tmp_path / "other" / "weights.bin").touch()
    with pytest.raises(CheckpointError, match=r"it holds weights\.bin"):
        from_hub(tmp_path / "other")
    save_pretrained(small(), tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"damaged could not be read from the hub: Expecting property name"):
        from_hub(tmp_path / "damaged")
    with pytest.raises(CheckpointError, match=r"nobody/nothing could not be read from the hub: .*No such file"):
        from_hub("nobody/nothing")
    with pytest.raises(CheckpointError, match="taken/name could not be written to the hub: 403 Forbidden"):
        push_to_hub(small(), "taken/name")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/new cannot be written: Not a directory"):
        save_pretrained(small(), tmp_path / "file" / "new")


def test_a_network_that_cannot_be_built_again_is_refused(tmp_path: Path):
    host = small()
    insert(host, "layer1.0", lambda channels: nn.Conv2d(channels, channels, 1), example=pictures())
    for network, kind in ((nn.Linear(3, 4), "Linear"), (host, "ResNet")):
        told = f"the hub gets a network of foveate.networks whose mechanism has a name; got {kind}"
        with pytest.raises(TypeError, match=told):
            save_pretrained(network, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_the_missing_package_names_the_extra(tmp_path: Path, monkeypatch):
    hub._shared.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"this needs huggingface-hub, .* 'foveate\[hub\]' brings it"):
        push_to_hub(small(), "somebody/network")


def test_every_kind_of_network_has_a_paper():
    for kind in KINDS:
        assert papers(Architecture(kind, {})), kind
    with torch.device("meta"):
        architecture = resnext50_32x4d(mechanism="se").architecture
    assert architecture is not None
    assert [paper.split(" et al.")[0] for paper in papers(architecture)] == ["Hu", "Xie"]
    assert "Oktay" in papers(Architecture("unet", {"gates": 1}))[0]
