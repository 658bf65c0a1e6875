"""Inserted: the child that carries a mechanism, and the hook that applies it behind its host module."""

from typing import Literal

from torch import Tensor, nn

from foveate.surgery.blend import Blended

__all__ = ["Inserted", "Layout", "Start", "attach", "detach", "inserted", "inserted_in", "is_compiled", "unwrapped"]

Layout = Literal["channels_first", "channels_last"]
Start = Literal["identity", "published"]


class Inserted(Blended):
    """A mechanism behind a module of a host, blended in from the identity, or applied plainly as mechanism(x).

    It lives as the child `inserted` of the module that it follows. Mechanisms see (batch, channel, *space) whatever the
    layout of the host; a sequence of tokens (batch, token, channel) is (batch, channel, token) to them.

    Args:
        mechanism: A module whose output has the shape of its input.
        start: "identity" or "published".
        layout: Where the host keeps its channels.
        blend: Whether start="identity" needs a blend. A mechanism that is the identity by a zero of its own needs none:
            two zeros in a row would never get a gradient.

    Shape:
        (batch, channel, *space), or (batch, *space, channel) with layout="channels_last" -> the same.
    """

    def __init__(
        self,
        mechanism: nn.Module,
        start: Start = "identity",
        layout: Layout = "channels_first",
        *,
        blend: bool = True,
    ) -> None:
        super().__init__(start == "identity" and blend)
        self.mechanism = mechanism
        self.start: Start = start
        self.layout: Layout = layout

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "channels_last":
            # Contiguous, because a host with channels last goes on with view().
            attended = self.mechanism(x.movedim(-1, 1)).movedim(1, -1).contiguous()
        else:
            attended = self.mechanism(x)
        return self.blend(x, attended.to(x.dtype))  # under autocast a mechanism may answer in another precision

    def extra_repr(self) -> str:
        return f"start={self.start!r}, layout={self.layout!r}"


def _apply_inserted(module: nn.Module, _args: tuple, output: Tensor) -> Tensor:
    # At module level and without state, so that a copy or a pickle of the host carries it and calls its own child.
    return module.inserted(output)  # pyright: ignore[reportCallIssue]


def inserted_in(module: nn.Module) -> Inserted | None:
    """What follows this very module, if anything was inserted there."""
    child = getattr(module, "inserted", None)
    return child if isinstance(child, Inserted) else None


def attach(module: nn.Module, child: Inserted) -> None:
    """Let `child` follow the module."""
    module.add_module("inserted", child)
    child.handle = module.register_forward_hook(_apply_inserted)


def detach(module: nn.Module) -> None:
    """Take away what follows the module: the hook and the child."""
    child = inserted_in(module)
    if child is not None and child.handle is not None:
        child.handle.remove()
        child.handle = None
        del module.inserted


def inserted(host: nn.Module) -> dict[str, Inserted]:
    """What is inserted in a host, by the name of the module that it follows.

    A host inside torch.compile or DistributedDataParallel is looked through: the names are those of the plain host.
    """
    found = ((name, inserted_in(module)) for name, module in unwrapped(host).named_modules())
    return {name: child for name, child in found if child is not None}


def is_compiled(module: nn.Module) -> bool:
    """Whether a call of this very module runs what torch.compile made, as a wrapper or in place."""
    return isinstance(getattr(module, "_orig_mod", None), nn.Module) or module._compiled_call_impl is not None


def unwrapped(host: nn.Module) -> nn.Module:
    """The plain host inside torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(inner := getattr(host, "_orig_mod", None), nn.Module):
            host = inner
        elif type(host).__name__ in ("DataParallel", "DistributedDataParallel"):
            host = host.get_submodule("module")
        else:
            return host
