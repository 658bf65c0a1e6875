import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.auditing.stages import Geometry, collect, dead_leaves
from foveate.auditing.subject import Subject


class Mixed(nn.Module):
    """Parts that are defined in another order than they are used, a matrix of its own, and an idle part."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(2, 4, 1)
        self.first = nn.Conv2d(4, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.softmax = nn.Softmax(dim=1)
        self.matrix = nn.Parameter(torch.zeros(4, 4))
        self.shift = nn.Parameter(torch.zeros(4))
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        x = self.last(self.norm(self.first(x)))
        return self.gamma * F.linear(x.movedim(1, -1), self.matrix, self.shift).movedim(-1, 1)


def test_stages_come_in_the_order_of_use_with_their_normalisation():
    stages, loose = collect(Subject(Mixed()), torch.zeros(2, 4, 5, 5, dtype=torch.float64))
    by_name = {stage.name: stage for stage in stages}
    assert [stage.name for stage in stages if stage.leaf] == ["first", "last"]
    assert isinstance(by_name["first"].norm, nn.BatchNorm2d)
    assert by_name["last"].norm is None
    assert by_name["matrix"].bias.shape == (4,)
    assert set(loose) == {"gamma"}
    assert by_name["first"].parameters == 4 * 2 * 9 + 2 + 4


def test_idle_parts_are_those_without_weights_that_are_never_called():
    assert dead_leaves(Subject(Mixed()), torch.zeros(2, 4, 5, 5, dtype=torch.float64)) == [
        ("softmax", "softmax (Softmax)")
    ]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(3, 2, 5, padding=2),
        nn.Conv2d(3, 2, 3, padding=4, dilation=4, padding_mode="circular"),
        nn.Conv3d(3, 2, 2, stride=2, bias=False),
        nn.Conv2d(3, 2, 3, padding="same", dilation=2),
        nn.Conv2d(4, 2, 3, groups=2),
        nn.Conv2d(3, 2, 1, stride=2),
    ],
    ids=str,
)
def test_a_stage_computes_what_its_convolution_does(conv):
    channels = conv.in_channels
    x = torch.randn(2, channels, *[9] * (conv.weight.ndim - 2), dtype=torch.float64)
    subject = Subject(nn.Sequential(conv, nn.BatchNorm2d(2)) if conv.weight.ndim == 4 else conv)
    (stage,), _ = collect(subject, x)
    torch.testing.assert_close(stage(x), subject(x))


def test_a_geometry_reads_as_a_person_would_say_it():
    assert str(Geometry((1, 1), (4, 4), (4, 4))) == "stride 1, dilation 4, padding 4"
    assert str(Geometry((1, 2), (0, 1), (1, 1), "circular")) == "stride 1x2, dilation 1, padding 0x1 (circular)"
