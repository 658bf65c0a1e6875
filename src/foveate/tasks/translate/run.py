"""Make and use a run that translates."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from foveate.data.contents import contents_of
from foveate.data.text import open_split, read_lines
from foveate.errors import DataError
from foveate.files import write_atomic
from foveate.tasks import files
from foveate.tasks.environment import pick_device
from foveate.tasks.inputs import each_input
from foveate.tasks.record import Guard
from foveate.tasks.translate.attending import looks_of, taps_of, write_heat
from foveate.tasks.translate.config import TranslateConfig
from foveate.tasks.translate.job import TranslateJob as RunJob
from foveate.tasks.translate.network import build_network, load_run
from foveate.tasks.translate.preparation import Preparation, unknown_in
from foveate.tasks.translate.scoring import bleu, check_extra, translate, write_predictions
from foveate.tasks.translate.vocabulary import UNKNOWN

__all__ = ["RunJob", "attend", "evaluate", "open_name", "open_run", "predict"]


def evaluate(
    run: Path, data: str | None, split: str, *, device: str, rows: Path | None, guard: Guard
) -> dict[str, Any]:
    """BLEU on a split of some data, and its signature; `rows` takes a row for each sentence."""
    check_extra()
    network, config, preparation = load_run(run)
    root = data or config.data
    pairs = open_split(root, preparation.source, preparation.target, split)
    if not pairs:
        raise DataError(f"{root} has no pair of sentences in its {split} split")
    if data is None:
        guard.own(split, contents_of(pairs))
    sources, targets = zip(*pairs, strict=True)
    network.to(pick_device(device))
    said = translate(network, preparation.vocabulary, sources, beam=config.beam, alpha=config.alpha)
    if rows is not None:
        with files.world_errors(rows):
            write_predictions(rows, pairs, said)
    score, signature = bleu(said, targets)
    unknown = unknown_in(preparation.encode(pairs))
    measured = {"samples": {split: len(pairs)}, "measured": f"{split} of {root}"}
    return {**measured, "bleu": score, "sentences": len(pairs), "unknown_tokens": unknown, "signature": signature}


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> Path:
    """Write for each file of sentences NAME.SOURCE, plain or compressed, NAME.TARGET, a translation a line, and return
    `out`. An empty line stays empty, and so does one that is not UTF-8.
    """
    network, config, preparation = load_run(run)
    network.to(pick_device(device))
    out = Path(out)
    given = _given(inputs, preparation)
    for name in given:
        target = out / f"{name}.{preparation.target}"
        if target.exists():
            raise ValueError(f"results must not replace a file; {target} exists")
    with files.world_errors(out), each_input() as usable:
        for name, lines in usable.each(lambda name: _lines(given[name], preparation), given):
            said = translate(network, preparation.vocabulary, lines, beam=config.beam, alpha=config.alpha)
            write_atomic(out / f"{name}.{preparation.target}", "".join(f"{line}\n" for line in said))
    return out


def attend(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    device: str,
    heads: bool = False,
    layer: int | None = None,
) -> list[Path]:
    """Write for each line of each file NAME.LINE.encoder.png, .decoder.png and .cross.png: what the tokens of the
    sentence and of its translation look at; their paths.

    Args:
        run: The run.
        inputs: Files of sentences.
        out: The folder to write to.
        device: Where to compute.
        heads: Whether every head has a map of its own, or one shows their mean.
        layer: Of encoder and decoder, from 1. Default: the last of each.
    """
    network, config, preparation = load_run(run)
    taps_of(network.to(pick_device(device)), layer)  # says before anything is translated that there is no such layer
    written: list[Path] = []
    out, given = Path(out), _given(inputs, preparation)
    with files.world_errors(out), each_input() as usable:
        for name, lines in usable.each(lambda name: _lines(given[name], preparation), given):
            said = translate(network, preparation.vocabulary, lines, beam=config.beam, alpha=config.alpha)
            for number, (line, translation) in enumerate(zip(lines, said, strict=True), start=1):
                if line:
                    seen = looks_of(network, preparation, line, translation, layer)
                    written += [
                        write_heat(out / f"{name}.{number}.{kind}.png", seen, kind, heads=heads) for kind in seen.maps
                    ]
    return written


def open_run(run: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a run, and the tokens of source and target at which its cost is measured."""
    return load_run(run)[0], (40, 40)


def open_name(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name, with the paper's vocabulary."""
    if len(shape) != 2:
        raise ValueError(f"{network} takes the tokens of source and target; got {'x'.join(map(str, shape))}")
    config = TranslateConfig(data="none", network=network, mechanism=mechanism)
    return build_network(config, 37_000).eval(), shape


def _given(inputs: Sequence[Path], preparation: Preparation) -> dict[str, Path]:
    """Files of sentences by the name of their results."""
    given: dict[str, Path] = {}
    for path in map(Path, inputs):
        if not path.is_file():
            raise DataError(f"{path} is no file of sentences")
        name = path.name.removesuffix(".gz").removesuffix(f".{preparation.source}")
        if name in given:
            raise DataError(f"two inputs are both called {name}; give them in two calls")
        given[name] = path
    if not given:
        raise DataError("at least one file of sentences is needed; none was given")
    return given


def _lines(path: Path, preparation: Preparation) -> list[str]:
    """The sentences of a file, empty where they cannot be read; what gets lost is told in a warning."""
    lines = read_lines(path)
    damaged = lines.count(None)
    if damaged:
        warnings.warn(f"{path} has {damaged} lines that are not UTF-8, which stay empty", stacklevel=2)
    sentences = [line or "" for line in lines]
    unknown = sum(tokens.count(UNKNOWN) for tokens in preparation.vocabulary.encode(sentences))
    if unknown:
        warnings.warn(f"{path} has {unknown} characters that are not in the run's vocabulary", stacklevel=2)
    return sentences
