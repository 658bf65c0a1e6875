"""What a volume costs when each slice is read once for all bags that hold it, beside every bag read anew.

python benchmarks/volumetric.py. Two parts of VA Mask R-CNN are timed for slices in the middle of a volume, with random
weights: the attended features of a slice (residual network, pyramid, attention), and the whole prediction, with the
regions and heads, which take as long both ways. Once, the features of a bag are checked to be the same both ways.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Times, interleaved, set_threads

if TYPE_CHECKING:
    from foveate.networks import MaskRCNN

FEATURES = ("features, slices read once", "features, bags read anew")
WHOLE = ("prediction, slices read once", "prediction, bags read anew")


def main(
    network: Annotated[str, typer.Option(help="A function of foveate.networks.")] = "va_mask_rcnn_resnet50",
    size: Annotated[int, typer.Option(help="Height and width of the slices, a multiple of 32.")] = 256,
    bag: Annotated[int, typer.Option(help="Slices in a bag.")] = 9,
    turns: Annotated[int, typer.Option(help="Slices of each kind that count.")] = 6,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what a slice costs both ways, and print it."""
    set_threads(threads)
    import torch

    import foveate as fv

    torch.manual_seed(0)
    built = getattr(fv.networks, network)(bag=bag, min_size=size, max_size=size).eval()
    times = interleaved(steps(built, size, turns), turns)
    show(times, f"{network}, slices of {size} x {size}, bags of {bag}, {threads} thread{'s' * (threads > 1)}:")
    if json_file is not None:
        found = {"network": network, "size": size, "bag": bag, "turns": turns, "threads": threads}
        found |= {"torch": torch.__version__, "times": {name: dataclasses.asdict(each) for name, each in times.items()}}
        json_file.write_text(json.dumps(found, indent=2) + "\n")


def steps(network: "MaskRCNN", size: int, turns: int) -> dict[str, Callable[[], object]]:
    """What takes turns: the next slice of a volume, and a bag of its own."""
    import torch

    from foveate.networks import bag_slices, stack_slices

    depth = 2 * network.bag + turns + 3  # away from both ends, where a slice is read for each that is answered
    slices, index = stack_slices(torch.rand(depth, size, size)), network.bag
    bag = slices[bag_slices(index, depth, network.bag)]

    @torch.no_grad()
    def features() -> dict[str, torch.Tensor]:
        return network.backbone(network.transform.normalize(bag)[None], network.bag // 2, network.include_target)

    @torch.no_grad()
    def prediction() -> object:
        return network([bag])

    levels, answers = network.read_volume(slices), network.detect(slices)
    for _ in range(index):
        next(levels), next(answers)
    expected = features()
    for name, x in next(levels).items():
        if not torch.allclose(x, expected[name], rtol=1e-3, atol=1e-4):
            raise RuntimeError(f"both ways must give the same features; at level {name} they differ")
    return dict(zip(FEATURES + WHOLE, (levels.__next__, features, answers.__next__, prediction), strict=True))


def show(times: dict[str, Times], title: str) -> None:
    """Print the numbers."""
    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    table.add_column("for a slice", no_wrap=True)
    for heading in ("CPU ms", "wall ms", "anew / once"):
        table.add_column(heading, justify="right")
    for once, anew in (FEATURES, WHOLE):
        for name in (once, anew):
            ratio = f"{times[anew].cpu_ms / times[once].cpu_ms:.2f}" if name == anew else ""
            table.add_row(name, f"{times[name].cpu_ms:.0f}", f"{times[name].wall_ms:.0f}", ratio)
    print(title)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
