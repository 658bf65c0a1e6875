"""What the page calls things, by the task of a study or a run."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from foveate.compare.task import TASKS
from foveate.report.read import Run, of_clips

__all__ = ["Words", "words_for"]


VALIDATED = {
    "val_dice": "Validation Dice",
    "val_map": "Validation mAP",
    "val_sensitivity": "Validation sensitivity",
    "val_bleu": "Validation BLEU",
}


@dataclass(frozen=True)
class Words:
    """The words of one task.

    Args:
        task: Its name.
        quality: What arms are judged by, a share that is shown in percent.
        unit: What is paired between arms, and what intervals run over.
        samples: What is tested.
        one: What a network takes at once; `many` of them.
        metrics: Names in summary.json and what they are called, the quality first.
        counts: Names of what is counted there, and what it is called.
        beside: Metrics with a column of their own in the main table: name, heading, note.
    """

    task: str
    quality: str
    unit: str
    samples: str
    one: str
    many: str
    metrics: dict[str, str]
    counts: dict[str, str] = field(default_factory=dict)
    beside: tuple[tuple[str, str, str], ...] = ()

    @property
    def seen(self) -> str:
        """What attention is looked at in."""
        return "slices" if self.task == "lesions" else self.samples

    @property
    def names(self) -> dict[str, str]:
        """What metrics and counts are called, those of validation too."""
        return {**VALIDATED, **self.counts, **self.metrics}

    @property
    def by_case(self) -> bool:
        """Whether arms are paired case by case."""
        return self.task in TASKS and TASKS[self.task].by_case


WORDS = {
    "classify": Words(
        task="classify",
        quality="Accuracy",
        unit="seed",
        samples="pictures",
        one="picture",
        many="pictures",
        metrics={
            "accuracy": "Accuracy",
            "balanced_accuracy": "Balanced accuracy",
            "macro_f1": "Macro F1",
            "auroc": "AUROC",
            "loss": "Loss",
            "val_accuracy": "Validation accuracy",
            "pointing.network": "Pointing, network",
            "pointing.mechanism": "Pointing, mechanism",
        },
    ),
    "segment": Words(
        task="segment",
        quality="Dice",
        unit="case",
        samples="cases",
        one="patch",
        many="patches",
        metrics={
            "dice": "Dice",
            "false_positive_ml": "False positives, ml",
            "hd95_mm": "HD95, mm",
            "surface_dice": "Surface Dice",
            "assd_mm": "Surface distance, mm",
            "precision": "Precision",
            "recall": "Recall",
        },
        counts={
            "cases": "Cases",
            "scored": "Scored",
            "missed": "Missed",
            "false_alarm": "False alarms",
            "absent": "Absent",
        },
        beside=(("false_positive_ml", "False positives", "ml a case"), ("hd95_mm", "HD95", "mm")),
    ),
    "detect": Words(
        task="detect",
        quality="mAP",
        unit="seed",
        samples="pictures",
        one="picture",
        many="pictures",
        metrics={
            "map": "mAP",
            "map50": "mAP50",
            "map75": "mAP75",
            "map_small": "mAP, small",
            "map_medium": "mAP, medium",
            "map_large": "mAP, large",
            "recall_1": "Recall, 1 box",
            "recall_10": "Recall, 10 boxes",
            "recall_100": "Recall, 100 boxes",
            "mask_map": "Mask mAP",
            "mask_map50": "Mask mAP50",
            "mask_map75": "Mask mAP75",
            "pointing.network": "Pointing, queries",
            "pointing.mechanism": "Pointing, mechanism",
        },
    ),
    "lesions": Words(
        task="lesions",
        quality="Sensitivity",
        unit="seed",
        samples="volumes",
        one="slice with its bag",
        many="slices",
        metrics={
            "sensitivity": "Sensitivity at 0.5",
            **{f"sensitivity_{rate}": f"Sensitivity at {rate}" for rate in (1, 2, 4, 8, 16)},
            "froc": "FROC, mean",
            "map": "mAP",
            "map50": "mAP50",
            "map75": "mAP75",
            "mask_map": "Mask mAP",
            "mask_map50": "Mask mAP50",
            "dice": "Dice",
            "false_positive_ml": "False positives, ml",
            "hd95_mm": "HD95, mm",
            "neighbours": "Weight on neighbours",
            "pointing.mechanism": "Pointing, mechanism",
        },
        counts={"slices": "Slices", "lesions": "Lesions in slices", "cases": "Cases"},
        beside=(("dice", "Dice", "a volume"),),
    ),
    "translate": Words(
        task="translate",
        quality="BLEU",
        unit="seed",
        samples="sentences",
        one="sentence",
        many="sentences",
        metrics={"bleu": "BLEU", "unknown_tokens": "Unknown characters", "val_loss": "Validation loss"},
    ),
}


CLIPS = dataclasses.replace(WORDS["classify"], samples="videos", one="clip", many="clips")


def words_for(task: Any, runs: Iterable[Run] = ()) -> Words:
    """The words of a task, and where its runs look at clips those of clips; of one that nobody knows those of
    classification.
    """
    words = WORDS.get(str(task), WORDS["classify"])
    return CLIPS if words is WORDS["classify"] and any(of_clips(run) for run in runs) else words
