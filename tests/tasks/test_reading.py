"""Data of every task that is compared are described by one call."""

import pytest

from foveate.tasks.config import config_for
from foveate.tasks.reading import overview_of


@pytest.mark.parametrize(
    ("task", "data", "said"),
    [
        ("classify", "demo", "read demo: 2,504 train, 540 val, 550 test pictures of 10 classes"),
        ("classify", "direction", "read direction: 2,504 train, 540 val, 550 test videos of 2 classes"),
        ("classify", "mover", "read mover: 2,520 train, 360 val, 720 test videos of 10 classes"),
        ("detect", "demo", "read demo: 800 train, 200 val, 200 test pictures of 10 classes"),
        ("lesions", "lesions", "read lesions: 48 train, 8 val, 24 test volumes of 1 class"),
    ],
)
def test_every_embedded_set_is_described(task: str, data: str, said: str):
    assert overview_of(config_for(data, task=task)).lines()[0].startswith(said)
