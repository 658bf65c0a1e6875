"""The picture of docs/mechanisms/attention_gate.md: what the gates of a run that segments let through."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from nibabel.funcs import as_closest_canonical
from nibabel.nifti1 import load
from numpy.typing import NDArray

from foveate.data.volumes import Case

CASES = 3
TRUTH, PREDICTED = "white", "#22d3ee"


def draw_gates(run: Path, out: Path) -> None:
    """A row for each of the first test cases of a run on scans: the scan with the outlines, and every gate over it."""
    from foveate.tasks.run import attend, predict
    from foveate.tasks.segment.network import load_run
    from foveate.tasks.segment.scoring import open_data

    cases = open_data(load_run(run)[1]).splits["test"][:CASES]
    scans = [case.images[0] for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        labels = predict(run, scans, Path(folder, "labels"))
        maps = [path for path in attend(run, scans, Path(folder, "maps")) if path.suffix == ".gz"]
        figure = pyplot.figure(figsize=(9, 2.1 * len(cases)), layout="constrained")
        rows: Any = figure.subfigures(len(cases), 1, squeeze=False)
        for (row,), case in zip(rows, cases, strict=True):
            gates = [path for path in maps if path.name.startswith(f"{case.name}.")]
            draw_case(row, case, labels / f"{case.name}.nii.gz", gates)
        figure.savefig(out, dpi=110)
        pyplot.close(figure)


def draw_case(row: Any, case: Case, predicted: Path, gates: Sequence[Path]) -> None:
    """The sagittal slice that shows most of the truth."""
    assert case.label is not None
    marked = read(case.label) > 0
    cut = int(np.argmax(marked.sum(axis=(1, 2))))
    grey, inside, found = (volume[cut].T for volume in (read(case.images[0]), marked, read(predicted) > 0))
    for axes, gate in zip(row.subplots(1, 1 + len(gates)), [None, *gates], strict=True):
        axes.imshow(grey, cmap="gray", origin="lower")
        axes.contour(inside, [0.5], colors=TRUTH, linewidths=0.8)
        if gate is None:
            axes.contour(found, [0.5], colors=PREDICTED, linewidths=0.8)
            axes.set_title(case.name, fontsize=8)
        else:
            seen = axes.imshow(read(gate)[cut].T, cmap="inferno", alpha=0.7, origin="lower")
            row.colorbar(seen, ax=axes, fraction=0.05).ax.tick_params(labelsize=6)
            axes.set_title(gate.name.removeprefix(f"{case.name}.").removesuffix(".nii.gz"), fontsize=8)
        axes.set_axis_off()


def read(path: Path) -> NDArray[Any]:
    """The numbers of a NIfTI file, along right, anterior and superior."""
    return np.asarray(as_closest_canonical(load(path)).dataobj)
