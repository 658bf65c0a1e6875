import pytest
import torch

from foveate import layers
from foveate.layers import catalogue


@pytest.mark.parametrize("name", catalogue.MECHANISMS)
def test_an_entry_is_complete(name):
    entry = catalogue.MECHANISMS[name]
    assert entry.name == name
    assert hasattr(layers, entry.layer)
    assert entry.place in ("every block", "between stages", "chosen blocks")
    assert entry.family in ("channel", "spatial", "channel and spatial", "pairwise", "control")
    assert set(entry.parts) <= set(catalogue.MECHANISMS)


def test_the_published_mechanisms_keep_their_names():
    names = {"se", "scse", "eca", "cbam", "bam", "nonlocal", "spatial", "eca-spatial", "placebo"}
    assert names <= set(catalogue.MECHANISMS)


def test_a_name_builds_its_layer_with_its_options():
    layer = catalogue.build("eca", 64, kernel_size=5)
    assert isinstance(layer, layers.ECA)
    assert layer.conv.kernel_size == (5,)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(LookupError, match=r'^no mechanism "ecca"; did you mean "eca"\?$'):
        catalogue.build("ecca", 64)
    with pytest.raises(LookupError, match='no mechanism "qqqq"; there are se, scse, eca, cbam'):
        catalogue.describe("eca+qqqq")


def test_a_wrong_option_is_told_what_there_is():
    with pytest.raises(TypeError, match=r'^ECA has no option "kernal_size"; it takes kernel_size$'):
        catalogue.build("eca", 64, kernal_size=3)
    with pytest.raises(TypeError, match=r'^Placebo has no option "reduction"; it takes none$'):
        catalogue.build("placebo", 64, reduction=3)


def test_the_rank_of_the_space_goes_where_it_matters():
    assert isinstance(catalogue.build("cbam", 8, spatial_dims=3).spatial.conv, torch.nn.Conv3d)
    assert isinstance(catalogue.build("se", 8, spatial_dims=3), layers.SE)
    assert isinstance(catalogue.build("eca+bam", 8, spatial_dims=1).bam.spatial.reduce, torch.nn.Conv1d)


def test_a_chain_applies_its_parts_in_order():
    chain = catalogue.build("se+eca", 8)
    assert isinstance(chain, layers.Chain)
    assert [name for name, _ in chain.named_children()] == ["se", "eca"]
    x = torch.randn(2, 8, 3, 5)
    assert chain(x).equal(chain.eca(chain.se(x)))


def test_a_chain_takes_options_part_by_part():
    chain = catalogue.build("eca+spatial", 64, eca={"kernel_size": 7}, spatial={"kernel_size": 3})
    assert chain.eca.conv.kernel_size == (7,)
    assert chain.spatial.spatial.conv.kernel_size == (3, 3)
    with pytest.raises(TypeError, match=r'^eca\+spatial has no option "kernel_size"; it takes eca, spatial$'):
        catalogue.build("eca+spatial", 64, kernel_size=3)
    with pytest.raises(TypeError, match=r"^eca\+spatial takes eca as a mapping of options; got 3$"):
        catalogue.build("eca+spatial", 64, eca=3)
    with pytest.raises(TypeError, match=r'^ECA has no option "kernal_size"; it takes kernel_size$'):
        catalogue.build("eca+spatial", 64, eca={"kernal_size": 3})


def test_repeated_parts_are_numbered_and_take_their_own_options():
    chain = catalogue.build("se+eca+se", 32, se={"reduction": 4}, se_2={"reduction": 8})
    assert [name for name, _ in chain.named_children()] == ["se", "eca", "se_2"]
    assert [chain.se.fc1.out_features, chain.se_2.fc1.out_features] == [8, 4]


def test_eca_spatial_is_a_chain_of_its_own_name():
    chain = catalogue.build("eca-spatial", 8)
    assert [type(part) for part in chain] == [layers.ECA, layers.SpatialGate]
    assert [name for name, _ in chain.named_children()] == ["eca", "spatial"]
    longer = catalogue.build("eca-spatial+se", 8)
    assert [name for name, _ in longer.named_children()] == ["eca", "spatial", "se"]


def test_a_chain_goes_where_its_first_part_goes():
    assert catalogue.describe("bam+se").place == "between stages"
    assert catalogue.describe("se+bam").place == "every block"
    assert catalogue.describe("se+bam").name == "se+bam"
    assert catalogue.describe("bam") is catalogue.MECHANISMS["bam"]
