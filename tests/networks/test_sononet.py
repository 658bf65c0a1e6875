import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.capture import capture, taps
from foveate.layers import catalogue
from foveate.networks.sononet import (
    AGGREGATIONS,
    AGSononet,
    Sononet,
    ag_sononet8,
    ag_sononet16,
    ag_sononet32,
    sononet8,
    sononet16,
    sononet32,
)

SLOW = pytest.mark.slow
TINY = {"widths": (3, 4, 5, 6), "num_classes": 2, "in_channels": 2}


def awake(**options) -> AGSononet:
    """A small network in double precision and eval."""
    torch.manual_seed(2)
    return AGSononet(**(TINY | options)).double().eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("builder", "mean", "deep_sup", "ft"),
    [
        (ag_sononet8, 177_068, 179_322, 177_670),
        pytest.param(ag_sononet16, 700_716, 705_210, 701_318, marks=SLOW),
        pytest.param(ag_sononet32, 2_787_884, 2_796_858, 2_788_486, marks=SLOW),
    ],
)
def test_it_has_the_published_number_of_parameters(builder, mean, deep_sup, ft):
    for aggregation, parameters in {"mean": mean, "deep_sup": deep_sup, "ft": ft}.items():
        with torch.device("meta"):
            network = builder(aggregation=aggregation)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("builder", "parameters", "uneven"),
    [(sononet8, 162_954, 234_114), (sononet16, 647_914, 931_930), (sononet32, 2_583_978, 3_718_794)],
)
def test_without_gates_it_has_the_published_number_of_parameters_with_both_numbers_of_convolutions(
    builder, parameters, uneven
):
    with torch.device("meta"):
        counted = [sum(p.numel() for p in builder(**more).parameters()) for more in ({}, {"convs": (2, 2, 3, 3, 3)})]
    assert counted == [parameters, uneven]


def test_without_gates_the_logits_are_the_mean_of_two_normalised_projections_of_the_last_stage():
    torch.manual_seed(2)
    network, x = Sononet(convs=(1, 2, 1, 1, 2), **TINY).double().train(), draw(2, 2, 48, 33)
    seen = network.features(x)[-1]
    assert seen.shape == (2, 6, 3, 2)
    for layers in (network.hidden, network.classifier):
        seen = torch.einsum("oc,bchw->bohw", layers.conv.weight[:, :, 0, 0], seen)
        seen = seen + layers.conv.bias[:, None, None]
        seen = F.batch_norm(seen, None, None, layers.norm.weight, layers.norm.bias, training=True)
        seen = seen.relu() if layers is network.hidden else seen
    torch.testing.assert_close(network(x), seen.mean(dim=(2, 3)))
    assert network.head_names == ["classifier"]


def test_concat_is_the_first_answer_of_deep_supervision():
    concat, deep_sup, x = awake(), awake(aggregation="deep_sup"), draw(3, 2, 21, 30)
    missing = concat.load_state_dict(deep_sup.state_dict(), strict=False)
    assert not missing.missing_keys
    assert concat(x).shape == (3, 2)
    assert concat(x).equal(deep_sup(x)[0])


def test_ft_classifies_the_three_logits_of_mean():
    mean, ft, x = awake(aggregation="mean"), awake(aggregation="ft"), draw(3, 2, 21, 30)
    ft.load_state_dict(mean.state_dict(), strict=False)
    torch.testing.assert_close(ft(x), ft.classifier(torch.cat(mean(x), dim=1)))


def test_the_logits_are_of_the_sums_of_gated_features_and_the_mean_of_the_last():
    network, x = awake(aggregation="mean"), draw(2, 2, 32, 48)
    features = [network.stages["1"](x)]
    for stage in "2345":
        features.append(network.stages[stage](F.max_pool2d(features[-1], 2)))
    with capture(network) as maps:
        logits = network(x)
    for index, stage in enumerate("34"):
        gate = maps[f"gates.{stage}.gate"]
        assert gate.shape == features[index + 2].shape[:1] + features[index + 2].shape[2:]
        torch.testing.assert_close(gate.flatten(1).sum(dim=1), torch.ones(2, dtype=gate.dtype))  # mean flow: shares
        seen = torch.einsum("bhw,bchw->bc", gate, features[index + 2])
        torch.testing.assert_close(logits[index], network.classifiers[stage](seen))
    torch.testing.assert_close(logits[2], network.classifiers["5"](features[4].mean(dim=(2, 3))))


def test_the_probabilities_are_those_of_the_release():
    x = draw(3, 2, 21, 30)
    for aggregation in AGGREGATIONS:
        network = awake(aggregation=aggregation)
        logits = network(x)
        expected = {
            "mean": lambda logits: sum(each.softmax(dim=1) for each in logits) / 3,
            "deep_sup": lambda logits: logits[0].softmax(dim=1),
        }.get(aggregation, lambda logits: logits.softmax(dim=1))(logits)
        torch.testing.assert_close(network.probabilities(logits), expected)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_any_size_and_number_of_axes_will_do(spatial_dims):
    network = awake(spatial_dims=spatial_dims, normalisation="sigmoid")
    assert network(draw(2, 2, *(16, 21, 17)[:spatial_dims])).shape == (2, 2)


@pytest.mark.parametrize("normalisation", ["sigmoid", "softmax", "mean", "mean_flow", "range"])
def test_an_empty_picture_gives_finite_answers_and_gradients(normalisation):
    network = AGSononet(normalisation=normalisation, **TINY).train()
    network(torch.zeros(2, 2, 16, 32)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_it_starts_as_released():
    network = AGSononet(widths=(32, 64, 64, 64))
    weight = network.stages["4"].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)
    assert 0.01 < network.stages["4"].norm2.weight.std().item() < 0.03
    assert AGSononet(normalisation="sigmoid", **TINY).gates["3"].psi.bias.item() == 3
    assert AGSononet(normalisation="softmax", **TINY).gates["4"].psi.bias.item() == 10


@pytest.mark.parametrize(
    "name",
    [name if name in ("se", "bam", "nonlocal") else pytest.param(name, marks=SLOW) for name in catalogue.MECHANISMS],
)
def test_every_mechanism_has_a_place_and_learns(name):
    network = AGSononet(mechanism=name, **(TINY | {"widths": (16, 16, 16, 16)})).train()
    usual = {"bam": "1234", "nonlocal": "5"}.get(name, "12345")
    assert list(network.sites) == [f"stages.{stage}.mechanism" for stage in usual]
    network(torch.randn(2, 2, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert set(taps(network)) > {"gates.3.gate", "gates.4.gate"}


def test_a_mechanism_stands_behind_the_stages_that_are_asked_for_and_leaves_the_host_as_drawn():
    plain, network = awake(), awake(mechanism="se", stages=(4, 2), options={"reduction": 2})
    assert network.sites == {"stages.2.mechanism": 4, "stages.4.mechanism": 6}
    state = network.state_dict()
    assert all(value.equal(state[key]) for key, value in plain.state_dict().items())
    assert AGSononet(width=1.5, **TINY).stages["2"].channels == 6
    assert list(Sononet(mechanism="se", stages=(4, 2), **TINY).sites) == list(network.sites)


@pytest.mark.slow
def test_it_compiles_into_one_graph_and_exports_with_open_sizes():
    torch.compiler.reset()
    network, x = awake(), draw(2, 2, 33, 48)
    torch.testing.assert_close(torch.compile(network, fullgraph=True, backend="aot_eager")(x), network(x))
    open_axes = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    program = torch.export.export(network, (x,), dynamic_shapes=(open_axes,))
    other = draw(3, 2, 64, 37)
    torch.testing.assert_close(program.module()(other), network(other))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"aggregation": "sum"}, 'aggregation must be one of "concat", "mean", "deep_sup", "ft"; got'),
        ({"widths": (3, 4, 5)}, r"widths are positive, of four stages; got \(3, 4, 5\) times 1.0"),
        ({"normalisation": "tanh"}, 'normalisation must be one of "sigmoid", "softmax", "mean", "mean_flow", "range"'),
        ({"spatial_dims": 0}, "spatial_dims must be 1, 2 or 3; got 0"),
        ({"stages": (1,)}, "stages need a mechanism; got mechanism=None"),
        ({"mechanism": "se", "stages": (6,)}, r"stages are 1 to 5; got \(6,\)"),
        (
            {"mechanism": nn.Identity, "options": {}},
            "options are for a mechanism given by name; a callable has its own",
        ),
    ],
)
def test_a_wrong_option_is_refused(options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        AGSononet(**(TINY | options))


def test_a_wrong_number_of_convolutions_is_refused():
    for convs in ((3, 3, 3, 2), (3, 3, 3, 2, 0)):
        with pytest.raises(ValueError, match=rf"^convs are positive, of five stages; got {re.escape(str(convs))}$"):
            Sononet(convs=convs)


def test_a_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"^Sononet takes at least 16 positions along each axis; got \(16, 15\)$"):
        Sononet(**TINY)(torch.zeros(1, 2, 16, 15))
    with pytest.raises(
        ValueError, match=r"^AGSononet takes \(batch, 2, \*space\) with spatial_dims=2; got \(1, 3, 16\)$"
    ):
        awake()(torch.zeros(1, 3, 16))
    with pytest.raises(ValueError, match=r"^AGSononet takes at least 16 positions along each axis; got \(16, 15\)$"):
        awake()(torch.zeros(1, 2, 16, 15))
