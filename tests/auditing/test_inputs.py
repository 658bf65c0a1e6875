import pytest
import torch
from torch import nn

from foveate.auditing.inputs import Fit, at_space, find_fit
from foveate.auditing.subject import Subject


class Stays(nn.Module):
    """Takes any input of one number of spatial axes."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return x * self.conv(x).sigmoid()


@pytest.mark.parametrize(
    ("conv", "channels", "dims"),
    [(nn.Conv2d(6, 6, 1), 6, 2), (nn.Conv3d(5, 5, 3, padding=1), 5, 3), (nn.Conv1d(7, 7, 1), 7, 1)],
    ids=str,
)
def test_channels_and_spatial_axes_are_found(conv, channels, dims):
    fit, _ = find_fit(Subject(Stays(conv)), None, None, gated=False)
    assert (fit.channels, len(fit.space), fit.keeps, fit.assumed) == (channels, dims, True, False)
    assert len(set(fit.space)) > 1 or dims == 1


def test_an_attribute_tells_channels_that_no_weight_shows():
    class Pools(nn.Module):
        def __init__(self):
            super().__init__()
            self.channels = 10

        def forward(self, x):
            assert x.shape[1] == self.channels
            return x * x.mean(dim=(2, 3), keepdim=True).sigmoid()

    fit, _ = find_fit(Subject(Pools()), None, None, gated=False)
    assert (fit.channels, fit.assumed) == (10, False)


def test_channels_that_nothing_tells_are_assumed():
    fit, _ = find_fit(Subject(nn.Identity()), None, None, gated=False)
    assert (fit.channels, fit.assumed) == (64, True)


def test_a_gate_is_asked_with_a_coarser_signal_first_and_in_both_orders():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.of_g, self.of_x = nn.Linear(6, 1), nn.Linear(4, 1)

        def forward(self, signal, x):
            return x * (self.of_g(signal.mean((2, 3))) + self.of_x(x.mean((2, 3))))[:, :, None, None]

    fit, _ = find_fit(Subject(Gate()), None, None, gated=True)
    assert (fit.channels, fit.gating, fit.swapped) == (4, (6, (4, 5)), True)
    assert [tuple(x.shape) for x in fit.arranged(fit.inputs(batch=2))] == [(2, 6, 4, 5), (2, 4, 7, 9)]


def test_another_space_keeps_the_relation_of_the_two_grids():
    same, half = Fit(4, (6, 6), (8, (6, 6))), Fit(4, (7, 9), (8, (4, 5)))
    assert at_space(same, (5, 8)).gating == (8, (5, 8))
    assert at_space(half, (5, 8)).gating == (8, (3, 4))


def test_drawn_inputs_are_the_same_each_time():
    fit = Fit(4, (7, 9))
    assert torch.equal(fit.inputs()[0], fit.inputs()[0])
    assert fit.inputs()[0].dtype == torch.float64
