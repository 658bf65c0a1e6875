"""The diagrams of docs/mechanisms: boxes in rows with arrows between them, written as SVG."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

BOX_HEIGHT = 34
GAP = 26
ROW = 62
CHARACTER = 7.2
HEAD = 7  # of an arrow


@dataclass(frozen=True)
class Box:
    """A step of a diagram: what it says, whether it is the gate or map that can be watched, and its row."""

    text: str
    tap: bool = False
    row: int = 0

    @property
    def width(self) -> float:
        return 20 + CHARACTER * len(self.text)


# Each diagram: columns from left to right; boxes of one column stand above each other.
DIAGRAMS: dict[str, list[list[Box]]] = {
    "se": [
        [Box("x")],
        [Box("mean over space")],
        [Box("W1, ReLU, W2")],
        [Box("sigmoid: gate per channel", tap=True)],
        [Box("x * gate")],
    ],
    "scse": [
        [Box("x")],
        [Box("mean, W1, ReLU, W2"), Box("1x1 convolution", row=1)],
        [Box("sigmoid: gate per channel", tap=True), Box("sigmoid: gate per position", tap=True, row=1)],
        [Box("x * gate"), Box("x * gate", row=1)],
        [Box("sum")],
    ],
    "eca": [
        [Box("x")],
        [Box("mean over space")],
        [Box("1-D convolution across channels")],
        [Box("sigmoid: gate per channel", tap=True)],
        [Box("x * gate")],
    ],
    "cbam": [
        [Box("x")],
        [Box("mean and max over space")],
        [Box("one MLP for both, sum")],
        [Box("gate per channel", tap=True)],
        [Box("max and mean over channels")],
        [Box("7x7 convolution, norm")],
        [Box("gate per position", tap=True)],
    ],
    "eca-spatial": [
        [Box("x")],
        [Box("mean, 1-D convolution")],
        [Box("gate per channel", tap=True)],
        [Box("max and mean over channels")],
        [Box("7x7 convolution, norm")],
        [Box("gate per position", tap=True)],
    ],
    "bam": [
        [Box("x")],
        [Box("mean, bottleneck MLP"), Box("1x1, two dilated 3x3, 1x1", row=1)],
        [Box("sum")],
        [Box("sigmoid: gate per channel and position", tap=True)],
        [Box("x + x * gate")],
    ],
    "nonlocal": [
        [Box("x")],
        [Box("theta (queries)"), Box("phi (keys)", row=1)],
        [Box("every query with every key", tap=True)],
        [Box("weighted sum of g(x)")],
        [Box("W, norm from 0")],
        [Box("x + that")],
    ],
    "attention_gate": [
        [Box("x, fine"), Box("g, coarse", row=1)],
        [Box("theta, step 2"), Box("phi, resized", row=1)],
        [Box("sum, ReLU, psi")],
        [Box("sigmoid, resized: gate per position", tap=True)],
        [Box("x * gate")],
        [Box("W, norm")],
    ],
}


def draw(columns: list[list[Box]]) -> str:
    """One diagram as SVG: neutral greys and one accent for what can be watched, legible on light and dark pages."""
    rows = 1 + max(box.row for column in columns for box in column)
    height = rows * ROW
    parts, x, before = [], 8.0, []
    for column in columns:
        width = max(box.width for box in column)
        here = []
        for box in column:
            middle = height / 2 if len(column) == 1 else ROW * (box.row + 0.5)
            here.append((x, x + width, middle))
            parts.append(drawn(box.text, x, middle, width, tap=box.tap))
        pairs = zip(before, here, strict=True) if len(before) == len(here) else [(b, h) for b in before for h in here]
        for (_, left, y_left), (right, _, y_right) in pairs:
            parts.append(arrow((left, y_left), (right - HEAD, y_right)))
        before, x = here, x + width + GAP
    return page(parts, x - GAP + 8, height)


def drawn(text: str, left: float, middle: float, width: float, *, tap: bool = False) -> str:
    """A box with its text."""
    stroke, fill = ("#c2410c", "#ffedd5") if tap else ("#64748b", "#f8fafc")
    return (
        f'<rect x="{left:.0f}" y="{middle - BOX_HEIGHT / 2:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'
        f'<text x="{left + width / 2:.0f}" y="{middle + 4:.0f}" text-anchor="middle">{escape(text)}</text>'
    )


def arrow(*points: tuple[float, float]) -> str:
    """A line through points, with a head at the last."""
    line = " L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    return f'<path d="M{line}" marker-end="url(#head)"/>'


def page(parts: list[str], width: float, height: int) -> str:
    """Boxes and arrows as SVG, on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12.5" fill="#0f172a" stroke-linecap="round">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#64748b" stroke="none"/></marker></defs>'
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#ffffff"/>'
        f'<g stroke="none">{"".join(p for p in parts if p.startswith("<rect"))}</g>'
        f'<g stroke="#64748b" stroke-width="1.5" fill="none">{"".join(p for p in parts if p.startswith("<path"))}</g>'
        "</svg>\n"
    )


def draw_all(folder: Path) -> None:
    """Write every diagram into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in DIAGRAMS.items():
        (folder / f"{name}.svg").write_text(draw(columns))
