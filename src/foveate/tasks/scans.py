"""Scans and pictures that are named on the command line: what each is called, and where its results may go."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from foveate.data import SUFFIXES
from foveate.data.dicom import SLICES, is_slice
from foveate.data.nifti import NIFTI, is_nifti
from foveate.data.scans import read_image
from foveate.data.volumes import Volume
from foveate.errors import DataError

__all__ = ["Scans", "ending", "given_scans", "keep_apart", "keep_files", "named", "read_scan"]

CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net's number of a channel, at the end of a name

Scans = dict[str, tuple[Path, ...] | Path]  # by name the files of each, or the folder of a DICOM series


def named(name: str, ending: str, part: str | None = None) -> str:
    """The file of a result."""
    return f"{name}{ending}" if part is None else f"{name}.{part.replace('/', '_')}{ending}"


def ending(images: tuple[Path, ...] | Path) -> str:
    """Of the results for an input: .png for pictures, .nii.gz for scans."""
    return ".png" if isinstance(images, tuple) and not is_nifti(images[0]) else ".nii.gz"


def given_scans(inputs: Sequence[Path], channels: int) -> Scans:
    """What was named on the command line, by name: NIfTI files, pictures, DICOM series, or folders of the former.

    Several channels come in one file, or in files NAME_0000, NAME_0001 as nnU-Net names them.

    Raises:
        DataError: An input does not exist, or two would have results of one name.
    """
    files: list[Path] = []
    series: list[Path] = []
    given: Scans = {}
    for path in map(Path, inputs):
        if not path.exists():
            raise DataError(f"{path} does not exist")
        inside = _files(path) if path.is_dir() else [path]
        files += inside
        if not inside:
            series.append(path)
    found: list[tuple[str, tuple[Path, ...] | Path]] = [(folder.resolve().name, folder) for folder in series]
    for name, images in [*_cases(files, channels), *found]:
        if name in given:
            raise DataError(f"two inputs are both called {name}; give them in two calls")
        given[name] = images
    if not given:
        raise DataError("at least one scan or picture is needed; none was given")
    return given


def keep_apart(given: Scans, out: Path) -> None:
    """Refuse to write among the scans, of which a label map would replace the one that it is called after."""
    for images in given.values():
        held = {each: each.parent for each in images} if isinstance(images, tuple) else {images: images}
        for scan, folder in held.items():
            if folder.resolve() == Path(out).resolve():
                raise ValueError(f"results must not replace the scans that they are called after; {out} holds {scan}")


def keep_files(out: Path, files: Sequence[str]) -> None:
    """Refuse to replace a file, which may be a truth drawn by hand under the name of its scan."""
    for file in files:
        if (out / file).exists():
            raise ValueError(f"results must not replace a file; {out / file} exists")


def read_scan(name: str, images: tuple[Path, ...] | Path, modalities: Sequence[str], spatial_dims: int) -> Volume:
    """Read what given_scans() found; a folder is a DICOM series."""
    volume = read_image(images if isinstance(images, tuple) else (images,), modalities, spatial_dims, name)
    if volume.remark:
        warnings.warn(f"{name}: {volume.remark}", stacklevel=2)
    return volume


def _files(folder: Path) -> list[Path]:
    """The scans and pictures in a folder; none of a DICOM series, which is read as one."""
    held = sorted(path for path in folder.iterdir() if not path.is_dir() and not path.name.startswith("."))
    scans = [path for path in held if is_nifti(path) or path.suffix.lower() in SUFFIXES]
    slices = [path for path in held if path not in scans and is_slice(path)] if scans else []
    if slices:
        raise DataError(
            f"{folder} holds {scans[0].name} beside slices of a DICOM series, such as {slices[0].name}; give a folder "
            "for each"
        )
    return scans


def _cases(paths: Sequence[Path], channels: int) -> list[tuple[str, tuple[Path, ...]]]:
    """Files by the name of their case; of a case in several, sorted by channel."""
    found: list[tuple[str, tuple[Path, ...]]] = []
    parts: dict[str, list[tuple[int, Path]]] = {}
    for path in paths:
        if path.suffix.lower() in SLICES:
            raise DataError(f"{path} is a slice of a DICOM series; give the folder of the series")
        name = next((path.name[: -len(end)] for end in NIFTI if path.name.lower().endswith(end)), path.stem)
        match = CHANNEL.fullmatch(name) if channels > 1 else None
        if match is None:
            found.append((name, (path,)))
        else:
            parts.setdefault(match[1], []).append((int(match[2]), path))
    for name, numbered in parts.items():
        numbers, images = zip(*sorted(numbered), strict=True)
        if len(images) > 1 and numbers != tuple(range(channels)):  # one file may hold all channels
            wanted = f"{name}_0000 to {name}_{channels - 1:04}, a file a channel"
            raise DataError(f"{name} takes {wanted}; got {', '.join(image.name for image in images)}")
        found.append((name, images))
    return found
