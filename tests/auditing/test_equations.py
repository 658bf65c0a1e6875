"""Every deviation that is known is found again, and none is mistaken for another."""

import math

import pytest
import torch
from torch import nn

from foveate import layers
from foveate.auditing import audit
from foveate.auditing.catalogue import EQUATIONS
from foveate.auditing.equation import difference
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match
from foveate.auditing.stages import Geometry, Stage

OWN = {
    "se": (lambda: layers.SE(12, 4), Fit(12, (7, 9))),
    "scse": (lambda: layers.ScSE(12, 4), Fit(12, (7, 9))),
    "eca": (lambda: layers.ECA(12, 5), Fit(12, (7, 9))),
    "cbam": (lambda: layers.CBAM(12, 4), Fit(12, (7, 9))),
    "spatial": (lambda: layers.SpatialGate(12), Fit(12, (7, 9))),
    "bam": (lambda: layers.BAM(12, 4), Fit(12, (7, 9))),
    "nonlocal": (lambda: layers.NonLocal(12), Fit(12, (3, 7, 5))),
    "attention-gate": (lambda: layers.AttentionGate(12, 6), Fit(12, (7, 9), (6, (4, 5)))),
}


FORMS = {
    "pooling": {"pool": "after"},
    "pooling-in-time": {"pool": "after"},
    "divisor": {"pairwise": "dot_product", "pool": "after"},
}
"""The published forms in which some deviations show."""


class Form(nn.Module):
    """A form of an equation, over the weights of our layer."""

    def __init__(self, equation, layer, options):
        super().__init__()
        self.layer, self.equation, self.options = layer, equation, options

    def forward(self, *inputs):
        return self.equation.compute(*inputs, stages(self.equation, self.layer), **self.options)


def stages(equation, layer):
    found = {}
    for role, (projection, norm) in equation.keys.items():
        try:
            leaf = layer.get_submodule(projection)
        except AttributeError:
            continue  # a role of another form
        kernel = tuple(leaf.weight.shape[2:])
        geometry = None if math.prod(kernel) == 1 else Geometry.built(leaf, kernel)
        behind = None if norm is None else layer.get_submodule(norm)
        found[role] = Stage(role, leaf.weight, leaf.bias, behind, leaf, geometry, 0)
    return found


def published(name):
    equation, (build, fit) = EQUATIONS[name], OWN[name]
    layer = build().double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    found = stages(equation, layer)
    hidden = next((found[role].width for role in ("reduce", "fc1", "theta") if role in found), 1)
    structure = next(s for s in equation.structures if {role.name for role in s.roles} == set(found))
    match = Match(structure, found, {"channels": fit.channels, "hidden": hidden, "gating": 6})
    return equation, layer, fit, match


@pytest.mark.parametrize("name", OWN)
def test_no_deviation_is_another_or_none(name):
    equation, _, fit, match = published(name)
    inputs = [torch.cat([x, 8 * x]) for x in fit.inputs(equation.input_size(fit.channels))]
    plain = equation.compute(*inputs, match.stages)
    answers = {}
    for switch in equation.switches(match):
        answer = computed(equation, inputs, match, {switch.option: switch.value})
        if answer is None or switch.kind in FORMS:
            continue
        assert difference(answer, plain) > 1e-6, f"{switch} changes nothing"
        for other, seen in answers.items():
            assert switch.kind == other.kind or difference(answer, seen) > 1e-6, f"{switch} is {other}"
        answers[switch] = answer
    assert answers


def computed(equation, inputs, match, options):
    try:
        with torch.no_grad():
            return equation.compute(*inputs, match.stages, **options)
    except (RuntimeError, ValueError, IndexError, NotImplementedError):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_every_deviation_is_found_again(name):
    equation, layer, fit, match = published(name)
    inputs = fit.inputs(equation.input_size(fit.channels))
    examples = tuple(inputs) if equation.gated else inputs[0]
    for switch in equation.switches(match):
        options = {switch.option: switch.value} | FORMS.get(switch.kind, {})
        if computed(equation, inputs, match, options) is None:
            continue
        found = audit(Form(equation, layer, options), name, example=examples)
        named = [finding.sentence for finding in found.findings if finding.kind == switch.kind and finding.deviates]
        assert any(sentence.startswith(switch.sentence) for sentence in named), f"{switch}: {found}"
        assert found.remaining_difference < 1e-9
