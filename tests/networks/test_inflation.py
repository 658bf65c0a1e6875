import pytest
import timm
import torch
import torchvision
from tests.reference.slowfast import randomised
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from foveate import layers
from foveate.layers.catalogue import MECHANISMS, build
from foveate.networks import ResNet, VideoResNet, inflate, mobilenet_v2, resnet_tiny, unet
from foveate.networks.inflation import inflate_state, inflate_weight

FRAMES = 7
STILL = torch.randn(2, 3, 1, 37, 41, generator=torch.Generator().manual_seed(2)).double().expand(-1, -1, FRAMES, -1, -1)


def frames_of(network: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """What a module gives while a network runs."""
    held = []
    hook = network.get_submodule(name).register_forward_hook(lambda module, inputs, output: held.append(output))
    with torch.no_grad():
        network(x)
    hook.remove()
    return held[0]


def test_a_kernel_is_repeated_and_divided():
    weight = torch.randn(5, 3, 2, 7)
    inflated = inflate_weight(weight, 3)
    assert inflated.shape == (5, 3, 3, 2, 7)
    for frame in range(3):
        assert torch.equal(inflated[:, :, frame], weight / 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stem": "deep", "shortcut": "3x3"},
        {"stem": "cifar", "shortcut": "pool"},
        {"stem_pool": "ceil", "stride_in": "1x1"},
        {"stem_pool": "convolution"},
        {"groups": 2, "width_per_group": 32},
    ],
    ids=str,
)
def test_every_frame_of_a_still_clip_is_the_picture_where_kernels_span_one(options):
    network = randomised(ResNet("bottleneck", (1, 2, 1), base_width=8, num_classes=5, mechanism="se", **options))
    inflated = inflate(network)
    with torch.no_grad():
        torch.testing.assert_close(inflated(STILL), network(STILL[:, :, 0]), rtol=1e-9, atol=1e-12)
    found, wanted = frames_of(inflated, "layer2", STILL), frames_of(network, "layer2", STILL[:, :, 0])
    assert found.shape[2] == FRAMES
    torch.testing.assert_close(found, wanted.unsqueeze(2).expand_as(found), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
def test_frames_out_of_reach_of_the_ends_are_the_picture_where_kernels_span_three(dtype, tolerance):
    network = randomised(ResNet("basic", (1, 1, 1), base_width=8, stem="tiny")).to(dtype)
    inflated = inflate(network, lambda name, convolution: 3 if name == "layer1.0.conv2" else 1)
    found, wanted = (
        frames_of(inflated, "layer3", STILL.to(dtype)),
        frames_of(network, "layer3", STILL[:, :, 0].to(dtype)),
    )
    size = wanted.abs().max()
    for frame in range(FRAMES):
        difference = (found[:, :, frame] - wanted).abs().max() / size
        assert (difference < tolerance) == (0 < frame < FRAMES - 1)


@pytest.mark.parametrize("name", [name for name in MECHANISMS if name not in ("nonlocal",)])
def test_every_gate_is_inflated(name):
    gate = randomised(build(name, 8))
    still = STILL.repeat(1, 3, 1, 1, 1)[:, :8]
    with torch.no_grad():
        found, wanted = inflate(gate)(still), gate(still[:, :, 0])
    torch.testing.assert_close(found, wanted.unsqueeze(2).expand_as(found), rtol=1e-9, atol=1e-12)


def test_a_non_local_block_of_pictures_is_one_of_clips_within_frames_or_through_them():
    block = randomised(layers.NonLocal(8, group="space"))
    still = STILL.repeat(1, 3, 1, 1, 1)[:, :8, :, :9, :7]
    with torch.no_grad():
        wanted = randomised(layers.NonLocal(8))(still[:, :, 0])
        torch.testing.assert_close(inflate(block)(still), wanted.unsqueeze(2).expand_as(still), rtol=1e-9, atol=1e-12)
        spacetime = randomised(layers.NonLocal(8))(still)
    torch.testing.assert_close(spacetime, wanted.unsqueeze(2).expand_as(still), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("library", [timm.create_model, torchvision.models.get_model])
def test_networks_of_other_libraries_too(library):
    network = library("resnet18", num_classes=3).double().eval()
    if library is timm.create_model:  # its own pooling takes two axes of space
        network.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    with torch.no_grad():
        torch.testing.assert_close(inflate(network)(STILL), network(STILL[:, :, 0]), rtol=1e-9, atol=1e-12)


def test_the_network_for_pictures_stays_as_it_is():
    network = resnet_tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inflated = inflate(network, 3)
    assert inflated.architecture is None
    assert network.architecture is not None
    assert network.spatial_dims == 2
    for value in inflated.parameters():
        value.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network(torch.randn(2, 3, 20, 20)).shape == (2, 10)


def test_a_convolution_alone_is_inflated_and_keeps_what_it_has():
    given = nn.Conv2d(3, 6, (3, 5), (1, 2), (1, 2), (2, 1), groups=3).requires_grad_(False)
    found = inflate(given, 5)
    assert isinstance(found, nn.Conv3d)
    assert (found.kernel_size, found.stride, found.padding, found.dilation, found.groups) == (
        (5, 3, 5),
        (1, 1, 2),
        (2, 1, 2),
        (1, 2, 1),
        3,
    )
    assert torch.equal(found.bias, given.bias)
    assert not found.weight.requires_grad
    assert inflate(nn.Conv2d(3, 6, 1), 5).kernel_size == (1, 1, 1)


@pytest.mark.parametrize(
    ("module", "time", "kind", "sentence"),
    [
        (nn.Conv2d(3, 3, 3), 2, ValueError, "the frames of a kernel must be odd and positive; got 2 for the module"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding="same")), 1, TypeError, "0 must have its padding in numbers; got 's"),
        (nn.Sequential(nn.ReLU(), nn.Dropout2d()), 1, TypeError, "1 must be a layer that can be inf"),
        (
            nn.AdaptiveAvgPool2d(7),
            1,
            TypeError,
            r"the module must be a layer that can be inflated; got AdaptiveAvgPool2d\(",
        ),
        (
            nn.ConvTranspose2d(3, 3, 2),
            1,
            TypeError,
            "the module must be a layer that can be inflated; got ConvTranspose2d",
        ),
    ],
)
def test_what_cannot_be_inflated_is_named(module, time, kind, sentence):
    with pytest.raises(kind, match=f"^{sentence}"):
        inflate(module, time)


def test_weights_of_pictures_go_into_a_network_of_clips():
    pictures = randomised(ResNet("basic", (1, 1, 1), base_width=8, stem="tiny", num_classes=4))
    clips = VideoResNet("basic", (1, 1, 1), base_width=8, stem="tiny", num_classes=4, geometry="frames").double().eval()
    clips.load_pictures(pictures.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(clips(STILL), pictures(STILL[:, :, 0]), rtol=1e-9, atol=1e-12)
    state = inflate_state(pictures.state_dict(), clips)
    assert state["layer1.0.conv1.weight"].shape == (8, 8, 1, 3, 3)
    assert state["fc.weight"] is pictures.state_dict()["fc.weight"] or torch.equal(state["fc.weight"], clips.fc.weight)


def test_another_classifier_and_a_mechanism_keep_what_they_have():
    pictures = randomised(ResNet("basic", (1, 1, 1), base_width=8, num_classes=4))
    clips = VideoResNet("basic", (1, 1, 1), base_width=8, num_classes=3, mechanism="nonlocal").double()
    before = {name: value.clone() for name, value in clips.state_dict().items()}
    clips.load_pictures(pictures.state_dict())
    kept = [name for name, value in clips.state_dict().items() if torch.equal(value, before[name])]
    assert {name.split(".")[0] for name in kept if not name.endswith("num_batches_tracked")} == {
        "layer2",
        "layer3",
        "fc",
    }
    assert all("mechanism" in name or name.startswith("fc") or name.endswith("tracked") for name in kept)


def test_weights_that_do_not_fit_are_named():
    clips = VideoResNet("basic", (1, 1, 1), base_width=8, num_classes=3)
    state = dict(ResNet("basic", (1, 1, 1), base_width=8).state_dict())
    del state["layer2.0.bn1.weight"]
    with pytest.raises(ValueError, match=r"ResNet of \(1, 1, 1\) blocks are wanted; layer2.0.bn1.weight is missing"):
        clips.load_pictures(state)
    with pytest.raises(ValueError, match=r"^conv1.weight must fit \(8, 3, 1, 7, 7\), .*; got \(16, 3, 7, 7\)"):
        clips.load_pictures(ResNet("basic", (1, 1, 1), base_width=16).state_dict())


class Standardised(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (nn.Sequential(Standardised(3, 3, 3)), "0 is a Conv2d with a forward of its own; got Standardised"),
        (nn.Upsample(scale_factor=2), "the module must be a layer that can be inflated; got Upsample"),
        (nn.AvgPool2d(2, divisor_override=1), "the module must be a layer that can be inflated; got AvgPool2d"),
        (nn.MaxPool2d(2, return_indices=True), "the module must be a layer that can be inflated; got MaxPool2d"),
        (nn.Sequential(nn.PixelShuffle(2)), "0 must be a layer that can be inflated; got PixelShuffle"),
        (
            torchvision.ops.FrozenBatchNorm2d(3),
            "the module must be a layer that can be inflated; got FrozenBatchNorm2d",
        ),
        (weight_norm(nn.Conv2d(3, 3, 3)), "the module is a Conv2d with a forward of its own; got ParametrizedConv2d"),
        (layers.AttentionGate(8, 8, normalisation="softmax"), "inflate takes a gate .*; got normalisation='softmax'"),
        (unet(widths=(4, 8, 16)), "inflate takes layers, a ResNet or a MobileNetV2 of ours; got UNet"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_computes_something_of_its_own_is_not_taken_for_something_else(module, sentence):
    with pytest.raises(TypeError, match=f"^{sentence}"):
        inflate(module)


def test_a_part_that_stands_in_two_places_is_one_part_still():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    network = inflate(nn.Sequential(shared, nn.ReLU(), shared))
    assert isinstance(network[0], nn.Conv3d)
    assert network[0] is network[2]


def test_an_attention_gate_and_a_mobilenet_are_inflated():
    gate = randomised(layers.AttentionGate(8, 8))
    x, g = STILL.repeat(1, 3, 1, 1, 1)[:, :8, :, :12, :10], STILL.repeat(1, 3, 1, 1, 1)[:, :8, :, :6, :5]
    with torch.no_grad():
        wanted = gate(x[:, :, 0], g[:, :, 0])
        torch.testing.assert_close(inflate(gate)(x, g), wanted.unsqueeze(2).expand(-1, -1, FRAMES, -1, -1))
        network = randomised(mobilenet_v2(width=0.25, num_classes=3))
        torch.testing.assert_close(inflate(network)(STILL), network(STILL[:, :, 0]))
