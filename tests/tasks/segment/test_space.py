"""Results lie where the scan lies, to the bit, whatever the file; shown with a network that marks what is bright."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveate.data.intensity import Intensity
from foveate.tasks.segment import run
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.preparation import Preparation

# Slabs of 5 mm whose axes run left, posterior and superior, tilted about two axes.
OBLIQUE = np.eye(4)
OBLIQUE[:3] = [[-0.7, 0.05, 0.4, 91.3], [-0.08, -0.65, 1.1, -127.7], [0.06, 0.2, 4.86, 33.123]]
PLACED = ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x")


class Bright(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run marks values above 50 with label 3, on voxels of its own size."""
    window = [Intensity("window", 0.0, 100.0)]
    prepared = Preparation(["background", "mark"], [0, 3], ["CT"], 3, (0.7, 0.7, 4.0), window, (16, 16, 16))
    monkeypatch.setattr(run, "preparation_of", lambda folder: prepared)
    monkeypatch.setattr(run, "load_run", lambda folder: (Bright(), SegmentConfig(data="data"), prepared))


@pytest.mark.slow
@pytest.mark.usefixtures("bright")
def test_whatever_the_file_holds_its_marker_stays_in_place(tmp_path: Path):
    import nibabel

    kinds, codes = (np.int16, np.uint8, np.float64), ((1, 0), (0, 1), (2, 3), (0, 0))  # of sform and qform
    marked = np.zeros((13, 11, 7), bool)
    marked[2:7, 5:9, 1:4] = True
    given: list[Path] = []
    for (number, kind), (sform, qform) in itertools.product(enumerate(kinds), codes):
        image = nibabel.Nifti1Image((100 * marked).astype(kind), OBLIQUE)
        image.set_qform(OBLIQUE, code=qform)
        image.set_sform(OBLIQUE + 0.5 * np.eye(4, k=3) * bool(qform), code=sform)  # where both are set they differ
        ending = ".nii" if number else ".nii.gz"
        given.append(tmp_path / f"{np.dtype(kind)}-{sform}{qform}{ending}")
        image.to_filename(given[-1])
    run.predict(tmp_path, given, tmp_path / "out", device="cpu")
    for path in given:
        name = path.name.partition(".")[0]
        scan: Any = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
        label: Any = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
        likely: Any = nibabel.load(tmp_path / "out" / f"{name}.mark.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
        for written in (label, likely):
            assert np.array_equal(written.affine, scan.affine), name
            assert all(np.array_equal(written.header[field], scan.header[field]) for field in PLACED), name
        found = np.asarray(label.dataobj)
        assert (found[marked] == 3).mean() > 0.8, name
        assert (found[~marked] == 0).mean() > 0.95, name


@pytest.mark.usefixtures("bright")
def test_a_label_map_never_replaces_its_scan(tmp_path: Path):
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"precious")
    for use in (run.predict, run.attend):
        with pytest.raises(ValueError, match=r"results must not replace the scans .* holds .*scan\.nii\.gz$"):
            use(tmp_path / "run", [scan], scan.parent / "." / "", device="cpu")
    assert scan.read_bytes() == b"precious"
