import copy
import pickle

import pytest
import torch
from tests.reference.slowfast import randomised
from torch import nn

from foveate.capture import capture, taps
from foveate.compare.cost import count_macs, count_parameters
from foveate.layers import NonLocal
from foveate.layers.catalogue import MECHANISMS
from foveate.networks import (
    VideoResNet,
    c2d_resnet50,
    c2d_resnet101,
    c2d_tiny,
    catalogue,
    i3d_resnet50,
    i3d_resnet101,
    i3d_tiny,
)

NL = {"mechanism": "nonlocal", "options": {"pool": "before", "scale": True}}
I3D_3X3X3 = {"inflation": "3x3x3"}
PUBLISHED = [
    (c2d_resnet50, {}, 24_327_632, 20_233_617_408),
    (c2d_resnet101, {}, 43_319_760, 35_082_502_144),
    (c2d_resnet50, NL | {"blocks": 1}, 26_429_392, 21_418_573_824),
    (c2d_resnet101, NL | {"blocks": 1}, 45_421_520, 36_267_458_560),
    (c2d_resnet50, NL | {"blocks": 5}, 31_686_096, 28_361_326_592),
    (c2d_resnet101, NL | {"blocks": 5}, 50_678_224, 43_210_211_328),
    (c2d_resnet50, NL | {"blocks": 10}, 39_044_560, 36_489_035_776),
    (i3d_resnet50, {}, 28_043_472, 32_829_964_288),
    (i3d_resnet101, {}, 51_754_192, 51_378_225_152),
    (i3d_resnet50, NL | {"blocks": 5}, 35_401_936, 40_957_673_472),
    (i3d_resnet101, NL | {"blocks": 5}, 59_112_656, 59_505_934_336),
    (i3d_resnet50, I3D_3X3X3, 33_433_808, 38_688_227_328),
    (i3d_resnet101, I3D_3X3X3, 63_042_768, 61_860_708_352),
    (c2d_resnet50, {"geometry": "paper"}, 24_327_632, 20_437_303_296),
    (c2d_resnet50, NL | {"blocks": 5, "geometry": "paper"}, 31_686_096, 28_565_012_480),
]
RELEASED_8 = [
    (c2d_resnet50, {}, 19_289_505_792),
    (i3d_resnet50, {}, 28_109_406_208),
    (i3d_resnet50, NL, 36_237_115_392),
]
CLIP = torch.randn(2, 3, 8, 26, 22, generator=torch.Generator().manual_seed(3))


def small(**options) -> VideoResNet:
    return VideoResNet(
        "basic", (1, 1, 1), base_width=8, num_classes=5, **({"stem": "tiny", "geometry": "frames"} | options)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "options", "parameters", "macs"), PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(builder, options, parameters, macs):
    with torch.device("meta"):
        network = builder(**options)
    assert count_parameters(network) == parameters
    assert count_macs(network, (1, 3, 32, 224, 224)) == macs


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "options", "macs"), RELEASED_8)
def test_macs_of_clips_of_eight_frames(builder, options, macs):
    with torch.device("meta"):
        network = builder(geometry="released_8", **options)
    assert count_macs(network, (1, 3, 8, 224, 224)) == macs


@pytest.mark.parametrize("name", [name for name, entry in catalogue.NETWORKS.items() if entry.clips])
def test_the_catalogue_builds_what_it_names(name):
    with torch.device("meta"):
        network = catalogue.build(name)
    assert isinstance(network, VideoResNet)
    assert (network.inflation != "none") == ("i3d" in name)
    assert bool(network.sites) == name.startswith("nonlocal")


@pytest.mark.parametrize(
    ("geometry", "frames", "sizes"),
    [
        ("released", 32, [(8, 55, 55), (4, 28, 28), (4, 14, 14)]),
        ("paper", 32, [(8, 56, 56), (4, 28, 28), (4, 14, 14)]),
        ("released_8", 8, [(8, 55, 55), (4, 28, 28), (4, 14, 14)]),
        ("slowfast", 32, [(32, 56, 56), (16, 28, 28), (16, 14, 14)]),
        ("frames", 8, [(8, 56, 56), (8, 28, 28), (8, 14, 14)]),
    ],
)
def test_each_geometry_has_its_grids(geometry, frames, sizes):
    with torch.device("meta"):
        network = c2d_resnet50(geometry=geometry, width=0.125)
        found = []
        for stage in ("layer1", "layer2", "layer3"):
            network.get_submodule(stage).register_forward_hook(
                lambda m, i, output: found.append(tuple(output.shape[2:]))
            )
        network.eval()(torch.empty(1, 3, frames, 224, 224))
    assert found == sizes


def test_i3d_spans_time_where_the_release_does():
    with torch.device("meta"):
        network = i3d_resnet50()
        large = i3d_resnet101(inflation="3x3x3")
    kernels = {
        stage: [block.conv1.kernel_size[0] for block in network.get_submodule(f"layer{stage}")] for stage in range(1, 5)
    }
    assert network.conv1.kernel_size == (5, 7, 7)
    assert kernels == {1: [3, 3, 3], 2: [3, 1, 3, 1], 3: [3, 1, 3, 1, 3, 1], 4: [1, 3, 1]}
    assert [block.conv2.kernel_size for block in large.layer4] == [(1, 3, 3), (3, 3, 3), (1, 3, 3)]
    assert all(block.conv1.kernel_size == (1, 1, 1) for block in large.layer1)


def test_blocks_stand_at_the_published_places():
    with torch.device("meta"):
        deep = c2d_resnet101(**NL)
    assert [name.removesuffix(".mechanism") for name in deep.sites] == [
        "layer2.1",
        "layer2.3",
        "layer3.6",
        "layer3.13",
        "layer3.20",
    ]


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "placebo"])
def test_every_mechanism_learns_in_clips(mechanism):
    network = small(mechanism=mechanism)
    network(CLIP).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    last = (
        next(module for module in network.modules() if isinstance(module, NonLocal))
        if mechanism == "nonlocal"
        else None
    )
    assert last is None or last.norm.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "options", [{}, {"group": "time"}, {"group": "space"}, {"frames": 4}, {"pool": "before"}], ids=str
)
def test_non_local_blocks_begin_as_the_identity(options):
    torch.manual_seed(0)
    plain = small().eval()
    torch.manual_seed(0)
    network = small(mechanism="nonlocal", options=options).eval()
    with torch.no_grad():
        assert torch.equal(network(CLIP), plain(CLIP))


@pytest.mark.parametrize(
    ("group", "shape"),
    [
        ("spacetime", (2, 8, 7, 6, 8, 7, 6)),
        ("space", (2, 8, 7, 6, 7, 6)),
        ("time", (2, 7, 6, 8, 8)),
    ],
)
def test_maps_are_seen_in_space_and_time(group, shape):
    network = small(mechanism="nonlocal", options={"group": group}).eval()
    assert list(taps(network)) == ["layer2.0.mechanism.weights", "layer3.0.mechanism.weights"]
    with torch.no_grad(), capture(network) as maps:
        network(CLIP)
    weights = maps["layer2.0.mechanism.weights"]
    assert weights.shape == shape
    keys = {"spacetime": (-3, -2, -1), "space": (-2, -1), "time": (-1,)}[group]
    torch.testing.assert_close(weights.sum(dim=keys), torch.ones(shape[: len(shape) - len(keys)]))


@pytest.mark.parametrize(("builder", "blind"), [(c2d_tiny, True), (i3d_tiny, False)])
def test_c2d_does_not_know_the_order_of_frames_and_i3d_does(builder, blind):
    network = randomised(builder(mechanism="nonlocal", options={"scale": True}))
    clip = CLIP.double()
    with torch.no_grad():
        found, shuffled = network(clip), network(clip[:, :, [3, 0, 7, 1, 6, 5, 2, 4]])
    assert ((found - shuffled).abs().max() / found.abs().max() < 1e-9) == blind


def test_runs_of_frames_see_nothing_of_each_other():
    block = randomised(NonLocal(6, frames=2))
    x = torch.randn(2, 6, 6, 5, 3, dtype=torch.float64)
    whole = randomised(NonLocal(6))
    with torch.no_grad():
        runs = [whole(x[:, :, start : start + 2]) for start in (0, 2, 4)]
        torch.testing.assert_close(block(x), torch.cat(runs, dim=2), rtol=0, atol=1e-12)
        with capture(block) as maps:
            block(x)
    assert maps["weights"].shape == (2, 3, 2, 5, 3, 2, 5, 3)
    assert taps(block) == {"weights": "batch run *query *key"}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: small(inflation="3x1x1"),
            "inflation 3x1x1 is of a bottleneck's 1x1 convolution; basic blocks take 3x3x3",
        ),
        (lambda: small(inflation="5x1x1"), "inflation must be one of none, 3x1x1, 3x3x3; got '5x1x1'"),
        (lambda: small(geometry="deep"), "geometry must be one of released, released_8, .*; got 'deep'"),
        (
            lambda: small()(torch.zeros(1, 3, 8, 8)),
            r"VideoResNet takes \(batch, 3, time, height, width\); got \(1, 3, 8, 8\)",
        ),
        (
            lambda: NonLocal(8, frames=0),
            "frames counts those of a run, with group='spacetime'; got 0 with group='spacetime'",
        ),
        (lambda: NonLocal(8, frames=2, group="space"), "frames counts those of a run, .*; got 2 with group='space'"),
        (
            lambda: NonLocal(8, frames=2)(torch.zeros(1, 8, 4, 4)),
            r"NonLocal with frames=2 takes \(batch, 8, time, height, ",
        ),
        (
            lambda: NonLocal(8, frames=3)(torch.zeros(1, 8, 4, 4, 4)),
            "NonLocal with frames=3 takes a multiple of so many ",
        ),
    ],
)
def test_what_has_no_meaning_is_told(make, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        make()


def test_a_network_of_clips_is_copied_and_pickled():
    network = small(mechanism="nonlocal", options={"frames": 4}).eval()
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(again(CLIP), network(CLIP))
    built = network.architecture.build()
    assert repr(built) == repr(network)
    assert set(built.state_dict()) == set(network.state_dict())


def test_channels_last_and_half_precision_give_the_same():
    network = small(mechanism="nonlocal", inflation="3x3x3").eval()
    with torch.no_grad():
        wanted = network(CLIP)
        last = network.to(memory_format=torch.channels_last_3d)(CLIP.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(network(CLIP).float(), wanted, rtol=0.1, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"group": "time"}, {"frames": 4}, {}], ids=str)
def test_a_network_of_clips_is_compiled_and_exported(options):
    network = small(mechanism="nonlocal", options=options, inflation="3x3x3").eval()
    with torch.no_grad():
        wanted = network(CLIP)
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(CLIP), wanted)
        batch = torch.export.Dim("batch", min=2, max=16)
        program = torch.export.export(network, (CLIP,), dynamic_shapes=({0: batch},))
        more = torch.cat([CLIP, CLIP, CLIP])
        torch.testing.assert_close(program.module()(more), network(more))


def test_the_weights_of_the_host_do_not_depend_on_the_mechanism():
    states = []
    for mechanism in (None, "nonlocal", "cbam"):
        torch.manual_seed(5)
        states.append(small(mechanism=mechanism).state_dict())
    assert all(torch.equal(value, state[key]) for state in states[1:] for key, value in states[0].items())
    convolutions = [module for module in small().modules() if isinstance(module, nn.Conv3d)]
    assert len(convolutions) == 1 + 2 * 3 + 2
