"""Networks of runs that detect in volumes: what stands where, and the weights that they start from."""

import dataclasses
import warnings

import pytest
import torch
from tests.tasks.lesions.stacks import preparation
from tests.tasks.lesions.test_preparation import stacks
from torchvision.models import resnet18
from torchvision.models.detection import maskrcnn_resnet50_fpn

from foveate.errors import CheckpointError
from foveate.networks import resnet50
from foveate.networks.published import save_checkpoint
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.network import build_network, learning_modules
from foveate.tasks.lesions.preparation import prepare_for


def tiny(**settings) -> LesionConfig:
    return LesionConfig(data="x", **{"network": "mask_rcnn_tiny"} | settings)


@pytest.mark.slow
def test_the_host_of_a_seed_does_not_depend_on_the_mechanism():
    plain, none = build_network(tiny(), preparation())
    held = plain.state_dict()
    for mechanism in ("volumetric", "eca", "se+spatial"):
        network, sites = build_network(tiny(mechanism=mechanism), preparation())
        names = [site["name"] for site in sites]
        assert names == [f"backbone.attention.{level}" for level in ("0", "1", "2", "3", "pool")]
        assert all(network.state_dict()[name].equal(value) for name, value in held.items())
        assert learning_modules(network, sites) == [*names, *network.head_names]
    assert none == []
    other, _ = build_network(tiny(seed=1), preparation())
    assert not other.state_dict()["backbone.body.conv1.weight"].equal(held["backbone.body.conv1.weight"])


def test_the_volumetric_arm_is_the_published_network():
    arm, _ = build_network(tiny(mechanism="volumetric", bag_stride=3), preparation(bag_stride=3))
    own, _ = build_network(tiny(network="va_mask_rcnn_tiny"), preparation(bag_stride=3))
    assert (arm.bag, arm.bag_stride) == (own.bag, own.bag_stride) == (5, 3)
    assert arm.backbone.attention["0"].fc1.out_features == 16  # pyright: ignore[reportIndexIssue]
    assert [each.shape for each in arm.parameters()] == [each.shape for each in own.parameters()]
    wide, _ = build_network(tiny(mechanism="volumetric", bag=3, options={"reduction": 2}), preparation())
    assert wide.bag == 3
    assert wide.backbone.attention["0"].fc1.out_features == 32  # pyright: ignore[reportIndexIssue]


def test_options_reach_the_network():
    config = tiny(image_size=64, anchor_sizes=[4, 8, 16, 32, 64], network_options={"detector": {"rpn_nms_thresh": 0.6}})
    network, _ = build_network(config, preparation(norm="group", masks=False, classes=["a", "b"], values=[1, 2]))
    assert (network.min_size, network.max_size, network.anchor_sizes) == (64, 64, (4, 8, 16, 32, 64))
    assert (network.rpn.nms_thresh, network.roi_heads.score_thresh) == (0.6, 0.01)
    assert network.roi_heads.box_predictor.cls_score.out_features == 3
    assert not network.roi_heads.has_mask()
    assert any(isinstance(module, torch.nn.GroupNorm) for module in network.modules())
    with pytest.raises(ValueError, match=r"^network_options cannot set bag; the run decides that$"):
        build_network(tiny(network_options={"bag": 3}), preparation())
    with pytest.raises(TypeError, match="has volumetric built in"):
        build_network(tiny(network="va_mask_rcnn_tiny", mechanism="eca"), preparation())
    with pytest.raises(LookupError, match="detr_tiny is there to detect in pictures, not to detect in volumes"):
        build_network(tiny(network="detr_tiny"), preparation())


@pytest.mark.slow
def test_weights_of_coco_fill_all_but_what_gives_classes(tmp_path):
    torch.manual_seed(0)
    whole = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    coco = {name: value for name, value in whole.items() if not name.endswith("num_batches_tracked")}  # as published
    torch.save(coco, tmp_path / "coco.pth")
    config = tiny(network="mask_rcnn_resnet50", mechanism="volumetric", bag=3, init=str(tmp_path / "coco.pth"))
    prepared = prepare_for(config, stacks())
    assert (prepared.norm, prepared.norm_eps) == ("frozen", 0.0)  # as torchvision uses them
    with pytest.warns(UserWarning, match=r"has no weights that fit roi_heads.box_predictor, .*, which starts anew$"):
        network, _ = build_network(config, prepared)
    own = network.state_dict()
    anew = ("roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits")
    kept = [name for name in coco if not name.startswith(anew)]
    assert len(kept) > 300
    assert all(own[name].equal(coco[name]) for name in kept)
    assert own["roi_heads.mask_predictor.mask_fcn_logits.weight"].shape[0] == 2
    again, _ = build_network(config, prepared, start=False)
    again.load_state_dict(own)


@pytest.mark.slow
def test_weights_of_a_resnet_fill_the_body(tmp_path):
    body = resnet50(num_classes=10)
    save_checkpoint(body, tmp_path / "body.safetensors")
    config = tiny(network="mask_rcnn_resnet50", init=str(tmp_path / "body.safetensors"))
    network, _ = build_network(config, prepare_for(config, stacks()))
    assert network.backbone.body.conv1.weight.equal(body.conv1.weight)
    torch.save(resnet18().state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        build_network(tiny(network="mask_rcnn_resnet50", init=str(tmp_path / "other.pth")), preparation(norm="frozen"))


def test_a_network_of_boxes_starts_from_one_with_masks_and_leaves_them(tmp_path):
    made, _ = build_network(tiny(norm="group", seed=3), preparation(norm="group"))
    save_checkpoint(made, tmp_path / "made.safetensors")
    boxes = preparation(norm="group", masks=False)
    left = "has weights for masks, which are left: the data have boxes alone$"
    with pytest.warns(UserWarning, match=f"made.safetensors {left}"):
        network, _ = build_network(tiny(init=str(tmp_path / "made.safetensors")), boxes)
    own = made.state_dict()
    assert not any("mask" in name for name in network.state_dict())
    assert all(value.equal(own[name]) for name, value in network.state_dict().items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_checkpoint(network, tmp_path / "boxes.safetensors")
        build_network(tiny(init=str(tmp_path / "boxes.safetensors")), boxes)
        build_network(tiny(init=str(tmp_path / "made.safetensors")), preparation(norm="group"))


@pytest.mark.slow
def test_the_published_weights_of_coco_start_a_network_of_boxes(monkeypatch):
    coco = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr("foveate.tasks.lesions.network.fetch_published", lambda name: dict(coco))
    config = tiny(network="mask_rcnn_resnet50", pretrained=True)
    prepared = dataclasses.replace(prepare_for(config, stacks()), masks=False)
    with pytest.warns(UserWarning, match="the published maskrcnn_resnet50_fpn has weights for masks, which are left"):
        network, _ = build_network(config, prepared)
    assert network.backbone.body.conv1.weight.equal(coco["backbone.body.conv1.weight"])


def test_a_run_that_goes_on_from_another_keeps_its_normalisation(tmp_path):
    made, _ = build_network(tiny(norm="group"), preparation(norm="group"))
    save_checkpoint(made, tmp_path / "made.safetensors")
    config = tiny(init=str(tmp_path / "made.safetensors"))
    prepared = prepare_for(config, stacks())
    assert prepared.norm == "group"
    network, _ = build_network(config, prepared)
    assert all(value.equal(made.state_dict()[name]) for name, value in network.state_dict().items())
    assert prepare_for(tiny(), stacks()).norm == "batch"


def test_weights_are_published_for_the_usual_bodies_only():
    with pytest.raises(ValueError, match=r"^no weights are published for the backbone of mask_rcnn_tiny"):
        build_network(tiny(pretrained=True), preparation(norm="frozen"))


@pytest.mark.parametrize("mechanism", ["volumetric", "se"])
def test_in_a_trained_network_attention_begins_as_the_identity(tmp_path, mechanism):
    host, _ = build_network(tiny(), preparation())
    path = tmp_path / "host.safetensors"
    save_checkpoint(host, path)
    images = torch.randn(1, 5 if mechanism == "volumetric" else 1, 3, 64, 64)
    network, _ = build_network(tiny(mechanism=mechanism, init=str(path)), preparation())
    network.load_state_dict(host.state_dict(), strict=False)
    plain = host.eval().backbone(images[:, images.shape[1] // 2 :][:, :1], 0, True)
    levels = network.eval().backbone(images, images.shape[1] // 2, True)
    torch.testing.assert_close(
        levels, plain, rtol=1e-3, atol=1e-4
    )  # slices of a bag are convolved together, in other last bits
    published, _ = build_network(tiny(mechanism=mechanism, init=str(path), start="published"), preparation())
    assert not any(".blend." in key for key in published.state_dict())
