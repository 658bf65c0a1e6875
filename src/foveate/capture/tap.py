"""Tap: the named point through which every gate and every attention map passes."""

from collections import OrderedDict
from typing import Any

from torch import nn

__all__ = ["Tap"]


class Tap(nn.Identity):
    """Pass a map through unchanged, under a name at which it can be watched or replaced.

    A forward hook on the tap sees the map; a hook that returns a tensor replaces it. A layer asks `watched` before it
    leaves a fast path that never forms the map. A copy or a pickle of the tap is watched by nobody.

    Args:
        axes: The names of the map's axes, such as "batch channel" or "batch *query *key".
    """

    def __init__(self, axes: str) -> None:
        super().__init__()
        self.axes = axes

    @property
    def watched(self) -> bool:
        """Whether anybody looks at this map."""
        return bool(self._forward_hooks)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy and a pickle of the tap are made from: whoever looks at this map does not look at theirs."""
        state = self.__dict__.copy()
        for hooks in ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"):
            state[hooks] = OrderedDict()
        return state

    def extra_repr(self) -> str:
        return repr(self.axes)
