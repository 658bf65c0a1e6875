"""Where a Transformer looks while it translates a sentence: heat maps of tokens against tokens."""

import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from foveate.capture import capture
from foveate.data.text import Pair
from foveate.files import write_atomic
from foveate.networks import Transformer
from foveate.tasks.translate.preparation import Preparation
from foveate.tasks.translate.vocabulary import BEGIN

__all__ = ["KINDS", "Looks", "looks_of", "taps_of", "write_heat"]

SAMPLES = 4  # test sentences whose maps are kept
KINDS = {
    "encoder": "a sentence looks at itself",
    "decoder": "its translation looks at itself",
    "cross": "its translation looks at the sentence",
}
CELL_INCHES, LABEL_INCHES = 0.24, 1.3
DPI, PIXELS = 110, 12_000  # of a picture; at most of its longer side


@dataclass(frozen=True, eq=False)
class Looks:
    """The maps of one layer for one sentence.

    Args:
        source: The tokens of the sentence, to be read.
        given: What the decoder was given.
        said: What it said next to each of these.
        maps: Of each kind, (head, query, key), on the CPU.
    """

    source: list[str]
    given: list[str]
    said: list[str]
    maps: dict[str, Tensor]

    def labels(self, kind: str) -> tuple[list[str], list[str]]:
        """Of the rows and of the columns of a map."""
        rows = self.source if kind == "encoder" else self.said
        return rows, self.given if kind == "decoder" else self.source


@torch.no_grad()
def looks_of(
    network: Transformer, preparation: Preparation, sentence: str, translation: str, layer: int | None = None
) -> Looks:
    """Run a network over a sentence and its translation, and keep the maps of a layer.

    Args:
        network: In evaluation mode.
        preparation: What it takes.
        sentence: What is translated.
        translation: Into what, by the network or by people.
        layer: Of encoder and decoder, from 1. Default: the last of each.

    Raises:
        ValueError: If there is no such layer.
    """
    names = taps_of(network, layer)
    vocabulary, device = preparation.vocabulary, next(network.parameters()).device
    source, said = vocabulary.encode([sentence, translation])
    given = [BEGIN, *said[:-1]]
    with capture(network, only=list(names.values())) as maps:
        network(torch.tensor([source], device=device), torch.tensor([given], device=device))
    found = {kind: maps[name][0].float().cpu() for kind, name in names.items()}
    return Looks(vocabulary.names(source), vocabulary.names(given), vocabulary.names(said), found)


def write_heat(path: Path, seen: Looks, kind: str, *, heads: bool) -> Path:
    """Write a map as PNG: rows look at columns; the mean over heads, or a map for each head."""
    from matplotlib.figure import Figure

    weights = seen.maps[kind] if heads else seen.maps[kind].mean(dim=0, keepdim=True)
    rows, columns = seen.labels(kind)
    wide, high = CELL_INCHES * len(columns) + LABEL_INCHES, CELL_INCHES * len(rows) + LABEL_INCHES
    across = min(4, len(weights))
    down = -(-len(weights) // across)
    size = across * wide + 0.6, down * high + 0.5
    figure = Figure(figsize=size, layout="constrained", dpi=min(DPI, PIXELS / max(size)))
    figure.suptitle(KINDS[kind], fontsize=10, wrap=True)
    every = figure.subplots(down, across, squeeze=False).flatten()
    for number, axes in enumerate(every):
        if number >= len(weights):
            axes.axis("off")
            continue
        axes.imshow(weights[number].numpy(), cmap="viridis", vmin=0, aspect="equal")
        # Tokens are no formulas, whatever dollar signs they have.
        axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
        axes.xaxis.tick_top()
        if heads:
            axes.set_xlabel(f"head {number + 1}", fontsize=8)
    body = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for it
        figure.savefig(body, format="png")
    write_atomic(path, body.getvalue())
    return path


def write_samples(
    folder: Path, network: Transformer, preparation: Preparation, pairs: Sequence[Pair], said: Sequence[str]
) -> None:
    """Write sentences.json and pictures: some sentences with their translations, and where the last layers look."""
    kept = min(SAMPLES, len(pairs))
    entries = []
    for number in (index * len(pairs) // kept for index in range(kept)):
        (source, target), translation = pairs[number], said[number]
        seen = looks_of(network, preparation, source, translation)
        names = {kind: f"sentence-{number}-{kind}.png" for kind in seen.maps}
        for kind, name in names.items():
            write_heat(folder / name, seen, kind, heads=False)
        pictures = [{"file": name, "title": KINDS[kind]} for kind, name in names.items()]
        entries.append({"source": source, "target": target, "prediction": translation, "pictures": pictures})
    write_atomic(folder / "sentences.json", json.dumps({"sentences": entries}, indent=1) + "\n")


def taps_of(network: Transformer, layer: int | None) -> dict[str, str]:
    """The tap of each kind of map of a layer, from 1, or of the last; a ValueError where there is none."""
    found = {}
    for kind, stack, attention in (
        ("encoder", "encoder", "self_attn"),
        ("decoder", "decoder", "self_attn"),
        ("cross", "decoder", "cross_attn"),
    ):
        count = len(network.get_submodule(f"{stack}.layers"))  # pyright: ignore[reportArgumentType]
        number = count if layer is None else layer
        if count and not 1 <= number <= count:
            raise ValueError(f"the {stack} has layers 1 to {count}; got {number}")
        if count:
            found[kind] = f"{stack}.layers.{number - 1}.{attention}.weights"
    return found
