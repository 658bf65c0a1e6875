"""Draw the figures and fill the tables of docs/: make docs, after make demo.

Diagrams come from docs/diagrams.py and docs/architectures.py, conformance is measured by docs/conformance.py, costs are
counted by docs/costs.py, and the pictures of what each mechanism attends to come from the comparison of `make demo`,
those of the attention gate from a run that segments scans: python docs/make.py demo RUN.
"""

import json
import re
import sys
from pathlib import Path

import architectures
import conformance
import costs
import diagrams
import matplotlib
import numpy as np
from gates import draw_gates
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot

DOCS = Path(__file__).parent
FIGURES = DOCS / "figures"
SAMPLES = 6


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
    """Everything that docs/ generates; pictures of maps only where there is a run to take them from."""
    diagrams.draw_all(FIGURES)
    architectures.draw_all(FIGURES)
    conformance.write(DOCS / "conformance.md")
    demo, *runs = map(Path, sys.argv[1:] or [DOCS.parent / "demo"])
    for name in diagrams.DIAGRAMS:
        cost = costs.of_gates() if name == "attention_gate" else costs.of_mechanism(name)
        fill(DOCS / "mechanisms" / f"{name}.md", f"cost:{name}", cost)
        run = demo / "runs" / name / "seed0"
        if run.is_dir():
            draw_maps(run, FIGURES / f"{name}-maps.png")
        elif name != "attention_gate":
            print(f"{run} is not there: no picture of what {name} attends to was drawn")
    fill(DOCS / "mechanisms" / "volumetric.md", "cost:volumetric", costs.of_volumetric())
    counted = {"unet": costs.of_unets, "sononet": costs.of_sononets, "detr": costs.of_detrs}
    for name, cost in (counted | {"transformer": costs.of_transformers}).items():
        fill(DOCS / "networks" / f"{name}.md", f"cost:{name}", cost())
    for run in runs:
        draw_gates(run, FIGURES / "attention_gate-maps.png")


if __name__ == "__main__":
    main()
