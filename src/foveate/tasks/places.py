"""Where a mechanism goes in a host when nobody says where: the published kinds of place, in any host's terms."""

from itertools import groupby

from torch import nn

from foveate.networks.places import non_local_blocks
from foveate.surgery.blocks import default_sites

__all__ = ["usual_places"]


def usual_places(host: nn.Module, place: str) -> frozenset[str]:
    """The names of the modules that a mechanism follows.

    Args:
        host: Any network of repeated blocks.
        place: "every block": behind the last normalisation of a residual branch, where the block is a ResNet's, else
            behind the block. "between stages": behind the last block of every stage but the last. "chosen blocks":
            behind those that non-local networks choose.

    Raises:
        LookupError: If the host has no blocks that are known.
    """
    is_block = default_sites(host)
    blocks = [name for name, module in host.named_modules() if name and is_block(name, module)]
    stages = [list(names) for _, names in groupby(blocks, key=lambda name: name.rpartition(".")[0])]
    if place == "every block":
        return frozenset(_branch_end(name, host.get_submodule(name)) for name in blocks)
    if len(stages) < 3:  # a host of equal blocks has no stages: its quarters stand for them
        return frozenset(blocks[len(blocks) * quarter // 4 - 1] for quarter in (1, 2, 3) if len(blocks) >= 4) or (
            frozenset(blocks[:1])
        )
    if place == "between stages":
        return frozenset(names[-1] for names in stages[:-1])
    return frozenset(stages[stage - 1][index] for stage, index in non_local_blocks([len(s) for s in stages], 5))


def _branch_end(name: str, block: nn.Module) -> str:
    if type(block).__name__ in ("BasicBlock", "Bottleneck"):
        for norm in ("bn3", "bn2"):
            if isinstance(getattr(block, norm, None), nn.Module):
                return f"{name}.{norm}"
    return name
