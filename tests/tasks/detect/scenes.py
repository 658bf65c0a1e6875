"""A split of pictures with boxes whose corners can be seen."""

import torch
from torch import Tensor

from foveate.data.boxes import Objects


class Scenes:
    """Pictures that are black but for their objects: object n is filled with 50 (n + 1).

    Args:
        size: (height, width) of every picture.
        boxes_xyxy: Of every picture.
        crowd: Which of them are crowds.
    """

    def __init__(self, size: tuple[int, int], boxes_xyxy: list[list[int]], crowd: list[bool] | None = None) -> None:
        self.height, self.width = size
        self.boxes_xyxy, self.crowd = boxes_xyxy, crowd or [False] * len(boxes_xyxy)

    def __len__(self) -> int:
        return 1000

    def image(self, index: int) -> Tensor:
        image = torch.zeros(3, self.height, self.width, dtype=torch.uint8)
        for number, mask in enumerate(self.masks(index)):
            image[:, mask] = 50 * (number + 1)
        return image

    def size(self, index: int) -> tuple[int, int]:
        return self.height, self.width

    def name(self, index: int) -> str:
        return f"scene {index}"

    def image_id(self, index: int) -> int:
        return index

    def objects(self, index: int) -> Objects:
        boxes = torch.tensor(self.boxes_xyxy, dtype=torch.float32).reshape(-1, 4)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        return Objects(boxes, torch.arange(len(boxes)) + 3, torch.tensor(self.crowd, dtype=torch.bool), areas)

    def masks(self, index: int) -> Tensor:
        masks = torch.zeros(len(self.boxes_xyxy), self.height, self.width, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(masks, self.boxes_xyxy, strict=True):
            mask[top:bottom, left:right] = True
        return masks
