"""In which blocks a mechanism stands, and with which options: the published choices, and those of the caller."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from foveate.layers import catalogue

__all__ = ["Options", "by_stage", "chosen_blocks", "non_local_blocks"]

Options = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def non_local_blocks(depths: Sequence[int], count: int) -> tuple[tuple[int, int], ...]:
    """The blocks behind which Wang et al. (2018) put 1, 5 or 10 non-local blocks, as (stage from 1, block from 0).

    One: before the last block of stage 3. Five: two in stage 2 and three in stage 3, evenly spaced. Ten: four and six.
    A shallow network holds fewer; five then means every second block.
    """
    if count == 1:
        return ((3, max(depths[2] - 2, 0)),)
    if count not in (5, 10):
        raise ValueError(f"non-local blocks were published as 1, 5 or 10 to a network; got {count}")
    chosen = []
    for stage, share in {5: ((2, 2), (3, 3)), 10: ((2, 4), (3, 6))}[count]:
        depth = depths[stage - 1]
        period = min(depth, max(depth // share, 2 if count == 5 else 1))
        chosen += [(stage, index) for index in range(period - 1, depth, period)][:share]
    return tuple(chosen)


def chosen_blocks(
    depths: Sequence[int],
    place: str,
    stages: Sequence[int] | None,
    blocks: Sequence[tuple[int, int]] | int | None,
) -> list[tuple[int, int]]:
    """The blocks that get a mechanism, in the network's order: those asked for, or else the published ones.

    Args:
        depths: Blocks in each stage.
        place: Where the mechanism usually goes: "every block", "between stages" or "chosen blocks".
        stages: Only those published places that are in these stages, counted from 1.
        blocks: These blocks instead; a number is a count for non_local_blocks.

    Raises:
        ValueError: If there is no such stage or block, or none is left.
    """
    if stages is not None and blocks is not None:
        raise ValueError("stages and blocks both say where; give one of them")
    every = [(stage, index) for stage, depth in enumerate(depths, start=1) for index in range(depth)]
    if blocks is not None:
        given = non_local_blocks(depths, blocks) if isinstance(blocks, int) else [tuple(block) for block in blocks]
        if not given:
            raise ValueError("blocks must name at least one block; got none")
        if unknown := [block for block in given if block not in every]:
            wanted = f"(stage from 1, block from 0) in stages of {tuple(depths)} blocks"
            raise ValueError(f"blocks are {wanted}; got {unknown[0]}")
        return [block for block in every if block in given]
    if stages is not None and not all(1 <= stage <= len(depths) for stage in stages):
        raise ValueError(f"stages are 1 to {len(depths)}; got {tuple(stages)}")
    published = {
        "every block": every,
        "between stages": [(stage, depth - 1) for stage, depth in enumerate(depths[:-1], start=1)],
        "chosen blocks": non_local_blocks(depths, 5),
    }[place]
    chosen = [block for block in published if stages is None or block[0] in stages]
    if not chosen:
        raise ValueError(
            f"there is no published place in stages {tuple(stages or ())} of this mechanism; name the blocks"
        )
    return chosen


def by_stage(
    mechanism: str | Callable[[int], nn.Module], options: Options | None, stages: int, spatial_dims: int = 2
) -> list[Callable[[int], nn.Module]]:
    """What makes the mechanism of each stage from its channels.

    Raises:
        ValueError: If options are given with a callable, or are neither one mapping nor one for each stage.
    """
    if not isinstance(mechanism, str):
        if options is not None:
            raise ValueError("options are for a mechanism given by name; a callable has its own")
        return [mechanism] * stages
    given = [options or {}] * stages if options is None or isinstance(options, Mapping) else list(options)
    if len(given) != stages:
        raise ValueError(f"options are one mapping or one for each of {stages} stages; got {len(given)}")
    build = partial(catalogue.build, mechanism, spatial_dims=spatial_dims)
    return [partial(build, **stage_options) for stage_options in given]
