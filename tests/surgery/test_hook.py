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


def test_alpha_blends_the_mechanism_in():
    child = Inserted(Double())
    x = torch.randn(2, 3, 5)
    assert torch.equal(child(x), x)
    nn.init.constant_(child.alpha, 0.25)
    torch.testing.assert_close(child(x), x + 0.25 * (2 * x - x))
    nn.init.constant_(child.alpha, -1.5)
    torch.testing.assert_close(child(x), x - 1.5 * (2 * x - x))


def test_the_blend_has_exact_gradients():
    child = Inserted(Double()).double()
    nn.init.constant_(child.alpha, 0.3)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def blend(x, alpha):
        return torch.func.functional_call(child, {"alpha": alpha}, x)

    assert torch.autograd.gradcheck(blend, (x, child.alpha))
    assert torch.autograd.gradgradcheck(blend, (x, child.alpha))


def test_the_published_start_has_no_alpha():
    child = Inserted(Double(), start="published")
    x = torch.randn(2, 3, 5)
    assert torch.equal(child(x), 2 * x)
    assert (child.start, Inserted(Double()).start) == ("published", "identity")
    assert not list(child.parameters())


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
