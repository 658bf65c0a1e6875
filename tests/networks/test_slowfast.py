import pytest
import torch
from tests.reference.slowfast import SlowFast, randomised

from foveate.errors import CheckpointError
from foveate.networks import VideoResNet
from foveate.networks.published import from_checkpoint, inspect, save_checkpoint, to_publisher

PUBLISHER = "facebookresearch/SlowFast"
C2D = (1, ((1,), (1,), (1,), (1,)))
I3D = (5, ((3,), (3, 1), (3, 1), (1, 3)))
DEPTHS = (2, 2, 3, 2)
BLOCKS = ((), (1,), (0, 2), ())
CLIP = torch.randn(2, 3, 5, 33, 40, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernels", "blocks", "softmax", "pool", "options", "title"),
    [
        (C2D, ((), (), (), ()), True, 2, {}, "C2D, ResNet-29"),
        (C2D, ((), (), (), ()), True, 1, {"geometry": "frames"}, "C2D, ResNet-29"),
        (I3D, ((), (), (), ()), True, 2, {}, "I3D 3x1x1, ResNet-29"),
        (C2D, BLOCKS, True, 2, {}, "NL-C2D, ResNet-29"),
        (I3D, BLOCKS, True, 2, {}, "NL-I3D 3x1x1, ResNet-29"),
        (I3D, BLOCKS, False, 1, {"pairwise": "dot_product", "geometry": "frames"}, "NL-I3D 3x1x1, ResNet-29"),
    ],
)
def test_a_whole_network_computes_what_slowfast_computes(kernels, blocks, softmax, pool, options, title):
    theirs = randomised(SlowFast(8, DEPTHS, kernels, blocks, softmax, pool))
    state = theirs.state_dict()
    ours = from_checkpoint({"model_state": state}, **options)
    found = inspect(state, **options)
    assert (found.publisher, found.title, found.problems) == (PUBLISHER, title, ())
    assert found.parameters == sum(parameter.numel() for parameter in theirs.parameters())
    with torch.no_grad():
        wanted = theirs(CLIP)
        torch.testing.assert_close(ours(CLIP) / wanted.abs().max(), wanted / wanted.abs().max(), rtol=0, atol=1e-9)
    back = to_publisher(ours, PUBLISHER)
    assert set(back) == set(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_what_keys_cannot_tell_is_told():
    state = SlowFast(4, (1, 1, 1, 1), I3D, ((), (0,), (), ())).state_dict()
    assert dict(inspect(state).assumed) == {
        "geometry": "slowfast",
        "stride_in": "3x3",
        "pool": "before",
        "pairwise": "embedded_gaussian",
        "scale": True,
    }
    found = inspect(state, geometry="frames", pool="none")
    assert set(found.assumed) == {"stride_in", "pairwise", "scale"}
    assert from_checkpoint(state, pool="none").layer2[0].mechanism.pool == "none"


def test_a_network_of_clips_is_saved_and_opened_again(tmp_path):
    network = randomised(
        VideoResNet("basic", (1, 1, 1), base_width=4, stem="tiny", geometry="frames", inflation="3x3x3", num_classes=3)
    )
    save_checkpoint(network, tmp_path / "net.safetensors")
    again = from_checkpoint(tmp_path / "net.safetensors")
    assert again.architecture == network.architecture
    assert torch.equal(again(CLIP), network(CLIP))
    assert inspect(tmp_path / "net.safetensors").title == "I3D 3x3x3, ResNet-8"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s | {"s1.pathway1_stem.conv.weight": torch.zeros(1)}, "it has two pathways; C2D and I3D"),
        (lambda s: {k: v for k, v in s.items() if "res1." not in k or not k.startswith("s3")}, "s3.pathway0_res1"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("head")}, "head.projection.weight is missing"),
        (lambda s: {k: v for k, v in s.items() if k != "s2.pathway0_res0.branch1.weight"}, "s2.pathway0_res0.branch1."),
        (lambda s: s | {"s2.extra": torch.zeros(1)}, "s2.extra belongs to no network that is known here"),
    ],
)
def test_what_does_not_fit_is_named(change, sentence):
    state = dict(SlowFast(4, (1, 3, 1, 1), I3D).state_dict())
    with pytest.raises(CheckpointError, match=f"^the state dict has keys of {PUBLISHER}, but {sentence}"):
        from_checkpoint(change(state))


def test_kernels_over_time_where_neither_c2d_nor_i3d_has_them_are_refused():
    slow_only = SlowFast(4, (1, 1, 1, 1), (1, ((1,), (1,), (3,), (3,)))).state_dict()
    with pytest.raises(CheckpointError, match="its kernels span time, but not in the stem, as SlowOnly's"):
        from_checkpoint(slow_only)
    everywhere = SlowFast(4, (1, 2, 1, 1), (5, ((3,), (3,), (3,), (3,)))).state_dict()
    with pytest.raises(CheckpointError, match=r"s3.pathway0_res1.branch2.a.weight has shape \(8, 32, 3, 1, 1\) where"):
        from_checkpoint(everywhere)


def test_the_place_of_the_step_is_an_argument_of_its_code():
    network = VideoResNet("bottleneck", (1, 1, 1, 1), base_width=4, num_classes=3, geometry="frames", stride_in="1x1")
    state = to_publisher(network, PUBLISHER)
    again = from_checkpoint(state, geometry="frames", stride_in="1x1")
    assert torch.equal(again(CLIP.float()), network.eval()(CLIP.float()))


@pytest.mark.parametrize(
    "options",
    [
        {"geometry": "released"},
        {"geometry": "slowfast", "mechanism": "se"},
        {"geometry": "slowfast", "mechanism": "nonlocal"},  # without its scale
        {"geometry": "slowfast", "mechanism": "nonlocal", "options": {"pairwise": "gaussian", "scale": True}},
        {"geometry": "slowfast", "mechanism": "nonlocal", "options": {"pool": "after", "scale": True}},
        {"geometry": "slowfast", "mechanism": "nonlocal", "options": {"frames": 2, "scale": True}},
    ],
    ids=str,
)
def test_slowfast_gets_only_what_it_has(options):
    network = VideoResNet("bottleneck", (1, 1, 1, 1), base_width=4, num_classes=3, **options)
    with pytest.raises(ValueError, match="SlowFast has no code that computes what this VideoResNet computes"):
        to_publisher(network, PUBLISHER)


def test_the_number_of_classes_is_that_of_the_file():
    state = SlowFast(4, (1, 1, 1, 1), C2D).state_dict()
    assert from_checkpoint(state).fc.out_features == 7
    with pytest.raises(CheckpointError, match=r"head\.projection\.weight has shape"):
        from_checkpoint(state, num_classes=5)
