"""Two made-up languages, whose words stand for each other one by one, and a run that translates between them."""

import random
from pathlib import Path
from typing import Any

import pytest

from foveate.tasks.run import train
from foveate.tasks.translate.config import TranslateConfig

WORDS = {"ana": "Zü", "bek": "Yor", "cir": "Xä", "dol": "Wub", "emu": "Vi", "fip": "Uß", "gat": "Tok"}
COUNTS = {"train": 360, "val": 24, "test": 17}
OPTIONS = {"embed_dim": 32, "num_heads": 2, "hidden_channels": 64, "encoder_layers": 1, "decoder_layers": 1}
SETTINGS: dict[str, Any] = {
    "source": "en",
    "target": "de",
    "network_options": OPTIONS | {"dropout": 0.0},
    "vocabulary": 61,
    "batch_tokens": 256,
    "learning_rate": 1e-2,
    "warmup_steps": 40,
    "epochs": 8,
    "average": 2,
    "validate_every": 4,
    "beam": 2,
    "device": "cpu",
    "threads": 1,
}


def translated(sentence: str) -> str:
    """What people would say."""
    return " ".join(WORDS[word] for word in sentence.split())


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of four to seven words, and their translations."""
    drawn = random.Random(seed)
    sentences = [" ".join(drawn.choices(list(WORDS), k=drawn.randint(4, 7))) for _ in range(count)]
    return [(sentence, translated(sentence)) for sentence in sentences]


def write_text(folder: Path, splits: dict[str, list[tuple[str, str]]]) -> Path:
    """A file for each split and language, a sentence a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, held in splits.items():
        for language, lines in zip(("en", "de"), zip(*held, strict=True), strict=True):
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def small(data: Path, **changes: Any) -> TranslateConfig:
    """A run that takes a second or two."""
    return TranslateConfig(**{"data": str(data), **SETTINGS, **changes})


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data."""
    held = {split: pairs(count, number) for number, (split, count) in enumerate(COUNTS.items())}
    return write_text(tmp_path_factory.mktemp("words") / "data", held)


@pytest.fixture(scope="session")
def run(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run."""
    folder = tmp_path_factory.mktemp("translate") / "run"
    train(small(words), folder)
    return folder
