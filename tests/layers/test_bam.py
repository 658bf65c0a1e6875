import pytest
import torch
from tests.golden import published
from tests.reference import gates

from foveate.layers import BAM

NAMES = {
    "channel_att.gate_c.gate_c_fc_0": "channel.reduce",
    "channel_att.gate_c.gate_c_bn_1": "channel.norm",
    "channel_att.gate_c.gate_c_fc_final": "channel.expand",
    "spatial_att.gate_s.gate_s_conv_reduce0": "spatial.reduce",
    "spatial_att.gate_s.gate_s_bn_reduce0": "spatial.norm",
    "spatial_att.gate_s.gate_s_conv_di_0": "spatial.conv1",
    "spatial_att.gate_s.gate_s_bn_di_0": "spatial.norm1",
    "spatial_att.gate_s.gate_s_conv_di_1": "spatial.conv2",
    "spatial_att.gate_s.gate_s_bn_di_1": "spatial.norm2",
    "spatial_att.gate_s.gate_s_conv_final": "spatial.project",
}


def our_key(key: str) -> str:
    module, _, tensor = key.rpartition(".")
    return f"{NAMES[module]}.{tensor}"


def with_logits(channel: float, spatial: float, combine: str) -> BAM:
    """A layer whose branches are constant."""
    layer = BAM(5, combine=combine).eval()
    for last, value in ((layer.channel.expand, channel), (layer.spatial.project, spatial)):
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, value)
    return layer


def test_it_computes_what_the_release_computes():
    published.check("bam", BAM(32, combine="product"), our_key)


def test_the_paper_adds_the_branches_and_the_release_multiplies_them():
    x = torch.randn(2, 5, 3, 7)
    for combine, logit in (("sum", -1.0 + 3.0), ("product", -1.0 * 3.0)):
        gate = torch.tensor(logit).sigmoid()
        torch.testing.assert_close(with_logits(-1.0, 3.0, combine)(x), x + x * gate)
    assert BAM(5).combine == "sum"


def test_a_silent_channel_branch_leaves_one_and_a_half_times_the_input_under_the_product():
    x = torch.randn(2, 5, 3, 7)
    torch.testing.assert_close(with_logits(0.0, 3.0, "product")(x), 1.5 * x)


def test_both_combinations_use_the_same_branches():
    summed, multiplied = BAM(6, reduction=2).eval(), BAM(6, reduction=2, combine="product").eval()
    multiplied.load_state_dict(summed.state_dict())
    x = torch.randn(2, 6, 5, 3)
    channel = summed.channel(x.mean(dim=(2, 3)))[:, :, None, None]
    spatial = summed.spatial(x)
    torch.testing.assert_close(summed(x), x * (1 + (channel + spatial).sigmoid()))
    torch.testing.assert_close(multiplied(x), x * (1 + (channel * spatial).sigmoid()))


@pytest.mark.parametrize("space", [(28, 56), (56, 28), (3, 1), (1, 1)])
def test_any_space_will_do(space):
    assert BAM(4)(torch.randn(2, 4, *space)).shape == (2, 4, *space)


def test_the_dilation_decides_how_far_the_spatial_gate_sees():
    for dilation in (1, 4):
        layer = BAM(3, dilation=dilation, reduction=1, spatial_dims=1).eval()
        for parameter in layer.parameters():
            torch.nn.init.constant_(parameter, 0.1)  # positive, so that no ReLU hides a position
        x = torch.zeros(1, 3, 41, requires_grad=True)
        layer.spatial(x)[0, 0, 20].backward()
        seen = x.grad[0].abs().sum(dim=0).nonzero().flatten() - 20
        assert seen.min() == -2 * dilation
        assert seen.max() == 2 * dilation


def test_the_parameters_are_those_of_the_release():
    with torch.device("meta"):
        layers = [BAM(channels) for channels in (256, 512, 1024)]  # behind the first three stages of ResNet-50
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [17_361, 68_513, 272_193]


def test_one_sample_cannot_be_normalised_in_training():
    layer = BAM(5)
    with pytest.raises(ValueError, match=r"BAM in training takes at least 2 values per channel.*got \(1, 5\)"):
        layer(torch.randn(1, 5, 4, 4))
    layer.channel.norm.eval()  # frozen statistics take it
    assert layer(torch.randn(1, 5, 4, 4)).shape == (1, 5, 4, 4)
    assert layer.eval()(torch.randn(1, 5, 4, 4)).shape == (1, 5, 4, 4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"combine": "mul"}, 'combine must be one of "sum", "product"; got \'mul\''),
        ({"dilation": 0}, "dilation must be at least 1; got 0"),
        ({"spatial_dims": 0}, "spatial_dims must be 1, 2 or 3; got 0"),
        ({"reduction": 2, "hidden_channels": 2}, "give reduction or hidden_channels, not both; got 2 and 2"),
    ],
)
def test_a_wrong_option_is_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        BAM(8, **options)


def test_it_starts_as_released():
    torch.manual_seed(0)
    layer = BAM(64, reduction=2)
    projections = [module for module in layer.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    assert len(projections) == 6
    assert not any(projection.bias.any() for projection in projections)
    assert layer.spatial.conv1.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    with pytest.raises(ValueError, match="channels must be at least 1; got -3"):
        BAM(-3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("combine", ["sum", "product"])
def test_it_computes_both_branches_as_written_out(combine, training):
    torch.manual_seed(0)
    layer = BAM(6, reduction=2, dilation=2, combine=combine).double().train(training)
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    expected = gates.bam(x, {key: value.clone() for key, value in layer.state_dict().items()}, 2, combine, training)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
