"""Describe the data of a configuration, whatever the task, before anything is trained."""

from typing import Any

from foveate.data.overview import Overview, of_boxes, of_samples, of_stacks, of_text, of_volumes
from foveate.rules import reading
from foveate.tasks.config import TrainingConfig

__all__ = ["overview_of"]


def overview_of(config: TrainingConfig) -> Overview:
    """Open the data of a configuration and describe them, as far as opening tells."""
    with reading(config.read_rules):
        return _overview(config)


def _overview(config: TrainingConfig) -> Overview:
    given: Any = config
    if config.task == "classify":
        from foveate.tasks.hosts import open_samples

        return of_samples(open_samples(given, config.data))
    if config.task == "segment":
        from foveate.tasks.segment.scoring import open_data as open_cases

        return of_volumes(open_cases(given))
    if config.task == "detect":
        from foveate.data.box_checks import count_boxes
        from foveate.tasks.detect.job import open_data as open_scenes

        boxes = open_scenes(given)
        return of_boxes(boxes, count_boxes(boxes))
    if config.task == "lesions":
        from foveate.tasks.lesions.job import open_data as open_volumes

        return of_stacks(open_volumes(given))
    from foveate.tasks.translate.job import open_data as open_pairs

    return of_text(open_pairs(given))
