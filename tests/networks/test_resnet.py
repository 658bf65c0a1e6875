import copy
import itertools
import math
import pickle

import pytest
import torch
import torchvision
from torch import nn

from foveate.layers import SE
from foveate.layers.catalogue import MECHANISMS
from foveate.networks import (
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet_tiny,
    resnext50_32x4d,
)
from foveate.networks.residual import BasicBlock, Bottleneck

POSITIONS = ["standard", "pre", "post", "identity", "after_3x3"]


class Mirror(nn.Module):
    """A mechanism that commutes with no ReLU and no convolution: 0.5 - x. Its only parameter draws random numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.drawn = nn.Parameter(torch.randn(channels))

    def forward(self, x):
        return 0.5 - x


def tiny(**settings):
    return resnet_tiny(in_channels=1, num_classes=3, **settings).eval()


def pictures(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def trained(network, seed=11):
    """The network with running statistics, weights and biases as after some training: nothing is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2, generator=generator)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnext50_32x4d", marks=pytest.mark.slow)])
def test_torchvision_state_dicts_load_and_compute_the_same(name):
    theirs = trained(getattr(torchvision.models, name)(num_classes=5)).eval()
    ours = {"resnet18": resnet18, "resnext50_32x4d": resnext50_32x4d}[name](num_classes=5).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = pictures(1, 3, 67, 59)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.slow
def test_torchvision_resnet50_computes_the_same_with_gradients():
    theirs, ours = torchvision.models.resnet50(num_classes=5), resnet50(num_classes=5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = pictures(2, 3, 67, 59)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for (key, mine), (their_key, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == their_key
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4 * other.grad.abs().max().item())


@pytest.mark.slow
def test_one_seed_draws_the_weights_that_torchvision_draws():
    torch.manual_seed(3)
    ours = resnet18()
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.slow
def test_convolutions_start_kaiming_normal_by_fan_out():
    weight = resnet34().get_submodule("layer4.2.conv2").weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)


@pytest.mark.parametrize("mechanism", [*MECHANISMS, "se+spatial", Mirror])
def test_one_seed_draws_one_host_whatever_the_mechanism(mechanism):
    torch.manual_seed(5)
    host = tiny().state_dict()
    torch.manual_seed(5)
    network = tiny(mechanism=mechanism)
    assert network.sites
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in host.items())
    assert all(key in host or ".mechanism." in key for key in state)


def test_a_mechanism_keeps_its_own_initial_values():
    class Constant(nn.Conv2d):
        def __init__(self, channels):
            super().__init__(channels, channels, 1)
            nn.init.constant_(self.weight, 0.25)
            self.norm = nn.BatchNorm2d(channels)
            nn.init.zeros_(self.norm.weight)

    network = tiny(mechanism=Constant, zero_init_last=True)
    mechanism = network.get_submodule("layer2.0.mechanism")
    assert (mechanism.weight == 0.25).all()
    assert (mechanism.norm.weight == 0).all()


@pytest.mark.slow
def test_the_spatial_gate_of_cbam_and_the_output_of_a_non_local_block_start_at_zero_in_the_whole_network():
    cbam = resnet18(mechanism="cbam").get_submodule("layer4.1.mechanism")
    assert (cbam.spatial.norm.weight == 0).all()
    non_local = resnet18(mechanism="nonlocal").get_submodule("layer3.1.mechanism")
    assert (non_local.norm.weight == 0).all()


def test_a_network_with_fresh_non_local_blocks_is_the_network_bit_for_bit_and_can_leave_it():
    torch.manual_seed(5)
    host = trained(tiny())
    torch.manual_seed(5)
    network = trained(tiny(mechanism="nonlocal"))
    x = pictures(2, 1, 40, 40)
    assert torch.equal(network(x), host(x))
    network(x).sum().backward()
    assert network.get_submodule("layer2.0.mechanism.norm").weight.grad.abs().max() > 0


def test_a_mechanism_of_ones_changes_nothing_at_any_position():
    x = pictures(2, 1, 23, 29)
    torch.manual_seed(5)
    expected = trained(tiny())(x)
    for position in POSITIONS:
        torch.manual_seed(5)
        network = trained(tiny(mechanism="placebo", position=position))
        assert torch.equal(network(x), expected), position


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("stride", [1, 2])
def test_each_position_is_where_the_drawing_has_it(kind, stride):
    channels = 5 if stride == 1 else 3  # with a stride of one, nothing stands in the shortcut
    block = BasicBlock(channels, 5, stride) if kind == "basic" else Bottleneck(channels, 2, 5, stride)
    block = trained(block).eval()
    mirror = Mirror(5)
    x = pictures(2, channels, 7, 11)
    branch, shortcut = block.last_norm(block.residual(x)), x if stride == 1 else block.downsample(x)
    expected = {
        "standard": (mirror(branch) + shortcut).relu(),
        "pre": (block.last_norm(block.residual(mirror(x))) + shortcut).relu(),
        "post": mirror((branch + shortcut).relu()),
        "identity": (branch + mirror(shortcut)).relu(),
    }
    inner = block.bn1(block.conv1(x)).relu()
    if kind == "basic":
        expected["after_3x3"] = (block.bn2(block.conv2(mirror(inner))) + shortcut).relu()
    else:
        inner = block.bn2(block.conv2(inner)).relu()
        expected["after_3x3"] = (block.bn3(block.conv3(mirror(inner))) + shortcut).relu()
    for position in POSITIONS:
        block.place(Mirror(block.channels[position]), position)
        torch.testing.assert_close(block(x), expected[position], msg=position)


def test_a_silent_branch_leaves_the_shortcut_ungated_in_the_standard_position():
    network = tiny(mechanism="se")
    block = network.get_submodule("layer2.0")
    nn.init.zeros_(block.last_norm.weight)
    x = pictures(2, 16, 7, 11)
    assert torch.equal(block(x), block.downsample(x).relu())


@pytest.mark.parametrize(
    ("position", "channels"),
    [
        ("standard", [256, 512]),
        ("pre", [64, 256]),
        ("post", [256, 512]),
        ("identity", [256, 512]),
        ("after_3x3", [64, 128]),
    ],
)
def test_a_mechanism_is_as_wide_as_its_place(position, channels):
    with torch.device("meta"):
        network = resnet50(mechanism=SE, position=position, blocks=[(1, 0), (2, 0)])
    assert list(network.sites.values()) == channels
    assert [network.get_submodule(site).channels for site in network.sites] == channels


@pytest.mark.slow
def test_sites_name_every_mechanism_and_nothing_else():
    network = resnet18(mechanism="bam")
    assert network.sites == {"layer1.1.mechanism": 64, "layer2.1.mechanism": 128, "layer3.1.mechanism": 256}
    mechanisms = [name for name, _ in network.named_modules() if name.endswith(".mechanism")]
    assert mechanisms == list(network.sites)
    assert resnet18().sites == {}


def test_published_places_hold_unless_others_are_asked_for():
    def places(**settings):
        network = tiny(**settings)
        positions = {network.get_submodule(site.rpartition(".")[0]).position for site in network.sites}
        return [int(site[5]) for site in network.sites], positions

    assert places(mechanism="se") == ([1, 2, 3], {"standard"})
    assert places(mechanism="bam") == ([1, 2], {"post"})
    assert places(mechanism="nonlocal") == ([2, 3], {"post"})
    assert places(mechanism="nonlocal+se") == ([2, 3], {"post"})
    assert places(mechanism="se", stages=(1, 3), position="identity") == ([1, 3], {"identity"})
    assert places(mechanism="bam", blocks=[(3, 0)]) == ([3], {"post"})
    assert places(mechanism="nonlocal", blocks=1) == ([3], {"post"})


@pytest.mark.parametrize(("stride_in", "expected"), [("3x3", [1, 2]), ("1x1", [2, 1])])
def test_the_stride_of_a_bottleneck_is_where_it_was_asked_for(stride_in, expected):
    with torch.device("meta"):
        block = resnet50(stride_in=stride_in).get_submodule("layer3.0")
    assert [block.conv1.stride[0], block.conv2.stride[0]] == expected


@pytest.mark.parametrize(("stem", "size", "expected"), [("imagenet", 37, 10), ("cifar", 37, 37), ("tiny", 37, 19)])
def test_a_stem_leaves_a_grid_of_the_size_that_its_strides_say(stem, size, expected):
    network = tiny(stem=stem)
    seen = []
    network.get_submodule("layer1").register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    network(pictures(1, 1, size, size))
    assert tuple(seen[0][2:]) == (expected, expected)


def test_the_pool_of_the_caffe_models_sees_the_last_pixels_and_no_border():
    pool = tiny(stem="imagenet", stem_pool="ceil").maxpool
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    # Windows start at 0, 2 and 4; the last one is cut off at the border.
    assert pool(x).squeeze().tolist() == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]


def test_width_multiplies_every_width_and_keeps_groups_whole():
    with torch.device("meta"):
        network = resnext50_32x4d(width=1.3)
        plain = resnet18(width=0.5)
    assert network.conv1.out_channels == round(1.3 * 64)
    assert network.fc.in_features == 4 * round(1.3 * 512)
    convolution = network.get_submodule("layer3.1.conv2")
    assert convolution.groups == 32
    assert convolution.out_channels == 32 * round(1.3 * 16)
    assert [plain.get_submodule(f"layer{stage}.1.conv2").out_channels for stage in (1, 2, 3, 4)] == [32, 64, 128, 256]


def test_width_is_fine_enough_to_meet_a_parameter_count():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in resnet18(width=1 + step / 200).parameters()) for step in range(6)]
    steps = [after / before for before, after in itertools.pairwise(counts)]
    assert all(1 <= step < 1.03 for step in steps)


def test_zero_init_last_silences_every_branch():
    network = tiny(zero_init_last=True)
    assert (network.get_submodule("layer3.0.bn2").weight == 0).all()
    assert (network.get_submodule("layer3.0.bn1").weight == 1).all()
    assert (tiny().get_submodule("layer3.0.bn2").weight == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", list(MECHANISMS))
def test_the_tiny_network_trains_with_every_mechanism(mechanism):
    torch.manual_seed(0)
    network = tiny(mechanism=mechanism).train()
    labels = torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(pictures(4, 1, 40, 40)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["cbam", "se", "nonlocal"])
def test_copies_pickles_and_exports_compute_the_same(mechanism):
    network = trained(tiny(mechanism=mechanism))
    x = pictures(2, 1, 24, 32)
    expected = network(x)
    assert torch.equal(copy.deepcopy(network)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(network))(x), expected)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: batch},)).module()
    other = pictures(5, 1, 24, 32)
    torch.testing.assert_close(exported(other), network(other))


@pytest.mark.slow
def test_a_network_compiles_without_a_graph_break():
    network = trained(tiny(mechanism="cbam"))
    x = pictures(2, 1, 24, 32)
    torch.testing.assert_close(torch.compile(network, backend="aot_eager", fullgraph=True)(x), network(x))


@pytest.mark.parametrize("shape", [(2, 3, 24, 24), (1, 24, 24)])
def test_other_inputs_are_refused(shape):
    with pytest.raises(ValueError, match=r"ResNet takes \(batch, 1, height, width\); got \((2, 3|1, 24), 24"):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"position": "pre", "stages": (1,)}, "position, stages need a mechanism; got mechanism=None"),
        ({"options": {}}, "options need a mechanism; got mechanism=None"),
        (
            {"mechanism": SE, "options": {"bias": False}},
            "options are for a mechanism given by name; a callable has its",
        ),
        (
            {"mechanism": "se", "position": "before"},
            "position must be one of standard, pre, post, identity, after_3x3; got 'before'",
        ),
        ({"stem": "large"}, "stem must be one of imagenet, cifar, tiny, deep; got 'large'"),
        (
            {"stem": "cifar", "stem_pool": "ceil"},
            "stem_pool is for the imagenet and the deep stem; the cifar stem has none, got 'ceil'",
        ),
        (
            {"stride_in": "1x1"},
            "groups, stride_in and first_width are for bottleneck blocks; basic blocks have no 1x1 convolution",
        ),
        ({"width": 0}, "width must be greater than 0; got 0"),
    ],
)
def test_settings_without_meaning_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**settings)


def test_kinds_of_network_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="block must be one of basic, bottleneck; got 'deep'"):
        ResNet("deep", (1, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stride_in must be one of 3x3, 1x1; got '2x2'"):
        ResNet("bottleneck", (1, 1, 1), stride_in="2x2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"depths must be of three or four stages; got \(1, 1\)"):
        ResNet("basic", (1, 1))


def test_a_misspelt_mechanism_is_answered_with_the_right_one():
    with pytest.raises(LookupError, match='no mechanism "cbma"; did you mean "cbam"'):
        tiny(mechanism="cbma")
