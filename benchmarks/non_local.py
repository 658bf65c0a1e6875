"""What NonLocal costs beside the same block with its map formed: time, peak memory, and growth with the positions.

python benchmarks/non_local.py, or make bench. Both have the same weights; that outputs and gradients agree is checked
before anything is timed. Softmax kinds are measured in a forward pass, the others in a forward and a backward pass of
the whole layer. The map of a concatenation is formed of sums of one number a position, not of pairs of embeddings,
which no memory would hold. Softmax kinds are measured at two widths: at the larger one the products take most of the
time, in both forms. The limit is what is left when nothing but the two products is timed, at the rate of one large
product of torch. Where the maps would take more than --limit-gib, the explicit form is left out.
"""

import gc
from collections.abc import Callable
from itertools import product as combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from processes import peak_of_tensors
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from timing import Ratio, interleaved, save, set_threads, time_ratio

if TYPE_CHECKING:
    from torch import Tensor, nn

OURS, EXPLICIT, PRODUCT = "foveate", "explicit", "product"
RATED = 4096, 512  # rows and columns of the square, and of what it is multiplied by, that tell the rate of products
SOFTMAX, PRODUCTS = ("embedded_gaussian", "gaussian"), ("dot_product", "concatenation")
# What the explicit form should cost, in multiples of ours; of products at fewer than 1,000 positions no less.
TARGETS = {(kind, 12544): ">= 2" for kind in SOFTMAX} | {(kind, 32768): ">= 2" for kind in SOFTMAX}
TARGETS |= {("dot_product", 12544): ">= 6", ("concatenation", 12544): ">= 4"}
TARGETS |= {("dot_product", 6272): ">= 2.5", ("concatenation", 6272): ">= 1.7"}
GIB, MIB = 2**30, 2**20


def main(
    positions: Annotated[
        str, typer.Option(help="Of the products, separated by commas.")
    ] = "196,784,1568,3136,6272,12544",
    softmax_positions: Annotated[str, typer.Option(help="Of the softmax kinds.")] = "196,784,12544,32768",
    channels: Annotated[str, typer.Option(help="Of the features of products; half of them inside.")] = "512",
    softmax_channels: Annotated[str, typer.Option(help="Of the features of softmax kinds.")] = "64,512",
    limit_gib: Annotated[float, typer.Option(help="Memory that maps may take.")] = 10,
    turns: Annotated[int, typer.Option(help="Passes that count; of maps of half a gigabyte a third, or five.")] = 9,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure what NonLocal costs, and print it."""
    set_threads(threads)
    import torch

    table = Table(box=MARKDOWN)  # which can be pasted into README.md
    for heading in (
        "pairwise",
        "channels",
        "positions",
        f"{OURS}, CPU ms",
        EXPLICIT,
        "x faster",
        f"{OURS}, MiB",
        EXPLICIT,
        "x less",
    ):
        table.add_column(heading, justify="right" if table.columns else "left")
    found, ratios = [], []
    cases = [
        (kind, width, count)
        for kinds, widths, counts in ((SOFTMAX, softmax_channels, softmax_positions), (PRODUCTS, channels, positions))
        for kind, width, count in combinations(kinds, map(int, widths.split(",")), map(int, counts.split(",")))
    ]
    for kind, width, count in cases:
        backward = kind in PRODUCTS
        maps = count**2 * 4 * (4 if backward else 2)
        layers = forms(kind, width)
        if maps > limit_gib * GIB:
            del layers[EXPLICIT]
        x = torch.randn(1, width, count, generator=torch.Generator().manual_seed(0))
        steps = {name: passes(layer, x, backward) for name, layer in layers.items()}
        check(kind, steps)
        many = turns if count**2 * 4 < GIB / 2 else min(turns, max(5, turns // 3))
        times = interleaved(steps | ({} if backward else {PRODUCT: product()}), many, warmup=1)
        memory = {name: peak_of_tensors(step, [x, *layers[name].parameters()]) for name, step in steps.items()}
        gc.collect()
        found.append({"kind": kind, "channels": width, "positions": count, "times": times, "memory": memory})
        ratios += lines(kind, width, count, found[-1])
        row = [f"{times[name].cpu_ms:.1f}" if name in times else "" for name in (OURS, EXPLICIT)]
        held = [f"{memory[name] / MIB:.0f}" if name in memory else "" for name in (OURS, EXPLICIT)]
        ratio = [f"{shown:.2f}" if shown else "" for shown in (compared(times, "cpu_ms"), compared(memory))]
        table.add_row(kind, str(width), str(count), *row, ratio[0], *held, ratio[1])
    ratios += growth(found)
    print(f"NonLocal, batch 1, {threads} thread{'s' * (threads > 1)}:")
    Console(width=120).print(table)
    save(json_file, ratios, turns=turns, threads=threads, found=found)


def forms(kind: str, channels: int) -> "dict[str, nn.Module]":
    """Our layer and the explicit block, with the same weights, which add something to the input."""
    import torch

    import foveate as fv

    torch.manual_seed(0)
    ours = fv.layers.NonLocal(channels, pairwise=kind)
    for parameter in ours.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=channels**-0.5)
    torch.nn.init.ones_(ours.norm.weight)
    return {OURS: ours, EXPLICIT: explicit(ours)}


def explicit(ours: Any) -> "nn.Module":
    """The block as published: 1x1 convolutions, a map of positions by positions, and its product with the values."""
    import torch
    from torch import nn

    kind = ours.pairwise

    class Explicit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("theta", "phi", "g", "out"):
                if hasattr(ours, name):
                    given = getattr(ours, name)
                    convolution = nn.Conv1d(given.in_features, given.out_features, 1)
                    convolution.load_state_dict({"weight": given.weight[..., None], "bias": given.bias})
                    self.add_module(name, convolution)
            self.norm = nn.BatchNorm1d(ours.channels)
            if kind == "concatenation":
                self.concat = nn.Linear(ours.concat.in_features, 1, bias=False)
                self.concat.load_state_dict(ours.concat.state_dict())

        def weights(self, x: "Tensor") -> "Tensor":
            if kind == "gaussian":
                return (x.mT @ x).softmax(dim=-1)
            theta, phi = self.theta(x), self.phi(x)
            if kind == "concatenation":
                of_query, of_key = self.concat.weight.chunk(2, dim=1)
                return torch.relu((of_query @ theta).mT + of_key @ phi) / x.shape[2]
            product = theta.mT @ phi
            return product.softmax(dim=-1) if kind == "embedded_gaussian" else product / x.shape[2]

        def forward(self, x: "Tensor") -> "Tensor":
            y = self.weights(x) @ self.g(x).mT
            return x + self.norm(self.out(y.mT.contiguous()))

    return Explicit()


def product() -> "Callable[[], Tensor]":
    """The product whose time tells the rate of products."""
    import torch

    square, rows = torch.rand(RATED[0], RATED[0]), torch.rand(RATED)
    return lambda: square @ rows


def passes(layer: "nn.Module", x: "Tensor", backward: bool) -> "Callable[[], list[Tensor]]":
    """What makes a forward pass, or a forward and a backward pass, and gives the output and the input's gradient."""
    import torch

    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def step() -> "list[Tensor]":
        layer.zero_grad(set_to_none=True)
        given = x.detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            y = layer(given)
        if not backward:
            return [y]
        y.backward(cotangent)
        return [y.detach(), given.grad]

    return step


def check(kind: str, steps: "dict[str, Callable[[], list[Tensor]]]") -> None:
    """Raise a RuntimeError unless both forms compute the same.

    They are told apart by norms: of millions of sums that a ReLU sees, rounding puts some on the wrong side of zero.
    """
    computed = [step() for step in steps.values()]
    for ours, theirs in zip(computed[0], computed[-1], strict=True):
        difference = ((ours - theirs).norm() / theirs.norm()).item()
        if not difference < 0.01:
            raise RuntimeError(f"both forms of {kind} must compute the same; they differ by {difference:.2g} of it")


def compared(found: dict[str, Any], kind: str | None = None) -> float | None:
    """The explicit form's over ours, where it was measured."""
    if EXPLICIT not in found:
        return None
    return getattr(found[EXPLICIT], kind) / getattr(found[OURS], kind) if kind else found[EXPLICIT] / found[OURS]


def lines(kind: str, width: int, count: int, found: dict[str, Any]) -> list[Ratio]:
    """The lines of the table for one number of positions that has a target."""
    times, memory = found["times"], found["memory"]
    target = TARGETS.get((kind, count), ">= 1" if count <= 784 and kind in PRODUCTS else "")
    if EXPLICIT not in times or (count > 784 and not target):
        return []
    what = f"NonLocal, {kind}, {count:,} positions of {width}"
    # Two products of the map with rows of half the width: of the one with itself, half the tiles count with all of it.
    work = 2 * (count / RATED[0]) ** 2 * (width / 2 / RATED[1])
    least = work * times[PRODUCT].cpu_ms if PRODUCT in times else None
    limit = times[EXPLICIT].cpu_ms / least if least and count > 784 else None
    made = [time_ratio(what, "the map formed", times[EXPLICIT], times[OURS], target, limit=limit)]
    if kind in SOFTMAX and count > 784:
        made.append(Ratio(f"{what}: memory", "the map formed", memory[EXPLICIT] / memory[OURS], ">= 10"))
    return made


def growth(found: list[dict[str, Any]]) -> list[Ratio]:
    """What twice the positions cost, of the products where both numbers were measured."""
    names = ("kind", "channels", "positions")
    ours = {tuple(each[name] for name in names): each["times"][OURS] for each in found if each["kind"] in PRODUCTS}
    return [
        time_ratio(
            f"NonLocal, {kind}, {count:,} to {2 * count:,} positions of {width}", "itself", twice, once, "<= 2.3"
        )
        for (kind, width, count), once in ours.items()
        if (twice := ours.get((kind, width, 2 * count))) is not None and count >= 1000
    ]


if __name__ == "__main__":
    typer.run(main)
