import pytest
import torch
from tests.golden import published
from timm.layers import SEModule

from foveate.layers import SE


def test_it_computes_what_the_bias_free_linear_release_computes():
    keys = {"fc.0": "fc1", "fc.2": "fc2"}
    published.check("se", SE(32, reduction=8, bias=False), lambda key: f"{keys[key[:4]]}.weight")


def test_it_computes_what_the_original_release_computes_with_1x1_convolutions_and_biases():
    published.check("se_conv", SE(32, reduction=8), lambda key: key)


def test_it_computes_what_timm_computes():
    theirs = SEModule(13, rd_channels=3)
    ours = SE(13, hidden_channels=3)
    ours.load_state_dict({key: value.reshape(value.shape[:2]) for key, value in theirs.state_dict().items()})
    x = torch.randn(2, 13, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("squeeze", "squeezed"), [("average", [3.0, 10.0]), ("max", [5.0, 30.0])])
def test_a_hand_computed_gate(squeeze, squeezed):
    layer = SE(2, hidden_channels=1, squeeze=squeeze)
    layer.load_state_dict(
        {
            "fc1.weight": torch.tensor([[1.0, 0.1]]),
            "fc1.bias": torch.tensor([-1.0]),
            "fc2.weight": torch.tensor([[0.5], [-0.5]]),
            "fc2.bias": torch.tensor([0.0, 1.0]),
        }
    )
    x = torch.tensor([[[1.0, 3.0, 5.0], [-10.0, 10.0, 30.0]]])
    hidden = squeezed[0] + 0.1 * squeezed[1] - 1
    gate = torch.tensor([0.5 * hidden, 1 - 0.5 * hidden]).sigmoid()
    torch.testing.assert_close(layer(x), x * gate[None, :, None])


def test_without_a_squeeze_every_position_is_gated_by_itself():
    layer = SE(7, hidden_channels=3, squeeze="none")
    x = torch.randn(2, 7, 3, 5)
    gated = layer(x)
    one_position = layer(x[:, :, 1:2, 3:4])
    torch.testing.assert_close(gated[:, :, 1:2, 3:4], one_position)
    averaged = SE(7, hidden_channels=3)
    averaged.load_state_dict(layer.state_dict())
    torch.testing.assert_close(averaged(x[:, :, :1, :1]), layer(x[:, :, :1, :1]))


def test_the_bottleneck_is_not_rounded_and_never_empty():
    assert SE(64).fc1.out_features == 4
    assert SE(70, reduction=16).fc1.out_features == 4
    assert SE(8, reduction=16).fc1.out_features == 1
    assert SE(64, hidden_channels=5).fc1.out_features == 5


def test_the_parameters_are_those_of_the_paper():
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3  # the blocks of ResNet-50
    for bias, total in ((True, 2_530_992), (False, 2_514_944)):
        with torch.device("meta"):
            layers = [SE(channels, bias=bias) for channels in widths]
        assert sum(p.numel() for layer in layers for p in layer.parameters()) == total


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"reduction": 4, "hidden_channels": 2}, "give reduction or hidden_channels, not both; got 4 and 2"),
        ({"reduction": 0}, "reduction must be at least 1; got 0"),
        ({"hidden_channels": -1}, "hidden_channels must be at least 1; got -1"),
        ({"squeeze": "mean"}, 'squeeze must be one of "average", "max", "none"; got \'mean\''),
    ],
)
def test_a_wrong_option_is_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SE(8, **options)


def test_there_must_be_channels():
    with pytest.raises(ValueError, match="channels must be at least 1; got 0"):
        SE(0)
