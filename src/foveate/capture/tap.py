"""Tap: the named point through which every gate and every attention map passes."""

from torch import nn

__all__ = ["Tap"]


class Tap(nn.Identity):
    """Pass a map through unchanged, under a name at which it can be watched or replaced.

    A forward hook on the tap sees the map; a hook that returns a tensor replaces it. A layer asks `watched` before it
    leaves a fast path that never forms the map.

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

    def extra_repr(self) -> str:
        return repr(self.axes)
