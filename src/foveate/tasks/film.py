"""Attention in clips: which part of a map is looked at, and all frames of a clip on one sheet."""

import math

import torch
from torch import Tensor

__all__ = ["AXES", "between_frames", "on_sheet", "received", "row_at", "sheet"]

SPACETIME, SPACE, TIME, RUNS = (
    "batch *query *key",
    "batch time *query *key",
    "batch *space query key",
    "batch run *query *key",
)
AXES = {SPACETIME: 7, SPACE: 6, TIME: 5, RUNS: 8}
"""The axes of the maps of non-local blocks in a network of clips, and how many there are."""


def row_at(weights: Tensor, axes: str, points: Tensor) -> Tensor:
    """Where the query at each clip's point looks; what it cannot see is not a number.

    Of weights that link the frames at each position, it is where every position looks from the point's frame.

    Shape:
        weights (batch, ...) with the axes of AXES, points (batch, 3), as (time, y, x) in 0..1
            -> (batch, time, height, width), of the keys
    """
    clip = torch.arange(len(weights), device=weights.device)
    if axes == TIME:
        height, width, time = weights.shape[1:4]
        frame = _cells(points, (time, height, width))[0]
        return weights[clip, :, :, frame].movedim(-1, 1)
    if axes == SPACETIME:
        return weights[(clip, *_cells(points, weights.shape[1:4]))]
    if axes == SPACE:
        frame, y, x = _cells(points, weights.shape[1:4])
        film = weights.new_full((len(weights), weights.shape[1], *weights.shape[-2:]), math.nan)
        film[clip, frame] = weights[clip, frame, y, x]
        return film
    runs, frames, *space = weights.shape[1:5]
    frame, y, x = _cells(points, (runs * frames, *space))
    film = weights.new_full((len(weights), runs, *weights.shape[-3:]), math.nan)
    film[clip, frame // frames] = weights[clip, frame // frames, frame % frames, y, x]
    return film.flatten(1, 2)


def received(weights: Tensor, axes: str) -> Tensor:
    """How much each position is looked at, by the mean over all queries that see it.

    Shape:
        weights (batch, ...) with the axes of AXES -> (batch, time, height, width), of the keys
    """
    if axes == TIME:
        return weights.mean(dim=3).movedim(-1, 1)
    if axes == SPACETIME:
        return weights.mean(dim=(1, 2, 3))
    if axes == SPACE:
        return weights.mean(dim=(2, 3))
    return weights.mean(dim=(2, 3, 4)).flatten(1, 2)


def between_frames(weights: Tensor, axes: str) -> Tensor | None:
    """How much of its weight a frame gives to each frame, the mean over positions; None of weights within a frame.

    Shape:
        weights (batch, ...) with the axes of AXES -> (batch, query frame, key frame), those within a run
    """
    if axes == SPACE:
        return None
    if axes == TIME:
        return weights.mean(dim=(1, 2))
    if axes == SPACETIME:
        return weights.sum(dim=(-2, -1)).mean(dim=(2, 3))
    return weights.sum(dim=(-2, -1)).mean(dim=(1, 3, 4))


def _cells(points: Tensor, size: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The cells in which points in 0..1 lie, along each axis."""
    cells = (points * torch.tensor(size, device=points.device)).long()
    return tuple(part.clamp(0, count - 1) for part, count in zip(cells.unbind(1), size, strict=True))


def _columns(frames: int) -> int:
    """Frames beside each other on a sheet that is about twice as wide as high, with as few empty places as can be."""
    side = math.ceil(math.sqrt(frames))
    return min(range(side, 2 * side + 1), key=lambda count: (-frames % count, abs(count - math.sqrt(2 * frames))))


def sheet(film: Tensor, frames: int, beyond: float) -> Tensor:
    """All frames of a clip on one sheet, in rows, from left to right and from the top down.

    Shape:
        film (*, time, height, width) -> (*, rows * height, columns * width), where each of the film's frames stands
        for as many of the clip's `frames` as it was made of, and places without a frame hold `beyond`
    """
    time, height, width = film.shape[-3:]
    columns = _columns(frames)
    rows = -(-frames // columns)
    held = film[..., (2 * torch.arange(frames) + 1) * time // (2 * frames), :, :]  # the cell in which its middle lies
    blank = torch.full((*film.shape[:-3], rows * columns - frames, height, width), beyond, dtype=film.dtype)
    tiles = torch.cat([held, blank], dim=-3).unflatten(-3, (rows, columns))
    return tiles.movedim(-2, -3).flatten(-4, -3).flatten(-2, -1)


def on_sheet(points: Tensor, frames: int) -> Tensor:
    """Points (batch, 3), as (time, y, x) in 0..1, as points (batch, 2) of the sheet, (y, x) in 0..1."""
    columns = _columns(frames)
    rows = -(-frames // columns)
    frame = (points[:, 0] * frames).long().clamp(0, frames - 1)
    y = (torch.div(frame, columns, rounding_mode="floor") + points[:, 1]) / rows
    return torch.stack([y, (frame % columns + points[:, 2]) / columns], dim=1)
