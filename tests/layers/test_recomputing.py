import weakref

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from foveate import networks, to_publisher
from foveate.compare.cost import LiveBytes
from foveate.layers import CBAM, recomputing


def test_what_is_recomputed_is_not_kept_and_has_its_gradients():
    x = torch.randn(2, 3, 5, requires_grad=True)
    computed = []

    def double():
        computed.append(x * 2)
        return computed[-1]

    doubled = double()
    with recomputing.recomputed(doubled, double):
        y = doubled.square() * doubled.exp()
    del doubled
    assert len(computed) == 1
    y.sum().backward()
    assert len(computed) == 2  # once more, for the square; the exponential keeps what it gave
    other = x.detach().requires_grad_()
    ((2 * other).square() * (2 * other).exp()).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


def test_what_is_recomputed_serves_two_gradients_and_is_let_go():
    x = torch.randn(2, 3, 5, requires_grad=True)
    computed = []

    def double():
        computed.append(weakref.ref(doubled := x * 2))
        return doubled

    doubled = double()
    with recomputing.recomputed(doubled, double):
        y = doubled.square() + doubled.pow(3)
    del doubled
    for passes in (1, 2):
        (found,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        torch.testing.assert_close(found, 8 * x + 24 * x.square())
        assert len(computed) == 1 + passes
        assert computed[-1]() is None


def test_cbam_keeps_one_map_of_features_beside_its_input_and_output():
    layer, x = CBAM(64), torch.randn(1, 64, 16, 16, requires_grad=True)
    with LiveBytes([x, *layer.parameters(), *layer.buffers()]) as live:
        before = live.bytes
        y = layer(x)
    assert y.untyped_storage().nbytes() <= live.bytes - before < 1.2 * y.untyped_storage().nbytes()


class Counted:
    """Hooks of saved tensors that keep them in a list, as those do that move them to other memory."""

    def __init__(self):
        self.kept = []

    def pack(self, tensor):
        self.kept.append(tensor.detach().clone())
        return len(self.kept) - 1

    def unpack(self, place):
        return self.kept[place]


def test_other_hooks_of_saved_tensors_still_see_what_is_kept():
    layer, x = CBAM(8, zero_init=False), torch.randn(2, 8, 6, 5, requires_grad=True)
    expected = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    counted = Counted()
    with torch.autograd.graph.saved_tensors_hooks(counted.pack, counted.unpack):
        y = layer(x)
    assert sum(kept.shape == x.shape for kept in counted.kept) == 3  # x for its maximum, its gate and the gated
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("norm", "space"), [(nn.BatchNorm1d, (7,)), (nn.BatchNorm2d, (4, 3)), (nn.BatchNorm3d, (2, 1, 3))]
)
def test_what_is_normalised_again_has_its_gradients_to_the_second_order(norm, space, training):
    norm = norm(3).double().train(training)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = torch.randn(2, 3, *space, dtype=torch.float64, requires_grad=True)

    def gated(x):
        y = norm(x)
        with recomputing.normalised_again(norm, x, y):
            return y * y.sigmoid()

    def plain(x):
        y = norm(x)
        return y * y.sigmoid()

    torch.testing.assert_close(gated(x), plain(x))
    torch.testing.assert_close(
        *[torch.autograd.grad(form(x).sin().sum(), x) for form in (gated, plain)], rtol=0, atol=0
    )
    assert gradcheck(gated, x)
    assert gradgradcheck(gated, x)


def recomputing_network(mechanism, recompute, **settings):
    torch.manual_seed(0)
    return networks.resnet18(width=0.25, num_classes=5, mechanism=mechanism, recompute=recompute, **settings)


@pytest.mark.parametrize("mechanism", ["se", "cbam"])
def test_parameters_given_for_a_call_are_those_of_its_gradients(mechanism):
    x, found = torch.randn(2, 3, 32, 32), []
    for recompute in (False, True):
        network = recomputing_network(mechanism, recompute)
        given = {name: value.detach() + 0.1 for name, value in network.named_parameters()}
        given = {name: value.requires_grad_() for name, value in given.items()}
        y = torch.func.functional_call(network, given, (x,))
        found.append(torch.autograd.grad(y.square().sum(), list(given.values())))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_statistics_that_move_on_do_not_change_a_gradient():
    norm = nn.BatchNorm2d(3).eval().requires_grad_(False)  # a frozen host: nothing of it is in the graph
    x, gate = torch.randn(4, 3, 5, 5), torch.rand(1, 3, 1, 1, requires_grad=True)
    y = norm(x)
    expected = y.sum(dim=(0, 2, 3), keepdim=True)
    with recomputing.normalised_again(norm, x, y):
        z = y * gate
    del y
    norm.running_mean.add_(1.0)
    torch.testing.assert_close(torch.autograd.grad(z.sum(), gate)[0], expected)


class InPlace(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.relu, self.conv = nn.LeakyReLU(inplace=True), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(self.relu(x))


def test_what_a_mechanism_changes_in_place_is_kept():
    x, found = torch.randn(2, 3, 32, 32), []
    for recompute in (False, True):
        network = recomputing_network(InPlace, recompute)
        network(x).square().sum().backward()
        found.append([each.grad for each in network.parameters()])
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mechanism", ["cbam", "spatial"])
def test_features_that_come_again_in_other_bits_still_have_their_maximum(monkeypatch, mechanism, layout):
    exact = recomputing.F.batch_norm
    x, found = torch.randn(2, 3, 64, 64).contiguous(memory_format=layout), []
    for recompute in (False, True):
        network = recomputing_network(mechanism, recompute)
        y = network.to(memory_format=layout)(x)
        with monkeypatch.context() as patch:
            patch.setattr(recomputing.F, "batch_norm", lambda *args, **options: exact(*args, **options) * (1 + 1e-6))
            y.square().sum().backward()
        found.append([each.grad for each in network.parameters()])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_network_recomputes_too(reentrant):
    x, found = torch.randn(2, 3, 32, 32, requires_grad=True), []
    for recompute in (False, True):
        network = recomputing_network("cbam", recompute)
        y = torch.utils.checkpoint.checkpoint(network, x, use_reentrant=reentrant)
        y.square().sum().backward()
        found.append([each.grad for each in network.parameters()])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_torch_that_does_not_tell_of_other_hooks_has_the_same_gradients(monkeypatch):
    layer, x = CBAM(8, zero_init=False), torch.randn(2, 8, 6, 5, requires_grad=True)
    expected = torch.autograd.grad(layer(x).square().sum(), x)
    monkeypatch.delattr(torch._C._autograd, "_top_saved_tensors_default_hooks")
    torch.testing.assert_close(torch.autograd.grad(layer(x).square().sum(), x), expected)


def test_a_batch_is_counted_once():
    norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5, requires_grad=True)
    y = norm(x)
    with recomputing.normalised_again(norm, x, y):
        z = y * y
    del y
    mean, count = norm.running_mean.clone(), norm.num_batches_tracked.clone()
    z.sum().backward()
    assert norm.running_mean.equal(mean)
    assert norm.num_batches_tracked.equal(count)


@pytest.mark.parametrize("norm", [nn.Identity(), nn.GroupNorm(1, 3), nn.SyncBatchNorm(3).eval()])
def test_other_normalisations_are_kept(norm):
    x = torch.randn(2, 3, 4, requires_grad=True)
    y = norm(x)
    with recomputing.normalised_again(norm, x, y):
        z = y * y
    del y
    z.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mechanism", ["se", "eca", "cbam", "bam", "scse", "nonlocal"])
def test_a_network_that_recomputes_has_the_same_gradients(mechanism, last):
    built = [recomputing_network(mechanism, recompute, position="standard") for recompute in (False, True)]
    x = torch.randn(4, 3, 64, 64)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    found = []
    for network in built:
        for each in network.modules():
            if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.ones_(each.weight)  # also where a mechanism starts as nothing
        y = network(x)
        y.square().sum().backward()
        found.append([y.detach(), *(each.grad for each in network.parameters()), *network.buffers()])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(again, kept, rtol=0, atol=0)


@pytest.mark.parametrize(("mechanism", "maps"), [("se", 0.3), ("eca", 0.3), ("cbam", 0.5)])
def test_a_network_that_recomputes_keeps_no_map_for_its_gates(mechanism, maps):
    x, held = torch.randn(2, 3, 64, 64), {}
    for name, settings in {"plain": {}, "gated": {"mechanism": mechanism, "recompute": True}}.items():
        network = networks.resnet18(num_classes=5, **settings)
        with LiveBytes([x, *network.parameters(), *network.buffers()]) as live:
            before = live.bytes
            y = network(x)
        held[name] = live.bytes - before
        del y
    features = 4 * 2 * 2 * (64 * 16**2 + 128 * 8**2 + 256 * 4**2 + 512 * 2**2)  # of two blocks in each stage
    assert held["gated"] - held["plain"] < maps * features  # vectors of channels, next to small maps here


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"position": "post"}, "at position='post'"), ({"branch_relu": True}, "with branch_relu=True")],
)
def test_only_what_stands_behind_a_last_normalisation_is_recomputed(settings, found):
    wanted = f"^recompute is for a mechanism behind a block's last normalisation; got one {found}$"
    with pytest.raises(ValueError, match=wanted):
        networks.ResNet("basic", (1, 1, 1), mechanism="se", recompute=True, **settings)


def test_a_network_that_recomputes_goes_to_a_publisher_as_any_other():
    plain, again = (networks.resnet50(mechanism="se", recompute=recompute) for recompute in (False, True))
    again.load_state_dict(plain.state_dict())
    theirs = [to_publisher(network, "timm") for network in (plain, again)]
    assert theirs[0].keys() == theirs[1].keys()


def test_a_network_without_mechanisms_recomputes_nothing():
    with pytest.raises(ValueError, match=r"^recompute need a mechanism; got mechanism=None$"):
        networks.resnet18(recompute=True)


@pytest.mark.slow
def test_a_network_that_recomputes_compiles_whole():
    network = networks.ResNet("basic", (1, 1, 1), base_width=8, num_classes=3, mechanism="cbam", recompute=True)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(torch.compile(network, fullgraph=True)(x), network(x), rtol=1e-4, atol=1e-4)
