import pytest
import torch
from torch import nn

from foveate.surgery import blend_in, insert, inserted
from foveate.tasks.effects import copy_parameters, count_unmoved, mark_dead, watch_effects


class Half(nn.Module):
    def __init__(self, channels=3):
        super().__init__()

    def forward(self, x):
        return x / 2


def effects_of(network, name, x):
    with watch_effects(network, [{"name": name, "channels": 3}]) as watched:
        network(x)
        network(3 * x)
    return watched[name].to_dict()


def test_the_change_of_a_built_in_mechanism_is_that_of_its_features():
    network = nn.Sequential(nn.Identity(), Half())
    assert effects_of(network, "1", torch.randn(2, 3, 5)) == {"strength": None, "ramp": None, "change": 0.5}
    assert not any(module._forward_hooks for module in network.modules())


def test_an_inserted_mechanism_is_measured_with_its_blend():
    network = nn.Sequential(nn.Conv1d(3, 3, 1), nn.ReLU()).eval()
    insert(network, "0", Half)
    x = torch.randn(2, 3, 5)
    assert effects_of(network, "0", x) == {"strength": 0.0, "ramp": 0.0, "change": 0.0}
    (child,) = inserted(network).values()
    child.steps.fill_(25)
    found = effects_of(network, "0", x)
    assert found == {"strength": 0.5, "ramp": 0.5, "change": pytest.approx(0.05)}  # half of the way to 0.9 x


def test_a_gate_inside_of_what_is_blended_in_is_measured_around_the_whole():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = Half()

        def forward(self, x):
            return self.gate(x)

    network, x = nn.Sequential(Skip()).eval(), torch.randn(2, 3, 5)
    blend_in(network[0], x)
    assert effects_of(network, "0.gate", x) == {"strength": 0.0, "ramp": 0.0, "change": 0.0}


def test_what_was_never_called_has_no_change():
    network = nn.Sequential(Half())
    with watch_effects(network, [{"name": "0"}]) as watched:
        pass
    assert watched["0"].to_dict()["change"] is None


def test_what_is_called_by_keywords_or_not_finite_has_no_change():
    class Named(Half):
        def forward(self, *, x):
            return x / 2

    network = nn.ModuleDict({"a": Named(), "b": Half()})
    with watch_effects(network, [{"name": "a"}, {"name": "b"}]) as watched:
        network["a"](x=torch.ones(3))
        network["b"](torch.full((3,), torch.inf))
    assert [effect.to_dict()["change"] for effect in watched.values()] == [None, None]


def test_parameters_that_never_moved_are_counted():
    network = nn.Sequential(nn.Linear(3, 3))
    first = copy_parameters(network, [{"name": "0"}])
    assert count_unmoved(network, [{"name": "0"}], first) == {"0": {"parameters": 2, "unmoved": 2}}
    nn.init.zeros_(network[0].bias)
    assert count_unmoved(network, [{"name": "0"}], first) == {"0": {"parameters": 2, "unmoved": 1}}


def test_maps_of_a_mechanism_without_effect_or_learning_are_dead():
    names = ("layer1", "layer10", "layer2", "layer3")
    health = {f"{name}.inserted.mechanism.gate": {"alive": True} for name in names}
    effects = {
        "layer1": {"change": 0.0, "parameters": 2, "unmoved": 0},
        "layer10": {"change": 0.2, "parameters": 2, "unmoved": 1},
        "layer2": {"change": 0.2, "parameters": 2, "unmoved": 2},
        "layer3": {"change": 0.2, "parameters": 0, "unmoved": 0},
    }
    mark_dead(health, effects)
    assert [entry["alive"] for entry in health.values()] == [False, True, False, True]
