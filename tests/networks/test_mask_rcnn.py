"""Mask R-CNN of slices: torchvision's numbers, what attention sees of a bag, volumes slice by slice, refusals."""

import weakref

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d as FrozenBatchNorm

from foveate import capture, edit, export, from_checkpoint, profile, save_checkpoint, to_publisher
from foveate.compare.cost import count_macs
from foveate.errors import CheckpointError
from foveate.layers import VolumetricAttention
from foveate.networks import (
    MaskRCNN,
    bag_slices,
    catalogue,
    mask_rcnn_resnet50,
    mask_rcnn_tiny,
    stack_slices,
    va_mask_rcnn_resnet50,
    va_mask_rcnn_resnet101,
    va_mask_rcnn_tiny,
)
from foveate.networks.detr_backbone import FrozenBatchNorm2d
from foveate.networks.published import inspect

HOST = {"block": "basic", "depths": (1, 1, 1, 1), "base_width": 8}
FEW = {"rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 10, "box_batch_size_per_image": 8}
SIZES = {"fpn_channels": 16, "head_channels": 24, "mask_channels": (8,), "min_size": 64, "max_size": 64}
VA = {"mechanism": "volumetric", "options": {"reduction": 2, "kernel_size": 3}, "bag": 3}
COCO_KEYS = {"anchor_sizes", "min_size", "max_size", "norm", "norm_eps"}


def small(**options):
    """A small network in double precision and evaluation, which keeps whatever it finds."""
    torch.manual_seed(0)
    detector = FEW | {"box_score_thresh": 0.0, "box_detections_per_img": 5}
    return MaskRCNN(HOST, **{**SIZES, "detector": detector, **options}).double().eval()


def volume(depth=6, height=64, width=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return stack_slices(torch.rand(depth, height, width, generator=generator, dtype=torch.float64))


def bags(count=2, bag=3, seed=1):
    return list(volume(count * bag, seed=seed).unflatten(0, (count, bag)))


def target(*boxes):
    """Boxes, and masks that fill them."""
    masks = torch.zeros(len(boxes), 64, 64, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.ones(len(boxes), dtype=torch.long)
    return {"boxes": torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), "labels": labels, "masks": masks}


def same(found, expected, keys=("boxes", "labels", "scores", "masks")):
    assert found.keys() == expected.keys() == set(keys)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-9, atol=1e-9)


def pyramids(network, call):
    """What the regions and heads read while something is called, a dict for each time."""
    seen = []
    with network.rpn.register_forward_pre_hook(lambda module, given: seen.append(given[1])):
        call()
    return seen


def test_every_slice_gets_boxes_classes_scores_and_masks():
    network = small(**VA)
    answers = network(bags())
    assert len(answers) == 2
    for answer in answers:
        count = len(answer["boxes"])
        assert 0 < count <= 5
        shapes = {key: tuple(value.shape) for key, value in answer.items()}
        assert shapes == {"boxes": (count, 4), "labels": (count,), "scores": (count,), "masks": (count, 1, 64, 64)}
        assert (answer["labels"] == 1).all()
        assert ((answer["masks"] >= 0) & (answer["masks"] <= 1)).all()


def test_a_step_of_training_reaches_every_parameter_beside_a_slice_without_objects():
    network = small(**VA).train()
    images, targets = bags(), [target((8, 8, 24, 20), (30, 30, 52, 60)), target()]
    before = [{key: value.clone() for key, value in each.items()} for each in targets]
    losses = network(images, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    dead = {name for name, parameter in network.named_parameters() if not parameter.grad.any()}
    assert dead == set()
    assert all(each[key].equal(old[key]) for each, old in zip(targets, before, strict=True) for key in old)


def test_training_on_slices_without_any_object_is_finite():
    network = small(**VA).train()
    losses = network(bags(), [target(), target()])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def test_the_targets_of_the_caller_stay_as_they_are_where_pictures_are_resized():
    given = target((8, 8, 24, 20))
    network = small(min_size=32, max_size=32).train()
    seen = []
    network.rpn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2][0]["boxes"]))
    network(volume(2), [given, target()])
    assert seen[0].tolist() == [[4, 4, 12, 10]]
    assert given["boxes"].tolist() == [[8, 8, 24, 20]]
    assert given["masks"].shape == (1, 64, 64)


@pytest.mark.slow
def test_it_learns_a_lesion_by_heart():
    torch.manual_seed(0)
    network = va_mask_rcnn_tiny(bag=3, norm="group").train()
    images, targets = [image.float() for image in bags()], [target((8, 8, 24, 20)), target((30, 30, 52, 60))]
    for image, each in zip(images, targets, strict=True):
        x1, y1, x2, y2 = each["boxes"][0].int().tolist()
        image[:, :, y1:y2, x1:x2] += 0.8
        each["boxes"] = each["boxes"].float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        sum(network(images, targets).values()).backward()
        optimizer.step()
    for answer, each in zip(network.eval()(images), targets, strict=True):
        assert answer["scores"][0] > 0.5
        torch.testing.assert_close(answer["boxes"][0], each["boxes"][0], atol=4.0, rtol=0)


def test_the_bag_is_seen_and_its_order_is_not():
    network, (bag, _) = small(**VA), bags()
    base, changed, turned = bag.clone(), bag.clone(), bag.flip(0)
    changed[0] = volume(seed=9)[0]
    seen = pyramids(network, lambda: [network([each]) for each in (base, changed, turned)])
    for level in ("0", "1", "2", "3", "pool"):
        plain, other, reversed_ = (each[level] for each in seen)
        assert not torch.allclose(plain, other, atol=1e-6)
        torch.testing.assert_close(plain, reversed_, rtol=1e-9, atol=1e-9)


def gradients(network, images, place=1):
    """The levels that the regions read, the gradients of the weights before them, and those of the pictures."""
    images = torch.stack(images).requires_grad_()
    levels = network.backbone(images, place, network.include_target)
    loss = sum(level.square().sum() for level in levels.values())
    weights = {name: each for name, each in network.backbone.named_parameters() if each.requires_grad}
    found = torch.autograd.grad(loss, [images, *weights.values()])
    return levels, dict(zip(weights, found[1:], strict=True)), found[0]


def jointly(network, images, place=1):
    """The same by the whole bag in one pass, with its gradients."""
    pyramid, flat = network.backbone, torch.stack(images).flatten(0, 1)
    whole = {name: x.unflatten(0, (len(images), -1)) for name, x in pyramid.features(flat).items()}
    bag = whole
    if not network.include_target:
        bag = {name: torch.cat([x[:, :place], x[:, place + 1 :]], dim=1) for name, x in whole.items()}
    levels = pyramid.attend({name: x[:, place] for name, x in whole.items()}, pyramid.embed(bag))
    weights = dict(pyramid.named_parameters())
    loss = sum(level.square().sum() for level in levels.values())
    return levels, dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("include_target", [True, False])
def test_a_detached_bag_is_read_without_a_gradient_and_to_the_same_numbers(place, include_target):
    options = VA | {"options": {"reduction": 2, "kernel_size": 3, "detach": True}}
    network = small(**options, norm="group", include_target=include_target).train()
    read = []
    network.backbone.body.register_forward_hook(
        lambda module, given, x: read.append((len(given[0]), torch.is_grad_enabled()))
    )
    levels, weights, images = gradients(network, bags(), place)
    assert read == [(2, True), (4, False)]
    expected = jointly(network, bags(), place)
    for name, level in expected[0].items():
        torch.testing.assert_close(levels[name], level, rtol=1e-9, atol=1e-9)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(weights[name], gradient, rtol=1e-9, atol=1e-9)
    with capture(network) as maps:
        network.backbone(torch.stack(bags()), place, include_target)
    with capture(network) as wanted:
        jointly(network, bags(), place)
    for name in wanted:
        torch.testing.assert_close(maps[name], wanted[name], rtol=1e-9, atol=1e-9)
    assert [bool(images[:, index].any()) for index in range(3)] == [index == place for index in range(3)]


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("norm", ["group", "frozen", "batch"])
def test_a_gradient_reaches_the_other_slices_as_the_option_says_or_by_batch_statistics(norm, detach):
    options = VA | {"options": {"reduction": 2, "kernel_size": 3, "detach": detach}}
    network = small(**options, norm=norm).train()
    for index in (0, 2):
        assert gradients(network, bags())[2][:, index].any() == (not detach or norm == "batch")
    evaluated = gradients(network.eval(), bags())[2]
    assert evaluated[:, [0, 2]].any() == (not detach)


def test_the_weights_of_real_features_are_not_those_of_one_slice():
    network = small(**VA)
    with capture(network) as maps:
        network(bags())
    weights = [maps[name] for name in maps if name.endswith("_weights")]
    assert len(weights) == 10
    for each in weights:
        entropy = -(each * each.log()).sum(dim=1) / torch.tensor(3.0).log()
        assert (entropy > 0.5).all()


def test_equal_slices_have_equal_weights_in_every_level():
    network, bag = small(**VA), bags(1)[0]
    with capture(network) as maps:
        network([bag[[1, 1, 1]]])
    for name in maps:
        if name.endswith("_weights"):
            torch.testing.assert_close(maps[name], torch.full((1, 3), 1 / 3, dtype=torch.float64))


def test_a_bag_stays_in_its_volume_with_its_own_slice_in_its_place():
    for depth in (1, 2, 7):
        for bag in (1, 3, 4, 9):
            for stride in (1, 2, 5):
                for index in range(depth):
                    chosen = bag_slices(index, depth, bag, stride)
                    assert len(chosen) == bag
                    assert chosen[bag // 2] == index
                    assert 0 <= min(chosen) <= max(chosen) < depth
                    reversed_ = [depth - 1 - each for each in bag_slices(depth - 1 - index, depth, bag, stride)]
                    assert bag % 2 == 0 or chosen == reversed_[::-1]


def test_a_volume_turned_round_is_answered_the_other_way_round():
    network, slices = small(**VA), volume(5)
    answers = list(network.detect(slices))
    for found, expected in zip(network.detect(slices.flip(0)), answers[::-1], strict=True):
        same(found, expected)


def test_what_is_made_as_a_function_can_have_its_target_left_out_of_the_bag():
    def build(channels):
        return VolumetricAttention(channels, 2, add_target=True)

    network = small(mechanism=build, bag=3, include_target=False)
    with capture(network) as maps:
        network(bags())
    assert maps["backbone.attention.0.channel_weights"].shape == (2, 3)
    with pytest.raises(ValueError, match=r"^add_target=True puts the target into a bag without it: with"):
        small(mechanism=build, bag=3)


def test_a_bag_turned_round_has_its_target_at_the_other_end():
    network, (bag, _) = small(**VA), bags()
    same(network([bag.flip(0)], place=2)[0], network([bag], place=0)[0])
    seen = pyramids(network, lambda: (network([bag], place=0), network([bag], place=2)))
    assert not torch.allclose(seen[0]["0"], seen[1]["0"], atol=1e-6)


def test_the_target_can_be_left_out_of_its_bag():
    network, (bag, _) = small(**VA, include_target=False), bags()
    with capture(network) as maps:
        network([bag])
    assert maps["backbone.attention.0.channel_weights"].shape == (1, 2)
    inside = small(**VA)
    inside.load_state_dict(network.state_dict())
    embedded = []
    handles = [
        each.backbone.attention["0"].fc2.register_forward_hook(lambda module, given, x: embedded.append(x))
        for each in (network, inside)
    ]
    network([bag])
    inside([bag])
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(embedded[0], embedded[2][[0, 2]], rtol=1e-9, atol=1e-9)


def test_without_attention_it_is_the_plain_network_whatever_the_bag():
    plain, bag = small(), bags(1)[0]
    gated = small(**VA)
    state = gated.state_dict()
    assert {key for key in state if ".attention." not in key} == set(plain.state_dict())
    assert all(value.equal(state[key]) for key, value in plain.state_dict().items())  # one seed, one host
    expected = plain([bag[1]])[0]
    same(small(bag=3)([bag])[0], expected)  # a bag that nothing looks at
    with edit(gated, {"backbone.attention.**_gate": 1.0}):
        same(gated([bag])[0], expected)
    assert capture_is_refused(plain)


def capture_is_refused(network):
    with pytest.raises(LookupError, match="has no taps"), capture(network):
        pass
    return True


@pytest.mark.parametrize(
    ("mechanism", "options"), [("se", {"reduction": 2}), ("eca+spatial", None), (lambda channels: nn.Identity(), None)]
)
def test_another_mechanism_stands_in_its_place_and_sees_the_target_alone(mechanism, options):
    network, (bag, _) = small(mechanism=mechanism, options=options, bag=3), bags()
    alone, other = small(mechanism=mechanism, options=options), bag.clone()
    other[0] = 0
    expected = alone([bag[1]])[0]
    same(network([bag])[0], expected)
    same(network([other])[0], expected)
    assert list(network.sites) == [f"backbone.attention.{level}" for level in ("0", "1", "2", "3", "pool")]


def test_levels_can_be_chosen_and_shared():
    network = small(**VA, levels=("0", "pool"))
    assert network.sites == {"backbone.attention.0": 16, "backbone.attention.pool": 16}
    seen = pyramids(network, lambda: network(bags()))[0]
    plain = small(bag=3)
    plain.load_state_dict(network.state_dict(), strict=False)
    host = pyramids(plain, lambda: plain(bags()))[0]
    equal = [level for level in seen if torch.allclose(seen[level], host[level], rtol=1e-9, atol=1e-9)]
    assert equal == ["1", "2", "3"]
    shared = small(**VA, shared=True)
    assert shared.sites == {"backbone.attention.shared": 16}
    with capture(shared) as maps:
        shared(bags())
    assert [len(call[0]) for call in maps.calls("backbone.attention.shared.spatial_gate")] == [16, 8, 4, 2, 1]


def test_every_map_of_every_level_is_captured():
    network = small(**VA)
    with capture(network) as maps:
        network(bags())
    shapes = {name.removeprefix("backbone.attention.1."): tuple(x.shape) for name, x in maps.items() if ".1." in name}
    assert shapes == {
        "channel_weights": (2, 3),
        "channel_gate": (2, 16),
        "spatial_weights": (2, 3),
        "spatial_gate": (2, 8, 8),
    }
    assert len(maps) == 5 * 4


@pytest.mark.parametrize(
    "options",
    [VA, VA | {"bag_stride": 2}, VA | {"include_target": False}, VA | {"bag": 4}, {"mechanism": "se", "bag": 3}, {}],
    ids=["bag of 3", "every second slice", "target left out", "bag of 4", "another mechanism", "plain"],
)
def test_a_volume_read_once_gives_what_every_bag_read_anew_gives(options):
    network, slices = small(**options), volume(7)
    found = []
    once = pyramids(network, lambda: found.extend(network.detect(slices)))

    def bag_of(index):
        chosen = bag_slices(index, 7, network.bag, network.bag_stride)
        return slices[chosen] if network.bag > 1 else slices[index]

    expected = []
    with torch.no_grad():
        anew = pyramids(network, lambda: expected.extend(network([bag_of(index)])[0] for index in range(7)))
    for first, second in zip(once, anew, strict=True):
        for level in second:
            torch.testing.assert_close(first[level], second[level], rtol=1e-9, atol=1e-9)
    for answer, wanted in zip(found, expected, strict=True):
        same(answer, wanted)
        assert not answer["boxes"].requires_grad


def test_slices_are_answered_in_their_own_size_whatever_they_are_resized_to():
    network, slices = small(**VA, min_size=60, max_size=100), volume(3, 40, 56)
    for index, found in enumerate(network.detect(slices)):
        assert found["masks"].shape[2:] == (40, 56)
        same(found, network([slices[bag_slices(index, 3, 3)]])[0])


def test_a_volume_is_read_slice_by_slice_as_far_as_its_bags_reach():
    network, slices, read = small(**VA, bag_stride=2), volume(9), []
    network.backbone.body.register_forward_hook(lambda module, given, x: read.append(len(given[0])))
    answers = network.detect(slices)
    assert read == []
    counts = []
    for _ in answers:
        counts.append(len(read))
    assert counts == [2, 4, 5, 6, 7, 8, 9, 9, 9]  # 0 and 2; 1 and 3; then one slice each
    assert set(read) == {1}


def test_what_is_held_of_a_volume_is_what_its_bags_span():
    network, features, embedded = small(**VA), [], []
    network.backbone.fpn.register_forward_hook(lambda module, given, x: features.append(weakref.ref(x["0"])))
    embed = network.backbone.attention["0"].embed

    def follow(bag):
        found = embed(bag)
        embedded.append(weakref.ref(found.spatial))
        return found

    network.backbone.attention["0"].embed = follow
    levels = network.read_volume(volume(12))
    for _ in range(6):
        next(levels)

    def alive(references):
        return [index for index, reference in enumerate(references) if reference() is not None]

    assert alive(embedded) == [5, 6]  # the next bag has 7 too
    assert alive(features) == [6]


class Reader:
    """Slices that are made when they are asked for: which were asked for, and how many there are at a time."""

    def __init__(self, slices):
        self.slices, self.asked, self.alive, self.most = slices, [], 0, 0

    def __len__(self):
        return len(self.slices)

    def __getitem__(self, index):
        made = self.slices[index].clone()
        self.asked.append(index)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(made.untyped_storage(), self.forget)
        return made

    def forget(self):
        self.alive -= 1


@pytest.mark.parametrize("options", [VA | {"bag_stride": 2}, {}, {"mechanism": "se", "bag": 3}])
def test_a_reader_of_slices_is_asked_once_for_each_and_one_slice_is_there_at_a_time(options):
    network, slices = small(**options), volume(7)
    for call in (network.detect, network.read_volume):
        reader = Reader(slices)
        for found, expected in zip(call(reader), call(slices), strict=True):
            assert reader.alive == 0
            assert all(found[key].equal(expected[key]) for key in expected)
        assert reader.most == 1
        assert sorted(reader.asked) == list(range(7))


def test_a_volume_can_have_a_stride_of_its_own():
    network, other, slices = small(**VA), small(**VA, bag_stride=3), volume(4)
    plain = pyramids(network, lambda: list(network.detect(slices)))
    found = []
    own = pyramids(network, lambda: found.extend(network.detect(slices, bag_stride=3)))
    levels = list(network.read_volume(slices, bag_stride=3))
    for index, answer in enumerate(found):
        expected = []
        bag = slices[bag_slices(index, 4, 3, 3)]
        anew = pyramids(network, lambda bag=bag, into=expected: into.extend(network([bag])))[0]
        same(answer, expected[0])
        for level in anew:
            torch.testing.assert_close(own[index][level], anew[level], rtol=1e-9, atol=1e-9)
            assert own[index][level].equal(levels[index][level])
    assert not torch.allclose(plain[2]["0"], own[2]["0"], atol=1e-6)
    for answer, wanted in zip(other.detect(slices, bag_stride=1), network.detect(slices), strict=True):
        same(answer, wanted)


@pytest.mark.parametrize("options", [VA, {}])
def test_without_masks_it_is_a_faster_r_cnn(options):
    network = small(**options, mask_channels=())
    images = bags() if options else list(volume(2))
    assert (network.masks, network.head_names) == (False, ["roi_heads.box_predictor"])
    whole = small(**options)
    state = whole.state_dict()
    assert set(network.state_dict()) == {key for key in state if not key.startswith("roi_heads.mask_")}
    network.load_state_dict(state, strict=False)
    for answer, expected in zip(network(images), whole(images), strict=True):
        same(answer, {key: value for key, value in expected.items() if key != "masks"}, ("boxes", "labels", "scores"))
    for answer, expected in zip(network.detect(volume(3)), whole.detect(volume(3)), strict=True):
        same(answer, {key: value for key, value in expected.items() if key != "masks"}, ("boxes", "labels", "scores"))
    network.train()
    targets = [{key: each[key] for key in ("boxes", "labels")} for each in (target((8, 8, 24, 20)), target())]
    losses = []
    for given in (targets, [each | {"masks": None} for each in targets]):
        torch.manual_seed(4)
        losses.append(network(images, given))
    assert set(losses[0]) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    torch.testing.assert_close(losses[0], losses[1])  # masks are not read
    sum(losses[0].values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_is_measured_has_an_object_in_the_middle_of_each_picture():
    network = small(**VA).train()
    images = torch.rand(2, 3, 3, 40, 60)
    given = network.training_targets(images)
    assert [each["boxes"].tolist() for each in given] == [[[15, 10, 45, 30]]] * 2
    for each in given:
        assert each["labels"].tolist() == [1]
        assert each["masks"].shape == (1, 40, 60)
        rows, columns = each["masks"][0].nonzero().unbind(1)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (15, 10, 45, 30)
    assert all(loss.isfinite() for loss in network(images.double(), network.training_targets(images.double())).values())
    assert set(small(mask_channels=()).training_targets([torch.rand(3, 1, 1)])[0]) == {"boxes", "labels"}


@pytest.mark.slow
def test_its_cost_can_be_measured_and_is_counted_the_same_again():
    network = va_mask_rcnn_tiny(min_size=64, max_size=64, detector=FEW)
    costs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        costs.append(profile(network, (1, 5, 3, 64, 64), repeats=2, warmup=0))
    for name in ("parameters", "macs", "memory_mib", "step_memory_mib"):
        assert getattr(costs[0], name) == getattr(costs[1], name) > 0
    assert costs[0].step_ms > 0
    boxes = profile(mask_rcnn_tiny(mask_channels=()), (1, 3, 64, 64), repeats=2, warmup=0)
    assert boxes.step_memory_mib > 0


def test_its_work_is_not_counted_without_numbers():
    with torch.device("meta"):
        network = va_mask_rcnn_tiny()
    sentence = "^MaskRCNN takes numbers, which decide what it computes; got a picture on the meta device$"
    with pytest.raises(ValueError, match=sentence):
        count_macs(network, (1, 5, 3, 64, 64))


def test_it_is_not_exported_for_its_answers_have_no_one_shape(tmp_path):
    sentence = "tensors; MaskRCNN gives a list of what it finds, whose length depends on the pictures$"
    with pytest.raises(TypeError, match=sentence):
        export(small().float(), tmp_path / "va.pt2", (3, 64, 64), format="pt2")


def test_the_ends_of_a_volume_stand_again_beyond_them():
    assert bag_slices(0, 5, 5) == [0, 0, 0, 1, 2]
    assert bag_slices(4, 5, 3, 2) == [2, 4, 4]
    assert bag_slices(3, 9, 4) == [1, 2, 3, 4]
    assert bag_slices(0, 1, 3) == [0, 0, 0]
    volume = torch.arange(3.0).reshape(3, 1, 1)
    assert stack_slices(volume).flatten(1).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    network, single = small(**VA), stack_slices(torch.zeros(1, 64, 64).double())
    same(next(network.detect(single)), network([single[[0, 0, 0]]])[0])


def test_pictures_of_several_sizes_are_padded_and_answered_in_their_own():
    network = small(**VA, detector=FEW)
    images = [volume(3, 40, 64), volume(3, 64, 32)]
    for answer, (height, width) in zip(network(images), [(40, 64), (64, 32)], strict=True):
        boxes = answer["boxes"]
        assert answer["masks"].shape[2:] == (height, width)
        assert ((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height]))).all()


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_the_normalisation_is_trained_unless_it_is_told_otherwise(norm):
    network = small(norm=norm).train()
    kinds = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "group": nn.GroupNorm}
    found = {type(module) for module in network.backbone.body.modules() if type(module) in kinds.values()}
    assert found == {kinds[norm]}
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert bool(frozen) == (norm == "frozen")
    assert frozen == {name for name in frozen if name.startswith(("backbone.body.conv1.", "backbone.body.layer1."))}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    network = small(**VA, levels=("1", "2"), shared=True, aspect_ratios=(0.7, 1.3))
    save_checkpoint(network, tmp_path / "va.safetensors")
    again = from_checkpoint(tmp_path / "va.safetensors")
    assert repr(again) == repr(network)
    assert inspect(tmp_path / "va.safetensors").title == "VA-Mask R-CNN, ResNet-10, bags of 3"
    for found, expected in zip(again(bags()), network(bags()), strict=True):
        assert all(found[key].equal(expected[key]) for key in expected)


def published(norm_layer=nn.BatchNorm2d, classes=4):
    """torchvision's network of the size of `small`, none of whose numbers is trivial."""
    torch.manual_seed(1)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm_layer, trainable_layers=5)
    network = detection.MaskRCNN(backbone, classes, min_size=64, max_size=64, **FEW).double().eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.uniform_(0.5, 1.5) if ".bn" in name or "downsample.1" in name else value.normal_(std=0.1)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_it_computes_what_torchvision_computes(frozen):
    theirs = published(FrozenBatchNorm if frozen else nn.BatchNorm2d)
    if frozen:
        overwrite_eps(theirs, 0.0)  # as torchvision does with the weights of COCO
    ours = from_checkpoint(theirs.state_dict(), min_size=64, max_size=64, detector=FEW)
    assert (ours.norm, ours.norm_eps) == (("frozen", 0.0) if frozen else ("batch", 1e-5))
    assert ours.anchor_sizes == (32, 64, 128, 256, 512)
    images = [volume(1)[0], volume(1, 48, 64, seed=2)[0]]
    for found, expected in zip(ours(images), theirs(images), strict=True):
        same(found, expected)
    targets = [target((8, 8, 24, 20)), target()]
    losses = []
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(5)
        losses.append(network([images[0], images[0]], targets))
    assert losses[0].keys() == losses[1].keys()
    for name in losses[0]:
        torch.testing.assert_close(losses[0][name], losses[1][name], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("publisher", ["torchvision/maskrcnn", "torchvision/maskrcnn before 0.13"])
def test_weights_of_coco_load_whole_or_with_new_classes_and_attention(publisher):
    theirs = published(classes=91)
    state = theirs.state_dict()
    if publisher.endswith("0.13"):
        state = to_publisher(from_checkpoint(state), publisher)
        assert "roi_heads.mask_head.mask_fcn4.weight" in state
        assert "rpn.head.conv.weight" in state
    found = inspect(state)
    assert (found.publisher, found.title) == (publisher, "Mask R-CNN, ResNet-18")
    assert set(found.assumed) == COCO_KEYS
    whole = from_checkpoint(state, min_size=64, max_size=64, detector=FEW)
    same(whole([volume(1)[0]])[0], theirs([volume(1)[0]])[0])
    given = {"mechanism": "volumetric", "bag": 3, "num_classes": 2, "anchor_sizes": (8, 16, 32, 64, 128)}
    parts = "roi_heads.box_predictor, roi_heads.mask_predictor.mask_fcn_logits, backbone.attention, which starts anew"
    with pytest.warns(UserWarning, match=f"^the state dict has no weights that fit {parts}$"):
        lesions = from_checkpoint(state, **given)
    old, new = whole.state_dict(), lesions.state_dict()
    assert all(isinstance(module, VolumetricAttention) for module in lesions.backbone.attention.children())
    differing = {key for key in new if key not in old or not new[key].equal(old[key])}
    assert {key.split(".")[1] for key in differing} == {"attention", "box_predictor", "mask_predictor"}
    assert all("mask_fcn_logits" in key for key in differing if "mask_predictor" in key)
    assert new["roi_heads.box_predictor.cls_score.weight"].shape == (2, 1024)


@pytest.mark.slow
def test_what_is_not_the_first_mask_r_cnn_is_refused_in_one_sentence():
    with torch.device("meta"):
        second = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).state_dict()
        points = detection.keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    with pytest.raises(CheckpointError, match="its pyramid is normalised, as in the second version; only the first"):
        from_checkpoint(second)
    sentence = "roi_heads.keypoint_head.0.weight belongs to no network that is known here"
    assert sentence in inspect(points).problems


@pytest.mark.slow
def test_a_faster_r_cnn_opens_and_gets_masks_if_they_are_asked_for():
    torch.manual_seed(1)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d)
    theirs = detection.FasterRCNN(backbone, 3, min_size=64, max_size=64, **FEW).double().eval()
    state = theirs.state_dict()
    found = inspect(state)
    assert (found.title, found.architecture.options["mask_channels"]) == ("Faster R-CNN, ResNet-18", [])
    ours = from_checkpoint(state, min_size=64, max_size=64, detector=FEW)
    same(ours([volume(1)[0]])[0], theirs([volume(1)[0]])[0], ("boxes", "labels", "scores"))
    assert list(to_publisher(ours, "torchvision/maskrcnn")) == list(state)
    sentence = r"no weights that fit roi_heads\.mask_head, roi_heads\.mask_predictor, which starts anew$"
    with pytest.warns(UserWarning, match=sentence):
        masked = from_checkpoint(state, mask_channels=(16, 16), num_classes=3, min_size=64, max_size=64)
    assert masked.masks
    assert all(masked.state_dict()[key].equal(value) for key, value in state.items())


def test_without_masks_the_names_are_those_of_torchvision(tmp_path):
    with torch.device("meta"):
        ours = mask_rcnn_resnet50(mask_channels=(), num_classes=91)
        theirs = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    network = small(**VA, mask_channels=())
    save_checkpoint(network, tmp_path / "boxes.safetensors")
    again = from_checkpoint(tmp_path / "boxes.safetensors")
    assert repr(again) == repr(network)
    assert inspect(tmp_path / "boxes.safetensors").title == "VA-Faster R-CNN, ResNet-10, bags of 3"


def test_weights_lack_nothing_that_is_not_asked_for_anew():
    state = small().state_dict()
    del state["roi_heads.box_predictor.cls_score.bias"]
    with pytest.raises(CheckpointError, match=r"roi_heads\.box_predictor\.cls_score\.bias is missing"):
        from_checkpoint(state, num_classes=2)


def test_sizes_are_those_of_torchvision_and_the_attention_is_small():
    with torch.device("meta"):
        plain, gated = mask_rcnn_resnet50(), va_mask_rcnn_resnet50()
        theirs = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    count = sum(each.numel() for each in plain.parameters())
    assert count == sum(each.numel() for each in theirs.parameters()) == 43_975_515
    assert list(plain.state_dict()) == list(theirs.state_dict())
    assert sum(each.numel() for each in gated.parameters()) - count == 5 * 8_885
    assert (gated.bag, plain.bag) == (9, 1)


@pytest.mark.slow
@pytest.mark.parametrize("build", [va_mask_rcnn_resnet50, va_mask_rcnn_resnet101])
def test_the_large_networks_take_a_step(build):
    torch.manual_seed(0)
    network = build(bag=2, min_size=64, max_size=64, detector=FEW).train()
    each = target((8, 8, 24, 20))
    losses = network([volume(2).float()], [each | {"boxes": each["boxes"].float()}])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_catalogue_builds_what_the_functions_build():
    for name, function in (("va_mask_rcnn_tiny", va_mask_rcnn_tiny), ("mask_rcnn_tiny", mask_rcnn_tiny)):
        with torch.device("meta"):
            assert catalogue.build(name).architecture == function().architecture
    with pytest.raises(TypeError, match=r"has volumetric built in; a host for another mechanism is mask_rcnn_tiny$"):
        catalogue.build("va_mask_rcnn_tiny", mechanism="se")
    with torch.device("meta"):
        assert list(va_mask_rcnn_tiny(mechanism="eca").backbone.attention["0"].parameters())


def beside(*boxes):
    """A target in a picture of 48 x 64, some of whose boxes are not in it."""
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float64),
        "labels": torch.ones(len(boxes), dtype=torch.long),
        "masks": torch.zeros(len(boxes), 48, 64),
    }


WRONG = {
    "nothing": (lambda: small()([]), "^MaskRCNN takes at least one picture; got none$"),
    "one channel": (
        lambda: small()([torch.zeros(1, 64, 64)]),
        r"^MaskRCNN takes \(3, height, width\), three adjacent slices as channels; got \(1, 64, 64\)$",
    ),
    "no bag": (
        lambda: small(**VA)([torch.zeros(3, 64, 64)]),
        r"^MaskRCNN takes bags of \(3, 3, height, width\), each picture three adjacent slices as channels; got \(3, 64",
    ),
    "bag": (lambda: small(**VA)([torch.zeros(5, 3, 64, 64)]), r"got \(5, 3, 64, 64\)$"),
    "integers": (
        lambda: small()([torch.zeros(3, 64, 64, dtype=torch.int16)]),
        "^MaskRCNN takes floating point numbers in 0..1; got torch.int16$",
    ),
    "hounsfield": (
        lambda: small()([torch.full((3, 64, 64), -1000.0)]),
        "^MaskRCNN takes numbers in 0..1, as a window of Hounsfield units is scaled; got -1000 to -1000$",
    ),
    "bytes": (lambda: next(small().detect(255 * volume())), "; got 0.* to 25"),
    "nan": (lambda: small()([torch.full((3, 64, 64), torch.nan)]), "; got nan to nan$"),
    "no targets": (lambda: small().train()(volume(2)), "^training takes a target for each of 2 pictures; got none$"),
    "targets": (lambda: small().train()(volume(2), [target()]), "for each of 2 pictures; got 1$"),
    "no masks": (
        lambda: small().train()(volume(1), [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}]),
        "^a target has boxes, labels and masks; target 0 lacks masks$",
    ),
    "masks": (
        lambda: small().train()(volume(1), [target((1, 1, 4, 4)) | {"masks": torch.zeros(1, 9, 64)}]),
        r"^target 0 of 1 labels takes boxes \(1, 4\) and masks \(1, 64, 64\); got \(1, 4\) and \(1, 9, 64\)$",
    ),
    "flat box": (
        lambda: small().train()(volume(2), [target(), target((4, 4, 4, 9))]),
        r"^boxes are x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2, also where .* wide; target 1 has \[4.0, 4.0, 4",
    ),
    "masks left out": (
        lambda: small(mask_channels=()).train()(volume(1), [{"boxes": torch.zeros(0, 4)}]),
        "^a target has boxes and labels; target 0 lacks labels$",
    ),
    "boxes without masks": (
        lambda: small(mask_channels=()).train()(volume(1), [target((1, 1, 4, 4)) | {"boxes": torch.zeros(1, 5)}]),
        r"^target 0 of 1 labels takes boxes \(1, 4\); got \(1, 5\)$",
    ),
    "no number": (
        lambda: small().train()(volume(1), [target((1, 1, 4, 4)) | {"boxes": torch.full((1, 4), torch.nan)}]),
        r"; target 0 has \[nan, nan, nan, nan\]$",
    ),
    "box beside the picture": (
        lambda: small().train()([torch.zeros(3, 48, 64)], [beside((50, 2, 60, 9), (2, 50, 9, 60))]),
        r"^boxes lie in their picture, here of height 48 and width 64; target 0 has \[2\.0, 50\.0, 9\.0, 60\.0\]$",
    ),
    "box behind the picture": (
        lambda: small().train()([torch.zeros(3, 48, 64)], [beside((64, 2, 70, 9))]),
        r"; target 0 has \[64\.0, 2\.0, 70\.0, 9\.0\]$",
    ),
    "box before the picture": (
        lambda: small().train()([torch.zeros(3, 48, 64)], [beside((-5, 2, 0, 9))]),
        r"; target 0 has \[-5\.0, 2\.0, 0\.0, 9\.0\]$",
    ),
    "background": (
        lambda: small().train()(volume(1), [target((1, 1, 4, 4)) | {"labels": torch.tensor([0])}]),
        "^labels are 1 to 1, for the background is 0; target 0 has 0$",
    ),
    "class": (
        lambda: small(num_classes=4).train()(volume(1), [target((1, 1, 4, 4)) | {"labels": torch.tensor([4])}]),
        "^labels are 1 to 3, for the background is 0; target 0 has 4$",
    ),
    "mask of bytes": (
        lambda: small().train()(volume(1), [target((1, 1, 4, 4)) | {"masks": torch.full((1, 64, 64), 255)}]),
        "^masks are of 0 and 1; target 0 has 255$",
    ),
    "stride of a volume": (
        lambda: next(small(**VA).detect(volume(), bag_stride=0)),
        "^a volume is read with bag_stride of at least 1; got 0$",
    ),
    "place": (lambda: small(**VA)(bags(), place=3), "^place is 0 to 2 in a bag of 3; got 3$"),
    "classes": (lambda: small(num_classes=1), "^MaskRCNN takes num_classes of at least 2; got 1$"),
    "empty bag": (lambda: small(bag=0), "^MaskRCNN takes bag of at least 1; got 0$"),
    "stride": (lambda: small(bag_stride=0), "^MaskRCNN takes bag_stride of at least 1; got 0$"),
    "norm": (lambda: small(norm="none"), 'norm must be one of "batch", "frozen", "group"; got \'none\''),
    "anchors": (lambda: small(anchor_sizes=(8, 16)), r"^anchor_sizes are one for each of 5 levels; got \(8, 16\)$"),
    "colours": (
        lambda: small(image_mean=[0.5]),
        "^image_mean and image_std are of 3 channels; got 1 and 3$",
    ),
    "levels": (lambda: small(**VA, levels=("4",)), r"^levels are some of 0, 1, 2, 3, pool; got \('4',\)$"),
    "idle": (lambda: small(levels=("0",), shared=True), "^levels, shared need a mechanism; got mechanism=None$"),
    "callable": (lambda: small(mechanism=nn.Identity, options={}), "^options are for a mechanism given by name"),
    "left out": (lambda: small(include_target=False), "^include_target=False takes the target out of the bag that"),
    "in training": (
        lambda: next(small().train().detect(volume())),
        "^a volume is read by a network in evaluation; call",
    ),
    "sizes": (
        lambda: list(small().detect([torch.zeros(3, 64, 64).double(), torch.zeros(3, 64, 32).double()])),
        r"^the slices of a volume have one shape; got \(3, 64, 64\) and \(3, 64, 32\)$",
    ),
    "volume": (lambda: stack_slices(torch.zeros(1, 3, 4, 4)), r"^a volume is \(slice, height, width\); got \(1, 3, 4,"),
}


@pytest.mark.parametrize(("call", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_misspelt_option_is_answered_with_those_there_are():
    with pytest.raises(TypeError, match=r'^VolumetricAttention has no option "scal"; it takes reduction, '):
        small(mechanism="volumetric", options={"scal": "sqrt"})
    with pytest.raises(TypeError, match=r'^detector has no option "box_head"; it takes rpn_pre_nms_top_n_train, '):
        small(detector={"box_head": 3})
