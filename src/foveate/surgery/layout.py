"""Find which axis of a module's output holds the channels."""

from collections.abc import Callable

from foveate.surgery.dry_run import Call
from foveate.surgery.hook import Layout

__all__ = ["find_layout"]


def find_layout(name: str, call: Call, batch: int, at_another_size: Callable[[], Call | None]) -> Layout:
    """The layout of what a module gave.

    The witnesses, in order: the layer that ran last, where it gave the very same shape; the axis that stays the same
    when the host's input changes its size; the axis as long as that layer has channels.

    Args:
        name: The module's name, for the sentence.
        call: What the module gave.
        batch: Samples in the host's input.
        at_another_size: Runs the host on an input of another size, if it takes one; asked only where it is needed.

    Raises:
        ValueError: If the witnesses say nothing, or if the first axis is not the batch.
    """
    shape = call.shape
    if len(shape) < 3:
        return "channels_first"
    layout = _same_shape(call) or _constant_axis(call, at_another_size()) or _same_length(call)
    if layout is None:
        raise ValueError(
            f"which axis of {name!r} {shape} holds the channels cannot be told; "
            'pass layout="channels_first" or layout="channels_last"'
        )
    if layout == "channels_last" and len(shape) == 3 and shape[1] == batch != shape[0]:
        raise ValueError(f"{name!r} gives (token, batch, channel) {shape}; insert takes modules with the batch first")
    return layout


def _same_shape(call: Call) -> Layout | None:
    source = call.source
    # Where the second and the last axis are equally long, a transposition in between would not show.
    if source is None or source.shape != call.shape or call.shape[1] == call.shape[-1]:
        return None
    return source.layout


def _constant_axis(call: Call, other: Call | None) -> Layout | None:
    if other is None or len(other.shape) != len(call.shape):
        return None
    second, last = call.shape[1] == other.shape[1], call.shape[-1] == other.shape[-1]
    if second == last:
        return None
    return "channels_first" if second else "channels_last"


def _same_length(call: Call) -> Layout | None:
    if call.source is None:
        return None
    second, last = call.shape[1] == call.source.channels, call.shape[-1] == call.source.channels
    if second == last:
        return None
    return "channels_first" if second else "channels_last"
