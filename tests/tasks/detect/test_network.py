"""The network of a run: where its weights come from, where its mechanism goes, what of it learns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.detect.conftest import OPTIONS
from torch import Tensor, nn
from torchvision import models

from foveate import save_checkpoint, to_publisher
from foveate.errors import CheckpointError
from foveate.networks import DETR, detr_resnet50, detr_tiny, resnet50
from foveate.networks.detr_backbone import FrozenBatchNorm2d
from foveate.tasks.detect import network as building
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.criterion import judge
from foveate.tasks.detect.module import Detector
from foveate.tasks.detect.network import build_network, learning_modules, mechanism_modules
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.detect.targets import Target
from foveate.tasks.resume import Standing

PREPARED = Preparation(["square", "disc"], [3, 11], [], 32, 53, 7, False)
EIGHT_HEADS = OPTIONS | {"embed_dim": 32, "num_heads": 8}
SMALL = {"width": 0.125, **EIGHT_HEADS}
PICTURES = torch.randn(2, 3, 35, 50, generator=torch.Generator().manual_seed(1))


def built(masks: bool = False, queries: int = 7, **settings: Any) -> tuple[DETR, list[dict[str, Any]], DetectConfig]:
    prepared = Preparation(["square", "disc"], [3, 11], [], 32, 53, queries, masks)
    usual = {"data": "data", "network": "detr_tiny", "width": 0.25, "network_options": OPTIONS, "masks": masks}
    config = DetectConfig(**(usual | settings))
    return *build_network(config, prepared), config


def weights(**settings: Any) -> dict[str, Tensor]:
    return built(**settings)[0].state_dict()


def resnet_run(**settings: Any) -> tuple[DETR, list[dict[str, Any]], DetectConfig]:
    return built(**{"network": "detr_resnet50", "width": 0.125, "network_options": EIGHT_HEADS, **settings})


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], beside: tuple[str, ...] = ()) -> bool:
    """Whether all that one holds is the same in the other, but for what begins with one of the names."""
    return all(torch.equal(value, other[key]) for key, value in one.items() if not key.startswith(beside or "\n"))


def shaken(network: nn.Module) -> nn.Module:
    """With running statistics and norms as training would leave them, none of them trivial."""
    for value in network.state_dict().values():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5)
    return network


def learner(network: DETR, sites: list[dict[str, Any]], config: DetectConfig) -> Detector:
    new = learning_modules(config, sites)
    return Detector(network, PREPARED, config, new, 5, Standing(), [])  # pyright: ignore[reportArgumentType]


def optimizer_of(network: DETR, sites: list[dict[str, Any]], config: DetectConfig) -> torch.optim.Optimizer:
    return learner(network, sites, config).configure_optimizers()


def three_steps(network: DETR, optimizer: torch.optim.Optimizer, masks: bool = False) -> None:
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.3]])
    held = torch.zeros(1, 35, 50, dtype=torch.bool)
    held[:, 9:19, 10:20] = True
    target = Target(torch.tensor([1]), boxes, held if masks else None)
    for _ in range(3):
        optimizer.zero_grad()
        judge(network(PICTURES), [target, target]).loss.backward()
        optimizer.step()


def test_the_seed_decides_the_weights():
    one = weights(seed=3)
    torch.manual_seed(17)  # what happened before must not matter
    state = torch.get_rng_state()
    assert same(one, weights(seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(one, weights(seed=5))


@pytest.mark.parametrize("mechanism", ["se", "cbam", "nonlocal", "eca+spatial"])
def test_the_hosts_weights_do_not_depend_on_the_mechanism(mechanism: str):
    none = weights(masks=True)
    for start in ("published", "identity"):
        host = weights(masks=True, mechanism=mechanism, start=start)
        assert same(none, host)
        assert len(host) > len(none)


@pytest.mark.parametrize("frozen", [False, True])
def test_as_the_identity_a_mechanism_changes_no_bit_of_the_answer(frozen: bool):
    host = built(frozen=frozen)[0].eval()(PICTURES)
    network, sites, config = built(mechanism="cbam", start="identity", frozen=frozen)
    assert [site["name"] for site in sites] == [f"backbone.layer{stage}.0.bn2" for stage in (1, 2, 3)]
    assert [site["channels"] for site in sites] == [8, 16, 32]
    assert mechanism_modules(config, sites) == [f"{site['name']}.inserted" for site in sites]
    found = network.eval()(PICTURES)
    assert all(torch.equal(found[key], host[key]) for key in host)
    for name in mechanism_modules(config, sites):
        network.get_submodule(name).get_parameter("alpha").data.fill_(0.5)
    assert not torch.equal(network(PICTURES)["pred_boxes"], host["pred_boxes"])


def test_a_pattern_says_where_in_the_backbone():
    _, sites, config = built(mechanism="se", where="layer2.*")
    assert [site["name"] for site in sites] == ["backbone.layer2.0"]
    assert mechanism_modules(config, sites) == ["backbone.layer2.0.inserted"]
    with pytest.raises(LookupError, match=r"layer7\.\*"):
        built(mechanism="se", where="layer7.*")


@pytest.mark.parametrize("mechanism", ["se", "bam", "nonlocal"])
def test_built_in_a_mechanism_works_from_the_start(mechanism: str):
    network, sites, config = built(mechanism=mechanism)
    names = mechanism_modules(config, sites)
    assert names
    assert names == [site["name"] for site in sites]
    assert all(isinstance(network.get_submodule(name), nn.Module) and ".mechanism" in name for name in names)
    if mechanism != "nonlocal":  # which starts as the identity, as published
        host = built()[0].eval()(PICTURES)
        assert not torch.equal(network.eval()(PICTURES)["pred_boxes"], host["pred_boxes"])


def test_from_random_weights_normalisations_measure_unless_they_are_frozen():
    assert type(built()[0].get_submodule("backbone.bn1")) is nn.BatchNorm2d
    assert type(built(frozen=True)[0].get_submodule("backbone.bn1")) is FrozenBatchNorm2d


def test_options_reach_the_mechanism_and_the_network():
    network, _, _ = built(mechanism="se", options={"reduction": 2}, network_options=OPTIONS | {"pre_norm": True})
    assert network.get_submodule("backbone.layer3.0.mechanism").get_parameter("fc1.weight").shape[0] == 16
    assert "encoder.norm.weight" in network.state_dict()
    with pytest.raises(TypeError, match='SE has no option "kernel"'):
        built(mechanism="se", options={"kernel": 4})
    with pytest.raises(TypeError, match='detr_tiny has no option "stem"'):
        built(network_options={"stem": "cifar"})


@pytest.mark.parametrize("name", ["num_classes", "num_queries", "panoptic", "frozen", "mechanism", "options", "width"])
def test_what_the_run_decides_is_no_option_of_the_network(name: str):
    with pytest.raises(ValueError, match=f"^network_options cannot set {name}; the run decides that$"):
        built(network_options={name: 3})


def test_a_network_of_another_task_is_refused():
    with pytest.raises(LookupError, match="unet is there to segment, not to detect"):
        built(network="unet")


# Weights from elsewhere.


def test_a_run_starts_from_another(tmp_path: Path):
    other = shaken(built(seed=7, frozen=True)[0])
    save_checkpoint(other, tmp_path / "model.safetensors")
    assert same(weights(init=str(tmp_path / "model.safetensors")), other.state_dict())


def test_other_classes_and_queries_start_anew_and_are_told(tmp_path: Path):
    path = tmp_path / "coco.safetensors"
    coco = shaken(detr_tiny(num_classes=5, num_queries=11, width=0.25, frozen=True, **OPTIONS))
    save_checkpoint(coco, path)
    with pytest.warns(
        UserWarning, match=r"coco\.safetensors has no weights that fit class_embed, query_embed, which starts anew$"
    ):
        started = weights(init=str(path))
    fresh = weights(frozen=True)
    anew = {key: value for key, value in started.items() if key.startswith(("class_embed.", "query_embed."))}
    assert len(anew) == 3
    assert same(anew, fresh)
    assert same({key: started[key] for key in started.keys() - anew.keys()}, coco.state_dict())
    with pytest.warns(UserWarning, match="has no weights that fit class_embed, which starts anew$"):
        started = weights(init=str(path), queries=11)
    assert torch.equal(started["query_embed.weight"], coco.state_dict()["query_embed.weight"])


@pytest.mark.parametrize("masks", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_starts_from_a_checkpoint_of_the_release(tmp_path: Path, masks: bool):
    released = shaken(detr_resnet50(num_classes=91, num_queries=7, panoptic=masks, **SMALL))
    torch.save({"model": to_publisher(released, "facebookresearch/detr"), "epoch": 299}, tmp_path / "detr-r50.pth")
    with pytest.warns(UserWarning, match=r"detr-r50\.pth has no weights that fit class_embed, which starts anew$"):
        network = resnet_run(init=str(tmp_path / "detr-r50.pth"), masks=masks)[0]
    assert same(network.state_dict(), released.state_dict(), ("class_embed",))
    assert isinstance(network.get_submodule("backbone.bn1"), FrozenBatchNorm2d)


@pytest.mark.slow
def test_masks_are_new_where_a_checkpoint_has_none_and_so_is_a_mechanism(tmp_path: Path):
    released = shaken(detr_resnet50(num_classes=2, num_queries=7, **SMALL))
    torch.save(to_publisher(released, "facebookresearch/detr"), tmp_path / "detr.pth")
    settings = {"init": str(tmp_path / "detr.pth"), "masks": True, "mechanism": "se"}
    network, sites, config = resnet_run(**settings)
    fresh = resnet_run(masks=True, mechanism="se", frozen=True, start="identity")[0].state_dict()
    held = released.state_dict()
    new = {key: value for key, value in network.state_dict().items() if key not in held}
    assert same(new, fresh)
    assert {key.split(".")[0] for key in new} == {"backbone", "mask_attention", "mask_head"}
    assert same(held, network.state_dict())
    assert learning_modules(config, sites) == [*mechanism_modules(config, sites), "mask_attention", "mask_head"]


def test_a_resnet_becomes_the_backbone(tmp_path: Path):
    path = tmp_path / "resnet.safetensors"
    classifier = shaken(resnet50(num_classes=13, width=0.125))
    save_checkpoint(classifier, path)
    network = resnet_run(init=str(path))[0]
    held = {f"backbone.{key}": value for key, value in classifier.state_dict().items() if not key.startswith("fc.")}
    assert any(key.endswith("num_batches_tracked") for key in held)  # which norms that are frozen do not have
    held = {key: value for key, value in held.items() if not key.endswith("num_batches_tracked")}
    assert same(held, network.state_dict())
    fresh = resnet_run(frozen=True)[0].state_dict()
    assert same({key: fresh[key] for key in fresh.keys() - held.keys()}, network.state_dict())


def test_a_resnet_that_computes_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "resnet.safetensors"
    save_checkpoint(resnet50(num_classes=13, width=0.125, stride_in="1x1"), path)
    with pytest.raises(
        CheckpointError, match=r"resnet\.safetensors was made with stride_in='1x1'; the network has '3x"
    ):
        resnet_run(init=str(path))
    save_checkpoint(resnet50(num_classes=13, width=0.25), path)
    with pytest.raises(CheckpointError, match=r"does not fit: backbone\.conv1\.weight has \(16, .* network has \(8,"):
        resnet_run(init=str(path))


def test_a_resnet_that_is_damaged_is_told_as_it_is(tmp_path: Path):
    path, state = tmp_path / "resnet50.pth", models.resnet50(num_classes=3, width_per_group=8).state_dict()
    del state["layer2.1.bn2.running_var"]
    torch.save(state, path)
    with pytest.raises(
        CheckpointError, match=r"resnet50\.pth has keys of torchvision, but .*layer2\.1\.bn2\.running_var"
    ):
        resnet_run(init=str(path))


def test_a_detector_that_computes_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "detr.safetensors"
    save_checkpoint(built(network_options=OPTIONS | {"num_heads": 4})[0], path)
    with pytest.raises(CheckpointError, match=r"detr\.safetensors was made with num_heads=4; the network has 2$"):
        built(init=str(path))
    save_checkpoint(built(network_options=OPTIONS | {"decoder_layers": 3})[0], path)
    with pytest.raises(CheckpointError, match=r"does not fit: of its keys .* strange, such as decoder\.layers\.2\."):
        built(init=str(path))
    masks = built(masks=True, network_options=OPTIONS | {"embed_dim": 64, "num_heads": 8})[0]
    save_checkpoint(masks, path)
    with pytest.raises(CheckpointError, match=r"has a head for masks, which a run has with masks=true$"):
        built(init=str(path), network_options=OPTIONS | {"embed_dim": 64, "num_heads": 8})
    with pytest.raises(CheckpointError, match=r"absent\.pth does not exist"):
        built(init=str(tmp_path / "absent.pth"))


@pytest.mark.slow
def test_a_published_backbone_fills_all_of_it_but_the_classifier(monkeypatch: pytest.MonkeyPatch):
    host = shaken(models.resnet50()).state_dict()
    monkeypatch.setattr(building, "fetch_published", lambda name, version: host)
    network = resnet_run(pretrained=True, width=1.0)[0]
    held = {f"backbone.{key}": value for key, value in host.items() if not key.startswith("fc.")}
    held = {key: value for key, value in held.items() if not key.endswith("num_batches_tracked")}
    assert same(held, network.state_dict())
    assert len(held) == sum(key.startswith("backbone.") for key in network.state_dict())


@pytest.mark.parametrize(("network", "name"), [("detr_resnet50", "resnet50"), ("detr_resnet101_dc5", "resnet101")])
def test_each_network_asks_for_its_own_backbone(monkeypatch: pytest.MonkeyPatch, network: str, name: str):
    class Asked(Exception):
        pass

    def fetched(*asked: str) -> None:
        raise Asked(*asked)

    monkeypatch.setattr(building, "fetch_published", fetched)
    config = DetectConfig(data="data", network=network, pretrained=True, network_options=EIGHT_HEADS)
    with torch.device("meta"), pytest.raises(Asked) as asked:
        build_network(config, PREPARED)
    assert asked.value.args == (name, "IMAGENET1K_V1")


@pytest.mark.parametrize("settings", [{"network": "detr_tiny"}, {"network": "detr_resnet50", "width": 0.5}])
def test_a_backbone_that_nobody_published_is_a_sentence(settings: dict[str, Any]):
    told = f"^no weights are published for the backbone of {settings['network']}: {{'block': "
    with torch.device("meta"), pytest.raises(ValueError, match=told):
        built(pretrained=True, **settings)


# What learns.


@pytest.mark.parametrize("start", [{"mechanism": "none"}, {"mechanism": "cbam", "start": "identity"}])
def test_frozen_normalisations_keep_every_bit_in_training(start: dict[str, Any]):
    network, sites, config = resnet_run(frozen=True, learning_rate=0.01, **start)
    shaken(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    three_steps(network.train(), optimizer_of(network, sites, config))
    after = network.state_dict()
    norms = {
        f"{name}.{key}"
        for name, module in network.named_modules()
        if isinstance(module, FrozenBatchNorm2d)
        for key, _ in module.named_buffers(recurse=False)
    }
    assert len(norms) == 4 * 53
    assert all(torch.equal(before[key], after[key]) for key in norms)
    kept = {key for key in before if torch.equal(before[key], after[key])}
    assert {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight"} < kept
    assert not {"backbone.layer2.0.conv1.weight", "backbone.layer4.2.conv3.weight", "query_embed.weight"} & kept
    if start["mechanism"] != "none":
        assert not any(name.endswith("alpha") for name in kept)  # the mechanism learns where its host does not


def test_every_parameter_learns_at_one_of_two_rates():
    network, sites, config = resnet_run(frozen=True, learning_rate=3e-4, backbone_learning_rate=7e-6, mechanism="se")
    groups = optimizer_of(network, sites, config).param_groups
    names = {parameter: name for name, parameter in network.named_parameters() if parameter.requires_grad}
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held)) == len(names)
    assert set(held) == set(names)
    for group in groups:
        for parameter in group["params"]:
            host = names[parameter].startswith("backbone.") and ".mechanism." not in names[parameter]
            assert group["full_lr"] == (7e-6 if host else 3e-4)
            assert group["weight_decay"] == (1e-4 if parameter.ndim > 1 else 0)


def test_a_fine_tuned_resnet50_trains_as_many_parameters_as_the_release():
    config = DetectConfig(data="data", frozen=True)
    prepared = Preparation([str(number) for number in range(91)], list(range(91)), [], 800, 1333, 100, False)
    with torch.device("meta"):
        network, sites = build_network(config, prepared)
    held = [parameter for group in optimizer_of(network, sites, config).param_groups for parameter in group["params"]]
    assert sum(parameter.numel() for parameter in held) == 41_302_368


def test_without_a_rate_the_backbone_stays_as_it_is():
    settings = {"frozen": True, "backbone_learning_rate": 0.0, "mechanism": "se", "learning_rate": 0.01}
    network, sites, config = resnet_run(**settings)
    shaken(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    three_steps(network.train(), optimizer_of(network, sites, config))
    for key, value in network.state_dict().items():
        if key.startswith("backbone.") and ".mechanism." not in key:
            assert torch.equal(value, before[key]), key
    assert not torch.equal(network.state_dict()["class_embed.weight"], before["class_embed.weight"])
    assert not torch.equal(network.state_dict()["input_proj.weight"], before["input_proj.weight"])
    gate = "backbone.layer4.0.mechanism.fc1.weight"
    assert not torch.equal(network.state_dict()[gate], before[gate])


@pytest.mark.parametrize(
    ("masks", "mechanism", "learns"),
    [
        (True, "none", {"mask_attention", "mask_head"}),
        (False, "none", {"class_embed"}),
        (False, "se", {"class_embed", "backbone"}),
    ],
)
def test_what_was_inserted_can_learn_alone(masks: bool, mechanism: str, learns: set[str]):
    settings = {"train_only": "inserted", "mechanism": mechanism, "start": "identity", "learning_rate": 0.01}
    network, sites, config = built(masks=masks, **settings)
    learning = learner(network, sites, config)
    optimizer = learning.configure_optimizers()
    learning.on_train_epoch_start()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    three_steps(network, optimizer, masks)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in changed} == learns
    assert all(".inserted." in key for key in changed if key.startswith("backbone."))
