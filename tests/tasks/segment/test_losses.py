import math

import pytest
import torch
import torch.nn.functional as F

from foveate.tasks.segment.losses import LOSSES, deeply_supervised, dice_ce, released_soft_dice, supervision_weights


def sure(label: torch.Tensor, classes: int, size: float = 50.0) -> torch.Tensor:
    """Logits that give a label all the probability."""
    return size * F.one_hot(label, classes).movedim(-1, 1).double()


def test_a_perfect_answer_costs_nothing():
    label = torch.tensor([[[0, 1, 2], [2, 1, 0]]])
    assert dice_ce(sure(label, 3), label).item() == pytest.approx(0, abs=1e-9)


def test_dice_and_cross_entropy_by_hand():
    # Two positions, one of class 1, at probability one half everywhere: 2 * 0.5 / (1 + 1) = 0.5, and log 2.
    logits, label = torch.zeros(1, 2, 2), torch.tensor([[0, 1]])
    expected = 1 - (2 * 0.5 + 1e-5) / (2 + 1e-5) + math.log(2)
    assert dice_ce(logits, label).item() == pytest.approx(expected, rel=1e-6)


def test_batch_dice_lets_a_class_be_missing_in_a_patch():
    label = torch.tensor([[0, 0], [1, 1]])
    logits = sure(label, 2, 1.0)
    apart, together = dice_ce(logits, label), dice_ce(logits, label, batch=True)
    p = torch.tensor(1.0).sigmoid().item()  # of the right class
    cross_entropy = -math.log(p)
    scores = (1e-5 / (2 * (1 - p) + 1e-5), (4 * p + 1e-5) / (2 * p + 2 + 1e-5))
    assert apart.item() == pytest.approx(1 - sum(scores) / 2 + cross_entropy, rel=1e-6)
    expected = (4 * p + 1e-5) / (2 + 2 + 1e-5)
    assert together.item() == pytest.approx(1 - expected + cross_entropy, rel=1e-6)


def test_the_released_soft_dice_gives_an_absent_class_two():
    # Nothing but background, and nothing else predicted: the background scores (2 + 2 * 0.01) / (2 + 0.01) of 4
    # positions, the other class 2, and the loss is below zero, as the release computes it.
    label = torch.zeros(1, 4, dtype=torch.long)
    found = released_soft_dice(sure(label, 2), label).item()
    assert found == pytest.approx(1 - (2 * 4.01 / 8.01 + 2) / 2, rel=1e-9)
    assert found < -0.5


def test_half_precision_does_not_overflow():
    label = torch.zeros(1, 48, 48, 48, dtype=torch.uint8)
    label[:, 10:40] = 1
    exact = dice_ce(torch.zeros(1, 2, 48, 48, 48), label)
    assert dice_ce(torch.zeros(1, 2, 48, 48, 48, dtype=torch.float16), label) == exact


def test_coarser_answers_weigh_half():
    assert supervision_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    label = torch.tensor([[0, 1, 1]])
    answers = [torch.randn(1, 2, 3) for _ in range(3)]
    losses = [dice_ce(answer, label) for answer in answers]
    weighed = (4 * losses[0] + 2 * losses[1] + losses[2]) / 7
    torch.testing.assert_close(deeply_supervised(dice_ce, answers, label), weighed)
    assert deeply_supervised(dice_ce, answers[0], label) == losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [False, True])
def test_the_loss_is_that_of_monai(batch):
    from monai.losses.dice import DiceCELoss

    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 4, (3, 5, 6, 7))
    theirs = DiceCELoss(
        to_onehot_y=True, softmax=True, include_background=False, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5
    )
    ours, expected = dice_ce(logits, label, batch=batch), theirs(logits, label[:, None])
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, expected)))


def test_every_loss_has_a_gradient_for_every_logit():
    for loss in LOSSES.values():
        logits = torch.randn(2, 3, 4, 4, requires_grad=True)
        loss(logits, torch.randint(0, 3, (2, 4, 4))).backward()
        assert logits.grad is not None
        assert (logits.grad != 0).all()
