"""Read single frames of a video file, whatever its container and codec, through PyAV (the extra [video])."""

import contextlib
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foveate.data.faults import read_errors
from foveate.data.reading import over_white
from foveate.errors import DataError, MissingExtra
from foveate.rules import rules

__all__ = ["VIDEOS", "count_frames", "read_frames", "read_video_header"]

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg")
# Containers that hold their streams themselves. Playlists, scripts and descriptions of sessions, under whatever name,
# would make FFmpeg open other files, or the network.
CONTAINERS = "mov,avi,matroska,gif,mpeg,mpegts,mpegvideo,m4v"
ONE_EACH = {"h264", "hevc", "vp9", "av1", "mjpeg"}  # in mp4 and mov a packet of these is a frame
GREY = ("gray", "mono", "ya")  # how FFmpeg's names of grey pixel formats begin
CANNOT = f"is not a video that can be read ({', '.join(VIDEOS)})"


def read_frames(path: Path, channels: int, frames: Sequence[int]) -> Tensor:
    """Read some frames of a video, uint8 (channels, time, height, width), in the order asked for.

    Frames are numbered from 0 in the order in which they are shown, whatever time lies between them. They are upright
    and mirrored as the file's display matrix says, to the next quarter turn; what is transparent becomes white. The
    file is decoded from its start as far as needed, and only what was asked for is held.

    Raises:
        DataError: If the file is no video, has no such frame, is damaged before it as far as the decoder notices, or
            shows frames of several sizes.
        MissingExtra: If PyAV is not installed.
    """
    if not frames or min(frames) < 0:
        raise ValueError(f"frames must be one number or more, none below 0; got {list(frames)}")
    wanted, last = set(frames), max(frames)
    held: dict[int, np.ndarray] = {}
    with read_errors(path), contextlib.closing(_decoded(path)) as decoded:
        number = -1
        for number, frame in enumerate(decoded):
            if number in wanted:
                held[number] = _pixels(frame, channels)
                _check_size(path, number, held)
            if number == last:
                break
        else:
            raise DataError(f"{path} must have frame {last}, counted from 0, to be read; it has {number + 1} frames")
    clip = np.stack([held[number] for number in frames])
    return torch.from_numpy(clip).permute(3, 0, 1, 2).contiguous()


def count_frames(path: Path) -> int:
    """How many frames a video has: those that can be decoded.

    A file that ends early counts up to its last whole frame. Where the container keeps count and is complete, nothing
    is decoded; else everything is.
    """
    with _opened(path) as (container, stream):
        if "mov" in container.format.name and stream.codec_context.name in ONE_EACH:
            packets = [_is_frame(packet, first=not number) for number, packet in enumerate(container.demux(stream))]
            if len(packets) == stream.frames + 1 and all(packets[:-1]):  # the last is empty and ends decoding
                return stream.frames
    return sum(1 for _ in _decoded(path))


def read_video_header(path: Path) -> tuple[bool, tuple[int, int]]:
    """Whether a video is grey, and its (height, width) as it will be read, both from its first frame."""
    with read_errors(path), contextlib.closing(_decoded(path)) as decoded:
        frame = next(decoded)
        height, width = _upright(np.empty((frame.height, frame.width), bool), frame).shape
        return frame.format.name.startswith(GREY), (height, width)


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise MissingExtra("av", "video") from None
    return av


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream."""
    av = _av()
    limit = str(rules().max_pixels)
    # As an open file, so that no name is taken for an address; and what is in it may not open another.
    with read_errors(path), path.open("rb") as file:
        if not file.seek(0, 2):
            raise DataError(f"{path} is empty")
        file.seek(0)
        try:
            container = av.open(
                file,
                options={"max_pixels": limit},
                container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "none"},
                metadata_errors="replace",
            )
        except av.FFmpegError:
            raise DataError(f"{path} {CANNOT}") from None
        with container:
            streams = [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]
            if not streams:
                raise DataError(f"{path} holds no video stream")
            stream = streams[0]
            coder = stream.codec_context
            if coder is None:
                raise DataError(f"{path} {CANNOT}: its codec is not known")
            if not coder.width:  # FFmpeg tries a frame when it opens a file
                raise DataError(
                    f"{path} holds no frame that can be decoded; up to {limit} pixels are, as max_pixels says"
                )
            coder.thread_count = 1
            coder.options = {"max_pixels": limit}
            yield container, stream


def _decoded(path: Path) -> Generator[Any]:
    """Every frame in the order in which frames are shown.

    What the decoder cannot use is damage where more follows, and the end of a file that was cut off where nothing does;
    mp4 and mov say which of their frames are not whole.
    """
    av = _av()
    shown = 0
    damaged = None
    with _opened(path) as (container, stream):
        packets = container.demux(stream)
        number = -1
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.FFmpegError:
                raise DataError(f"{path} is damaged at frame {number + 1}") from None
            number += bool(packet.size)
            if damaged is not None and packet.size:
                raise DataError(f"{path} is damaged at frame {damaged}")
            if _is_cut(container, packet):
                damaged = number
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if "mov" in container.format.name:
                    raise DataError(f"{path} is damaged at frame {number}") from None
                damaged = number
                continue
            for frame in frames:
                if frame.is_corrupt:
                    raise DataError(f"{path} is damaged at frame {shown}")
                yield frame
                shown += 1
        if not shown:
            raise DataError(f"{path} holds no frame that can be decoded")


def _is_frame(packet: Any, *, first: bool) -> bool:
    """Whether a packet will surely be shown; the first is only if nothing must be known before it."""
    whole = packet.size and not packet.is_corrupt and not packet.is_discard
    return bool(whole and (packet.is_keyframe or not first))


def _is_cut(container: Any, packet: Any) -> bool:
    """Whether the file ended within a packet, of which FFmpeg tells nothing in a GIF; these end in 0, the last in ;."""
    return packet.is_corrupt or (container.format.name == "gif" and packet.size and bytes(packet)[-1] not in b"\0;")


def _pixels(frame: Any, channels: int) -> np.ndarray:
    """uint8 (height, width, channels), upright."""
    if any(part.is_alpha for part in frame.format.components) or frame.format.has_palette:
        pixels = over_white(Image.fromarray(frame.to_ndarray(format="rgba")), "L" if channels == 1 else "RGB")
    else:
        pixels = frame.to_ndarray(format="gray" if channels == 1 else "rgb24")
    pixels = _upright(pixels, frame)
    return pixels[..., None] if channels == 1 else pixels


def _upright(pixels: np.ndarray, frame: Any) -> np.ndarray:
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know every kind of side data, and then gives none
        return np.rot90(pixels, frame.rotation // 90)
    if matrix is None:
        return pixels
    across, across_to_down, _, down_to_across, down = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(across_to_down) > abs(across):
        pixels = pixels.swapaxes(0, 1)
        across, down = down_to_across, across_to_down
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _check_size(path: Path, number: int, held: dict[int, np.ndarray]) -> None:
    first = next(iter(held))
    if held[number].shape != held[first].shape:
        sizes = [f"{held[at].shape[1]}x{held[at].shape[0]} in frame {at}" for at in (first, number)]
        raise DataError(f"{path} must have frames of one size; got {' and '.join(sizes)}")
