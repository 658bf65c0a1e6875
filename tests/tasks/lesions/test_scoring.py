"""What a split comes to, over all classes and for each alone."""

import dataclasses

import pytest
import torch
from tests.tasks.lesions.stacks import preparation, stack

from foveate.data.boxes import Objects
from foveate.tasks.lesions.found import Found
from foveate.tasks.lesions.froc import Froc
from foveate.tasks.lesions.scoring import count

BOX, FAR = [1.0, 5.0, 5.0, 8.0], [6.0, 0.0, 9.0, 3.0]


def test_a_class_is_counted_with_its_own_lesions_and_false_positives():
    there = Objects(torch.tensor([BOX, FAR]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool), torch.ones(2))
    held = dataclasses.replace(stack(), instances=None, boxes={2: there})
    ready = preparation(classes=["organ", "lesion"], values=[1, 2], masks=False).prepare(held)
    found = Found(torch.tensor([BOX, BOX]), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), None)
    every, organ, lesion = Froc(), Froc(), Froc()
    for froc, label in ((every, None), (organ, 0), (lesion, 1)):
        count(froc, found, ready, 2, label)
        count(froc, Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), None), ready, 3, label)
    assert (every.best, every.wrong, every.slices) == ([pytest.approx(0.9), -1.0], [pytest.approx(0.8)], 2)
    assert (organ.best, organ.wrong, organ.slices) == ([pytest.approx(0.9)], [], 2)
    assert (lesion.best, lesion.wrong, lesion.slices) == ([-1.0], [pytest.approx(0.8)], 2)
