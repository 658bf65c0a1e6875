"""Let mechanisms that are built into a network begin as the identity, as inserted ones do."""

from torch import Tensor, nn

from foveate.surgery.blend import Blend, size_ratio
from foveate.surgery.dry_run import traceless

__all__ = ["blend_in", "is_identity"]

SIZES = (1e-3, 1.0, 1e3)  # of the features on which a mechanism has to be the identity


def blend_in(module: nn.Module, x: Tensor, *others: Tensor) -> bool:
    """Let a module begin as the identity of its first input; return False if it is the identity by itself.

    The module gets a child `blend`, applied by a forward hook, so that its parameters keep their names.

    Args:
        module: A module whose output has the shape of its first input, such as a gate of a skip connection.
        x: Features of the kind that it gets.
        others: What else it is called with.

    Raises:
        ValueError: If the module has an attribute `blend` already.
    """
    if hasattr(module, "blend"):
        raise ValueError(f"blend_in takes a module without an attribute 'blend'; {type(module).__name__} has one")
    if is_identity(module, x, *others):
        return False
    with traceless(module):
        attended = module(x, *others)
    blend = Blend().to(x.device, x.dtype)
    blend.fit_gain(size_ratio(x, attended))
    module.add_module("blend", blend.train(module.training))
    blend.handle = module.register_forward_hook(_apply_blend)
    return True


def is_identity(module: nn.Module, x: Tensor, *others: Tensor) -> bool:
    """Return whether a module gives back its first input at any size, in evaluation and in training."""
    with traceless(module):
        for training in (False, True):
            for part in module.modules():  # one by one: train() may be overridden, and merge or freeze weights
                part.training = training
            for size in SIZES:
                if not module(size * x, *others).equal(size * x):
                    return False
    return True


def _apply_blend(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
    # At module level and without state, so that a copy or a pickle of the network carries it and calls its own child.
    return module.blend(args[0], output)  # pyright: ignore[reportCallIssue]
