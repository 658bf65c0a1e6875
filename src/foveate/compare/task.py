"""What a study has to know of the task that its runs learn: what is measured, what is paired, how networks are built.

Networks are built by workers; here nothing imports torch before it is asked to build one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from foveate.compare.controls import CONTROLS
from foveate.errors import RunError

__all__ = ["TASKS", "Task", "task_named"]


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: As in a run's configuration.
        metrics: What a study is summarised by, the first one first: the dotted name in summary.json, and whether higher
            is better.
        others: Further metrics, likewise.
        by_case: Whether arms are paired case by case, by cases.csv, else seed by seed.
        settings: Of runs of a study, where nothing else is asked for and a single run has others.
        arms: What is compared if nothing else is asked for.
        least_batch: The fewest inputs of a training step.
        check: Refuses a mechanism that there is not.
        open: From a configuration to what its networks are built for, read once for all arms.
        build: From a configuration, that and a device to the network, the shape of one input and the sites.
    """

    name: str
    metrics: Mapping[str, bool]
    others: Mapping[str, bool]
    by_case: bool
    settings: Mapping[str, Any]
    arms: tuple[str, ...]
    least_batch: int
    check: Callable[[str], object]
    open: Callable[[Any], Any]
    build: Callable[..., Any]

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Every metric that the task knows."""
        return {**self.metrics, **self.others}


def _check_mechanism(name: str) -> None:
    from foveate.layers.catalogue import describe

    describe(name)


def _open_samples(config: Any) -> Any:
    from foveate.tasks.hosts import open_samples

    return open_samples(config, config.data)


def _build_classifier(config: Any, samples: Any, device: str = "cpu") -> Any:
    from foveate.tasks.hosts import build

    return build(config, samples=samples, device=device)


def _check_segmenting_mechanism(name: str) -> None:
    from foveate.tasks.segment.gates import parts_of

    parts_of(name)


def _open_cases(config: Any) -> Any:
    from foveate.tasks.segment.hosts import preparation_for

    return preparation_for(config)


def _build_segmenter(config: Any, preparation: Any, device: str = "cpu") -> Any:
    from foveate.tasks.segment.hosts import build

    return build(config, preparation, device)


def _check_mechanism_of_slices(name: str) -> None:
    from foveate.layers.catalogue import PAIRED, describe

    if name not in PAIRED:
        describe(name)


def _open_stacks(config: Any) -> Any:
    from foveate.tasks.lesions.hosts import preparation_for

    return preparation_for(config)


def _build_detector_of_slices(config: Any, preparation: Any, device: str = "cpu") -> Any:
    from foveate.tasks.lesions.hosts import build

    return build(config, preparation, device)


def _open_boxes(config: Any) -> Any:
    from foveate.tasks.detect.hosts import preparation_for

    return preparation_for(config)


def _build_detector(config: Any, preparation: Any, device: str = "cpu") -> Any:
    from foveate.tasks.detect.hosts import build

    return build(config, preparation, device)


TASKS = {
    "classify": Task(
        name="classify",
        metrics={"accuracy": True, "loss": False, "pointing.network": True},
        others={
            "balanced_accuracy": True,
            "macro_f1": True,
            "auroc": True,
            "val_accuracy": True,
            "pointing.mechanism": True,
        },
        by_case=False,
        settings={},
        arms=("none", "se", "eca", "eca-spatial", "cbam", "bam", "nonlocal", *CONTROLS),
        least_batch=2,  # batch statistics of features without places need two
        check=_check_mechanism,
        open=_open_samples,
        build=_build_classifier,
    ),
    "segment": Task(
        name="segment",
        metrics={"dice": True, "false_positive_ml": False, "hd95_mm": False},
        others={"surface_dice": True, "assd_mm": False, "precision": True, "recall": True},
        by_case=True,
        settings={"network": "unet"},  # what attention gates are to be compared with
        arms=("none", "attention-gate", "se", "scse", "eca", "cbam", "nonlocal", *CONTROLS),
        least_batch=1,
        check=_check_segmenting_mechanism,
        open=_open_cases,
        build=_build_segmenter,
    ),
    "detect": Task(
        name="detect",
        metrics={"map": True, "map50": True, "pointing.network": True},
        others={
            **dict.fromkeys(("map75", "map_small", "map_medium", "map_large"), True),
            **dict.fromkeys(("recall_1", "recall_10", "recall_100"), True),
            **dict.fromkeys(("mask_map", "mask_map50", "mask_map75"), True),
            "val_map": True,
            "pointing.mechanism": True,
        },
        by_case=False,
        settings={},
        arms=("none", "se", "eca", "eca-spatial", "cbam", "bam", "nonlocal", *CONTROLS),
        least_batch=1,
        check=_check_mechanism,
        open=_open_boxes,
        build=_build_detector,
    ),
    "lesions": Task(
        name="lesions",
        metrics={"sensitivity": True, "froc": True, "map50": True},
        others={
            **{f"sensitivity_{rate}": True for rate in (1, 2, 4, 8, 16)},
            **dict.fromkeys(("map", "map75", "map_small", "map_medium", "map_large", "recall_100"), True),
            **dict.fromkeys(("mask_map", "mask_map50", "mask_map75"), True),
            **{"dice": True, "false_positive_ml": False, "hd95_mm": False, "precision": True, "recall": True},
            **dict.fromkeys(("val_sensitivity", "neighbours", "pointing.mechanism"), True),
        },
        by_case=False,
        settings={},
        arms=("none", "volumetric", "se", "eca", "cbam", "wider"),
        least_batch=1,
        check=_check_mechanism_of_slices,
        open=_open_stacks,
        build=_build_detector_of_slices,
    ),
}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        RunError: If studies of it cannot be made.
    """
    if name not in TASKS:
        raise RunError(f'a study compares runs that {" or ".join(TASKS)}; got "{name}"')
    return TASKS[name]
