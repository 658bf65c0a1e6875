import pytest
import torch
from tests.reference import gates

from foveate.layers import SE, ScSE

COMBINATIONS = {
    "add": torch.add,
    "multiply": torch.mul,
    "max": torch.maximum,
    "concat": lambda channel, position: torch.cat([channel, position], dim=1),
}


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_it_computes_the_equations(combine):
    layer = ScSE(5, combine=combine).double()
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64)
    by_channel, by_position = gates.scse(x, layer.state_dict())
    torch.testing.assert_close(layer(x), COMBINATIONS[combine](by_channel, by_position))


def test_the_concatenation_has_twice_the_channels():
    assert ScSE(5, combine="concat")(torch.randn(2, 5, 3, 7)).shape == (2, 10, 3, 7)


def test_its_channel_half_is_squeeze_and_excitation():
    layer, se = ScSE(7, combine="concat"), SE(7, reduction=2)
    se.load_state_dict({key: value for key, value in layer.state_dict().items() if key.startswith("fc")})
    x = torch.randn(2, 7, 5, 3)
    torch.testing.assert_close(layer(x)[:, :7], se(x))


def test_a_hand_computed_case():
    layer = ScSE(1, hidden_channels=1)
    layer.load_state_dict(
        {
            "fc1.weight": torch.tensor([[2.0]]),
            "fc1.bias": torch.tensor([0.0]),
            "fc2.weight": torch.tensor([[1.0]]),
            "fc2.bias": torch.tensor([-4.0]),
            "conv.weight": torch.tensor([[[3.0]]]),
            "conv.bias": torch.tensor([-3.0]),
        }
    )
    x = torch.tensor(
        [[[1.0, 3.0]]]
    )  # the mean is 2: the channel's gate is sigmoid(0); the positions' are sigmoid(0), sigmoid(6)
    expected = torch.tensor([[[1.0 * 0.5 + 1.0 * 0.5, 3.0 * 0.5 + 3.0 * torch.tensor(6.0).sigmoid().item()]]])
    torch.testing.assert_close(layer(x), expected)


def test_a_wrong_combination_is_named():
    with pytest.raises(ValueError, match='combine must be one of "add", "multiply", "max", "concat"; got \'sum\''):
        ScSE(8, combine="sum")


def test_there_must_be_channels():
    with pytest.raises(ValueError, match="channels must be at least 1; got 0"):
        ScSE(0)
