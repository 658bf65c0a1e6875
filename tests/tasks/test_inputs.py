"""One loop over inputs for every task: what cannot be read is told at the end, and stops nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.errors import DataError
from foveate.tasks.config import config_for
from foveate.tasks.inputs import each_input
from foveate.tasks.run import attend, predict, train


def test_inputs_that_cannot_be_read_are_told_when_the_others_are_done():
    def read(number: int) -> int:
        if number % 2:
            raise DataError(f"{number} cannot be read")
        return 10 * number

    done = []
    with pytest.raises(DataError, match=r"^1 cannot be read\n3 cannot be read$"), each_input() as usable:
        done += usable.each(read, range(5))
    assert done == [(0, 0), (2, 20), (4, 40)]
    with each_input() as usable:
        assert usable(read, 2) == 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (16, 16), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray((pixels > 99).astype(np.uint8)).save(root / "masks" / f"{index}.png")
    return root


def test_a_scan_that_cannot_be_read_stops_neither_prediction_nor_maps(data: Path, tmp_path: Path):
    options = {
        "task": "segment",
        "network": "attention_unet",
        "max_time_s": 1.0,
        "patch_size": [16, 16],
        "device": "cpu",
    }
    train(config_for(str(data), **options), tmp_path / "run")
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "a.png").write_text("no picture")
    Image.new("RGB", (16, 16), (9, 80, 200)).save(inputs / "b.png")
    (inputs / "c.png").write_bytes((data / "images" / "0.png").read_bytes())
    said = r"a\.png is not a picture that can be read .*\n.*b\.png is in colour; the data has one channel$"
    with pytest.raises(DataError, match=said):
        predict(tmp_path / "run", [inputs], tmp_path / "labels", device="cpu")
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {"c.png", "c.foreground.png", "c.overlay.png"}
    with pytest.raises(DataError, match=said):
        attend(tmp_path / "run", [inputs], tmp_path / "maps", device="cpu")
    assert {path.name.partition(".")[0] for path in (tmp_path / "maps").iterdir()} == {"c"}
