import dataclasses
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from foveate.data import open_pictures
from foveate.errors import CheckpointError
from foveate.networks import c2d_tiny
from foveate.networks.published import packed, save_checkpoint, to_publisher
from foveate.surgery import inserted
from foveate.tasks import hosts
from foveate.tasks.config import RunConfig
from foveate.tasks.hosts import build, build_network, input_shape, new_modules, open_samples
from foveate.tasks.places import usual_places
from foveate.tasks.weights import fetch_published, head_of, load_into

SHAPE = (3, 32, 32)


def network(mechanism: str = "none", name: str = "resnet_tiny", **settings: Any) -> tuple[nn.Module, list[str]]:
    config = RunConfig(network=name, mechanism=mechanism, **settings)
    built, sites = build_network(config, 5, SHAPE)
    return built, [site["name"] for site in sites]


def test_the_host_is_the_same_in_every_arm():
    none, _ = network()
    for mechanism in ("se", "cbam", "nonlocal", "eca+spatial"):
        for start in ("published", "identity"):
            host = network(mechanism, start=start)[0].state_dict()
            assert all(torch.equal(value, host[name]) for name, value in none.state_dict().items())
    other = network(seed=1)[0]
    assert not torch.equal(next(other.parameters()), next(none.parameters()))


def test_a_mechanism_goes_where_its_paper_puts_it():
    assert network("se")[1] == [f"layer{stage}.0.mechanism" for stage in (1, 2, 3)]
    assert network("bam")[1] == ["layer1.0.mechanism", "layer2.0.mechanism"]
    assert network("se", network_options={"stages": [2]})[1] == ["layer2.0.mechanism"]


@pytest.mark.slow
def test_as_the_identity_it_goes_to_the_same_places():
    assert network("se", start="identity")[1] == [f"layer{stage}.0.bn2" for stage in (1, 2, 3)]
    assert network("bam", start="identity")[1] == ["layer1.0", "layer2.0"]
    x = torch.randn(2, *SHAPE)
    for mechanism in ("se", "cbam", "bam", "nonlocal"):
        assert torch.equal(network(mechanism, start="identity")[0].eval()(x), network()[0].eval()(x))


def test_a_network_with_a_mechanism_built_in_is_no_host():
    assert network(name="se_resnet18")[1][:2] == ["layer1.0.mechanism", "layer1.1.mechanism"]
    with pytest.raises(ValueError, match=r"^se_resnet18 has se built in; a host for cbam is resnet18$"):
        network("cbam", name="se_resnet18")


def test_a_pattern_says_where():
    assert network("se", where="layer3.*")[1] == ["layer3.0"]
    with pytest.raises(LookupError, match=r"layer7\.\*"):
        network("se", where="layer7.*")


def test_options_reach_the_mechanism_and_the_network():
    built, _ = network("se", options={"reduction": 4}, network_options={"stem": "cifar"}, width=0.5)
    assert built.get_submodule("layer3.0.mechanism").get_parameter("fc1.weight").shape[0] == 8
    assert built.get_submodule("conv1").stride == (1, 1)
    with pytest.raises(TypeError, match='SE has no option "kernel"'):
        network("se", options={"kernel": 4})
    with pytest.raises(TypeError, match='resnet_tiny has no option "stemm"'):
        network(network_options={"stemm": "cifar"})
    with pytest.raises(ValueError, match="network_options cannot set num_classes; the run decides that"):
        network(network_options={"num_classes": 3})


def test_the_size_of_the_input_follows_the_pictures_and_the_host(shapes: Path):
    pictures = open_pictures(shapes)
    assert input_shape(RunConfig(), pictures) == (1, 16, 16)
    assert input_shape(RunConfig(image_size=40), pictures) == (1, 40, 40)
    assert input_shape(RunConfig(network="torchvision/resnet18"), pictures) == (3, 16, 16)
    assert input_shape(RunConfig(network="torchvision/vit_b_16"), pictures) == (3, 224, 224)
    assert input_shape(RunConfig(pretrained=True), pictures)[0] == 3
    assert build(RunConfig(data=str(shapes), network="resnet_tiny"))[1] == (1, 16, 16)


def test_a_network_can_be_counted_without_being_computed(shapes: Path):
    config = RunConfig(data=str(shapes), network="resnet_tiny", width=2.0)
    counted, _, _ = build(config, device="meta")
    real, _, _ = build(config)
    assert next(counted.parameters()).is_meta
    assert sum(p.numel() for p in counted.parameters()) == sum(p.numel() for p in real.parameters())


@pytest.mark.slow
def test_hosts_of_torchvision_take_mechanisms():
    host, sites = network("cbam", "torchvision/resnet18")
    assert sites == [f"layer{stage}.{block}.bn2" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert host.eval()(torch.randn(2, *SHAPE)).shape == (2, 5)
    config = RunConfig(network="torchvision/resnet18", mechanism="cbam")
    assert new_modules(config, host, [{"name": sites[0]}]) == ["layer1.0.bn2.inserted"]
    assert head_of(host, 5) == "fc"


def test_a_name_that_is_no_host_is_guessed_at():
    with pytest.raises(LookupError, match='no network "resnet_tniy"; did you mean "resnet_tiny"'):
        network(name="resnet_tniy")
    with pytest.raises(LookupError, match='torchvision has no classifier "resnet81"; did you mean "resnet18"'):
        network(name="torchvision/resnet81")
    with pytest.raises(LookupError, match='no host "keras/resnet"; it takes a name of ours, timm/NAME'):
        network(name="keras/resnet")
    with pytest.raises(LookupError, match='no mechanism "ecca"; did you mean "eca"'):
        network("ecca")


def test_what_cannot_be_widened_says_so():
    with pytest.raises(ValueError, match="torchvision/resnet18 has no width to set, only networks of Foveate's"):
        network(name="torchvision/resnet18", width=1.5)


def test_what_gives_no_classes_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hosts, "_torchvision_host", lambda *_: nn.Flatten())
    with pytest.raises(ValueError, match=r"a classifier gives \(batch, 5\); torchvision/x gives \(2, 3072\)"):
        network(name="torchvision/x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sites"),
    [("timm/resnet18", 8), ("timm/convnext_atto", 12), ("timm/efficientnet_b0", 16), ("timm/vit_tiny_patch16_224", 12)],
)
def test_hosts_of_timm_take_mechanisms(name: str, sites: int):
    config = RunConfig(network=name, mechanism="se", start="identity", image_size=64)
    host, found = build_network(config, 5, (3, 64, 64))
    assert len(found) == sites
    x = torch.randn(2, 3, 64, 64)
    bare, _ = build_network(RunConfig(network=name), 5, (3, 64, 64))
    assert torch.equal(host.eval()(x), bare.eval()(x))
    assert head_of(host, 5)
    with pytest.raises(LookupError, match='timm has no model "resnet81"; did you mean'):
        network(name="timm/resnet81")


def test_places_by_kind():
    host = models.resnet50(num_classes=5)
    assert usual_places(host, "between stages") == {"layer1.2", "layer2.3", "layer3.5"}
    assert usual_places(host, "chosen blocks") == {"layer2.1", "layer2.3", "layer3.1", "layer3.3", "layer3.5"}
    assert len(usual_places(host, "every block")) == 16
    assert "layer1.0.bn3" in usual_places(host, "every block")
    # A host without stages has quarters.
    plain = models.mobilenet_v3_small(num_classes=5)
    assert usual_places(plain, "between stages") == {"features.2", "features.5", "features.8"}
    with pytest.raises(LookupError, match="no usual place is known in Sequential"):
        usual_places(nn.Sequential(nn.Conv2d(1, 2, 3)), "every block")


# Weights from elsewhere


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint of resnet_tiny with five classes, recognisable by its constant weights."""
    state = {name: torch.full_like(value, 2) for name, value in network()[0].state_dict().items()}
    (tmp_path / "net.safetensors").write_bytes(packed(state))
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("mechanism", ["none", "cbam"])
def test_a_run_starts_from_a_checkpoint(trained: Path, mechanism: str):
    built, sites = network(mechanism, init=str(trained))
    state = built.state_dict()
    assert all((value == 2).all() for name, value in state.items() if ".inserted." not in name)
    assert sites == ([] if mechanism == "none" else [f"layer{stage}.0.bn2" for stage in (1, 2, 3)])


def test_a_classifier_of_another_size_starts_anew(trained: Path):
    with pytest.warns(UserWarning, match=r"net\.safetensors has no weights that fit fc, which starts anew$"):
        built, _ = build_network(RunConfig(network="resnet_tiny", init=str(trained)), 7, SHAPE)
    assert built.get_parameter("fc.weight").shape == (7, 64)
    assert (built.get_parameter("conv1.weight") == 2).all()


def test_a_checkpoint_says_how_many_channels_its_pictures_have(trained: Path, shapes: Path):
    assert input_shape(RunConfig(init=str(trained)), open_pictures(shapes)) == (3, 16, 16)


def test_a_run_starts_from_a_published_checkpoint(tmp_path: Path):
    cifar = {"network_options": {"stem": "cifar"}, "start": "published"}
    source, _ = network("cbam", **cifar)
    torch.save({"state_dict": to_publisher(source, "Jongchan/attention-module")}, tmp_path / "cbam.pth")
    assert any(".cbam.ChannelGate." in key for key in torch.load(tmp_path / "cbam.pth")["state_dict"])
    built, sites = network("cbam", seed=3, **cifar, init=str(tmp_path / "cbam.pth"))
    assert sites == [f"layer{stage}.0.mechanism" for stage in (1, 2, 3)]
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in built.state_dict().items())


def test_a_checkpoint_whose_network_computes_something_else_is_refused(tmp_path: Path):
    options = {"options": {"combine": "product"}, "network_options": {"stem": "cifar"}, "start": "published"}
    torch.save(to_publisher(network("bam", **options)[0], "Jongchan/attention-module"), tmp_path / "bam.pth")
    assert network("bam", init=str(tmp_path / "bam.pth"), **options)
    with pytest.raises(CheckpointError, match=r"bam\.pth was made with combine='product'; the network has 'sum'$"):
        network("bam", init=str(tmp_path / "bam.pth"), **(options | {"options": {}}))


def test_a_mechanism_of_another_width_is_not_half_loaded(tmp_path: Path):
    source = network("se", options={"reduction": 4}, start="published")[0]
    (tmp_path / "se.safetensors").write_bytes(packed(source.state_dict()))
    with pytest.raises(CheckpointError, match=r"does not fit: layer1\.0\.mechanism\.fc1\.bias has \(4,\) where"):
        network("se", options={"reduction": 8}, start="published", init=str(tmp_path / "se.safetensors"))


def test_a_damaged_file_of_a_publisher_is_told_as_such(tmp_path: Path):
    cifar = {"network_options": {"stem": "cifar"}, "start": "published"}
    state = to_publisher(network("cbam", **cifar)[0], "Jongchan/attention-module")
    del state["layer2.0.bn1.weight"]
    torch.save(state, tmp_path / "cbam.pth")
    with pytest.raises(
        CheckpointError, match=r"has keys of Jongchan/attention-module, but layer2\.0\.bn1\.weight is missing"
    ):
        network("cbam", init=str(tmp_path / "cbam.pth"), **cifar)


def test_a_foreign_host_starts_from_its_own_keys(tmp_path: Path):
    source = timm.create_model("resnet10t", num_classes=5)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    built, _ = build_network(RunConfig(network="timm/resnet10t", init=str(tmp_path / "net.pth")), 5, SHAPE)
    assert torch.equal(built.get_parameter("conv1.0.weight"), source.get_parameter("conv1.0.weight"))


def test_weights_that_do_not_fit_are_told():
    host = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    state: dict[str, Tensor] = dict(host.state_dict())
    with pytest.raises(CheckpointError, match=r"a\.pth does not fit: 0\.weight has \(5, 4\) where .* has \(5, 3\)"):
        load_into(host, state | {"0.weight": torch.ones(5, 4)}, "a.pth", ["1"])
    with pytest.raises(CheckpointError, match=r"a\.pth does not fit: of its keys 1 strange, such as 7\.weight"):
        load_into(host, state | {"7.weight": torch.ones(5, 4)}, "a.pth", ["1"])
    del state["0.bias"]
    with pytest.raises(CheckpointError, match=r"a\.pth does not fit: of its keys 1 missing, such as 0\.bias"):
        load_into(host, state, "a.pth", ["1"])


@pytest.mark.slow
def test_published_weights_are_loaded_with_a_new_classifier(monkeypatch: pytest.MonkeyPatch):
    published = {name: torch.full_like(value, 3) for name, value in models.resnet18().state_dict().items()}
    monkeypatch.setattr(hosts, "fetch_published", lambda name: published)
    for name in ("torchvision/resnet18", "resnet18"):  # ours has torchvision's keys
        built, sites = network("eca", name, pretrained=True)
        assert (built.get_parameter("layer4.1.conv2.weight") == 3).all()
        assert built.get_parameter("fc.weight").shape == (5, 512)
        assert sites[0] == "layer1.0.bn2"  # inserted as the identity


def test_weights_that_cannot_be_fetched_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(CheckpointError, match="published weights of resnet18 could not be fetched: Temporary failure"):
        network(name="torchvision/resnet18", pretrained=True)
    with pytest.raises(LookupError, match="no weights are published for resnet_tiny"):
        fetch_published("resnet_tiny")


@pytest.mark.slow
def test_weights_of_timm_that_cannot_be_fetched_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(CheckpointError, match=r"weights of timm/resnet18 could not be fetched: Temporary failure"):
        network(name="timm/resnet18", pretrained=True)


def test_a_network_without_classes_is_no_classifier():
    with pytest.raises(ValueError, match="Sequential has no layer that gives 5 classes; it is no classifier"):
        head_of(nn.Sequential(nn.Linear(3, 4)), 5)


@pytest.mark.parametrize(
    ("network", "options", "frames"),
    [
        ("c2d_tiny", {}, 8),
        ("c2d_resnet50", {}, 32),
        ("i3d_resnet50", {"geometry": "slowfast"}, 8),
        ("c2d_tiny", {"geometry": "paper"}, 32),
    ],
)
def test_a_clip_has_the_frames_that_the_steps_along_time_are_made_for(network, options, frames):
    config = RunConfig(data="mover", network=network, network_options=options)
    assert input_shape(config, open_samples(config, "mover")) == (1, frames, 48, 48)
    asked = RunConfig(data="mover", network=network, network_options=options, frames=11)
    assert input_shape(asked, open_samples(asked, "mover")) == (1, 11, 48, 48)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"options": {"pool": "before"}, "geometry": "frames"}, "pool='before'; the network has 'none'"),
        ({"options": {}, "geometry": "slowfast"}, "geometry='slowfast'; the network has 'frames'"),
    ],
)
def test_clips_that_were_pooled_otherwise_are_no_start(made, sentence, tmp_path: Path):
    source = c2d_tiny(mechanism="nonlocal", in_channels=1, **made)
    save_checkpoint(source, tmp_path / "clips.safetensors")
    config = RunConfig(
        data="mover",
        network="c2d_tiny",
        mechanism="nonlocal",
        start="published",
        init=str(tmp_path / "clips.safetensors"),
    )
    with pytest.raises(CheckpointError, match=rf"clips\.safetensors was made with {sentence}$"):
        build_network(config, 10, (1, 8, 48, 48))


def test_a_run_starts_from_a_run_with_the_same_mechanism(shapes: Path, tmp_path: Path):
    config = RunConfig(data=str(shapes), network="resnet_tiny", mechanism="se", start="identity")
    network = build(config)[0]
    for child in inserted(network).values():
        child.steps.fill_(50)
    (tmp_path / "model.safetensors").write_bytes(packed(network.state_dict()))
    started = build(dataclasses.replace(config, seed=1, init=str(tmp_path / "model.safetensors")))[0]
    assert all(value.equal(network.state_dict()[key]) for key, value in started.state_dict().items())
