"""How time and memory grow with the positions and with the channels: two pictures for the documentation.

python benchmarks/growth.py, or make bench. Every mechanism of the catalogue and its peers make a forward and a
backward pass on one sample. Peers are timm's layer, the code of the authors, and for NonLocal the block with its map
formed, which stops where its maps would take more than --limit-gib. Both axes of every panel are logarithmic.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gates
import non_local
import typer
from processes import peak_of_tensors
from timing import interleaved, save, set_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

PICTURES = Path(__file__).parents[1] / "docs" / "figures"
KINDS = {f"nonlocal, {kind.replace('_', ' ')}": kind for kind in non_local.SOFTMAX + non_local.PRODUCTS}
ALONE = ("spatial", "eca-spatial", "placebo")
PLACE = "positions (height x width)"
COLUMNS = 6
LOOKS = {
    "foveate": {"color": "tab:blue", "linestyle": "-", "marker": "o"},
    "timm": {"color": "tab:orange", "linestyle": "--", "marker": "s"},
    "published": {"color": "0.35", "linestyle": ":", "marker": "^"},
    "explicit": {"color": "tab:red", "linestyle": "-.", "marker": "v"},
}
MIB, GIB = 2**20, 2**30
Points = dict[str, dict[str, list[tuple[int, float, float]]]]  # mechanism, form: positions or channels, ms, MiB


def main(
    sides: Annotated[str, typer.Option(help="Of square features, separated by commas.")] = "32,64,128,256",
    channels: Annotated[str, typer.Option(help="Of the features, separated by commas.")] = "64,128,256,512,1024,2048",
    limit_gib: Annotated[float, typer.Option(help="Memory that maps of the explicit form may take.")] = 6,
    turns: Annotated[int, typer.Option(help="Passes of each kind that count, at least two.")] = 5,
    threads: Annotated[int, typer.Option(help="Of the arithmetic.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = PICTURES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Measure how costs grow, and draw both pictures."""
    set_threads(threads)
    all_sides, all_channels = (sorted(map(int, given.split(","))) for given in (sides, channels))
    by_positions = measure([(side**2, side, all_channels[0]) for side in all_sides], limit_gib, turns)
    by_channels = measure([(each, all_sides[0], each) for each in all_channels], limit_gib, turns)
    out.mkdir(parents=True, exist_ok=True)
    said = f"one sample, forward and backward pass, {threads} thread{'s' * (threads > 1)}, maps to {limit_gib:g} GiB"
    place = f"{all_sides[0]} x {all_sides[0]} positions"
    draw(by_positions, PLACE, f"Cost against positions: {all_channels[0]} channels, {said}").savefig(
        out / "growth_positions.png"
    )
    draw(by_channels, "channels", f"Cost against channels: {place}, {said}").savefig(out / "growth_channels.png")
    print(f"{out / 'growth_positions.png'} and {out / 'growth_channels.png'} were drawn")
    save(json_file, [], turns=turns, threads=threads, positions=by_positions, channels=by_channels)


def measure(sizes: list[tuple[int, int, int]], limit_gib: float, turns: int) -> Points:
    """Time and memory of all mechanisms and forms, at sizes of a mark on the axis, a side, and channels."""
    import torch

    found: Points = {}
    for mark, side, channels in sizes:
        x = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
        for name in (*gates.PASSES, *ALONE, *KINDS):
            layers = forms(name, channels)
            if 4 * side**4 * 4 > limit_gib * GIB:  # four maps at one time
                layers.pop(non_local.EXPLICIT, None)
            given = x.flatten(2) if name in KINDS else x
            steps = {form: in_evaluation(layer, given) for form, layer in layers.items()}
            slow = name in KINDS and side > 100
            times = interleaved(steps, 2 if slow else turns, warmup=1)
            for form, step in steps.items():
                peak = peak_of_tensors(step, [given, *layers[form].parameters()])
                points = found.setdefault(name, {}).setdefault(form, [])
                points.append((mark, times[form].wall_ms, peak / MIB))
            gc.collect()
    return found


def forms(name: str, channels: int) -> "dict[str, nn.Module]":
    """Our layer and its peers."""
    import torch

    from foveate.layers import catalogue

    if name in ALONE:
        return {gates.OURS: catalogue.build(name, channels)}
    if name in KINDS:
        return non_local.forms(KINDS[name], channels)
    return gates.forms(name, channels, torch.contiguous_format)


def in_evaluation(layer: "nn.Module", x: Any) -> Callable[[], object]:
    """A forward and a backward pass; of one sample there are no batch statistics, so kept ones normalise."""
    return non_local.passes(layer.eval(), x, backward=True)


def draw(found: Points, axis: str, title: str) -> "Figure":
    """One column for each mechanism, time above memory, in as many rows as it takes."""
    from matplotlib.figure import Figure

    bands = -(-len(found) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 4.6 * bands + 0.8), dpi=110, layout="constrained")
    panels = figure.subplots(2 * bands, COLUMNS, sharex=True, squeeze=False)
    for kind, (label, index) in enumerate({"time, ms": 1, "peak memory, MiB": 2}.items()):
        values = [point[index] for by_form in found.values() for points in by_form.values() for point in points]
        for place in range(bands * COLUMNS):
            panel = panels[2 * (place // COLUMNS) + kind, place % COLUMNS]
            if place >= len(found):
                panel.set_axis_off()
                continue
            name, by_form = list(found.items())[place]
            for form, points in by_form.items():
                panel.loglog(
                    *zip(*((point[0], point[index]) for point in points), strict=True), label=form, **LOOKS[form]
                )
            marks = sorted({point[0] for points in by_form.values() for point in points})
            panel.set_xticks(marks, [f"{mark // 1024}k" if mark >= 1024 else str(mark) for mark in marks], fontsize=8)
            panel.minorticks_off()
            panel.set_ylim(0.7 * min(values), 1.5 * max(values))
            panel.grid(alpha=0.3)
            if not kind:
                panel.set_title(name, fontsize=10)
            if place % COLUMNS == 0:
                panel.set_ylabel(label)
            if kind:
                panel.set_xlabel(axis, fontsize=9)
                panel.tick_params(axis="x", labelbottom=True)
    lines = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
    figure.legend(list(lines.values()), list(lines), loc="outside upper right", ncols=len(lines))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    typer.run(main)
