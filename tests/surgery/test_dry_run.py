import copy

import pytest
import torch
from torch import nn

from foveate.surgery.dry_run import dry_run, inputs_of, traceless


def test_a_dry_run_leaves_no_trace(host, x):
    host.train()
    host.stage[0].bn.eval()
    host.dropout = nn.Dropout()
    host.stage.register_forward_hook(lambda module, args, output: host.dropout(output))
    before = copy.deepcopy(host.state_dict())
    flags = [module.training for module in host.modules()]
    hooks = [list(module._forward_hooks) for module in host.modules()]
    random_state = torch.get_rng_state()

    dry_run(host, {"stem": host.stem, "stage.0": host.stage[0]}, inputs_of(x))

    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in host.modules()] == flags
    assert [list(module._forward_hooks) for module in host.modules()] == hooks
    assert all(torch.equal(value, before[key]) for key, value in host.state_dict().items())
    assert all(parameter.grad is None for parameter in host.parameters())


def test_a_failing_dry_run_leaves_no_trace_either(host):
    host.train()
    with pytest.raises(RuntimeError):
        dry_run(host, {"stem": host.stem}, inputs_of(torch.zeros(1, 4, 7, 7)))
    assert all(module.training for module in host.modules())
    assert not any(module._forward_hooks for module in host.modules())


def test_random_numbers_and_buffers_written_in_evaluation_are_put_back():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("noise", torch.zeros(3))

        def forward(self, x):
            self.calls += 1
            self.noise = torch.rand(3)
            return x

    module = Counts()
    calls = module.calls
    state = torch.get_rng_state()
    with traceless(module):
        module(torch.zeros(1))
    assert module.calls is calls
    assert calls == 0
    assert torch.equal(module.noise, torch.zeros(3))
    assert torch.equal(torch.get_rng_state(), state)


def test_training_and_evaluation_methods_of_the_host_are_not_called():
    class Merges(nn.Module):
        def train(self, mode=True):
            raise AssertionError

    with traceless(Merges()):
        pass


def test_several_inputs_come_as_a_tuple_or_a_mapping():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, left, right):
            return self.relu(left + right)

    host, a = Adds(), torch.zeros(2, 3, 5)
    for example in ((a, a), {"left": a, "right": a}):
        (call,) = dry_run(host, {"relu": host.relu}, inputs_of(example))["relu"]
        assert call.shape == (2, 3, 5)
    assert str(inputs_of((a, {"x": 1}, [a, a]))) == "(2, 3, 5), dict, [(2, 3, 5), (2, 3, 5)]"
