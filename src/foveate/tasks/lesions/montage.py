"""Pictures of the lesions that were found in a volume: each in the slice where it is surest."""

from collections.abc import Mapping, Sequence

import torch

from foveate.tasks.detect.drawing import Panel
from foveate.tasks.lesions.found import Found
from foveate.tasks.lesions.looks import picture
from foveate.tasks.lesions.preparation import Ready
from foveate.tasks.lesions.tracing import Lesion

__all__ = ["lesion_panels"]


def lesion_panels(
    ready: Ready, found: Mapping[int, Found], lesions: Sequence[Lesion], classes: Sequence[str]
) -> list[Panel]:
    """A panel for each lesion, with the boxes that are in its slice; its mask is brighter than the rest."""
    sheet = []
    for lesion in lesions:
        here, image = found[lesion.surest], picture(ready, lesion.surest)
        if here.masks is not None:
            mask = here.masks[lesion.boxes[lesion.surest]]
            tinted = image.clone()
            tinted[0] = torch.where(mask, image[0] // 2 + 127, image[0])
            image = tinted
        first, last = lesion.slices
        title = (
            f"{lesion.number}: {classes[lesion.label]} {lesion.score:.2f}\nslice {lesion.surest} of {first} to {last}"
        )
        sheet.append(Panel(title, image, None, here.boxes_xyxy.tolist()))
    return sheet
