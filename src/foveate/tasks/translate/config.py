"""TranslateConfig: everything that decides a run that translates."""

import dataclasses
from typing import Literal

from foveate.tasks.config import TrainingConfig

__all__ = ["TranslateConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslateConfig(TrainingConfig):
    """One training run that translates; what is not below is in TrainingConfig. The defaults are the paper's.

    Args:
        data: A folder of files such as train.en and train.de, a sentence a line.
        network: A name of the networks' catalogue.
        source: The language that is translated, by the ending of its files.
        target: The language that it is translated into.
        vocabulary: Tokens that both languages share, learned from the training text by byte pair encoding; a run that
            starts from another one's weights (init) has its tokens.
        batch_tokens: Tokens of a batch at most, of either language, padding counted.
        batch_size: Pairs of sentences of a batch at most, over all devices together.
        longest: Tokens of a sentence at most; longer pairs are not trained with, and counted.
        learning_rate: The highest. Default: (embed_dim * warmup_steps) ** -0.5, the paper's.
        schedule: "noam": rises for warmup_steps, then falls with the root of the steps; or as in TrainingConfig.
        warmup_steps: Steps in which the learning rate rises.
        label_smoothing: Share of the probability that all tokens share alike.
        average: Of how many last epochs the weights are averaged.
        validate_every: Epochs between two translations of the pairs that validate; their loss is measured after each.
        beam: Translations that are followed at once.
        alpha: Of the length penalty ((5 + length) / 6) ** alpha.
    """

    task: str = "translate"
    data: str = ""
    network: str = "transformer_base"
    source: str | None = None
    target: str | None = None
    vocabulary: int = 8000
    batch_tokens: int = 4096
    batch_size: int = 1024
    longest: int = 256
    learning_rate: float | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    weight_decay: float = 0.0
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.98])
    epsilon: float = 1e-9
    schedule: Literal["noam", "cosine", "step", "drop", "constant"] = "noam"  # pyright: ignore[reportIncompatibleVariableOverride]
    warmup_steps: int = 4000
    label_smoothing: float = 0.1
    average: int = 5
    validate_every: int = 5
    beam: int = 4
    alpha: float = 0.6

    def check(self) -> None:
        if not self.data:
            raise ValueError("translating needs data: a folder of files such as train.en and train.de; none given")
        for name in ("batch_tokens", "longest", "warmup_steps", "average", "validate_every", "beam"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        if self.vocabulary < 8:
            raise ValueError(f"vocabulary must be 8 or more; got {self.vocabulary}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1; got {self.label_smoothing}")
        if self.alpha < 0:
            raise ValueError(f"alpha must be 0 or more; got {self.alpha}")
        if self.mechanism != "none":
            raise ValueError(f"a network that translates takes no mechanism; got {self.mechanism}")
        for name, usual in (("train_only", "all"), ("host_learning_rate", None)):
            if getattr(self, name) != usual:
                raise ValueError(f"without a mechanism all learns at one rate; got {name}={getattr(self, name)!r}")
        if self.warmup_epochs != TrainingConfig.warmup_epochs:
            raise ValueError(f"translating counts warmup_steps; got warmup_epochs={self.warmup_epochs:g}")

    def warmup(self, steps_per_epoch: int) -> float:
        return self.warmup_steps
