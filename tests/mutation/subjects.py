"""Small files of every kind that is read, and what reads them."""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian
from tests.data.coco_files import save_coco
from tests.data.inv3_files import write_inv3
from tests.data.making import decathlon, noise, pairs, save_nifti
from tests.data.series import save_series
from tests.data.videos import numbered, save_video
from tests.mutation.damage import damaged, damaged_json

from foveate.compare.folder import read_json as read_plan
from foveate.data import open_pictures
from foveate.data.boxes import open_boxes
from foveate.data.dicom import read_series
from foveate.data.inv3 import read_inv3
from foveate.data.masks import check_extra
from foveate.data.nifti import read_nifti, read_nifti_shape
from foveate.data.planes import read_mask, read_plane
from foveate.data.reading import read_header, read_picture
from foveate.data.scans import read_case
from foveate.data.stacks import open_stacks
from foveate.data.text import open_text
from foveate.data.video import count_frames, read_frames, read_video_header
from foveate.data.volumes import open_volumes
from foveate.networks import catalogue
from foveate.networks.published import from_checkpoint, inspect, read_file, save_checkpoint
from foveate.networks.published.reading import write_file
from foveate.report.read import read_maps, read_run, read_study
from foveate.tasks.classify_run import load_run, read_preprocess
from foveate.tasks.config import config_for
from foveate.tasks.detect import preparation as detect
from foveate.tasks.finished import kept
from foveate.tasks.lesions import preparation as lesions
from foveate.tasks.resume import take_up
from foveate.tasks.run import train
from foveate.tasks.segment import preparation as segment
from foveate.tasks.summary import read_summary

__all__ = ["Subject", "subjects"]

KEYS = ("foveate", segment.KEY, detect.KEY, lesions.KEY)
PREPARED = {
    "classes": ["background", "ball"],
    "values": [0, 1],
    "modalities": ["CT"],
    "spatial_dims": 3,
    "spacing": [1.0, 1.0, 2.0],
    "intensities": [{"rule": "foreground", "low": -100.0, "high": 200.0, "mean": 20.0, "std": 30.0}],
    "patch_size": [16, 16, 16],
}
DETECTED = {
    "classes": ["cat"],
    "category_ids": [1],
    "stuff": [],
    "short": 20,
    "longest": 33,
    "num_queries": 10,
    "masks": False,
}
LESIONS = {
    "classes": ["cyst"],
    "values": [1],
    "modality": "CT",
    "modalities": ["CT"],
    "plane": "axial",
    "intensity": {"rule": "window", "low": -200.0, "high": 300.0},
    "slice_mm": 2.0,
    "pixel_mm": None,
    "bag_stride": 1,
    "bag_mm": None,
    "masks": True,
    "norm": "batch",
    "norm_eps": 1e-5,
}
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Subject:
    """A file to damage, and what reads it.

    Args:
        name: What to call it.
        path: The file.
        reads: What is called with the file, each for itself.
        damage: How it is damaged.
        count: Number of damaged inputs.
    """

    name: str
    path: Path
    reads: tuple[Read, ...]
    damage: Callable = damaged
    count: int = 40


def subjects(root: Path) -> list[Subject]:
    """Write the files below a folder."""
    check_extra()
    makers = (_pictures, _scans, _coco, _volumes, _arrays, _texts, _videos, _checkpoints, _runs)
    return [subject for make in makers for subject in make(root)]


def _pictures(root: Path) -> list[Subject]:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    deep = pixels[..., 0].astype(np.uint16) * 16
    exif = Image.Exif()
    exif[0x0112] = 6
    reads = (read_header, lambda path: read_picture(path, 3), lambda path: read_plane(path, 3), read_mask)
    found = []
    for ending in ("png", "jpg", "tif", "webp", "gif", "bmp", "ppm"):
        options = {"exif": exif} if ending in ("png", "jpg", "tif", "webp") else {}
        path = root / "pictures" / f"a.{ending}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        found.append(Subject(path.name, path, reads))
    for ending in ("png", "tif"):
        path = root / "pictures" / f"deep.{ending}"
        Image.fromarray(deep).save(path)
        found.append(Subject(path.name, path, reads, count=25))
    return found


def _scans(root: Path) -> list[Subject]:
    series = save_series(root / "series")
    deflated = save_series(root / "deflated", syntax=DeflatedExplicitVRLittleEndian)
    read = (lambda path: read_series(path.parent),)
    found = [Subject("slice", series / "0.dcm", read, count=100), Subject("deflated", deflated / "0.dcm", read)]
    reads = (read_nifti, lambda path: read_nifti(path, np.float32), read_nifti_shape)
    plain = save_nifti(root / "nifti" / "a.nii", noise(9, 7, 5), qform_code=1, sform_code=1)
    packed = save_nifti(root / "nifti" / "b.nii.gz", noise(9, 7, 5).astype(np.int16))
    second = root / "nifti" / "c.nii"
    nibabel.Nifti2Image(noise(9, 7, 5), np.eye(4)).to_filename(second)
    # Damage within a gzip file is found by its checksum, so that its content is damaged before it is packed.
    unpacked = gzip.decompress(packed.read_bytes())
    inside = root / "nifti" / "d.nii.gz"
    inside.write_bytes(gzip.compress(unpacked))
    found += [Subject("nifti", plain, reads, count=90), Subject("nifti2", second, reads), Subject("gz", packed, reads)]
    return [*found, Subject("nifti in gz", inside, reads, _repacked, count=60)]


def _repacked(content: bytes, chance) -> bytes:
    return gzip.compress(damaged(gzip.decompress(content), chance), compresslevel=1)


def _coco(root: Path) -> list[Subject]:
    outline = {"segmentation": [[1, 2, 5, 2, 5, 5, 1, 5]], "area": 12, "iscrowd": 0}
    runs = {"segmentation": {"size": [8, 12], "counts": [10, 3, 83]}}
    annotations = [
        {"id": number, "image_id": number, "category_id": 3, "bbox": [1, 2, 4, 3], **(outline if number % 2 else runs)}
        for number in range(8)
    ]
    flat = save_coco(root / "coco" / "all.json", root / "coco", 8, annotations)
    content = json.loads(flat.read_text())
    for number, entry in enumerate(content["images"]):
        entry |= {"volume": f"v{number // 2}", "slice": number % 2, "spacing": [1, 1, 1]}
    sliced = save_coco(root / "slices" / "all.json", root / "slices", 8, annotations, images=content["images"])

    def boxes(path: Path) -> None:
        held = open_boxes(path.parent, masks=True)
        for split in held.splits.values():
            for index in range(len(split)):
                _ = split.image(index), split.objects(index), split.masks(index)

    def stacks(path: Path) -> None:
        for split in open_stacks(path.parent).splits.values():
            for index in range(len(split)):
                split.stack(index).objects(0)

    return [
        Subject("coco", flat, (boxes,), damaged_json, 120),
        Subject("coco slices", sliced, (stacks,), damaged_json, 80),
    ]


def _volumes(root: Path) -> list[Subject]:
    folder = decathlon(root / "decathlon", 6)
    names = [f"case_{number}" for number in range(6)]
    splits = root / "splits.json"
    splits.write_text(json.dumps({"train": names[:4], "val": names[4:5], "test": names[5:]}))
    masks = pairs(root / "pairs", 6)

    def read(path: Path) -> None:
        volumes = open_volumes(path.parent)
        read_case(volumes.splits["train"][0], volumes)

    def divide(path: Path) -> None:
        try:
            open_volumes(folder, split_file=path)
        except ValueError as error:  # a list of folds, of which none was asked for
            if "fold must choose one" not in str(error):
                raise

    def lesions(path: Path) -> None:
        open_stacks(path.parent).splits["train"].stack(0)

    return [
        Subject("dataset.json", folder / "dataset.json", (read, lesions), damaged_json, 80),
        Subject("splits.json", splits, (divide,), damaged_json, 30),
        Subject("mask", masks / "masks" / "0.png", (lambda path: read(path.parent),)),
    ]


def _arrays(root: Path) -> list[Subject]:
    chance = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 7), ("val", 5), ("test", 3)):
        arrays[f"{name}_images"] = chance.integers(0, 256, (count, 11, 13, 3), np.uint8)
        arrays[f"{name}_labels"] = (np.arange(count) % 3)[:, None]
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(root / name, **arrays)
    write_inv3(root / "a.inv3", chance.integers(-1000, 1000, (3, 5, 7)).astype(np.int16))
    columns = ["File_name", "Patient_index", "Key_slice_index", "Bounding_boxes", "Possibly_noisy", "Slice_range"]
    columns += ["Spacing_mm_px_", "Image_size", "Train_Val_Test"]
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerow(columns)
    for patient in (1, 2):
        named = f"{patient:06}_01_01_001.png"
        writer.writerow([named, patient, 1, "3, 2, 5, 4", 0, "1, 2", "0.8, 0.7, 5", "9, 6", patient])
        for number in (1, 2):
            place = root / "deep" / "Images_png" / f"{patient:06}_01_01" / f"{number:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((6, 9), 32768 + number, np.uint16)).save(place)
    (root / "deep" / "DL_info.csv").write_text(rows.getvalue())
    return [
        Subject("npz", root / "a.npz", (open_pictures,), count=60),
        Subject("npz packed", root / "b.npz", (open_pictures,)),
        Subject("inv3", root / "a.inv3", (read_inv3,)),
        Subject("DL_info.csv", root / "deep" / "DL_info.csv", (_stack_of,), count=50),
        Subject(
            "deep slice", root / "deep/Images_png/000001_01_01/001.png", (lambda path: _stack_of(path.parents[1]),)
        ),
    ]


def _stack_of(path: Path) -> None:
    open_stacks(path.parent).splits["train"].stack(0)


def _texts(root: Path) -> list[Subject]:
    folder = root / "text"
    folder.mkdir()
    for split, count in (("train", 40), ("val", 4)):
        for language, word in (("en", "ball"), ("de", "Bälle")):
            lines = "".join(f"{number} {word}\n" for number in range(count))
            (folder / f"{split}.{language}").write_text(lines, "utf-8")
    (folder / "train.en").unlink()
    (folder / "train.en.gz").write_bytes(gzip.compress("".join(f"{n} ball\n" for n in range(40)).encode()))
    read = (lambda path: open_text(path.parent, "en", "de"),)
    return [Subject("text", folder / "train.de", read), Subject("text in gz", folder / "train.en.gz", read)]


def _videos(root: Path) -> list[Subject]:
    reads = (count_frames, read_video_header, lambda path: read_frames(path, 3, [0, 2]))
    avi = save_video(root / "a.avi", numbered(4), "mjpeg", "yuvj420p")
    frames = [Image.fromarray(frame) for frame in numbered(4)]
    frames[0].save(root / "a.gif", save_all=True, append_images=frames[1:])
    return [
        Subject("mp4", save_video(root / "a.mp4", numbered(4)), reads),
        Subject("avi", avi, reads),
        Subject("gif", root / "a.gif", reads),
    ]


def _checkpoints(root: Path) -> list[Subject]:
    torch.manual_seed(0)
    network = catalogue.build("resnet_tiny", num_classes=3)
    save_checkpoint(network, root / "a.safetensors")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, root / "a.pth")
    reads = (read_file, inspect, from_checkpoint)
    return [
        Subject("safetensors", root / "a.safetensors", reads, count=60),
        Subject("pth", root / "a.pth", reads, count=60),
    ]


def _runs(root: Path) -> list[Subject]:
    chance = np.random.default_rng(0)
    for kind in ("blue", "red"):
        for number in range(6):
            path = root / "photos" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(chance.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)
    run = root / "run"
    train(config_for(str(root / "photos"), network="resnet_tiny", epochs=1, batch_size=4), run)

    def use(path: Path) -> None:
        read_summary(run)
        load_run(run)
        read_preprocess(run)

    others = {
        "segment": (segment.KEY, segment.Preparation, PREPARED),
        "detect": (detect.KEY, detect.Preparation, DETECTED),
        "lesions": (lesions.KEY, lesions.Preparation, LESIONS),
    }
    more = []
    for name, (key, kind, held) in others.items():
        folder = root / f"{name} run"
        folder.mkdir()
        (folder / "summary.json").write_text((run / "summary.json").read_text())
        kind.from_json(json.dumps(held))
        write_file(folder / "model.safetensors", {"weight": torch.zeros(1)}, {key: json.dumps(held)})
        reads = (lambda path, key=key, kind=kind: kept(path.parent, key, kind.from_json),)
        more.append(Subject(f"kept to {name}", folder / "model.safetensors", reads, _kept, 60))
    study = root / "study"
    (study / "runs" / "none").mkdir(parents=True)
    shutil.copytree(run, study / "runs" / "none" / "seed0")
    plan = {"arms": [{"arm": "none"}], "seeds": [0], "baseline": "none", "config": {}}
    (study / "study.json").write_text(json.dumps(plan))
    report = (lambda path: (read_run(run), read_maps(read_run(run))),)
    return [
        *more,
        Subject("study.json", study / "study.json", (lambda path: read_study(study), read_plan), damaged_json),
        Subject("run to report", run / "summary.json", report, damaged_json, 30),
        Subject("maps.json", run / "maps" / "maps.json", report, damaged_json),
        Subject("maps.npz", run / "maps" / "maps.npz", report),
        Subject("metrics.csv", run / "metrics.csv", report),
        Subject("config.json", run / "config.json", (use,), damaged_json, 60),
        Subject("summary.json", run / "summary.json", (use,), damaged_json, 50),
        Subject("model.safetensors", run / "model.safetensors", (use,), count=40),
        Subject("kept preparation", run / "model.safetensors", (use,), _kept, 40),
        Subject("last.ckpt", run / "checkpoints" / "last.ckpt", (lambda path: take_up(run),), count=40),
    ]


def _kept(content: bytes, chance) -> bytes:
    """Damage the preparation that is kept in the header of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    key = next(key for key in header["__metadata__"] if key in KEYS)
    header["__metadata__"][key] = damaged_json(header["__metadata__"][key].encode(), chance).decode("utf-8", "replace")
    body = json.dumps(header).encode()
    body += b" " * (-len(body) % 8)
    return len(body).to_bytes(8, "little") + body + content[8 + size :]
