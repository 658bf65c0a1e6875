from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.videos import HEIGHT, WIDTH, numbered, numbers_of, save_video

from foveate.data import KINDS, SPLITS, open_clips
from foveate.data.clip_folders import FolderClips, frame_files
from foveate.data.clips import Clips, clip_numbers, clip_starts
from foveate.errors import DataError


def save_frames(folder: Path, count: int = 4, size: tuple[int, int] = (3, 5), colour: bool = False) -> Path:
    """Frames 1.png, 2.png and so on, as bright as ten times their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        Image.fromarray(np.full((*size, 3) if colour else size, 10 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def given_splits(root: Path) -> Path:
    for name in SPLITS:
        for kind in ("jump", "run"):
            for index in range(2):
                save_frames(root / name / kind / f"clip{index}", 3 + index)
    return root


def test_given_splits_are_kept(tmp_path: Path):
    clips = open_clips(given_splits(tmp_path))
    assert clips.classes == ["jump", "run"]
    assert (clips.source, clips.channels, clips.size) == (str(tmp_path), 1, (3, 5))
    val = clips.splits["val"]
    assert [val.name(index) for index in range(len(val))] == [
        f"val/{kind}/clip{index}" for kind in ("jump", "run") for index in range(2)
    ]
    assert [val.label(index) for index in range(4)] == [0, 0, 1, 1]
    assert [val.length(index) for index in range(4)] == [3, 4, 3, 4]
    assert val.boxes_xyxy(0) is None
    clip = val.clip(3, [3, 0, 3])
    assert (clip.dtype, clip.shape) == (torch.uint8, (1, 3, 3, 5))
    assert clip[0, :, 0, 0].tolist() == [40, 10, 40]


def test_classes_without_splits_are_split_by_name(tmp_path: Path):
    for kind, count in (("jump", 20), ("run", 7)):
        for index in range(count):
            save_frames(tmp_path / kind / f"{index}", 1)
    splits = open_clips(tmp_path).splits
    names = {name: [split.name(index) for index in range(len(split))] for name, split in splits.items()}
    assert {name: len(names[name]) for name in SPLITS} == {"train": 14 + 5, "val": 3 + 1, "test": 3 + 1}
    assert len({name for part in names.values() for name in part}) == 27
    # The names alone decide: these are the same on every machine and in every year.
    assert names["test"] == ["jump/16", "jump/2", "jump/7", "run/4"]


def test_files_and_folders_of_frames_may_be_mixed(tmp_path: Path):
    for kind in ("jump", "run"):
        save_frames(tmp_path / kind / "frames", 5, (HEIGHT, WIDTH))
        save_video(tmp_path / kind / "video.avi", numbered(), "mjpeg", "yuvj420p")
        save_video(tmp_path / kind / "below" / "MOVING.GIF", numbered(6), "gif", "rgb8")
    clips = open_clips(tmp_path)
    assert (clips.channels, clips.size) == (3, (HEIGHT, WIDTH))
    found = {
        split.name(index): (split.length(index), split.clip(index, [2, 1]))
        for split in clips.splits.values()
        for index in range(len(split))
    }
    assert {name: length for name, (length, _) in found.items() if name.startswith("run")} == {
        "run/frames": 5,
        "run/video.avi": 12,
        "run/below/MOVING.GIF": 6,
    }
    assert all(clip.shape == (3, 2, HEIGHT, WIDTH) for _, clip in found.values())
    assert numbers_of(found["run/video.avi"][1]) == numbers_of(found["run/below/MOVING.GIF"][1]) == [2, 1]
    assert found["run/frames"][1][:, :, 0, 0].tolist() == [[30, 20]] * 3


def test_a_length_is_found_once(tmp_path: Path, monkeypatch):
    from foveate.data import clip_folders

    path = save_video(tmp_path / "a.avi", numbered(), "mjpeg", "yuvj420p")
    split = FolderClips(tmp_path, [path], [0], 3)
    assert split.length(0) == 12
    monkeypatch.setattr(clip_folders, "count_frames", None)
    assert split.length(0) == 12


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path):
    for name in ("img_10.png", "img_2.png", "img_02.png", "img_1.png", "a.png", "10.png", "9.png"):
        (tmp_path / name).touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "Thumbs.db").touch()
    names = [path.name for path in frame_files(tmp_path)]
    assert names == ["9.png", "10.png", "a.png", "img_1.png", "img_02.png", "img_2.png", "img_10.png"]


def test_one_colour_clip_makes_all_colour_and_two_sizes_make_none(tmp_path: Path):
    save_frames(given_splits(tmp_path) / "test" / "run" / "colour", 2, (4, 5), colour=True)
    clips = open_clips(tmp_path)
    assert (clips.channels, clips.size) == (3, None)
    assert clips.splits["train"].clip(0, [0]).shape == (3, 1, 3, 5)


def test_files_of_the_desktop_are_passed_over(tmp_path: Path):
    given_splits(tmp_path)
    (tmp_path / "train" / "run" / ".DS_Store").touch()
    (tmp_path / "train" / "run" / "clip0" / "Thumbs.db").touch()
    (tmp_path / "train" / "run" / ".cache").mkdir()
    train = open_clips(tmp_path).splits["train"]
    assert [train.length(index) for index in range(len(train))] == [3, 4, 3, 4]


def test_a_frame_of_another_size_is_named(tmp_path: Path):
    Image.new("L", (6, 3)).save(save_frames(given_splits(tmp_path) / "train" / "run" / "clip0") / "2.png")
    train = open_clips(tmp_path).splits["train"]
    assert train.clip(2, [0, 2]).shape == (1, 2, 3, 5)
    wanted = "must have the size of 1.png, 5x3 pixels, as a frame of the same clip; got 6x3"
    for frames in ([0, 1], [1]):
        with pytest.raises(DataError, match=rf"clip0/2\.png {wanted}"):
            train.clip(2, frames)


def test_a_frame_beyond_the_end_is_told(tmp_path: Path):
    train = open_clips(given_splits(tmp_path)).splits["train"]
    with pytest.raises(DataError, match=r"clip0 must have frame 3, counted from 0, to be read; it has 3 frames"):
        train.clip(0, [0, 3])
    for frames in ([], [0, -1]):
        with pytest.raises(ValueError, match=r"frames must be one number or more, none below 0; got \["):
            train.clip(0, frames)


def test_a_damaged_frame_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "train" / "run" / "clip0" / "2.png").write_text("no")
    train = open_clips(tmp_path).splits["train"]
    with pytest.raises(DataError, match=r"clip0/2\.png is not a picture that can be read"):
        train.clip(2, [1])


def test_a_picture_in_a_class_folder_is_named(tmp_path: Path):
    save_frames(given_splits(tmp_path) / "train" / "run", 1)
    wanted = r"is a picture in a class folder; a clip is a video file \(\.mp4, .*\), or a folder of its frames below"
    with pytest.raises(DataError, match=rf"run/1\.png {wanted}"):
        open_clips(tmp_path)


def test_a_file_of_another_kind_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "train" / "run" / "clip0" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"clip0/notes\.txt is no video and no picture; a clip is a video file \("):
        open_clips(tmp_path)


def test_a_video_among_frames_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "train" / "run" / "clip0" / "whole.mp4").touch()
    with pytest.raises(DataError, match=r"clip0/whole\.mp4 is a video among pictures; a folder holds videos, or"):
        open_clips(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "val" / "run" / "clip7").mkdir()
    with pytest.raises(DataError, match=r"the clip folder .*val/run/clip7 is empty"):
        open_clips(tmp_path)
    (tmp_path / "val" / "run" / "clip7").rmdir()
    (tmp_path / "val" / "sit").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*val/sit is empty"):
        open_clips(tmp_path)


def test_a_file_that_only_looks_like_a_video_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "test" / "run" / "a.mp4").write_text("no")
    with pytest.raises(DataError, match=r"run/a\.mp4 is not a video that can be read"):
        open_clips(tmp_path)


def test_two_clips_cannot_be_split_in_three(tmp_path: Path):
    for kind, count in (("jump", 5), ("run", 2)):
        for index in range(count):
            save_frames(tmp_path / kind / f"{index}", 1)
    with pytest.raises(DataError, match=r"run needs three videos or more to be split in three; got 2"):
        open_clips(tmp_path)


def test_a_folder_without_classes_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"must hold a folder of videos for each class; it holds no folder"):
        open_clips(tmp_path)


def test_a_class_that_misses_in_a_split_is_named(tmp_path: Path):
    save_frames(given_splits(tmp_path) / "train" / "sit" / "0")
    with pytest.raises(DataError, match=r"has no video of class 'sit' in its val split"):
        open_clips(tmp_path)


def test_one_class_cannot_be_told_apart():
    with pytest.raises(DataError, match=r"a must hold two classes or more to tell apart; got only 'run'"):
        Clips("a", ["run"], 1, None, {})


def test_what_is_no_data_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r'"direction", or "mover"; got .*nowhere: there is no such folder'):
        open_clips(tmp_path / "nowhere")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match=r"got .*a\.mp4: that is no folder"):
        open_clips(tmp_path / "a.mp4")


def test_what_may_be_opened_is_listed():
    assert {"direction", "mover", "CLIPS"} < set(KINDS)


def test_the_frames_of_a_clip_are_every_so_many():
    assert clip_numbers(30, 4, 3, 5) == [5, 8, 11, 14]
    assert clip_numbers(30, 1, 7, 29) == [29]


def test_a_short_video_is_looped():
    assert clip_numbers(3, 8, 1, 0) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert clip_numbers(5, 4, 2, 3) == [3, 0, 2, 4]
    assert clip_numbers(1, 3, 8, 0) == [0, 0, 0]


def test_clips_are_spread_from_the_start_of_a_video_to_its_end():
    assert clip_starts(30, 4, 3, 1) == [10]
    assert clip_starts(30, 4, 3, 3) == [0, 10, 20]
    assert clip_starts(300, 32, 2, 10) == [0, 26, 52, 79, 105, 131, 158, 184, 210, 237]
    assert clip_numbers(300, 32, 2, 237)[-1] == 299


def test_clips_of_a_short_video_all_begin_at_its_start():
    assert clip_starts(10, 4, 3, 2) == [0, 0]
    assert clip_starts(3, 4, 3, 3) == [0, 0, 0]
    assert clip_starts(3, 4, 3, 1) == [0]


@pytest.mark.parametrize("name", ["length", "frames", "stride", "count"])
def test_counts_must_be_positive(name: str):
    given = {"length": 9, "frames": 4, "stride": 2, "count": 2, name: 0}
    with pytest.raises(ValueError, match=rf"{name} must be 1 or more; got 0"):
        clip_starts(**given)
    if name != "count":
        with pytest.raises(ValueError, match=rf"{name} must be 1 or more; got 0"):
            clip_numbers(given["length"], given["frames"], given["stride"], 0)


@pytest.mark.parametrize("start", [-1, 9])
def test_a_clip_starts_within_the_video(start: int):
    with pytest.raises(ValueError, match=rf"start must be in 0\.\.8, a frame of the video; got {start}"):
        clip_numbers(9, 4, 2, start)
