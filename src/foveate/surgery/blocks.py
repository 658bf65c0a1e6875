"""Blocks: where a mechanism goes in a host when nobody says where."""

import re
from collections.abc import Callable

from torch import nn

from foveate.surgery.sites import own_modules

__all__ = ["default_sites"]

# How timm, torchvision, MONAI and torch call the unit that they repeat: BasicBlock, Bottleneck, ConvNeXtBlock,
# SwinTransformerV2Block, InvertedResidual, MBConv, DepthwiseSeparableConv, EncoderBlock, TransformerEncoderLayer.
_BLOCK = re.compile(
    r"(block|bottle2?neck|invertedresidual|edgeresidual|mbconv|depthwiseseparableconv|encoderlayer)(v?\d|[123]d)?$",
    re.IGNORECASE,
)


def default_sites(host: nn.Module) -> Callable[[str, nn.Module], bool]:
    """The usual place for a mechanism, as a `where` of insert: behind every block of the host.

    A block is told by the name of its class; of blocks inside blocks the outer ones count.

    Raises:
        LookupError: If the host has no blocks that are known.
    """
    blocks: list[str] = []
    for name, module in own_modules(host):
        inside = name.startswith(tuple(f"{block}." for block in blocks))
        if not inside and not isinstance(module, nn.ModuleList | nn.ModuleDict) and _is_block(module):
            blocks.append(name)
    if not blocks:
        some = [f"{name}.*" for name, _ in host.named_children()][:5]
        raise LookupError(f"no usual place is known in {type(host).__name__}; say where, by a pattern such as {some}")
    chosen = frozenset(blocks)
    return lambda name, module: name in chosen


def _is_block(module: nn.Module) -> bool:
    return any(_BLOCK.search(kind.__name__) for kind in type(module).__mro__)
