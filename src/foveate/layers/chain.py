"""Mechanisms one behind the other."""

from collections.abc import Sequence

from torch import nn

__all__ = ["Chain", "distinct"]


def distinct(names: Sequence[str]) -> list[str]:
    """The names with a number on every repetition: se, eca, se_2."""
    return [
        name if name not in names[:place] else f"{name}_{1 + names[:place].count(name)}"
        for place, name in enumerate(names)
    ]


class Chain(nn.Sequential):
    """Apply several mechanisms in their order.

    Args:
        parts: Pairs of a mechanism's name and its layer. A repeated name gets a number: se, se_2.

    Shape:
        (batch, channel, *space) -> the same, where every part keeps it.

    Taps:
        Those of the parts, under the parts' names: eca.gate, spatial.gate.
    """

    def __init__(self, *parts: tuple[str, nn.Module]) -> None:
        super().__init__()
        for name, (_, layer) in zip(distinct([name for name, _ in parts]), parts, strict=True):
            self.add_module(name, layer)
