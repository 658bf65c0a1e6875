"""What matching costs: ours, within each picture and for all decoder layers at once, beside DETR's release's form.

python benchmarks/matcher.py, or make bench. The release computes, for each layer, the costs of every query of the batch
with every object of the batch, and uses those within a picture alone. Both give the same pairs, which is checked before
anything is timed. Ratios are of CPU time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, Times, interleaved, save, set_threads, time_ratio

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.tasks.detect.targets import Target

CLASSES = 91
OURS, THEIRS = "within each picture", "whole batch"
Answers = tuple["Tensor", "Tensor", list["Target"]]


def main(
    batches: Annotated[str, typer.Option(help="Pictures in a batch, several separated by commas.")] = "1,2,8,16,32",
    boxes: Annotated[int, typer.Option(help="Objects in a picture.")] = 30,
    queries: Annotated[int, typer.Option(help="Queries of the detector.")] = 100,
    layers: Annotated[int, typer.Option(help="Decoder layers that are matched.")] = 6,
    turns: Annotated[int, typer.Option(help="Matchings of each kind that count.")] = 20,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what matching costs, and print it."""
    set_threads(threads)

    found = {}
    for batch in map(int, batches.split(",")):
        answers = random_answers(batch, boxes, queries, layers)
        if ours(*answers) != whole_batch(*answers):
            raise RuntimeError(f"the two forms must give the same pairs; at batch {batch} they differ")
        steps: dict[str, Callable[[], object]] = {
            OURS: lambda answers=answers: ours(*answers),
            THEIRS: lambda answers=answers: whole_batch(*answers),
        }
        found[batch] = interleaved(steps, turns)
    show(found, boxes, queries, layers, threads)
    about: dict[str, Any] = {"boxes": boxes, "queries": queries, "layers": layers, "turns": turns}
    save(json_file, ratios(found), **about, threads=threads, times=found)


def ratios(found: dict[int, dict[str, Times]]) -> list[Ratio]:
    """The lines of the table, of which batch 16 has a target."""
    return [
        time_ratio(f"matcher, batch {batch}", THEIRS, times[THEIRS], times[OURS], ">= 6" if batch == 16 else "")
        for batch, times in found.items()
    ]


def random_answers(batch: int, boxes: int, queries: int, layers: int) -> Answers:
    """Logits and boxes of every layer, and what they should have been."""
    import torch

    from foveate.tasks.detect.targets import Target

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(layers, batch, queries, CLASSES + 1, generator=generator)
    answered = torch.rand(layers, batch, queries, 4, generator=generator) * 0.5 + 0.1
    targets = [
        Target(
            torch.randint(CLASSES, (boxes,), generator=generator),
            torch.rand(boxes, 4, generator=generator) * 0.5 + 0.1,
        )
        for _ in range(batch)
    ]
    return logits, answered, targets


def ours(logits: "Tensor", boxes: "Tensor", targets: list["Target"]) -> list[list[int]]:
    """Rows of layer, picture, query and object."""
    import torch

    from foveate.tasks.detect.matcher import match

    pairs = match(logits, boxes, targets)
    return torch.stack((pairs.layer, pairs.picture, pairs.query, pairs.object), dim=1).tolist()


def whole_batch(logits: "Tensor", boxes: "Tensor", targets: list["Target"]) -> list[list[int]]:
    """The same rows, as the release finds them."""
    import torch
    from scipy.optimize import linear_sum_assignment
    from torchvision.ops import box_convert, generalized_box_iou

    def corners(centred: "Tensor") -> "Tensor":
        return box_convert(centred, "cxcywh", "xyxy")

    labels = torch.cat([target.labels for target in targets])
    wanted = torch.cat([target.boxes for target in targets])
    sizes = [len(target.labels) for target in targets]
    rows = []
    for layer, (layer_logits, layer_boxes) in enumerate(zip(logits, boxes, strict=True)):
        batch, queries = layer_logits.shape[:2]
        probabilities, answered = layer_logits.flatten(0, 1).softmax(-1), layer_boxes.flatten(0, 1)
        distance = torch.cdist(answered, wanted, p=1)
        cost = 5 * distance - probabilities[:, labels] - 2 * generalized_box_iou(corners(answered), corners(wanted))
        parts = cost.view(batch, queries, -1).cpu().split(sizes, dim=-1)
        for picture, part in enumerate(parts):
            query, object_ = linear_sum_assignment(part[picture])
            rows += [[layer, picture, *pair] for pair in zip(query.tolist(), object_.tolist(), strict=True)]
    return rows


def show(found: dict[int, dict[str, Times]], boxes: int, queries: int, layers: int, threads: int) -> None:
    """Print the numbers."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    for heading in ("batch", f"{OURS}, CPU ms", f"{THEIRS}, CPU ms", "x faster", "x faster by wall time"):
        table.add_column(heading, justify="right")
    for batch, times in found.items():
        mine, theirs = times[OURS], times[THEIRS]
        ratios = (theirs.cpu_ms / mine.cpu_ms, theirs.wall_ms / mine.wall_ms)
        numbers = [f"{mine.cpu_ms:.1f}", f"{theirs.cpu_ms:.1f}", *(f"{ratio:.1f}" for ratio in ratios)]
        table.add_row(str(batch), *numbers)
    print(
        f"Matching {layers} decoder layers of {queries} queries with {boxes} objects a picture, "
        f"{threads} thread{'s' * (threads > 1)}:"
    )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
