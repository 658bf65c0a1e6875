import pytest
import torch
from torch import nn

from foveate.surgery import Inserted, insert, inserted
from foveate.surgery.hook import detach, inserted_in, unwrapped


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class Records(nn.Module):
    """Remember the shape seen, and scale the channels by 1, 2, 3."""

    def forward(self, x):
        self.shape = tuple(x.shape)
        return x.contiguous() * torch.arange(1.0, 1 + x.shape[1]).reshape(1, -1, *[1] * (x.ndim - 2))


def test_the_published_start_is_not_blended():
    child = Inserted(Double(), start="published")
    x = torch.randn(2, 3, 5)
    assert torch.equal(child(x), 2 * x)
    assert (child.start, child.strength, child.alpha) == ("published", 1.0, None)
    assert not list(child.parameters())


def test_what_begins_as_the_identity_is_blended_unless_it_is_the_identity_itself():
    assert Inserted(Double()).strength == 0.0
    assert Inserted(nn.Identity(), blend=False).start == "identity"
    assert Inserted(nn.Identity(), blend=False).strength == 1.0


@pytest.mark.parametrize(("shape", "seen"), [((2, 5, 7, 3), (2, 3, 5, 7)), ((2, 5, 3), (2, 3, 5))])
@pytest.mark.parametrize("start", ["identity", "published"])
def test_channels_last_are_brought_to_the_second_axis_and_back(shape, seen, start):
    child = Inserted(Records(), start, layout="channels_last")
    x = torch.randn(shape)
    output = child(x)
    assert child.mechanism.shape == seen
    torch.testing.assert_close(output, x * torch.tensor([1.0, 2.0, 3.0]) if start == "published" else x)
    output.view(2, -1)  # hosts with channels last go on so


@pytest.mark.parametrize("start", ["identity", "published"])
def test_a_mechanism_of_another_precision_answers_in_that_of_the_host(start):
    class Precise(nn.Module):
        def forward(self, x):
            return 2 * x.float()

    x = torch.randn(2, 3, 5, dtype=torch.bfloat16)
    output = Inserted(Precise(), start)(x)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, 2 * x if start == "published" else x)


def test_the_memory_format_of_the_host_stays():
    x = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    assert Inserted(Double())(x).is_contiguous(memory_format=torch.channels_last)


def test_the_repr_tells_start_and_layout():
    assert "start='identity', layout='channels_first'" in repr(Inserted(Double()))


def test_what_is_inserted_is_found_under_the_name_of_its_site(host):
    assert inserted(host) == {}
    insert(host, "stage.*", lambda channels: Double())
    assert inserted(host) == {"stage.0": host.stage[0].inserted, "stage.1": host.stage[1].inserted}
    assert inserted_in(host.stage[0]) is host.stage[0].inserted
    assert inserted_in(host.stem) is None
    detach(host.stem)  # nothing to do
    assert inserted(nn.DataParallel(host)) == inserted(host)
    assert unwrapped(nn.DataParallel(host)) is host
