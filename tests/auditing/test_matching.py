import torch
from torch import nn

from foveate.auditing.matching import Role, Structure, matches
from foveate.auditing.stages import Geometry, Stage

REDUCE = Role("reduce", "hidden", "channels", "first layer")
EXPAND = Role("expand", "channels", "hidden", "second layer")


def stage(name, *shape, place=0, geometry=None):
    return Stage(name, torch.zeros(shape), None, None, None, geometry, place)


def names(match):
    return {role: found.name for role, found in match.stages.items()}


def test_roles_are_filled_by_shape():
    stages = [stage("b", 8, 2, place=0), stage("a", 2, 8, 1, 1, place=1)]
    (match,) = matches([Structure((REDUCE, EXPAND))], stages, {}, {"channels": 8})
    assert names(match) == {"reduce": "a", "expand": "b"}
    assert match.sizes == {"channels": 8, "hidden": 2}


def test_among_equal_shapes_names_come_before_the_order_of_use():
    theta = Role("theta", "hidden", "channels", "theta", hints=("theta", "q"))
    phi = Role("phi", "hidden", "channels", "phi", hints=("phi", "k"))
    structure = Structure((theta, phi))
    plain = [stage("one", 2, 8, place=0), stage("two", 2, 8, place=1)]
    first, second = matches([structure], plain, {}, {"channels": 8})
    assert names(first) == {"theta": "one", "phi": "two"}
    assert names(second) == {"theta": "two", "phi": "one"}
    hinted = [stage("conv_k", 2, 8, place=0), stage("conv_q", 2, 8, place=1)]
    assert names(matches([structure], hinted, {}, {"channels": 8})[0]) == {"theta": "conv_q", "phi": "conv_k"}


def test_the_structure_that_takes_most_weights_wins_and_what_is_left_is_kept():
    single = Structure((Role("single", "channels", "channels", "only layer"),), "no-bottleneck", "one layer")
    stages = [stage("wide", 8, 8), stage("down", 2, 8), stage("up", 8, 2), stage("other", 3, 5)]
    (match,) = matches([single, Structure((REDUCE, EXPAND))], stages, {"gamma": torch.zeros(1)}, {"channels": 8})
    assert match.structure.published
    assert match.left == ("wide", "other")
    assert set(match.loose) == {"gamma"}


def test_nothing_fits_other_channels():
    assert matches([Structure((REDUCE, EXPAND))], [stage("a", 2, 8), stage("b", 8, 2)], {}, {"channels": 9}) == []


def test_a_kernel_moves_as_published_unless_as_built():
    role = Role("conv", "hidden", "hidden", "kernel", kernel="space", dilation=4)
    leaf = nn.Conv2d(2, 2, 3, padding=1, dilation=2)
    built = stage("conv", 2, 2, 3, 3, geometry=Geometry.built(leaf, (3, 3)))
    (match,) = matches([Structure((role,))], [built], {}, {})
    assert match.built_otherwise == ["conv"]
    assert match.moving("published").stages["conv"].geometry == Geometry((1, 1), (4, 4), (4, 4))
    assert match.moving("as built").stages["conv"].geometry == Geometry((1, 1), (1, 1), (2, 2))


def test_an_extent_that_was_never_published_does_not_count():
    role = Role("kernel", 1, 2, "kernel", kernel="space", sizes=(3, 7))
    for size, counted in {3: 3, 7: 7, 49: 7}.items():
        (match,) = matches([Structure((role,))], [stage("conv", 1, 2, size, size)], {}, {})
        assert match.extent("kernel", 7, strict=True) == counted
        assert match.extent("kernel", 7, strict=False) == size
