"""The limits of a run hold wherever it reads: in training, in what uses it later, and in processes of its own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from foveate.errors import DataError
from foveate.rules import ReadRules, in_workers, reading, rules
from foveate.tasks.config import RunConfig, config_for
from foveate.tasks.run import predict, train


def photos(folder: Path, side: int) -> Path:
    chance = np.random.default_rng(0)
    for kind in ("blue", "red"):
        for number in range(6):
            path = folder / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(chance.integers(0, 255, (side, side, 3)).astype(np.uint8)).save(path)
    return folder


def test_the_limit_of_a_run_holds_in_training_and_in_what_uses_it(tmp_path: Path):
    settings = {"network": "resnet_tiny", "epochs": 1, "batch_size": 4, "max_pixels": 300}
    told = r"\.png would unpack to 20 x 20 pixels; the limit is 300 pixels, which the setting max_pixels changes"
    with pytest.raises(DataError, match=told):
        train(config_for(str(photos(tmp_path / "large", 20)), **settings), tmp_path / "no")
    train(config_for(str(photos(tmp_path / "small", 16)), **settings), tmp_path / "run")
    with pytest.raises(DataError, match=told):
        predict(tmp_path / "run", [tmp_path / "large"], tmp_path / "out")
    assert rules() == ReadRules()


class Limits(Dataset[int]):
    """The limit that holds where an item is read."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return rules().max_pixels


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_limit_holds_in_workers(context):
    options = {"num_workers": 1, "multiprocessing_context": context, "batch_size": None}
    with reading(ReadRules(max_pixels=7)):
        assert list(DataLoader(Limits(), worker_init_fn=in_workers(), **options)) == [7, 7]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"max_pixels": 0}, r"max_pixels must be 1 or more; got 0"),
        ({"max_pixels": 10**9}, r"max_pixels must be at most 178956970, the most that is decoded; got 1000000000"),
        ({"max_file_mib": 0}, r"max_file_mib must be 1 or more; got 0"),
        ({"bits": 7}, r"bits must be from 8 to 16; got 7"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(setting, told):
    with pytest.raises(ValueError, match=told):
        RunConfig(**setting)
