"""Checkpoints as published: recognised, computed to the publisher's numbers, saved, and given back bit for bit."""

import argparse
import itertools
import json

import numpy as np
import pytest
import timm
import torch
import torchvision
from tests.golden import published
from torch import nn

from foveate import from_checkpoint, insert, networks, save_checkpoint, to_publisher
from foveate.errors import CheckpointError
from foveate.layers import ECA, SE, AttentionGate, NonLocal
from foveate.networks.published import PUBLISHERS, inspect
from foveate.networks.published.reading import ARCHITECTURE, packed

JONGCHAN, CADENE, MOSKOMULE = "Jongchan/attention-module", "Cadene/pretrained-models.pytorch", "moskomule/senet.pytorch"
GATED_NETWORKS = "ozan-oktay/Attention-Gated-Networks"
ECANET, ALEXHEX7, SLOWFAST = "BangguWu/ECANet", "AlexHex7/Non-local_pytorch", "facebookresearch/SlowFast"

NETWORKS = [
    ("resnet18_cbam_cifar", JONGCHAN, "CBAM-ResNet-18 for small pictures"),
    ("resnet18_cbam", JONGCHAN, "CBAM-ResNet-18"),
    ("resnet18_bam", JONGCHAN, "BAM-ResNet-18"),
    ("resnet18_se", MOSKOMULE, "SE-ResNet-18"),
    ("resnet18_eca", ECANET, "ECA-ResNet-18"),
    ("mobilenetv2_eca", ECANET, "ECA-MobileNetV2"),
    ("resnet50_se", MOSKOMULE, "SE-ResNet-50"),
    ("resnet50_eca", ECANET, "ECA-ResNet-50"),
    ("resnet50_cbam", JONGCHAN, "CBAM-ResNet-50"),
    ("resnet50_bam", JONGCHAN, "BAM-ResNet-50"),
    ("se_resnet50_caffe", CADENE, "SE-ResNet-50"),
    ("se_resnext50_32x4d_caffe", CADENE, "SE-ResNeXt-50 (32x4d)"),
    ("unet_ct_dsv", GATED_NETWORKS, "U-Net, 3-D"),
    ("unet_ct_single_att_dsv", GATED_NETWORKS, "Attention U-Net, 3-D"),
    ("unet_ct_multi_att_dsv", GATED_NETWORKS, "Attention U-Net, 2 gates a skip connection, 3-D"),
    ("agsononet_mean", GATED_NETWORKS, "AG-Sononet, mean"),
    ("agsononet_deep_sup", GATED_NETWORKS, "AG-Sononet, deep_sup"),
    ("agsononet_ft", GATED_NETWORKS, "AG-Sononet, ft"),
]
SMALL_NETWORKS = [
    ("unet_3D", GATED_NETWORKS, "U-Net, 3-D"),
    ("unet_grid_gating", GATED_NETWORKS, "Attention U-Net, one signal for all gates, 3-D"),
    ("sononet", GATED_NETWORKS, "Sononet, 2-2-3-3-3 convolutions"),
    ("sononet2", GATED_NETWORKS, "Sononet, 3-3-3-2-2 convolutions"),
]
SUBSAMPLED = [
    (f"nonlocal_{kind}_3d_sub", ALEXHEX7, {"pairwise": kind}) for kind in ("embedded_gaussian", "dot_product")
]
GATES = [
    (f"grid_attention_{mode}_{dims}d", GATED_NETWORKS, options)
    for dims in (2, 3)
    for mode, options in (
        ("concatenation", {}),
        ("concatenation_debug", {"activation": "softplus"}),
        ("concatenation_residual", {"normalisation": "softmax"}),
    )
]
LAYERS = [
    *GATES,
    ("se", MOSKOMULE, {}),
    ("se_conv", CADENE, {}),
    ("cbam_avg_max", JONGCHAN, {}),
    ("cbam_avg", JONGCHAN, {"pools": ("average",)}),
    ("cbam_lp_lse", JONGCHAN, {"pools": ("lp", "lse")}),
    ("cbam_channel_only", JONGCHAN, {}),
    ("bam", JONGCHAN, {}),
    ("eca_k5", ECANET, {"channels": 32}),
    ("nonlocal_gaussian_3d_sub", ALEXHEX7, {}),
    ("nonlocal_concatenation_1d", ALEXHEX7, {}),
    ("nonlocal_dot_product_2d_train", ALEXHEX7, {"pairwise": "dot_product"}),
    *SUBSAMPLED,
    ("nonlocal_official_softmax", SLOWFAST, {}),
    ("nonlocal_official_softmax_pool", SLOWFAST, {"pool": "before"}),
    ("nonlocal_official_dot_product_pool", SLOWFAST, {"pool": "before", "pairwise": "dot_product"}),
]


def check(name, network, publisher):
    """Outputs and gradients of a network that came from a golden state, and its state under the publisher's keys."""
    state = published.state_dict(name)
    dims = max(value.ndim for key, value in state.items() if "weight" in key and "concat" not in key) - 2
    back = to_publisher(network, publisher, spatial_dims=max(dims, 1))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].shape == value.shape
        assert torch.equal(back[key], value), key
    names = dict(zip(back, network.state_dict(), strict=True))
    published.check(name, network, names.__getitem__, with_gate(network), loaded=True)


def with_gate(network):
    """How to call a gate such that its coefficients come out beside what it gates; None for all else."""
    if not isinstance(network, AttentionGate):
        return None
    seen = []
    network.gate.register_forward_hook(lambda module, given, gate: seen.append(gate.unsqueeze(1)))
    return lambda x, g: {"gated": network(x, g), "attention": seen[-1]}


@pytest.mark.parametrize(
    ("name", "publisher", "title"),
    [*SMALL_NETWORKS, *(pytest.param(*given, marks=pytest.mark.slow) for given in NETWORKS)],
)
def test_a_published_network_is_recognised_and_computes_what_its_publisher_computes(name, publisher, title):
    found = inspect(published.state_dict(name))
    assert (found.publisher, found.title, found.problems) == (publisher, title, ())
    assert found.parameters == published.read(name)[0]["parameters"]
    network = from_checkpoint(published.state_dict(name))
    assert not network.training
    check(name, network, publisher)


@pytest.mark.parametrize(("name", "publisher", "options"), LAYERS)
def test_a_published_layer_is_recognised_and_computes_what_its_publisher_computes(name, publisher, options):
    layer = from_checkpoint(published.state_dict(name), **options)
    check(name, layer, publisher)


def randomised(model):
    """A network none of whose tensors is trivial."""
    generator = torch.Generator().manual_seed(7)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim <= 1:
            positive = key.endswith(("weight", "running_var"))
            value.copy_(torch.rand(value.shape, generator=generator) * 0.4 + (0.8 if positive else -0.2))
    return model.eval()


PEERS = {
    "seresnet18": "timm",  # its bottleneck is rounded to 8 channels
    "ecaresnet26t": "timm",  # a tiered deep stem, pooled shortcuts
    "resnet18d": "timm",
    "resnetrs50": "timm",  # a convolution for a pool
    "legacy_seresnet18": CADENE,  # a ReLU in front of the gate
    "legacy_senet154": CADENE,
    "legacy_seresnext26_32x4d": CADENE,
    "seresnet50": "timm",
    "ecaresnet50d": "timm",
    "seresnext50_32x4d": "timm",
    "resnet50s": "timm",
    "ecaresnetlight": "timm",
}


@torch.no_grad()
def compare(model, publisher, x):
    state = model.double().state_dict()
    network, expected = from_checkpoint(state), model(x.double())
    assert (network(x.double()) - expected).abs().max() <= 1e-12 * expected.abs().max()
    back = to_publisher(network, publisher)
    assert back.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in back.items())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "publisher"), PEERS.items())
def test_it_computes_what_timm_computes_at_an_odd_size(name, publisher):
    model = timm.create_model(name, num_classes=7)
    compare(randomised(model), publisher, torch.randn(2, 3, 75, 97))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2", "mobilenet_v2"])
def test_it_computes_what_torchvision_computes(name):
    model = randomised(getattr(torchvision.models, name)(num_classes=5))
    compare(model, "torchvision", torch.randn(2, 3, 75, 97))


def small(**options):
    """A small network, always with the same weights."""
    torch.manual_seed(0)
    network = networks.ResNet("basic", (1, 1, 1), base_width=8, num_classes=4, stem="cifar", **options)
    return randomised(network)


def bottlenecks(**options):
    """A small network of bottleneck blocks with SE."""
    return networks.ResNet("bottleneck", (1, 1, 1), base_width=8, mechanism="se", **options)


CBAM = {"mechanism": "cbam", "options": {"reduction": 4}}
HEARTS = {  # the release's network for hearts, all of whose levels are alike
    "widths": (4, 4, 4, 4, 4),
    "gates": 1,
    "shared_signal": True,
    "fused_gates": False,
    "fused_heads": False,
    "kernel_size": (3, 3, 1),
    "strides": (2, 2, 1),
    "spatial_dims": 3,
}


@pytest.fixture
def state():
    return to_publisher(small(**CBAM), JONGCHAN)


def wrap(state, how):
    prefixed = {f"module.{key}": value for key, value in state.items()}
    return {
        "bare": state,
        "parallel": prefixed,
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "trained": {"epoch": 90, "arch": "resnet", "state_dict": prefixed, "best_prec1": torch.tensor(0.0)},
        "with settings": {"model": state, "args": argparse.Namespace(lr=0.1)},
        "nested": {"state_dict": {"model": state}},
        "old": {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    }[how]


@pytest.mark.parametrize("how", ["bare", "parallel", "compiled", "trained", "with settings", "nested", "old"])
def test_the_usual_wrappings_are_taken_off(state, how, tmp_path):
    x = torch.randn(2, 3, 17, 23)
    torch.save(wrap(state, how), tmp_path / "net.pth")
    network = from_checkpoint(tmp_path / "net.pth")
    assert torch.equal(network(x), small(**CBAM)(x))
    assert network.architecture == small(**CBAM).architecture


def test_the_file_may_be_of_safetensors(state, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(packed(state))
    assert inspect(tmp_path / "net.safetensors").publisher == JONGCHAN


@pytest.mark.parametrize(
    ("stored", "opened"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_weights_of_few_bits_become_float32_and_those_of_many_stay(state, stored, opened):
    half = {
        key: value.to(getattr(torch, stored)) if value.is_floating_point() else value for key, value in state.items()
    }
    network = from_checkpoint(half)
    assert network.fc.weight.dtype == getattr(torch, opened)
    assert torch.equal(network.fc.weight, half["fc.weight"].to(getattr(torch, opened)))


@pytest.mark.parametrize("prefix", ["module.module.", "_orig_mod.module.", "module._orig_mod."])
def test_prefixes_are_taken_off_however_often(state, prefix):
    assert not inspect({f"{prefix}{key}": value for key, value in state.items()}).problems


def test_a_key_behind_an_unknown_prefix_is_shown(state):
    with pytest.raises(CheckpointError, match=r"conv1\.weight is missing; the file has encoder\.conv1\.weight$"):
        from_checkpoint({f"encoder.{key}": value for key, value in state.items()})


def test_numbers_beside_the_tensors_do_no_harm(state, tmp_path):
    torch.save({"state_dict": state, "best_acc": np.float64(77.6), "epoch": np.int64(3)}, tmp_path / "net.pth")
    assert inspect(tmp_path / "net.pth").publisher == JONGCHAN


def test_a_file_is_what_its_content_is(state, tmp_path):
    torch.save(state, tmp_path / "net.safetensors")
    save_checkpoint(small(**CBAM), tmp_path / "net.pth")
    assert inspect(tmp_path / "net.safetensors").publisher == JONGCHAN
    assert inspect(tmp_path / "net.pth").publisher == "foveate"


def test_a_checkpoint_inside_itself_ends(tmp_path):
    held = {}
    held["state_dict"] = held
    torch.save(held, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="must hold tensors by name; 'state_dict' is dict"):
        from_checkpoint(tmp_path / "net.pth")


def test_a_tensor_that_claims_more_than_it_holds_is_refused(state):
    state["fc.weight"] = torch.zeros(1).expand(3_000_000_000, 32)
    sentence = r"fc.weight claims 96,000,000,000 numbers and holds fewer"
    with pytest.raises(CheckpointError, match=sentence):
        from_checkpoint(state)


def test_names_that_would_speak_to_the_terminal_are_refused(state):
    with pytest.raises(CheckpointError, match=r"by names that can be printed; got '\\x1b\[31mred'"):
        from_checkpoint(state | {"\x1b[31mred": torch.zeros(1)})


def test_a_source_is_a_path_or_a_state_dict():
    with pytest.raises(TypeError, match="a checkpoint is a path or a state dict; got list"):
        from_checkpoint([1, 2])


def test_saving_touches_the_one_file_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ".net.safetensors.foveate.tmp").symlink_to(tmp_path / "mine.txt")
    (tmp_path / "net.safetensors.tmp").write_text("mine too")
    save_checkpoint(small(), tmp_path / "net.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "net.safetensors", "net.safetensors.tmp"]
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "net.safetensors.tmp").read_text() == "mine too"


def test_a_network_of_somebody_else_with_some_of_these_names_is_nobodys():
    state = {f"layer1.0.convs.{k}.{name}": torch.zeros(1) for k in range(9) for name in ("weight", "bias")}
    state |= {"conv1.weight": torch.zeros(8, 3, 7, 7), "bn1.running_mean": torch.zeros(8), "stage2.x": torch.zeros(1)}
    assert inspect(state | {f"stage3.{k}": torch.zeros(1) for k in range(30)}).publisher is None


def test_the_callers_tensors_are_not_shared(state):
    network = from_checkpoint(state)
    with torch.no_grad():
        network.fc.weight.zero_()
    assert state["fc.weight"].any()
    assert network.fc.weight.requires_grad


@pytest.mark.slow
def test_monais_attention_unet_is_recognised_as_a_variant_and_runs():
    from monai.networks.nets import AttentionUnet

    model = AttentionUnet(3, in_channels=2, out_channels=4, channels=(4, 8, 16), strides=(2, 2), up_kernel_size=5)
    randomised(model)
    found = inspect(model.state_dict())
    assert (found.publisher, found.problems) == ("MONAI", ())
    assert found.title == "MONAI's AttentionUnet, a variant of Attention U-Net, 3-D"
    assert found.assumed == {"strides": [2, 2]}
    x = torch.randn(1, 2, 8, 12, 16)
    assert torch.equal(from_checkpoint(model.state_dict())(x), model(x))


MISFITS = {
    "missing": (lambda s: s.pop("layer2.0.conv2.weight"), "layer2.0.conv2.weight is missing"),
    "first of two": (
        lambda s: (s.pop("fc.bias"), s.pop("layer1.0.bn1.weight")),
        "layer1.0.bn1.weight is missing",
    ),
    "shape": (
        lambda s: s.update({"layer2.0.conv2.weight": torch.zeros(16, 16, 1, 1)}),
        r"layer2.0.conv2.weight has shape \(16, 16, 1, 1\) where \(16, 16, 3, 3\) is wanted",
    ),
    "left over": (
        lambda s: s.update({"aux.weight": torch.zeros(1)}),
        "aux.weight belongs to no network that is known here",
    ),
    "whole numbers": (
        lambda s: s.update({"fc.bias": torch.zeros(4, dtype=torch.int8)}),
        "fc.bias holds int8, not floating point numbers",
    ),
    "half": (
        lambda s: [s.pop(key) for key in list(s) if key.startswith(("layer3", "fc"))],
        "layer3.0.conv1.weight is missing",
    ),
    "a gap": (
        lambda s: s.update({"layer1.7.conv1.weight": torch.zeros(1)}),
        "layer1.1.conv1.weight is missing",
    ),
    "no classifier": (lambda s: (s.pop("fc.weight"), s.pop("fc.bias")), "fc.weight is missing"),
    "axes": (
        lambda s: s.update({"conv1.weight": torch.zeros(3)}),
        r"conv1.weight must have 4 axes that are not empty; it has shape \(3,\)",
    ),
    "kernel": (
        lambda s: s.update({"conv1.weight": torch.zeros(8, 3, 5, 5)}),
        "the stem's kernel must be 7x7, or 3x3 for small pictures; got 5x5",
    ),
    "sparse": (
        lambda s: s.update({"fc.weight": s["fc.weight"].to_sparse()}),
        "fc.weight is no dense tensor of numbers",
    ),
}


@pytest.mark.parametrize(("damage", "sentence"), MISFITS.values(), ids=MISFITS)
def test_the_first_misfit_is_named(state, damage, sentence):
    damage(state)
    with pytest.raises(CheckpointError, match=f"^the state dict has keys of {JONGCHAN}, but {sentence}$"):
        from_checkpoint(state)
    assert inspect(state).problems


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["cbam", "bam", "se", "caffe", "timm", "eca", "mobilenet", "block", "pooled block", "hearts", "sononet"]
)
def test_no_shape_whatever_makes_anything_but_a_sentence(kind):
    se, eca = {"mechanism": "se", "options": {"reduction": 4}}, {"mechanism": "eca", "options": {"kernel_size": 3}}
    network, publisher = {
        "cbam": lambda: (small(**CBAM), JONGCHAN),
        "bam": lambda: (small(mechanism="bam", options={"reduction": 2, "combine": "product"}), JONGCHAN),
        "se": lambda: (small(**se), MOSKOMULE),
        "caffe": lambda: (bottlenecks(stem_pool="ceil", stride_in="1x1"), CADENE),
        "timm": lambda: (networks.ResNet("basic", (1, 1, 1), base_width=8, stem="deep", shortcut="pool", **se), "timm"),
        "eca": lambda: (small(**eca), ECANET),
        "mobilenet": lambda: (networks.MobileNetV2(channels=[8] * 9, **eca), ECANET),
        "block": lambda: (NonLocal(8, scale=True), SLOWFAST),
        "pooled block": lambda: (NonLocal(8, "concatenation", pool="after"), ALEXHEX7),
        "hearts": lambda: (networks.UNet(**HEARTS), GATED_NETWORKS),
        "sononet": lambda: (networks.Sononet(widths=(3, 4, 5, 6), num_classes=2), GATED_NETWORKS),
    }[kind]()
    state = to_publisher(network.eval(), publisher)
    assert not inspect(state).problems
    shapes = itertools.cycle([(1,), (0,), (3, 0), (2, 3), (3, 2, 1), (3, 2, 1, 1), (1, 1, 1, 1, 1), (2,) * 6, ()])
    for key in list(state)[:: 1 + len(state) // 25]:
        shape = next(shape for shape in shapes if shape != state[key].shape)
        assert inspect(state | {key: torch.zeros(shape)}).problems, (key, shape)
        without = {other: held for other, held in state.items() if other != key}
        # Without counters it is an old file, and without its last projection a concatenation is an embedded Gaussian.
        assert inspect(without).problems or key.endswith("num_batches_tracked") or key.startswith("concat"), key


def test_what_is_nobodys_is_said():
    with pytest.raises(
        CheckpointError, match=r"^the state dict is of no publisher that is known here; its keys begin with a, b"
    ):
        from_checkpoint({"a": torch.zeros(1), "b": torch.zeros(1)})


def test_numbers_in_keys_are_no_reason_to_build_that_much(state):
    state["layer1.999999999.conv1.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"layer1\.1\.conv1\.weight is missing"):
        from_checkpoint(state)


class Command:
    def __reduce__(self):
        return exec, ("print('executed')",)


FILES = {
    "absent": (None, "does not exist or is no file; a checkpoint is wanted: No such file or directory"),
    "empty": (b"", "is empty; a checkpoint is wanted"),
    "page": (
        b"\n<!DOCTYPE html><html>",
        "is a web page, not a checkpoint: the download gave a page instead of the file",
    ),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a pointer of Git LFS, not a checkpoint: git lfs pull fetches the file itself",
    ),
    "text": (b"nonsense", "is nothing that torch.save or safetensors wrote; it begins with b'nonsense'"),
    "compressed": (b"\x1f\x8b\x08", "is compressed with gzip; a checkpoint is wanted as it was saved"),
    "marked page": (
        b"\xef\xbb\xbf<html>",
        "is a web page, not a checkpoint: the download gave a page instead of the file",
    ),
    "pickle": (b"\x80\x02", "cannot be read as a checkpoint of tensors: .+"),
}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(("content", "sentence"), FILES.values(), ids=FILES)
def test_a_file_that_is_none_is_said(content, sentence, ending, tmp_path):
    path = tmp_path / f"net.{ending}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{path} {sentence}$"):
        from_checkpoint(path)


@pytest.mark.parametrize("share", [0.3, 0.99])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_that_is_cut_off_is_said(state, share, ending, tmp_path):
    path = tmp_path / f"net.{ending}"
    torch.save(state, path) if ending == "pth" else path.write_bytes(packed(state))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    said = (
        "is cut off: a zip archive without its end"
        if ending == "pth"
        else "cannot be read as a checkpoint of tensors: "
    )
    with pytest.raises(CheckpointError, match=f"^{path} {said}"):
        from_checkpoint(path)


def test_nothing_in_a_file_is_executed(state, tmp_path, capsys):
    torch.save(state | {"extra": Command()}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"holds a pickled [\w.]*exec; only tensors are read"):
        from_checkpoint(tmp_path / "net.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("held", "found"), [({"epoch": 3}, "'epoch' is int"), ([1], "got list"), ({}, "got dict, empty")]
)
def test_what_holds_no_tensors_is_said(held, found, tmp_path):
    torch.save(held, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=f"must hold tensors by name; {found}"):
        from_checkpoint(tmp_path / "net.pth")


def test_what_keys_cannot_tell_is_an_option(state):
    caffe = to_publisher(bottlenecks(stem_pool="ceil", stride_in="1x1"), CADENE)
    assert inspect(caffe).assumed == {"stem_pool": "ceil", "stride_in": "1x1"}
    other = from_checkpoint(caffe, stride_in="3x3")
    assert other.layer2[0].conv2.stride == (2, 2)
    assert other.layer2[0].conv1.stride == (1, 1)
    assert inspect(caffe, stride_in="3x3").assumed == {"stem_pool": "ceil"}
    pooled = from_checkpoint(state, pools=("max",))
    assert pooled.layer1[0].mechanism.pools == ("max",)
    assert pooled.layer1[0].mechanism.fc1.out_features == 2
    with pytest.raises(TypeError, match="resnet has no option 'strides'; it takes block, depths"):
        from_checkpoint(state, strides=2)


def test_the_steps_of_a_network_for_hearts_are_an_option():
    state = to_publisher(networks.UNet(**HEARTS), GATED_NETWORKS)
    assert inspect(state).assumed == {"strides": [2, 2, 1]}
    assert from_checkpoint(state).strides == [(2, 2, 1)] * 4
    assert from_checkpoint(state, strides=2).strides == [(2, 2, 2)] * 4
    coarse = to_publisher(networks.UNet(**HEARTS, gate_options={"stride": (4, 2, 1)}), GATED_NETWORKS)
    assert from_checkpoint(coarse).skips["3"].gates[0].stride == (4, 2, 1)


@pytest.mark.parametrize(
    "options", [{"strides": 2}, {"shared_signal": False}, {"fused_gates": True}, {"gates": 2, "fused_gates": True}]
)
def test_a_u_net_that_the_release_has_not_is_not_given_its_names(options):
    with pytest.raises(ValueError, match=f"^{GATED_NETWORKS} has no code that computes what this UNet computes$"):
        to_publisher(networks.UNet(**(HEARTS | options)), GATED_NETWORKS)


def test_the_kernel_of_a_lone_eca_does_not_tell_its_channels():
    weights = nn.Conv1d(1, 1, 5, bias=False).state_dict()
    with pytest.raises(CheckpointError, match=r"conv\.weight alone does not tell the channels; give them as channels"):
        from_checkpoint({"conv.weight": weights["weight"]})


SAVED = {
    "cbam": lambda: small(**CBAM),
    "plain": lambda: small(),
    "pre": lambda: small(mechanism="se", position="pre", options={"squeeze": "max", "reduction": 2}),
    "by stage": lambda: small(mechanism="eca", options=[{"kernel_size": k} for k in (1, 3, 5)]),
    "chain": lambda: small(mechanism="eca+spatial", options={"spatial": {"kernel_size": 3}}),
    "blocks": lambda: small(
        mechanism="nonlocal", blocks=[(2, 0)], options={"pairwise": "dot_product", "pool": "before"}
    ),
    "bam": lambda: small(mechanism="bam", stages=(1,), options={"reduction": 2}),
    "wide": lambda: small(width=1.5, zero_init_last=True),
    "mobilenet": lambda: randomised(networks.MobileNetV2(channels=[8] * 9, mechanism="se", num_classes=3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", SAVED.values(), ids=SAVED)
def test_what_is_saved_comes_back_bit_for_bit(build, tmp_path):
    network, x = build(), torch.randn(2, 3, 33, 41)
    save_checkpoint(network, tmp_path / "deep" / "net.safetensors")
    again = from_checkpoint(tmp_path / "deep" / "net.safetensors")
    assert repr(again) == repr(network.eval())
    assert again.architecture == network.architecture
    assert torch.equal(again(x), network(x))
    assert list(again.state_dict()) == list(network.state_dict())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["net.safetensors"]
    assert inspect(tmp_path / "deep" / "net.safetensors").publisher == "foveate"


def test_the_same_network_gives_the_same_bytes():
    metadata = {name: name for name in "abcdefgh"}
    assert len({packed(small().state_dict(), metadata) for _ in range(8)}) == 1


def test_a_network_that_cannot_be_written_down_is_refused(tmp_path):
    inserted = small()
    insert(inserted, "layer1.*", "eca")
    made = small(mechanism=lambda channels: SE(channels))
    for network, kind in ((nn.Linear(2, 2), "Linear"), (made, "ResNet"), (inserted, "ResNet")):
        with pytest.raises(TypeError, match=f"whose mechanism has a name; got {kind}"):
            save_checkpoint(network, tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written: "):
        save_checkpoint(small(), tmp_path / "file" / "net.safetensors")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("{", "its header is damaged: "),
        ("[]", "its header is damaged: an architecture is "),
        ('{"kind": "os.system", "options": {}}', "its header is damaged: an architecture's kind is one of resnet, "),
        ('{"kind": "resnet", "options": {"block": "basic", "depths": [1, 1, 999999999]}}', "its header asks for more"),
        ('{"kind": "resnet", "options": {"block": "basic", "depths": 3}}', "no network can be built of its sizes: "),
        ('{"kind": "unet", "options": {"gates": 1000000}}', "its header asks for more"),
        ('{"kind": "sononet", "options": {"convs": [1, 1, 1, 1, 9999999]}}', "its header asks for more"),
        ('{"kind": "unet", "options": {"kernel_size": 2147483647}}', "no network can be built of its sizes: "),
        (f'{{"kind": "unet", "options": {{"widths": {[1] * 999}}}}}', "its header asks for more"),
        (f'{{"kind": "resnet", "options": {{"mechanism": "{"eca+" * 99}eca"}}}}', "its header asks for more"),
        ('{"kind": "resnet", "options": {"width": 1e999}}', "its header asks for more"),
        ('{"kind": [], "options": {}}', "its header is damaged: "),
        ("[" * 200_000, "its header is damaged: an architecture is not nested that deeply"),
        ('{"kind": "resnet", "options": {"depths": [1, 1, 1]}}', "no network can be built of its sizes: "),
        ('{"kind": "resnet", "options": {"block": "basic", "depths": [1, 1, 1]}}', "conv1.weight has shape"),
        ('{"kind": "se", "options": {"channels": -3}}', "no network can be built of its sizes: "),
    ],
)
def test_a_header_is_not_believed(header, sentence, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(packed(small().state_dict(), {ARCHITECTURE: header}))
    with pytest.raises(CheckpointError, match=f"^{path} has keys of foveate, but {sentence}"):
        from_checkpoint(path)


def test_a_publisher_gets_only_what_it_has():
    with pytest.raises(LookupError, match='no publisher "Jongchan"; there are Jongchan/attention-module, '):
        to_publisher(small(), "Jongchan")
    for network, publisher in (
        (small(mechanism="bam", options={"reduction": 2}), JONGCHAN),  # it multiplies the branches, the paper adds them
        (small(**CBAM), ECANET),
        (small(mechanism="cbam", options={"reduction": 4, "pools": ("max",)}), JONGCHAN),
        (bottlenecks(), CADENE),  # it makes the step in the 1x1
        (SE(8, squeeze="max"), MOSKOMULE),
        (NonLocal(8, scale=True), ALEXHEX7),
    ):
        with pytest.raises(ValueError, match="has no code that computes what this"):
            to_publisher(network, publisher)


def test_a_layer_of_ones_own_goes_to_its_publisher():
    assert to_publisher(ECA(64), ECANET).keys() == {"conv.weight"}
    keys = to_publisher(NonLocal(8, pool="after"), ALEXHEX7, spatial_dims=3)
    assert keys["g.0.weight"].shape == (4, 8, 1, 1, 1)


def test_an_architecture_is_json():
    network = small(mechanism="eca", options=[{"kernel_size": k} for k in (1, 3, 5)])
    text = network.architecture.write()
    assert json.loads(text)["options"]["depths"] == [1, 1, 1]
    assert network.architecture.read(text) == network.architecture


def test_every_publisher_is_tested():
    tested = {"MONAI"} | {publisher for _, publisher, _ in (*NETWORKS, *LAYERS)} | {*PEERS.values(), "torchvision"}
    # In test_detr_published and test_transformer:
    elsewhere = {"facebookresearch/detr", "huggingface/transformers", "huggingface/transformers 4"}
    elsewhere |= {"torchvision/maskrcnn", "torchvision/maskrcnn before 0.13"}  # in test_mask_rcnn
    elsewhere |= {"pytorch/torch.nn.Transformer"}
    assert tested | elsewhere == set(PUBLISHERS)
