"""The diagrams of docs/networks: boxes on a grid, with arrows that turn at right angles, written as SVG."""

from dataclasses import dataclass
from pathlib import Path

from diagrams import BOX_HEIGHT, CHARACTER, GAP, HEAD, ROW, arrow, drawn, page

MARGIN = 8
ASIDE = 0.25  # where arrows that turn leave and reach a box, in widths from its side


@dataclass(frozen=True)
class Part:
    """A part of a network: what it says, where it stands, and whether its map can be watched."""

    text: str
    column: int
    row: int
    tap: bool = False


# Each network: its parts by name, and "from > to" for each arrow.
NETWORKS: dict[str, tuple[dict[str, Part], list[str]]] = {
    "unet": (
        {
            **{f"encoder {k}": Part(f"encoder {k}: {2 ** (k + 3)} channels", 0, k - 1) for k in range(1, 6)},
            "skip 1": Part("skip connection 1, not gated", 1, 0),
            **{f"skip {k}": Part("gates, 1x1, norm, ReLU", 1, k - 1, tap=True) for k in (2, 3, 4)},
            "gating": Part("gating signal: 1x1, norm, ReLU", 1, 4),
            **{f"decoder {k}": Part(f"decoder {k}: {2 ** (k + 3)} channels", 2, k - 1) for k in range(1, 5)},
            **{f"head {k}": Part(f"head {k}{', resized' * (k > 1)}", 3, k - 1) for k in range(1, 5)},
            "final": Part("joined, 1x1: logits", 4, 0),
        },
        [
            *(f"encoder {k} > encoder {k + 1}" for k in range(1, 5)),
            *(f"encoder {k} > skip {k}" for k in range(1, 5)),
            *(f"skip {k} > decoder {k}" for k in range(1, 5)),
            *(f"decoder {k} > head {k}" for k in range(1, 5)),
            *(f"decoder {k + 1} > decoder {k}" for k in range(1, 4)),
            *(f"decoder {k} > skip {k - 1}" for k in (3, 4)),
            *(f"head {k} > final" for k in range(1, 5)),
            "encoder 5 > gating",
            "encoder 5 > decoder 4",
            "gating > skip 4",
        ],
    ),
    "detr": (
        {
            "backbone": Part("ResNet", 0, 0),
            "proj": Part("1x1: 256 channels", 1, 0),
            "encoder": Part("6 x self-attention, FFN", 2, 0, tap=True),
            "positions": Part("positions", 2, 1),
            "queries": Part("100 queries", 2, 2),
            "decoder": Part("6 x self-, cross-attention, FFN", 3, 1, tap=True),
            "classes": Part("linear: classes", 4, 1),
            "boxes": Part("3 x linear: boxes", 4, 2),
            "attention": Part("attention per query", 3, 3, tap=True),
            "masks": Part("convolutions: masks", 4, 3),
        },
        [
            "backbone > proj",
            "proj > encoder",
            "positions > encoder",
            "positions > decoder",
            "encoder > decoder",
            "queries > decoder",
            "decoder > classes",
            "decoder > boxes",
            "decoder > attention",
            "attention > masks",
        ],
    ),
    "transformer": (
        {
            "source": Part("source: embedding, positions", 0, 0),
            "target": Part("target: embedding, positions", 0, 1),
            "encoder": Part("6 x self-attention, FFN", 1, 0, tap=True),
            "decoder": Part("6 x self-, cross-attention, FFN", 2, 1, tap=True),
            "logits": Part("the embedding: logits", 3, 1),
        },
        [
            "source > encoder",
            "encoder > decoder",
            "target > decoder",
            "decoder > logits",
        ],
    ),
    "sononet": (
        {
            **{f"stage {k}": Part(f"stage {k}", k - 1, 0) for k in range(1, 6)},
            **{f"gate {k}": Part("gate per position", k - 1, 1, tap=True) for k in (3, 4)},
            **{f"sum {k}": Part("sum over space", k - 1, 2) for k in (3, 4)},
            "mean": Part("mean over space", 4, 2),
            "classifiers": Part("classifiers", 3, 3),
        },
        [
            *(f"stage {k} > stage {k + 1}" for k in range(1, 5)),
            *(f"stage {k} > gate {k}" for k in (3, 4)),
            *(f"stage 5 > gate {k}" for k in (3, 4)),
            *(f"gate {k} > sum {k}" for k in (3, 4)),
            "stage 5 > mean",
            *(f"{each} > classifiers" for each in ("sum 3", "sum 4", "mean")),
        ],
    ),
}


def draw(parts: dict[str, Part], arrows: list[str]) -> str:
    """One network as SVG."""
    columns = range(1 + max(part.column for part in parts.values()))
    wide = [20 + CHARACTER * max(len(part.text) for part in parts.values() if part.column == at) for at in columns]
    left = [MARGIN + sum(wide[:at]) + GAP * at for at in columns]
    shapes = [
        drawn(part.text, left[part.column], middle(part), wide[part.column], tap=part.tap) for part in parts.values()
    ]
    for each in arrows:
        here, there = (parts[name] for name in each.split(" > "))
        between = range(here.column + 1, there.column + 1)
        clear = not any(part.row == here.row and part.column in between for part in parts.values())
        shapes.append(arrow(*way(here, there, left, wide, clear=clear and here.column < there.column)))
    return page(shapes, left[-1] + wide[-1] + MARGIN, ROW * (1 + max(part.row for part in parts.values())))


def middle(part: Part) -> float:
    return ROW * (part.row + 0.5)


def way(here: Part, there: Part, left: list[float], wide: list[float], *, clear: bool) -> list[tuple[float, float]]:
    """The points of an arrow: straight in a row or column, else along the row where it is clear, or between two."""
    if here.row == there.row:
        return [(left[here.column] + wide[here.column], middle(here)), (left[there.column] - HEAD, middle(there))]
    down = 1 if there.row > here.row else -1
    start, end = middle(here) + down * BOX_HEIGHT / 2, middle(there) - down * (BOX_HEIGHT / 2 + HEAD)
    if here.column == there.column:
        x = left[here.column] + wide[here.column] / 2
        return [(x, start), (x, end)]
    right = there.column > here.column
    x, to = (
        left[part.column] + wide[part.column] * (1 - ASIDE if right == (part is here) else ASIDE)
        for part in (here, there)
    )
    if clear:
        return [(left[here.column] + wide[here.column], middle(here)), (to, middle(here)), (to, end)]
    turn = ROW * (there.row + (down < 0))
    return [(x, start), (x, turn), (to, turn), (to, end)]


def draw_all(folder: Path) -> None:
    """Write every diagram into a folder."""
    for name, (parts, arrows) in NETWORKS.items():
        (folder / f"{name}.svg").write_text(draw(parts, arrows))
