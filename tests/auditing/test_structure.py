import torch
from torch import nn

from foveate.auditing.matching import Role, Structure, matches
from foveate.auditing.stages import Geometry, Stage
from foveate.auditing.structure import geometry_sentence, structure_findings

FIRST = Role("first", "hidden", "channels", "first layer of the pair")
SECOND = Role("second", "channels", "hidden", "second layer of the pair", bias=False, norm=True)
KERNEL = Role("kernel", 1, 2, "kernel over space", kernel="space", bias=None, sizes=(3, 7))


def stage(name, *shape, bias=False, norm=None, leaf=None):
    geometry = Geometry.built(leaf, shape[2:])
    return Stage(name, torch.zeros(shape), torch.zeros(shape[0]) if bias else None, norm, leaf, geometry, 0)


def found(*stages, roles=(FIRST, SECOND), loose=None, **sizes):
    (match,) = matches([Structure(roles)], stages, loose or {}, sizes)
    return [(finding.kind, finding.sentence, finding.deviates) for finding in structure_findings(match)]


def test_the_published_structure_has_no_findings():
    assert found(stage("a", 2, 8, bias=True), stage("b", 8, 2, norm=nn.BatchNorm2d(8)), channels=8) == []


def test_biases_and_normalisations_are_counted():
    assert found(stage("a", 2, 8), stage("b", 8, 2, bias=True), channels=8) == [
        ("bias", "the published first layer of the pair has a bias (2 parameters); this one none", True),
        ("bias", "the published second layer of the pair has no bias; this one has one (8 parameters)", True),
        (
            "norm",
            "a batch normalisation follows the published second layer of the pair (16 parameters); "
            "none follows this one's",
            True,
        ),
    ]


def test_a_bias_before_a_normalisation_is_a_note():
    ((kind, sentence, deviates),) = found(
        stage("a", 2, 8, bias=True), stage("b", 8, 2, bias=True, norm=nn.BatchNorm2d(8)), channels=8
    )
    assert (kind, deviates) == ("bias", False)
    assert sentence.endswith("this one has one (8 parameters); the normalisation behind it takes a bias out again")


def test_another_kind_of_normalisation_and_one_too_many_are_named():
    said = found(
        stage("a", 2, 8, bias=True, norm=nn.GroupNorm(1, 2)), stage("b", 8, 2, norm=nn.InstanceNorm2d(8)), channels=8
    )
    assert said == [
        ("norm", "no normalisation follows the published first layer of the pair; GroupNorm follows this one's", True),
        (
            "norm-kind",
            "a batch normalisation follows the published second layer of the pair; InstanceNorm2d follows this one's",
            True,
        ),
    ]


def test_where_a_bias_was_published_both_ways_it_has_to_be_one_way():
    both = (Role("a", "hidden", "channels", "a", bias=None), Role("b", "channels", "hidden", "b", bias=None))
    assert found(stage("a", 2, 8), stage("b", 8, 2), roles=both, channels=8) == []
    assert found(stage("a", 2, 8, bias=True), stage("b", 8, 2, bias=True), roles=both, channels=8) == []
    ((kind, sentence, _),) = found(stage("a", 2, 8, bias=True), stage("b", 8, 2), roles=both, channels=8)
    assert (kind, sentence) == ("bias", "the published b has a bias (8 parameters); this one none")


def test_kernels_of_other_sizes_are_named_with_their_weights():
    assert found(stage("k", 1, 2, 7, 7), roles=(KERNEL,)) == []
    assert found(stage("k", 1, 2, 49, 49), roles=(KERNEL,)) == [
        ("kernel-size", "the published kernel over space is 7x7 (98 weights); this one 49x49 (4,802)", True)
    ]
    ((_, sentence, deviates),) = found(stage("k", 1, 2, 3, 3), roles=(KERNEL,))
    assert not deviates
    assert sentence.endswith("this one 3x3 (18), which the paper tries too")


def test_weights_without_a_part_are_named():
    stages = (stage("a", 2, 8, bias=True), stage("b", 8, 2, norm=nn.BatchNorm2d(8)), stage("more", 3, 3))
    assert found(*stages, loose={"gamma": torch.zeros(1)}, channels=8) == [
        ("extra-parameters", "the published layer has nothing like more, gamma; this one has", True)
    ]


def test_kernels_that_move_alike_are_named_together():
    roles = tuple(
        Role(n, "h", "h", f"{n} kernel of the branch", kernel="space", dilation=4) for n in ("first", "second")
    )
    leaf = nn.Conv2d(2, 2, 3, padding=1, dilation=2)
    match = matches([Structure(roles)], [stage("a", 2, 2, 3, 3, leaf=leaf), stage("b", 2, 2, 3, 3, leaf=leaf)], {}, {})[
        0
    ]
    assert geometry_sentence(match) == (
        "the published first and second kernel of the branch have stride 1, dilation 4, padding 4; "
        "this one's stride 1, dilation 2, padding 1"
    )
