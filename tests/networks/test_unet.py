import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.capture import capture, edit, taps
from foveate.layers import attention_gate, catalogue
from foveate.networks.skip import Skip
from foveate.networks.unet import UNet, attention_unet, unet

HEARTS = {"strides": (2, 2, 1), "kernel_size": (3, 3, 1), "fused_heads": False}
PUBLISHED = {
    "unet_ct_dsv": ({"gates": 0}, 5_888_004),
    "unet_ct_single_att_dsv": ({"gates": 1}, 6_214_151),
    "unet_ct_multi_att_dsv": ({"gates": 2}, 6_473_322),
    "unet_3D": ({"gates": 0, **HEARTS}, 1_965_332),
    "unet_grid_gating": (
        {"gate_options": {"stride": 2}, "shared_signal": True, "fused_gates": False, **HEARTS},
        2_221_815,
    ),
}
TINY = {"widths": (3, 4, 5), "num_classes": 2, "in_channels": 2}
# Wide enough that no bottleneck is a single unit, which a ReLU may silence.
OPTIONS = {name: {"reduction": 2} for name in ("se", "scse", "cbam", "bam")}


def awake(**options) -> UNet:
    """A small network in double precision and eval, its statistics off their start."""
    torch.manual_seed(2)
    network = UNet(**(TINY | options)).double().eval()
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.2, 0.9, generator=torch.Generator().manual_seed(len(name)))
    return network


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def reference(network: UNet, x: torch.Tensor) -> torch.Tensor:
    """The network on (batch, channel, *space) by its drawing, from its weights alone; of one block a level."""
    state, dims, size = network.state_dict(), x.ndim - 2, x.shape[2:]
    conv, pool = (F.conv1d, F.conv2d, F.conv3d)[dims - 1], (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]

    def convolved(name, x, padding=0, stride=1):
        return conv(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride=stride, padding=padding)

    def normalised(name, x):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        if f"{name}.running_mean" not in state:
            return F.instance_norm(x, weight=weight, bias=bias)
        return F.batch_norm(x, state[f"{name}.running_mean"], state[f"{name}.running_var"], weight, bias)

    def block(name, x):
        around = tuple(length // 2 for length in state[f"{name}.conv1.weight"].shape[2:])
        branch = normalised(f"{name}.norm1", convolved(f"{name}.conv1", x, padding=around)).relu()
        branch = normalised(f"{name}.norm2", convolved(f"{name}.conv2", branch, padding=around))
        if network.encoder["1"][0].kind == "residual":
            changes = f"{name}.shortcut.conv.weight" in state
            branch += normalised(f"{name}.shortcut.norm", convolved(f"{name}.shortcut.conv", x)) if changes else x
        return branch.relu()

    def resized(x, like):
        mode = ("linear", "bilinear", "trilinear")[dims - 1]
        return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=network.align_corners)

    def gated(name, x, g):
        theta = convolved(f"{name}.theta", x, stride=state[f"{name}.theta.weight"].shape[2:])
        scores = convolved(f"{name}.psi", (theta + resized(convolved(f"{name}.phi", g), theta)).relu())
        return normalised(f"{name}.norm", convolved(f"{name}.out", resized(scores.sigmoid(), x) * x))

    steps = [math.prod(along) for along in zip(*network.strides, strict=True)]
    missing = [-length % step for length, step in zip(size, steps, strict=True)]
    x = F.pad(x, [pad for length in reversed(missing) for pad in (0, length)])
    features = [block("encoder.1.0", x)]
    for level in range(2, len(network.widths) + 1):
        features.append(block(f"encoder.{level}.0", pool(features[-1], network.strides[level - 2])))
    coarse = signal = features.pop()
    if "gating.conv.weight" in state:
        signal = normalised("gating.norm", convolved("gating.conv", coarse)).relu()
    heads = []
    while features:
        skip, level = features.pop(), len(features) + 1
        count = sum(key.startswith(f"skips.{level}.gates") and key.endswith("psi.bias") for key in state)
        if count:
            skip = torch.cat([gated(f"skips.{level}.gates.{index}", skip, signal) for index in range(count)], dim=1)
        if f"skips.{level}.combine.conv.weight" in state:
            skip = normalised(f"skips.{level}.combine.norm", convolved(f"skips.{level}.combine.conv", skip)).relu()
        coarse = block(f"decoder.{level}.0", torch.cat([skip, resized(coarse, skip)], dim=1))
        signal = signal if network.shared_signal else coarse
        if f"heads.{level}.weight" in state:
            heads.insert(0, convolved(f"heads.{level}", coarse))
    logits = heads[0]
    if "final.weight" in state:
        logits = convolved("final", torch.cat([resized(head, x) for head in heads], dim=1))
    return logits[(..., *(slice(length) for length in size))]


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_the_published_number_of_parameters(name):
    options, parameters = PUBLISHED[name]
    with torch.device("meta"):
        network = attention_unet(in_channels=1, num_classes=4, spatial_dims=3, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_two_builders_differ_by_the_gate():
    with torch.device("meta"):
        plain, gated = unet(num_classes=4, spatial_dims=3), attention_unet(num_classes=4, spatial_dims=3)
    assert sum(parameter.numel() for parameter in plain.parameters()) == PUBLISHED["unet_ct_dsv"][1]
    assert sum(parameter.numel() for parameter in gated.parameters()) == PUBLISHED["unet_ct_single_att_dsv"][1]


@pytest.mark.parametrize(
    ("space", "options"),
    [
        ((8, 12), {}),
        ((7, 10), {"gates": 2}),
        ((9,), {"gates": 1, "spatial_dims": 1}),
        ((5, 6, 3), {"gates": 1, "spatial_dims": 3, "norm": "instance"}),
        ((7, 10), {"gates": 1, "block": "residual", "align_corners": True, "fused_heads": False}),
        ((9, 3), {"gates": 2, "block": "residual", "norm": "instance", "widths": (3, 3, 4, 5)}),
        ((1, 1), {"widths": (3, 4)}),
        ((7, 10), {"gates": 1, "fused_gates": False, "kernel_size": (5, 1)}),
        ((7, 10), {"gates": 2, "shared_signal": True, "widths": (3, 4, 5, 7)}),
        (
            (5, 6, 3),
            {
                "spatial_dims": 3,
                "widths": (3, 4, 5, 7),
                "gates": 1,
                "gate_options": {"stride": 2},
                "shared_signal": True,
                "fused_gates": False,
                **HEARTS,
            },
        ),
    ],
)
def test_it_computes_its_drawing(space, options):
    network, x = awake(**options), draw(2, 2, *space)
    logits = network(x)
    assert logits.shape == (2, 2, *space)
    torch.testing.assert_close(logits, reference(network, x))


@pytest.mark.parametrize(
    ("strides", "space", "grids"),
    [
        (2, (8, 8, 8), [(8, 8, 8), (4, 4, 4), (2, 2, 2)]),
        ((2, 2, 1), (8, 8, 3), [(8, 8, 3), (4, 4, 3), (2, 2, 3)]),
        (((1, 2, 2), (2, 2, 2)), (3, 8, 8), [(4, 8, 8), (4, 4, 4), (2, 2, 2)]),
    ],
)
def test_each_step_can_keep_an_axis_as_anisotropic_volumes_want_it(strides, space, grids):
    network = awake(strides=strides, spatial_dims=3, gates=1)
    x = draw(1, 2, *space)
    padded = F.pad(x, network.padding(x))
    assert [tuple(features.shape[2:]) for features in network.encode(padded)] == grids
    assert network(x).shape == (1, 2, *space)
    assert network.skips["2"].gates[0].theta.stride == network.strides[1]


def test_levels_can_have_several_blocks():
    network = awake(depths=(1, 2, 3), block="residual")
    blocks = {name: len(level) for name, level in [*network.encoder.items()]}
    assert blocks == {"1": 1, "2": 2, "3": 3}
    assert len(network.decoder["2"]) == 2
    assert network(draw(1, 2, 8, 8)).shape == (1, 2, 8, 8)


def test_what_lies_behind_the_end_of_the_input_is_zero_as_for_a_convolution():
    network, x = awake(gates=1), draw(2, 2, 6, 7)
    torch.testing.assert_close(network(x), network(F.pad(x, (0, 1, 0, 2)))[:, :, :6, :7])
    assert F.pad(x, network.padding(x)).shape == (2, 2, 8, 8)


@pytest.mark.parametrize("options", [{}, {"norm": "instance"}])
def test_one_small_picture_can_be_trained_on(options):
    network = UNet(gates=1, **(TINY | options)).train()
    for space in ((1, 1), (4, 4), (3, 5)):
        logits = network(torch.randn(1, 2, *space))
        assert logits.shape == (1, 2, *space)
        assert logits.isfinite().all()
    assert network.eval()(torch.randn(1, 2, 1, 1)).isfinite().all()


@pytest.mark.parametrize(("fused_heads", "answers"), [(True, 3), (False, 2)])
def test_deep_supervision_gives_logits_for_a_loss_each_in_training_and_one_answer_in_evaluation(fused_heads, answers):
    network = awake(deep_supervision=True, fused_heads=fused_heads)
    plain = awake(fused_heads=fused_heads)
    plain.load_state_dict(network.state_dict(), strict=fused_heads)
    x = draw(2, 2, 7, 10)
    torch.testing.assert_close(network(x), plain(x))
    found = network.train()(x)
    assert [tuple(logits.shape) for logits in found] == [(2, 2, 7, 10)] * answers
    torch.testing.assert_close(found[0], plain.train()(x))
    found[-1].square().sum().backward()  # the coarsest level's own loss
    touched = {
        name.split(".")[1] for name, p in network.decoder.named_parameters(prefix="decoder") if p.grad is not None
    }
    assert touched == {"2"}
    assert network.heads["1"].weight.grad is None
    assert network.heads["2"].weight.grad.abs().max() > 0


def test_without_fused_heads_or_supervision_there_is_one_head():
    network = UNet(fused_heads=False, **TINY)
    assert list(network.heads) == ["1"]
    assert not hasattr(network, "final")


def test_one_seed_gives_one_host_whatever_stands_on_it():
    hosts = []
    for options in ({}, {"gates": 2}, {"mechanism": "cbam"}, {"gates": 1, "mechanism": "se", "position": "skip"}):
        torch.manual_seed(11)
        hosts.append(UNet(**TINY, **options).state_dict())
    for other in hosts[1:]:
        assert set(hosts[0]) < set(other)
        assert all(value.equal(other[key]) for key, value in hosts[0].items())


def test_it_starts_as_released():
    network = UNet(widths=(32, 64, 128), gates=1)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1), name
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.015), name
            assert 0.01 < module.weight.std().item() < 0.03, name


def test_the_gates_are_watched_on_the_grid_of_their_skip_connection():
    network, x = awake(gates=2, widths=(3, 4, 5, 6)), draw(2, 2, 14, 16)
    assert taps(network) == {f"skips.{k}.gates.{i}.gate": "batch *space" for k in (2, 3) for i in (0, 1)}
    expected = network(x)
    with capture(network) as maps:
        assert network(x).equal(expected)
    assert maps["skips.2.gates.0.gate"].shape == (2, 8, 8)
    assert maps["skips.3.gates.1.gate"].shape == (2, 4, 4)
    with edit(network, {"skips.3.**": 0.0}):
        assert not network(x).equal(expected)


@pytest.mark.parametrize("normalisation", attention_gate.NORMALISATIONS)
def test_a_flat_volume_gives_finite_answers_and_gradients(normalisation):
    network = UNet(gates=1, gate_options={"normalisation": normalisation}, spatial_dims=3, **TINY).train()
    network(torch.zeros(1, 2, 8, 8, 8)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_gates_take_options():
    network = awake(gates=1, norm="instance", gate_options={"output": False, "hidden_channels": 3, "stride": 1})
    gate = network.skips["2"].gates[0]
    assert gate.theta.weight.shape == (3, 4, 1, 1)
    assert isinstance(gate.out, nn.Identity)
    assert isinstance(awake(gates=1, norm="instance").skips["2"].gates[0].norm, nn.InstanceNorm2d)
    assert awake(gates=1, align_corners=True).skips["2"].gates[0].align_corners


@pytest.mark.parametrize(
    ("position", "options"),
    [
        ("block", {}),
        pytest.param("skip", {}, marks=pytest.mark.slow),
        pytest.param("block", {"block": "residual", "spatial_dims": 3}, marks=pytest.mark.slow),
        pytest.param("skip", {"gates": 1, "spatial_dims": 3}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", catalogue.MECHANISMS)
def test_every_mechanism_has_a_place_and_learns(name, position, options):
    network = UNet(mechanism=name, position=position, options=OPTIONS.get(name), **(TINY | options)).train()
    assert network.sites
    for site, channels in network.sites.items():
        mechanism = network.get_submodule(site)
        assert mechanism(torch.zeros(2, channels, *[3] * network.spatial_dims)).shape[1] == channels
    with capture(network) as maps:
        network(torch.randn(2, 2, *[8] * network.spatial_dims)).square().sum().backward()
    assert maps
    silent = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert not silent


@pytest.mark.parametrize(
    ("options", "sites"),
    [
        ({"mechanism": "se"}, ["encoder.1.0", "encoder.2.0", "encoder.3.0", "decoder.2.0", "decoder.1.0"]),
        ({"mechanism": "bam"}, ["encoder.1.0", "encoder.2.0"]),
        ({"mechanism": "nonlocal"}, ["encoder.3.0"]),
        ({"mechanism": "nonlocal", "depths": 2, "levels": (2,)}, ["encoder.2.1"]),
        (
            {"mechanism": "se", "levels": (2,), "depths": 2},
            ["encoder.2.0", "encoder.2.1", "decoder.2.0", "decoder.2.1"],
        ),
        ({"mechanism": "se", "position": "skip"}, ["skips.1", "skips.2"]),
        ({"mechanism": "nonlocal", "position": "skip"}, ["skips.2"]),
        ({"mechanism": "se", "position": "skip", "levels": (1,)}, ["skips.1"]),
    ],
)
def test_a_mechanism_stands_where_it_usually_goes_or_where_it_is_put(options, sites):
    network = UNet(**TINY, **options)
    assert list(network.sites) == [f"{site}.mechanism" for site in sites]
    assert {network.get_submodule(name).channels for name in network.sites} == set(network.sites.values())


def test_a_mechanism_stands_on_the_branch_of_a_residual_block_and_behind_a_plain_one_and_behind_the_gates():
    class Zero(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0 * x

    x = draw(2, 4, 5, 6)
    block = awake(mechanism=Zero, block="residual", depths=2).encoder["2"][1]
    torch.testing.assert_close(block(x), x.relu())
    assert not awake(mechanism=Zero).encoder["2"](draw(2, 3, 5, 6)).any()
    behind = awake(block="residual").encoder["2"][0]
    behind.place(Zero(4), inside=False)
    assert not behind(draw(2, 3, 5, 6)).any()
    skip = awake(mechanism=Zero, position="skip", gates=1).skips["2"]
    assert isinstance(skip, Skip)
    assert not skip(x, draw(2, 5, 3, 3)).any()


def test_the_placebo_changes_no_number():
    torch.manual_seed(0)
    plain = UNet(**TINY).eval()
    torch.manual_seed(0)
    placebo = UNet(mechanism="placebo", **TINY).eval()
    x = torch.randn(2, 2, 8, 8)
    assert placebo(x).equal(plain(x))


def test_the_width_multiplies_every_level():
    assert UNet(widths=(8, 16, 32), width=1.25).widths == (10, 20, 40)
    assert UNet(widths=(2, 4), width=0.1).widths == (1, 1)


def test_bfloat16_autocast_stays_close_to_single_precision():
    network, x = awake(gates=1).float(), draw(2, 2, 8, 8).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(x)
    torch.testing.assert_close(logits.float(), network(x), rtol=0.1, atol=0.1)


def test_a_copy_computes_the_same():
    network, x = awake(gates=1, mechanism="se"), draw(2, 2, 8, 8)
    assert copy.deepcopy(network)(x).equal(network(x))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"gates": 2, "norm": "instance", "block": "residual"}])
def test_it_compiles_into_one_graph_and_exports_with_open_sizes(options):
    torch.compiler.reset()
    network, x = awake(**options), draw(2, 2, 9, 10)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), network(x))
    open_axes = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    program = torch.export.export(network, (x,), dynamic_shapes=(open_axes,))
    other = draw(3, 2, 21, 14)
    torch.testing.assert_close(program.module()(other), network(other))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"widths": (3,)}, r"widths are positive, of two levels or more; got \(3,\) times 1.0"),
        ({"widths": (3, 0)}, r"widths are positive, of two levels or more; got \(3, 0\) times 1.0"),
        ({"width": 0}, r"widths are positive, of two levels or more; got \(3, 4, 5\) times 0"),
        ({"depths": (1, 1)}, r"depths is one positive number or one for each of 3 levels; got \(1, 1\)"),
        ({"depths": 0}, "depths is one positive number or one for each of 3 levels; got 0"),
        (
            {"strides": 0},
            "strides is one positive number, one for each of 2 axes, or such a tuple for each of 2 steps;",
        ),
        ({"strides": (2, (2, 2))}, r"strides is one positive .*; got \(2, \(2, 2\)\)"),
        ({"strides": ((2, 2),)}, r"strides is one positive .*; got \(\(2, 2\),\)"),
        ({"strides": (2, 2, 2)}, r"strides is one positive .*; got \(2, 2, 2\)"),
        ({"block": "dense"}, 'block must be one of "plain", "residual"; got'),
        ({"norm": "layer"}, 'norm must be one of "batch", "instance"; got'),
        ({"spatial_dims": 4}, "spatial_dims must be 1, 2 or 3; got 4"),
        ({"gates": -1}, r"gates stand on every skip connection but the first; got -1 for widths \(3, 4, 5\)"),
        (
            {"gates": 1, "widths": (3, 4)},
            r"gates stand on every skip connection but the first; got 1 for widths \(3, 4\)",
        ),
        ({"gate_options": {"stride": 1}}, "gate_options need gates; got gates=0$"),
        ({"gate_options": {}, "fused_gates": False}, "gate_options, fused_gates=False need gates; got gates=0$"),
        ({"shared_signal": True}, "shared_signal need gates; got gates=0$"),
        (
            {"gates": 2, "fused_gates": False},
            "several gates on a skip connection need fused_gates; got gates=2, fused_gates=False$",
        ),
        ({"kernel_size": (3, 2)}, "kernel_size must be odd and positive; got 2$"),
        ({"kernel_size": (3, 3, 1)}, r"kernel_size is one number or one for each of 2 axes; got \(3, 3, 1\)$"),
        ({"levels": (1,), "position": "skip"}, "position, levels need a mechanism; got mechanism=None"),
        ({"mechanism": "se", "levels": (4,)}, r"levels are 1 to 3; got \(4,\)"),
        ({"mechanism": "se", "levels": (3,), "position": "skip"}, r"levels are 1 to 2; got \(3,\)"),
        ({"mechanism": "se", "levels": ()}, r"levels are 1 to 3; got \(\)"),
        ({"mechanism": "se", "position": "standard"}, 'position must be one of "block", "skip"; got'),
        (
            {"mechanism": nn.Identity, "options": {}},
            "options are for a mechanism given by name; a callable has its own",
        ),
    ],
)
def test_a_wrong_option_is_refused(options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        UNet(**(TINY | options))


def test_a_wrong_input_is_refused():
    sentence = r"^UNet takes \(batch, 2, \*space\) with spatial_dims=2; got \(1, 3, 8, 8\)$"
    with pytest.raises(ValueError, match=sentence):
        UNet(**TINY)(torch.zeros(1, 3, 8, 8))
