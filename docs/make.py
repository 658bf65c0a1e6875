"""Draw the figures and fill the tables of docs/: make docs, after make demo.

Diagrams come from docs/diagrams.py, conformance is measured by docs/conformance.py, costs are counted here, and the
pictures of what each mechanism attends to come from the comparison of `make demo`.
"""

import json
import re
import sys
from pathlib import Path

import conformance
import matplotlib
import numpy as np
from diagrams import DIAGRAMS, draw_all
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot

DOCS = Path(__file__).parent
FIGURES = DOCS / "figures"
SAMPLES = 6


def costs(name: str) -> str:
    """What a mechanism adds to a ResNet-50 on a 224 x 224 picture, counted."""
    import torch

    from foveate import layers, networks
    from foveate.compare.cost import count_macs, count_parameters

    with torch.device("meta"):
        layer = layers.catalogue.build(name, 256)
        plain, gated = networks.resnet50(), networks.resnet50(mechanism=name)
        picture = torch.empty(1, 3, 224, 224)
        parameters = [count_parameters(network) for network in (plain, gated)]
        macs = [count_macs(network.eval(), picture) for network in (plain, gated)]
    return (
        "| | parameters | MACs at 224 x 224 |\n|---|---:|---:|\n"
        f"| one layer, 256 channels | {count_parameters(layer):,} | |\n"
        f"| ResNet-50 | {parameters[0]:,} | {macs[0]:,} |\n"
        f"| ResNet-50 with `{name}` | {parameters[1]:,} (+{parameters[1] / parameters[0] - 1:.2%}) "
        f"| {macs[1]:,} (+{macs[1] / macs[0] - 1:.2%}) |\n\n"
        "MACs are those of convolutions, linear layers and matrix products. What a mechanism costs in time, on your\n"
        "machine and at your sizes, is what `foveate compare` and `foveate profile` measure.\n"
    )


def gate_costs() -> str:
    """What attention gates add to a U-Net on a volume, counted."""
    import torch

    from foveate import layers, networks
    from foveate.compare.cost import count_macs, count_parameters

    with torch.device("meta"):
        gate = layers.AttentionGate(64, 128, 64, spatial_dims=3)
        hosts = [networks.attention_unet(num_classes=4, spatial_dims=3, gates=gates).eval() for gates in (0, 1, 2)]
        volume = torch.empty(1, 1, 64, 64, 64)
        parameters, macs = map(count_parameters, hosts), [count_macs(host, volume) for host in hosts]
    names = ("U-Net in 3-D, four classes", "with a gate on each connection but the first", "with two")
    rows = "".join(
        f"| {name} | {count:,} | {work:,}{f' (+{work / macs[0] - 1:.2%})' if work > macs[0] else ''} |\n"
        for name, count, work in zip(names, parameters, macs, strict=True)
    )
    return (
        "| | parameters | MACs at 64 x 64 x 64 |\n|---|---:|---:|\n"
        f"| one gate in 3-D, 64 channels, 128 of the signal | {count_parameters(gate):,} | |\n{rows}\n"
        "MACs are those of convolutions, linear layers and matrix products.\n"
    )


def fill(page: Path, marker: str, text: str) -> None:
    """Put text between the markers of a page."""
    pattern = rf"(<!-- {marker} -->\n).*?(<!-- end -->)"
    before = page.read_text()
    after, found = re.subn(pattern, lambda match: match[1] + text + match[2], before, flags=re.DOTALL)
    if not found:
        raise ValueError(f"{page} must hold <!-- {marker} --> and <!-- end -->")
    page.write_text(after)


def draw_maps(run: Path, out: Path) -> None:
    """The maps of a run, one row each: profiles of channel gates, and places laid over the pictures."""
    described = json.loads((run / "maps" / "maps.json").read_text())
    arrays = np.load(run / "maps" / "maps.npz", allow_pickle=False)
    own = [entry for entry in described["maps"] if entry["kind"] != "network"]
    shown = (own[-2:] if own else []) + [entry for entry in described["maps"] if entry["kind"] == "network"]
    figure = pyplot.figure(figsize=(9, 1.75 * len(shown)), layout="constrained")
    for part, entry in zip(np.atleast_1d(figure.subfigures(len(shown), 1)), shown, strict=True):
        part.suptitle(title(entry), fontsize=9, x=0.01, ha="left")
        if entry["kind"] == "channel_profile":
            draw_profile(part.subplots(), arrays[entry["key"]], described["classes"])
            continue
        for index, axes in enumerate(part.subplots(1, SAMPLES)):
            draw_overlay(axes, arrays["images"][index], arrays[entry["key"]][index], described["samples"][index])
            if entry.get("point"):
                draw_point(axes, entry["point"], index, arrays["images"].shape[1:3])
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def title(entry: dict) -> str:
    if entry["kind"] == "network":
        return "the whole network: evidence for the predicted class (Grad-CAM), true place outlined"
    return entry["tap"] + (": mean gate, class by channel" if entry["kind"] == "channel_profile" else "")


def draw_profile(axes: pyplot.Axes, profile: NDArray, classes: list[str]) -> None:
    picture = axes.imshow(profile, aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(classes)), classes, fontsize=5)
    axes.tick_params(axis="x", labelsize=6)
    axes.figure.colorbar(picture, ax=axes).ax.tick_params(labelsize=6)


def draw_overlay(axes: pyplot.Axes, image: NDArray, heat: NDArray, sample: dict) -> None:
    height, width = image.shape[:2]
    axes.imshow(image)
    axes.imshow(
        heat, cmap="inferno", alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear"
    )
    if sample["box_xyxy"]:
        left, top, right, bottom = sample["box_xyxy"]
        axes.add_patch(
            pyplot.Rectangle((left, top), right - left, bottom - top, fill=False, color="white", linewidth=1)
        )
    axes.set_axis_off()


def draw_point(axes: pyplot.Axes, points: list, index: int, size: tuple[int, ...]) -> None:
    y, x = points[index] if isinstance(points[0], list) else points
    axes.plot(x * size[1] - 0.5, y * size[0] - 0.5, "+", color="cyan", markersize=7)


def main() -> None:
    """Everything that docs/ generates; pictures of maps only where the comparison has a run."""
    draw_all(FIGURES)
    conformance.write(DOCS / "conformance.md")
    demo = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS.parent / "demo"
    for name in DIAGRAMS:
        cost = gate_costs() if name == "attention_gate" else costs(name)
        fill(DOCS / "mechanisms" / f"{name}.md", f"cost:{name}", cost)
        run = demo / "runs" / name / "seed0"
        if run.is_dir():
            draw_maps(run, FIGURES / f"{name}-maps.png")
        else:
            print(f"{run} is not there: no picture of what {name} attends to was drawn")


if __name__ == "__main__":
    main()
