import pytest
import torch
from torch import nn

from foveate.auditing.subject import Refusal, Subject, draw_input


def test_weights_are_drawn_so_that_no_zero_start_hides_anything():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    nn.init.zeros_(module[1].weight)
    subject = Subject(module)
    values = [value for key, value in subject.module.state_dict().items() if "num_batches" not in key]
    assert all(value.dtype == torch.float64 and (value != 0).all() for value in values)
    assert (subject.given[1].weight == 0).all()
    assert (module[1].weight == 0).all()


def test_weights_are_drawn_until_no_relu_is_idle():
    module = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 2, 1))
    subject = Subject(module)
    x = -draw_input((3, 2, 5, 5), seed=0).abs()
    seeds = 0
    for seed in range(16):
        subject.draw(seed)
        idle = any(not gradient.any() for gradient in subject.gradients(x).values())
        seeds += idle
    assert 0 < seeds < 16  # some draws leave a ReLU idle
    subject.draw_lively(x)
    assert all(gradient.any() for gradient in subject.gradients(x).values())


def test_an_answer_is_the_first_tensor_of_an_input_s_shape():
    class Two(nn.Module):
        def forward(self, x):
            return {"map": x[:, :1], "out": (x, 2 * x)}

    subject = Subject(Two())
    x = torch.ones(2, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(subject(x), x)
    assert subject.outputs == 3


def test_what_a_module_raises_is_a_refusal_in_its_words():
    class Raises(nn.Module):
        def forward(self, x):
            raise ValueError("only on\n  Sundays")

    with pytest.raises(Refusal, match="ValueError: only on Sundays"):
        Subject(Raises())(torch.zeros(1))
    module = nn.Identity()
    module.forward = lambda x: 3
    with pytest.raises(Refusal, match="an answer of int without a tensor"):
        Subject(module)(torch.zeros(1))


def test_what_cannot_be_copied_is_refused():
    module = nn.Identity()
    module.kept = (value for value in ())  # a generator
    with pytest.raises(Refusal, match="it cannot be copied: TypeError"):
        Subject(module)


def test_a_module_that_works_in_place_leaves_the_input_alone():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    x = torch.ones(2, 3, dtype=torch.float64)
    assert torch.equal(Subject(InPlace())(x), 2 * torch.ones(2, 3))
    assert torch.equal(x, torch.ones(2, 3))
