import pytest

from foveate.auditing.catalogue import EQUATIONS, equation_of
from foveate.layers.catalogue import MECHANISMS


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("CBAM", "cbam"),
        ("cbam", "cbam"),
        ("NonLocal", "nonlocal"),
        ("non-local", "nonlocal"),
        ("AttentionGate", "attention-gate"),
        ("attention_gate", "attention-gate"),
        ("ScSE", "scse"),
        ("SpatialGate", "spatial"),
    ],
)
def test_a_mechanism_is_found_by_the_catalogue_s_name_and_by_the_layer_s(given, name):
    assert equation_of(given).name == name


def test_a_wrong_name_is_named_with_its_neighbour():
    with pytest.raises(LookupError, match=r'no published mechanism "cbma"; did you mean "cbam"\?'):
        equation_of("cbma")
    with pytest.raises(LookupError, match='no published mechanism "placebo"; there are se, scse, eca, cbam, spatial'):
        equation_of("placebo")


def test_every_published_mechanism_of_the_catalogue_can_be_audited():
    published = {name for name, entry in MECHANISMS.items() if entry.family != "control" and not entry.parts}
    assert published <= set(EQUATIONS)
