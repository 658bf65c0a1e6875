"""Hosts of timm, torchvision and MONAI: each test tells the whole story of one insertion."""

import copy
from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from foveate.layers import CBAM
from foveate.surgery import Inserted, default_sites, insert, inserted, load_host, rehearse, remove


def unet():
    networks = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
    return networks.UNet(3, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)


def faster_rcnn():
    build = torchvision.models.detection.fasterrcnn_resnet50_fpn
    # Small pictures, and every detection kept, so that there is something to compare.
    return build(weights=None, weights_backbone=None, min_size=64, max_size=96, box_score_thresh=0.0)


# Builder, input, pattern (None: the usual place), number of sites, first site, its channels and layout.
HOSTS = {
    "timm resnet50": (partial(timm.create_model, "resnet50"), (2, 3, 64, 64), "layer3.*", 6, 1024, "channels_first"),
    "timm convnext_tiny": (
        partial(timm.create_model, "convnext_tiny"),
        (2, 3, 64, 64),
        "stages.*.blocks.0",
        4,
        96,
        "channels_first",
    ),
    "timm efficientnet_b0": (
        partial(timm.create_model, "efficientnet_b0"),
        (2, 3, 64, 64),
        None,
        16,
        16,
        "channels_first",
    ),
    "timm vit_tiny": (
        partial(timm.create_model, "vit_tiny_patch16_224", img_size=64, depth=4),
        (2, 3, 64, 64),
        None,
        4,
        192,
        "channels_last",
    ),
    "timm swin_tiny": (
        partial(timm.create_model, "swin_tiny_patch4_window7_224", img_size=112),
        (1, 3, 112, 112),
        None,
        12,
        96,
        "channels_last",
    ),
    "torchvision resnet18": (torchvision.models.resnet18, (2, 3, 64, 64), "layer*", 4, 64, "channels_first"),
    "torchvision mobilenet_v3": (torchvision.models.mobilenet_v3_small, (2, 3, 64, 64), None, 11, 16, "channels_first"),
    "torchvision faster r-cnn": (faster_rcnn, [(3, 64, 80)], "rpn.head.conv", 1, 256, "channels_first"),
    "MONAI unet": (unet, (1, 1, 16, 16, 16), "model.*.submodule.*", 3, 8, "channels_first"),
}


def tensors(output):
    """The tensors in whatever a host gives."""
    if isinstance(output, Tensor):
        return [output]
    return [tensor for item in (output.values() if isinstance(output, dict) else output) for tensor in tensors(item)]


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_a_mechanism_goes_in_as_the_identity_learns_and_comes_out_exactly(name):
    build, shape, where, number, channels, layout = HOSTS[name]
    torch.manual_seed(0)
    host = build().eval()
    x = [torch.randn(size) for size in shape] if isinstance(shape, list) else torch.randn(shape)
    before = copy.deepcopy(host.state_dict())
    random_state = torch.get_rng_state()
    with torch.no_grad():
        expected = tensors(host(x))
    assert expected
    assert all(tensor.numel() for tensor in expected)

    # Built from the host alone: no example, no layout.
    sites = insert(host, default_sites(host) if where is None else where, partial(CBAM, reduction=4))
    assert len(sites) == number
    assert (sites[0].channels, sites[0].layout) == (channels, layout)
    assert rehearse(host) == sites

    # The identity, bit for bit; keys, values and random state as they were, apart from what CBAM drew.
    with torch.no_grad():
        assert all(map(torch.equal, tensors(host(x)), expected))
    after = host.state_dict()
    assert [key for key in after if ".inserted." not in key] == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(module.training for module in host.modules())
    torch.set_rng_state(random_state)

    # An old checkpoint loads, and does not touch what was inserted.
    load_host(host, before)
    with torch.no_grad():
        assert all(map(torch.equal, tensors(host(x)), expected))

    # Gradients reach alpha at once, and the mechanism after one step.
    optimizer = torch.optim.SGD([p for child in inserted(host).values() for p in child.parameters()], lr=1e-3)
    _backward(host, x)
    assert all(child.alpha.grad != 0 for child in inserted(host).values())
    optimizer.step()
    optimizer.zero_grad()
    _backward(host, x)
    assert all(_gradient(child) > 0 for child in inserted(host).values())

    # Out again.
    assert remove(host) == [site.name for site in sites]
    assert list(host.state_dict()) == list(before)
    with torch.no_grad():
        assert all(map(torch.equal, tensors(host(x)), expected))


@pytest.mark.slow
def test_a_feature_pyramid_takes_a_mechanism_at_each_level_and_calls_its_head_once_a_level():
    host = faster_rcnn()
    assert [site.calls for site in insert(host, "rpn.head.conv", CBAM)] == [5]
    assert [site.calls for site in insert(host, "backbone.fpn.layer_blocks.*", CBAM)] == [1, 1, 1, 1]
    with pytest.raises(TypeError, match=r"'backbone.fpn' gives a OrderedDict"):
        insert(host, "backbone.fpn", CBAM)


def test_transformers_keep_channels_last_inside_and_out():
    host = timm.create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    (outside, inside) = insert(host, lambda name, module: name in ("stages.0.blocks.0", "stages.0.blocks.0.mlp"), CBAM)
    assert (outside.layout, outside.channels) == ("channels_first", 8)
    assert (inside.layout, inside.channels) == ("channels_last", 8)

    host = torchvision.models.VisionTransformer(32, 8, 2, 4, 24, 48)
    assert [site.layout for site in insert(host, default_sites(host), CBAM)] == ["channels_last"] * 2
    with pytest.raises(LookupError, match=r"VisionTransformer never calls \['encoder.layers"):
        insert(host, "**.out_proj", CBAM)


def test_the_encoder_of_torch_leaves_its_fused_path_for_a_mechanism():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    host = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        fused = host(x)
        insert(host, default_sites(host), CBAM, example=x)
        torch.testing.assert_close(host(x), fused)
    assert len(rehearse(host, x)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision resnet18", "timm vit_tiny"])
def test_copies_compilation_and_export_keep_the_mechanism(name):
    build, shape, where, number, *_ = HOSTS[name]
    host = build().eval()
    insert(host, default_sites(host) if where is None else where, CBAM)
    for child in inserted(host).values():
        nn.init.constant_(child.alpha, 0.3)
    x = torch.randn(shape)
    with torch.no_grad():
        expected = host(x)
        twin = copy.deepcopy(host)
        assert torch.equal(twin(x), expected)
        assert len(remove(twin)) == number
        assert not torch.equal(twin(x), expected)
        torch.testing.assert_close(torch.compile(host, backend="aot_eager")(x), expected)
        program = torch.export.export(host, (x,))
        torch.testing.assert_close(program.module()(x), expected)


def _backward(host: nn.Module, x):
    if isinstance(x, list):  # a detector has no loss without targets; its proposals come from here
        images, _ = host.transform(x)
        output = host.rpn.head(list(host.backbone(images.tensors).values()))
    else:
        output = host(x)
    sum(tensor.float().square().mean() for tensor in tensors(output)).backward()


def _gradient(child: Inserted) -> float:
    return max(parameter.grad.abs().max().item() for parameter in child.mechanism.parameters())
