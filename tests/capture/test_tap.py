import copy

import torch
from torch import nn

from foveate.capture import Tap


def test_a_tap_passes_its_input_through_unchanged():
    tap = Tap("batch channel")
    x = torch.randn(2, 3)
    assert tap(x) is x
    assert tap.axes == "batch channel"
    assert list(tap.state_dict()) == []


def test_a_hook_watches_and_replaces():
    tap = Tap("batch channel")
    assert not tap.watched
    handle = tap.register_forward_hook(lambda module, args, output: torch.ones_like(output))
    assert tap.watched
    assert torch.equal(tap(torch.zeros(2, 3)), torch.ones(2, 3))
    handle.remove()
    assert not tap.watched


def test_a_copy_keeps_the_axes_and_loses_the_watchers():
    tap = Tap("batch channel")
    handle = tap.register_forward_hook(lambda module, args, output: output * 0, always_call=True)
    twin = copy.deepcopy(tap)
    assert tap.watched
    assert not twin.watched
    assert twin.axes == "batch channel"
    twin.register_forward_hook(lambda module, args, output: None)
    handle.remove()
    assert not tap.watched
    assert twin.watched


def test_a_tap_names_its_axes_when_printed():
    assert repr(nn.Sequential(Tap("batch *query *key"))) == "Sequential(\n  (0): Tap('batch *query *key')\n)"
