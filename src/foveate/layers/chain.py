"""Mechanisms one behind the other."""

from torch import nn

__all__ = ["Chain"]


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
        for name, layer in parts:
            count = 1 + sum(child.rpartition("_")[0] == name or child == name for child in self._modules)
            self.add_module(name if count == 1 else f"{name}_{count}", layer)
