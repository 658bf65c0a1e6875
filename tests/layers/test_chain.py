import torch

from foveate.layers import ECA, SE, Chain
from foveate.layers.chain import distinct


def test_repetitions_are_numbered():
    assert distinct(["se", "eca", "se", "se"]) == ["se", "eca", "se_2", "se_3"]


def test_the_parts_apply_in_their_order_under_their_names():
    first, second, third = SE(5), ECA(5), SE(5)
    chain = Chain(("se", first), ("eca", second), ("se", third))
    assert dict(chain.named_children()) == {"se": first, "eca": second, "se_2": third}
    x = torch.randn(2, 5, 3)
    assert chain(x).equal(third(second(first(x))))
