"""In which residual blocks a mechanism stands: the published choices, and those of the caller."""

from collections.abc import Sequence

__all__ = ["chosen_blocks", "non_local_blocks"]


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
    """The blocks that get a mechanism: those asked for, or else the published ones."""
    if stages is not None and blocks is not None:
        raise ValueError("stages and blocks say the same thing twice; give one of them")
    if isinstance(blocks, int):
        blocks = non_local_blocks(depths, blocks)
    every = [(stage, index) for stage, depth in enumerate(depths, start=1) for index in range(depth)]
    if blocks is not None:
        unknown = [block for block in map(tuple, blocks) if block not in every]
        if unknown:
            raise ValueError(
                f"a network of {tuple(depths)} blocks has no block {unknown[0]} (stage from 1, block from 0)"
            )
        return [block for block in every if block in set(map(tuple, blocks))]
    published = {
        "every block": every,
        "between stages": [(stage, depth - 1) for stage, depth in enumerate(depths[:-1], start=1)],
        "chosen blocks": non_local_blocks(depths, 5),
    }[place]
    chosen = [block for block in published if stages is None or block[0] in stages]
    if not chosen:
        raise ValueError(f"this mechanism has no published place in stages {tuple(stages or ())}; name the blocks")
    return chosen
