"""What every mechanism promises when it begins as the identity: it acts after a short training."""

import copy

import pytest
import torch
from torch import nn

from foveate import surgery
from foveate.capture import Tap
from foveate.layers import AttentionGate, VolumetricAttention, catalogue
from foveate.networks import attention_unet, resnet_tiny
from foveate.surgery import blend_in, blended, insert, inserted, remove

STEPS, CHANGE = 60, 0.05
CHANNELS, CLASSES = 16, 5
# What the loss cannot depend on, by mechanism and the end of the name: batch statistics do not see what is added before
# them, and a softmax over keys does not see what is added to all of them.
UNSEEN = {
    "nonlocal": ("phi.bias", "out.bias"),
    "nonlocal without norm": ("phi.bias",),
    "nonlocal of dot products": ("out.bias",),
    "se+nonlocal": ("phi.bias", "out.bias"),
    "bam": ("channel.reduce.bias", "spatial.reduce.bias", "spatial.conv1.bias", "spatial.conv2.bias"),
    "attention gate": ("out.bias",),
}


class Squash(nn.Module):
    """A gate as users write it, with a Tap."""

    def __init__(self, channels):
        super().__init__()
        self.fc, self.gate = nn.Linear(channels, channels), Tap("batch channel")

    def forward(self, x):
        gate = self.gate(self.fc(x.flatten(2).mean(dim=2)).sigmoid())
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


class Residual(nn.Module):
    """A layer as users write it, which adds to its input from the first step."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + self.conv(x.tanh())


class Powerless(nn.Module):
    """A mechanism without parameters, as SimAM is."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * (x - x.mean(dim=(2, 3), keepdim=True)).square().sigmoid()


def of(name, **options):
    return lambda channels: catalogue.build(name, channels, **options)


NAMES = [name for name in catalogue.MECHANISMS if name != "placebo"]  # which is the identity and stays it
# Wide enough that no bottleneck is a single unit, which a ReLU may silence.
OPTIONS = {name: {"reduction": 2} for name in ("se", "scse", "cbam", "bam")}
MECHANISMS = {name: of(name, **OPTIONS.get(name, {})) for name in NAMES} | {
    "se+nonlocal": of("se+nonlocal", se={"reduction": 2}),
    "cbam+eca": of("cbam+eca", cbam={"reduction": 2}),
    "nonlocal without norm": of("nonlocal", norm="none"),
    "nonlocal of dot products": of("nonlocal", pairwise="dot_product"),
    "a user's gate": Squash,
    "a user's residual layer": Residual,
    "a user's gate without parameters": Powerless,
    "a user's convolution": lambda channels: nn.Conv2d(channels, channels, 1),
}
OWN_ZERO = [name for name in MECHANISMS if name.startswith("nonlocal")]


def trained_host(seed=0):
    """A small network of convolutions that has learned a little."""
    torch.manual_seed(seed)
    host = resnet_tiny(num_classes=CLASSES)
    train(host, STEPS // 4)
    return host


def train(host, steps, optimizer=None):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 3, 24, 24, generator=generator)
    labels = torch.randint(0, CLASSES, (8,), generator=generator)
    optimizer = optimizer or torch.optim.AdamW(host.parameters(), lr=1e-3, weight_decay=0.0)
    host.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(host(x), labels).backward()
        optimizer.step()
    return x


def change_at(host, site, x):
    """|features - features without the mechanism| / |features without it| in evaluation."""
    seen = {}
    handle = site.register_forward_hook(lambda module, args, output: seen.update(x=args[0], y=output))
    with torch.no_grad():
        host.eval()(x)
    handle.remove()
    return ((seen["y"] - seen["x"]).norm() / seen["x"].norm()).item()


def after_training(name, start):
    host = trained_host()
    insert(host, "layer2.0", MECHANISMS[name], start=start)
    (child,) = inserted(host).values()
    before = copy.deepcopy(dict(child.named_parameters()))
    x = train(host, STEPS)
    still = [key for key, value in child.named_parameters() if value.equal(before[key])]
    still = [key for key in still if not key.endswith(UNSEEN.get(name, ("nothing",)))]
    return child, still, change_at(host, child, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", MECHANISMS)
def test_after_sixty_steps_every_parameter_has_moved_and_the_features_have_changed(name):
    child, still, change = after_training(name, "identity")
    assert still == []
    if name in OWN_ZERO:
        assert change >= 0.8 * after_training(name, "published")[2] > 0
    else:
        assert change > CHANGE
        assert 0.8 < child.strength < 1.3
        assert child.ramp == 1


@pytest.mark.parametrize("name", MECHANISMS)
def test_at_first_it_is_the_host_to_the_bit_and_it_comes_out_again(name):
    torch.manual_seed(0)
    host = resnet_tiny(num_classes=CLASSES)
    plain, x = copy.deepcopy(host), torch.randn(4, 3, 24, 24)
    insert(host, "layer2.0", MECHANISMS[name])
    for training in (False, True):
        assert torch.equal(host.train(training)(x), plain.train(training)(x))
    remove(host)
    assert torch.equal(host.eval()(x), plain.eval()(x))


def test_two_steps_reach_every_parameter_of_several_mechanisms():
    torch.manual_seed(0)
    host = resnet_tiny(num_classes=CLASSES)
    insert(host, "layer*.0", MECHANISMS["se"])
    insert(host, "layer*.0.bn1", MECHANISMS["eca"])
    train(host, 2, torch.optim.SGD(host.parameters(), lr=1e-3))
    dead = [key for key, value in host.named_parameters() if ".inserted." in key and not value.grad.any()]
    assert dead == []


@pytest.mark.slow
def test_alone_in_a_frozen_host_they_act_too():
    host = trained_host()
    insert(host, "layer2.0", MECHANISMS["se"])
    (child,) = inserted(host).values()
    frozen = {key: value.clone() for key, value in host.named_parameters() if ".inserted." not in key}
    x = train(host, STEPS, torch.optim.AdamW(child.parameters(), lr=1e-3))
    assert change_at(host, child, x) > CHANGE
    assert all(value.equal(frozen[key]) for key, value in host.named_parameters() if key in frozen)


@pytest.mark.slow
def test_the_placebo_stays_the_plain_host_to_the_bit():
    host = trained_host()
    plain = copy.deepcopy(host)
    insert(host, "layer2.0", of("placebo"))
    train(host, 5)
    train(plain, 5)
    assert all(value.equal(host.state_dict()[key]) for key, value in plain.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attention gate", "volumetric"])
def test_mechanisms_of_two_inputs_act_after_a_short_training(kind):
    torch.manual_seed(0)
    x, other = torch.randn(4, CHANNELS, 8, 8), torch.randn(4, 3, CHANNELS, 8, 8)
    if kind == "attention gate":
        module, other = AttentionGate(CHANNELS, CHANNELS), torch.randn(4, CHANNELS, 4, 4)
    else:
        module = VolumetricAttention(CHANNELS, reduction=2)
    assert blend_in(module, x, other)
    assert torch.equal(module(x, other), x)
    before, target = copy.deepcopy(dict(module.named_parameters())), torch.randn_like(x)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (module(x, other) - target).square().mean().backward()
        optimizer.step()
    still = [key for key, value in module.named_parameters() if value.equal(before[key])]
    still = [key for key in still if not key.endswith(UNSEEN.get(kind, ("nothing",)))]
    assert still == []
    output = module.eval()(x, other)
    assert ((output - x).norm() / x.norm()).item() > CHANGE


@pytest.mark.slow
def test_gated_skip_connections_of_a_u_net_act_after_a_short_training():
    torch.manual_seed(0)
    network = attention_unet(num_classes=2, widths=(8, 16, 32))
    skip = network.skips["2"]
    x, g = torch.randn(2, 16, 16, 16), torch.randn(2, 32, 8, 8)
    assert blend_in(skip, x, g)
    assert torch.equal(skip(x, g), x)
    images, labels = torch.randn(4, 1, 32, 32), torch.randint(0, 2, (4, 32, 32))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    (blend,) = blended(network).values()
    assert blend.ramp > 0.97
    assert change_at(network, skip, images) > CHANGE
    assert isinstance(blend, surgery.Blend)
