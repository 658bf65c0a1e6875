import pytest
import torch
from tests.golden import published
from tests.reference import gates
from timm.layers.cbam import CbamModule

from foveate.layers import CBAM, SpatialGate


def our_key(key: str) -> str:
    names = {
        "ChannelGate.mlp.1": "fc1",
        "ChannelGate.mlp.3": "fc2",
        "SpatialGate.spatial.conv": "spatial.conv",
        "SpatialGate.spatial.bn": "spatial.norm",
    }
    module, _, tensor = key.rpartition(".")
    return f"{names[module]}.{tensor}"


def trained(layer):
    """The layer in double precision and eval, its normalisation off its zero start."""
    layer = layer.double().eval()
    norm = layer.spatial.norm
    for tensor, value in ((norm.weight, 1.7), (norm.bias, -0.3), (norm.running_mean, 0.2), (norm.running_var, 0.6)):
        torch.nn.init.constant_(tensor, value)
    return layer


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cbam_avg", {"pools": ("average",)}),
        ("cbam_avg_max", {}),
        ("cbam_lp_lse", {"pools": ("lp", "lse")}),
        ("cbam_channel_only", {"spatial": False}),
        ("cbam_train", {}),
    ],
)
def test_it_computes_what_the_release_computes(name, options):
    published.check(name, CBAM(32, reduction=8, **options), our_key)


def test_it_computes_what_timm_computes_once_the_kernel_is_flipped_to_mean_first():
    theirs = CbamModule(13, rd_channels=3, mlp_bias=True).eval()
    ours = CBAM(13, hidden_channels=3, zero_init=False).eval()
    state = {}
    for key, value in theirs.state_dict().items():
        renamed = key.replace("channel.", "").replace("spatial.conv.bn", "spatial.norm").replace("conv.conv", "conv")
        state[renamed] = value.flip(1) if "conv" in renamed else value.reshape(value.shape[:2])
    ours.load_state_dict(state)
    x = torch.randn(2, 13, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("order", ["channel_first", "spatial_first", "parallel"])
def test_it_computes_the_equations(order):
    layer = trained(CBAM(5, hidden_channels=2, kernel_size=3, order=order))
    state = layer.state_dict()
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64)

    def by_channel(x):
        return x * gates.sigmoid(gates.cbam_channel_logits(x, state))[:, :, None, None]

    def by_position(x):
        return x * gates.sigmoid(gates.cbam_spatial_logits(x, state))[:, None]

    if order == "channel_first":
        expected = by_position(by_channel(x))
    elif order == "spatial_first":
        expected = by_channel(by_position(x))
    else:
        channel, position = gates.cbam_channel_logits(x, state), gates.cbam_spatial_logits(x, state)
        expected = x * gates.sigmoid(channel[:, :, None, None] + position[:, None])
    torch.testing.assert_close(layer(x), expected)


def test_the_spatial_gate_alone_is_the_second_half():
    whole, half = trained(CBAM(5, kernel_size=3)), trained(SpatialGate(5, kernel_size=3))
    half.spatial.load_state_dict(whole.spatial.state_dict())
    without_space = CBAM(5, spatial=False).double()
    without_space.load_state_dict({k: v for k, v in whole.state_dict().items() if k.startswith("fc")})
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(half(without_space(x)), whole(x))


def test_the_first_channel_of_the_kernel_sees_the_maximum_and_the_second_the_mean():
    layer = trained(SpatialGate(3, kernel_size=1))
    same_maximum = torch.tensor([[1.0, 5.0, 0.0], [5.0, 5.0, 2.0]], dtype=torch.float64)[:, :, None, None]
    same_mean = torch.tensor([[1.0, 5.0, 0.0], [2.0, 2.0, 2.0]], dtype=torch.float64)[:, :, None, None]
    for weights, blind_to, sensitive_to in (
        ((1.0, 0.0), same_maximum, same_mean),
        ((0.0, 1.0), same_mean, same_maximum),
    ):
        layer.spatial.conv.weight.data = torch.tensor(weights, dtype=torch.float64).reshape(1, 2, 1, 1)
        first, second = gate_of(layer, blind_to)
        assert first == second
        first, second = gate_of(layer, sensitive_to)
        assert first != second


def gate_of(layer, x):
    seen = []
    handle = layer.gate.register_forward_hook(lambda module, args, output: seen.append(output.flatten()))
    layer(x)
    handle.remove()
    return seen[0]


def test_a_hand_computed_channel_gate_sums_before_the_sigmoid():
    layer = CBAM(1, hidden_channels=1, spatial=False)
    layer.load_state_dict(
        {
            "fc1.weight": torch.tensor([[1.0]]),
            "fc1.bias": torch.tensor([0.0]),
            "fc2.weight": torch.tensor([[-1.0]]),
            "fc2.bias": torch.tensor([0.5]),
        }
    )
    x = torch.tensor([[[1.0, 3.0]]])  # mean 2, maximum 3: the logits are 0.5 - 2 and 0.5 - 3
    torch.testing.assert_close(layer(x), x * torch.tensor(-4.0).sigmoid())


def test_lp_and_lse_are_sums():
    ones = torch.ones(1, 1, 4, 4)
    for kind, squeezed in (("lp", 4.0), ("lse", 1 + torch.tensor(16.0).log().item())):
        layer = CBAM(1, hidden_channels=1, pools=(kind,), spatial=False)
        for parameter, value in zip(layer.parameters(), (1.0, 0.0, 1.0, -squeezed), strict=True):
            torch.nn.init.constant_(parameter, value)
        torch.testing.assert_close(layer(ones), 0.5 * ones)


def test_the_lp_pool_has_a_gradient_at_zero():
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    CBAM(3, pools=("lp",), spatial=False)(x).sum().backward()
    assert x.grad.isfinite().all()


def test_it_starts_as_released_with_spatial_gates_of_one_half():
    layer = CBAM(7)
    assert layer.spatial.norm.weight.item() == 0
    assert layer.spatial.norm.momentum == 0.01
    seen = []
    layer.spatial_gate.register_forward_hook(lambda module, args, output: seen.append(output))
    layer(torch.randn(2, 7, 5, 3))
    assert (seen[0] == 0.5).all()


def test_its_perceptron_and_kernel_start_as_released():
    torch.manual_seed(0)
    layer = CBAM(32)
    assert not layer.fc1.bias.any()
    assert not layer.fc2.bias.any()
    assert not hasattr(layer.spatial.conv, "bias") or layer.spatial.conv.bias is None
    kernels = torch.cat([SpatialGate(7).spatial.conv.weight.flatten() for _ in range(50)])
    assert kernels.std().item() == pytest.approx((2 / 49) ** 0.5, rel=0.05)


@pytest.mark.parametrize("layer", [CBAM, SpatialGate])
def test_there_must_be_channels(layer):
    with pytest.raises(ValueError, match="channels must be at least 1; got 0"):
        layer(0)


def test_a_pool_counts_once():
    with pytest.raises(ValueError, match=r"each of pools counts once; got \('max', 'max'\)"):
        CBAM(7, pools=("max", "max"))


def test_it_leaves_the_zero_start():
    layer = CBAM(7)
    x = torch.randn(2, 7, 5, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for step in range(2):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        assert (layer.spatial.norm.weight.grad != 0).all()
        assert bool((layer.spatial.conv.weight.grad != 0).any()) == (step == 1)
        optimizer.step()


def test_it_can_start_at_one_instead():
    assert CBAM(7, zero_init=False).spatial.norm.weight.item() == 1
    assert SpatialGate(7, zero_init=False).spatial.norm.weight.item() == 1


def test_the_parameters_are_those_of_the_release():
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3  # the blocks of ResNet-50
    with torch.device("meta"):
        layers = [CBAM(channels) for channels in widths]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == 2_532_592


def test_without_a_spatial_gate_it_takes_any_space():
    layer = CBAM(5, spatial=False)
    for space in ((3,), (3, 2), (3, 2, 7)):
        assert layer(torch.randn(2, 5, *space)).shape == (2, 5, *space)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pools": ("mean",)}, 'each of pools must be one of "average", "max", "lp", "lse"; got \'mean\''),
        ({"pools": ()}, r'pools must be a tuple such as \("average", "max"\); got \(\)'),
        ({"pools": "average"}, r'pools must be a tuple such as \("average", "max"\); got \'average\''),
        ({"order": "first"}, 'order must be one of "channel_first", "spatial_first", "parallel"; got \'first\''),
        ({"kernel_size": 4}, "kernel_size must be odd and positive; got 4"),
        ({"spatial_dims": 4}, "spatial_dims must be 1, 2 or 3; got 4"),
        ({"spatial": False, "order": "parallel"}, "CBAM with spatial=False has no spatial gate for order='parallel'"),
        ({"spatial": False, "kernel_size": 3}, "CBAM with spatial=False has no spatial gate for kernel_size=3"),
        ({"spatial": False, "zero_init": True}, "CBAM with spatial=False has no spatial gate for zero_init=True"),
    ],
)
def test_a_wrong_option_is_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        CBAM(8, **options)


def test_a_space_of_other_rank_is_refused():
    for layer in (CBAM(8), SpatialGate(8)):
        with pytest.raises(ValueError, match=r"takes \(batch, 8, \*space\) with spatial_dims=2; got \(2, 8, 3, 3, 3\)"):
            layer(torch.zeros(2, 8, 3, 3, 3))


def test_a_single_position_cannot_be_normalised_in_training():
    for layer in (CBAM(8), SpatialGate(8), CBAM(8, order="parallel")):
        with pytest.raises(ValueError, match=r"in training takes at least 2 values per channel.*got \(1, 8, 1, 1\)"):
            layer(torch.zeros(1, 8, 1, 1))
        layer.spatial.norm.eval()  # frozen statistics take it
        assert layer(torch.ones(1, 8, 1, 1)).shape == (1, 8, 1, 1)
