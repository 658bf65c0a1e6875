"""Runs that classify clips: files and folders of frames in, the same commands as for pictures, nothing lost."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.data.videos import save_sound, save_video

from foveate.capture import capture
from foveate.data import open_clips
from foveate.errors import CheckpointError, DataError
from foveate.networks import resnet_tiny
from foveate.networks.published import packed
from foveate.networks.video_resnet import STEPS, VideoResNet
from foveate.tasks import classify, keeper
from foveate.tasks.classify_run import load_run, read_preprocess
from foveate.tasks.clips import ClipSet
from foveate.tasks.config import RunConfig
from foveate.tasks.export import export_run
from foveate.tasks.hosts import build
from foveate.tasks.programs import FORMATS, LOGITS
from foveate.tasks.resume import take_up
from foveate.tasks.run import attend, evaluate, open_network, predict, train
from foveate.tasks.summary import Progress

SIZES = [(32, 48), (48, 32), (40, 40)]
LENGTHS = [12, 3, 20, 9]  # one is shorter than a clip


def moving(right: bool, count: int, height: int, width: int, random: np.random.Generator) -> list[np.ndarray]:
    """A bright block on noise that goes down or to the right."""
    ground = random.integers(0, 60, (height, width, 3), np.uint8)
    frames = []
    for number in range(count):
        frame = ground.copy()
        top, left = (8, 2 + number) if right else (2 + number, 8)
        frame[top : top + 8, left : left + 8] = (220, 200, 60)
        frames.append(frame)
    return frames


def save_frames(folder: Path, frames: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of files, with and without sound, and folders of frames, of three sizes and four lengths."""
    root, random = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for right, kind in enumerate(("down", "right")):
            for number in range(count):
                frames = moving(bool(right), LENGTHS[number % 4], *SIZES[number % 3], random)
                path = root / split / kind / f"{number}"
                if number % 4 == 3:
                    save_frames(path, frames)
                else:
                    save_video(path.with_suffix((".mp4", ".avi", ".mkv")[number % 3]), frames, audio=number % 4 == 0)
    return root


def small(data: Path | str, **changes: object) -> RunConfig:
    settings = {"network": "c2d_tiny", "frames": 4, "image_size": 16, "epochs": 1, "batch_size": 4}
    settings |= {"threads": 1, "device": "cpu", "augment": "none", "learning_rate": 6e-3}
    return RunConfig(data=str(data), **(settings | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of non-local blocks in time, tested in two clips of three parts."""
    out = tmp_path_factory.mktemp("run") / "nonlocal"
    train(small(videos, mechanism="nonlocal", options={"group": "time"}, test_clips=2, test_crops=3), out)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_says_what_its_clips_are_and_which_are_looped(videos: Path, tmp_path: Path):
    told: list[Progress] = []
    summary = train(small(videos, mechanism="cbam", epochs=2), tmp_path, progress=told.append)
    # Half of the training videos have 12 frames or more: three times a clip of four.
    assert told[0].notes[0].startswith(f"read {videos}: 16 train, 8 val, 8 test videos of 2 classes")
    assert told[0].notes[-2:] == (
        "a clip is 4 frames, 2 apart",
        "8 of 32 videos are shorter than that, and begin again at their first frame",
    )
    assert (told[0].stage, told[0].fraction) == ("prepare", 0)
    assert (summary.train_size, summary.val_size, summary.test_size) == (16, 8, 8)
    assert read_preprocess(tmp_path).shape == (3, 4, 16, 16)
    assert {row["name"] for row in rows(tmp_path / "predictions.csv")} >= {"test/down/0.mp4", "test/right/3"}


@pytest.mark.slow
def test_a_run_is_evaluated_to_what_it_said(run: Path, videos: Path, tmp_path: Path):
    said = json.loads((run / "summary.json").read_text())["metrics"]
    found = evaluate(run, device="cpu", rows=tmp_path / "rows.csv")
    assert found["samples"] == {"test": 8}
    assert {name: found[name] for name in said if name in found} == pytest.approx(
        {name: said[name] for name in said if name in found}
    )
    assert rows(tmp_path / "rows.csv") == rows(run / "predictions.csv")
    with pytest.raises(
        DataError, match=r"direction has classes \['left', 'right'\]; the run knows \['down', 'right'\]"
    ):
        evaluate(run, "direction")
    with pytest.raises(DataError, match="demo holds pictures, for networks such as resnet18; c2d_tiny takes clips"):
        evaluate(run, "demo")


@pytest.mark.slow
def test_the_answer_is_the_mean_of_the_probabilities_of_all_views(run: Path, videos: Path):
    network, config = load_run(run)
    preprocess = read_preprocess(run)
    clips = ClipSet(open_clips(videos).splits["test"], preprocess)
    assert clips.views == 6
    with torch.no_grad():
        seen = [network(preprocess.normalise(clips.view([0], view))).softmax(dim=1) for view in range(6)]
    chances = torch.stack(seen).mean(dim=0)[0]
    row = rows(run / "predictions.csv")[0]
    assert [float(row["p_down"]), float(row["p_right"])] == pytest.approx(chances.tolist(), abs=1e-5)
    assert config.test_clips == 2


@pytest.mark.slow
def test_videos_are_classified_as_in_the_test(run: Path, videos: Path, tmp_path: Path):
    test = videos / "test"
    looped = "1 of 6 videos are shorter than a clip of 4 frames, 2 apart, which begins again at their first frame"
    with pytest.warns(UserWarning, match=f"^{looped}$"):
        path = predict(run, [test / "down", test / "right" / "3", test / "right" / "2.mkv"], tmp_path, device="cpu")
    tested = {row["name"].removeprefix("test/"): row["p_down"] for row in rows(run / "predictions.csv")}
    found = {row["name"]: row["p_down"] for row in rows(path)}
    assert list(found) == ["down/0.mp4", "down/1.avi", "down/2.mkv", "down/3", "right/3", "right/2.mkv"]
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(tested[name]) for name in found}, abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:1 of 8 videos are shorter")
def test_what_cannot_be_read_is_told_at_the_end_and_all_else_is_there(run: Path, videos: Path, tmp_path: Path):
    given = tmp_path / "given"
    random = np.random.default_rng(1)
    for name in "aceg":
        save_video(given / f"{name}.mp4", moving(True, 9, 32, 48, random))
    (given / "b.mp4").write_text("no video")
    (given / "d.webm").touch()
    save_sound(given / "f.mp4")
    save_frames(given / "h", moving(True, 4, 32, 48, random))
    (given / "h" / "2.png").write_text("no picture")
    told = r"b\.mp4 is not a video .*\n.*d\.webm is empty\n.*f\.mp4 holds no video stream\n.*2\.png is not a picture"
    with pytest.raises(DataError, match=told):
        predict(run, [given], tmp_path / "out", device="cpu")
    assert [row["name"] for row in rows(tmp_path / "out" / "predictions.csv")] == [f"{name}.mp4" for name in "aceg"]
    with pytest.raises(DataError, match=told):
        attend(run, [given], tmp_path / "maps", device="cpu")
    drawn = {path.name.partition(".")[0] for path in (tmp_path / "maps").glob("*.png")}
    assert drawn == set("aceg")
    with pytest.raises(DataError, match=r"^\S+b\.mp4 is not a video[^\n]+$"):
        predict(run, [given / "b.mp4"], tmp_path / "none", device="cpu")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_results_do_not_lie_among_the_videos(run: Path, videos: Path):
    for function in (predict, attend):
        with pytest.raises(ValueError, match=r"results must not lie among the videos; .*/test/out is in "):
            function(run, [videos / "test"], videos / "test" / "out")


@pytest.mark.slow
def test_what_a_run_attends_to_is_drawn_as_a_sheet_of_frames(run: Path, videos: Path, tmp_path: Path):
    written = attend(run, [videos / "test" / "down" / "0.mp4", videos / "test" / "down" / "3"], tmp_path, device="cpu")
    taps = [f"layer{stage}.0.mechanism.weights" for stage in (2, 3)]
    assert {path.name for path in written} == {
        *(f"{name}.{tap}.png" for name in ("0.mp4", "3") for tap in ["network", *taps]),
        "frames.csv",
    }
    with Image.open(tmp_path / f"3.{taps[0]}.png") as picture:
        assert picture.size == (224, 224)  # two frames beside each other, two below
        pixels = np.asarray(picture).astype(int)
    # The ring is in the third frame, in its middle: below, on the left.
    ring = (pixels == (0, 255, 255)).all(axis=-1)
    down, right = (places.mean() / size for places, size in zip(ring.nonzero(), ring.shape, strict=True))
    assert (down, right) == pytest.approx((0.75, 0.25), abs=0.03)
    table = rows(tmp_path / "frames.csv")
    assert list(table[0]) == ["clip", "tap", "frame", "looks at", "weight"]
    assert len(table) == 2 * 2 * 4 * 4
    for name in ("0.mp4", "3"):
        for frame in "0123":
            given = [float(row["weight"]) for row in table if (row["clip"], row["frame"]) == (name, frame)]
            assert sum(given) == pytest.approx(2, abs=1e-4)  # of two taps


@pytest.mark.slow
def test_the_maps_of_a_run_are_sheets_with_a_point_and_a_matrix_of_frames(run: Path):
    index, arrays = json.loads((run / "maps" / "maps.json").read_text()), np.load(run / "maps" / "maps.npz")
    assert index["frames"] == 4
    assert index["image_size"] == [32, 32]
    assert arrays["images"].shape == (8, 32, 32, 3)
    kinds = [(entry["kind"], arrays[entry["key"]].shape) for entry in index["maps"]]
    assert kinds == [
        ("frames", (4, 4)),
        ("frames", (4, 4)),
        ("rows", (8, 8, 8)),
        ("rows", (8, 4, 4)),
        ("network", (8, 4, 4)),
    ]
    (points,) = {json.dumps(entry["point"]) for entry in index["maps"] if entry["kind"] == "rows"}
    assert json.loads(points) == [[0.75, 0.25]] * 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_run_exports_with_time_and_says_what_its_frames_are(run: Path, tmp_path: Path, kind: str):
    exported = export_run(run, tmp_path / f"clips.{kind}", format=kind)
    assert exported.input[:2] == ("batch", 3)
    assert exported.metadata["input"].startswith("float32 (batch, channel, time, height, width): RGB frames, every 2")
    network, _ = load_run(run)
    clips = torch.randn(2, *read_preprocess(run).shape, generator=torch.Generator().manual_seed(0))
    found = FORMATS[kind].open(Path(exported.path).read_bytes())(clips)
    with torch.no_grad():
        torch.testing.assert_close(found[LOGITS], network(clips), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_run_that_is_broken_off_ends_with_the_numbers_of_one_that_is_not(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small(videos, epochs=2, augment="crops")
    step = classify.Classifier.training_step

    def press(self: classify.Classifier, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.standing.step == 6:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(classify.Classifier, "training_step", press)
        patch.setattr(keeper, "SAVE_EVERY_S", 0.0)
        patch.setattr(keeper, "SAVE_SHARE", 1e9)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "broken")
    begun = take_up(tmp_path / "broken")
    assert begun is not None
    assert (begun.standing.epoch, begun.standing.batch) == (1, 2)  # in the middle of an epoch
    resumed = train(dataclasses.replace(config, num_workers=1), tmp_path / "broken")
    whole = train(config, tmp_path / "whole")
    assert (resumed.resumed, whole.resumed) == (1, 0)
    assert resumed.metrics == whole.metrics
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    kept = [(tmp_path / name / "predictions.csv").read_text() for name in ("broken", "whole")]
    assert kept[0] == kept[1]


def test_a_run_starts_from_a_network_of_pictures(tmp_path: Path):
    pictures = resnet_tiny(num_classes=7, in_channels=1)
    for parameter in pictures.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "resnet.safetensors"
    path.write_bytes(packed(pictures.state_dict()))
    with pytest.warns(UserWarning, match=r"resnet\.safetensors has no weights that fit fc, which starts anew"):
        network, shape, sites = build(small("direction", network="i3d_tiny", init=str(path), mechanism="nonlocal"))
    assert shape == (1, 4, 16, 16)
    assert len(sites) == 2  # inserted as the identity
    assert torch.equal(network.get_parameter("bn1.weight"), pictures.get_parameter("bn1.weight"))
    for name, time in (("conv1", 5), ("layer1.0.conv1", 3), ("layer1.0.conv2", 1)):
        own = next(value for key, value in network.named_parameters() if key.startswith(name) and value.ndim == 5)
        given = next(value for key, value in pictures.named_parameters() if key.startswith(name) and value.ndim == 4)
        assert own.shape[2] == time
        assert all(torch.equal(own[:, :, frame], given / time) for frame in range(time))


def test_a_network_of_other_blocks_is_no_start(tmp_path: Path):
    path = tmp_path / "resnet.safetensors"
    path.write_bytes(packed(resnet_tiny(num_classes=7, in_channels=1, width=0.5).state_dict()))
    told = r"does not fit: conv1\.weight has \(8, 1, 3, 3\) where the network has \(16, 1, 1, 3, 3\)"
    with pytest.raises(CheckpointError, match=told):
        build(small("direction", init=str(path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "changes", "told"),
    [
        ("direction", {"network": "resnet_tiny", "frames": None}, "direction holds clips, for networks such as c2d_ti"),
        ("demo", {}, "demo holds pictures, for networks such as resnet18; c2d_tiny takes clips"),
        ("a.npz", {}, "a.npz holds pictures, for networks such as resnet18; c2d_tiny takes clips"),
        ("nothing", {}, 'takes a folder of class folders of videos, "direction", or "mover"; got .*nothing: there is '),
        ("demo", {"network": "resnet_tiny"}, "frames is for networks of clips, such as c2d_resnet50; got resnet_tiny"),
        ("demo", {"network": "timm/resnet10t"}, "frames is for networks of clips, such as c2d_resnet50; got timm/res"),
        ("direction", {"network": "c2d_resnet50"}, "VideoResNet takes 7 frames or more with the geometry released; g"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path: Path, data: str, changes: dict[str, object], told: str):
    with pytest.raises((DataError, ValueError), match=told):
        train(small(data, **changes), tmp_path)


@pytest.mark.slow
def test_videos_for_a_network_of_pictures_and_pictures_for_one_of_videos_are_named(videos: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"\.(mp4|avi|mkv) is a video, for networks of clips such as c2d_resnet50"):
        train(small(videos, network="resnet_tiny", frames=None), tmp_path)
    for split in ("train", "val", "test"):
        save_frames(tmp_path / "photos" / split / "a", moving(True, 3, 16, 16, np.random.default_rng(0)))
        save_frames(tmp_path / "photos" / split / "b", moving(True, 3, 16, 16, np.random.default_rng(0)))
    with pytest.raises(DataError, match=r"0\.png is a picture in a class folder; a clip is a video file \(\.mp4, "):
        train(small(tmp_path / "photos"), tmp_path / "run")


@pytest.mark.slow
def test_a_damaged_video_is_found_before_the_training(videos: Path, tmp_path: Path):
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("a", "b"):
            save_frames(tmp_path / "data" / split / kind / "clip", moving(True, 4, 16, 16, random))
    # How many frames there are is known without reading them.
    (tmp_path / "data" / "test" / "b" / "clip" / "3.png").write_text("no picture")
    with pytest.raises(DataError, match=r"test/b/clip/3\.png is not a picture"):
        train(small(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("geometry", STEPS)
def test_a_clip_that_is_too_short_for_the_steps_along_time_is_told(geometry: str):
    network = VideoResNet("basic", (1, 1, 1), base_width=4, geometry=geometry, num_classes=2).eval()  # pyright: ignore[reportArgumentType]
    fewest = network.fewest_frames
    assert fewest == {"released": 7, "released_8": 2, "paper": 1, "slowfast": 2, "frames": 1}[geometry]
    assert network(torch.zeros(1, 3, fewest, 32, 32)).shape == (1, 2)
    if fewest > 1:
        with pytest.raises(ValueError, match=f"takes {fewest} frames or more with the geometry {geometry}; got 1"):
            network(torch.zeros(1, 3, 1, 32, 32))


@pytest.mark.slow
def test_a_network_of_clips_is_opened_by_name_or_by_run(run: Path):
    network, shape = open_network("c2d_tiny", "nonlocal", (3, 4, 16, 16))
    assert network(torch.zeros(1, *shape)).shape == (1, 1000)
    network, shape = open_network(str(run))
    with capture(network) as maps:
        assert network(torch.zeros(1, *shape)).shape == (1, 2)
    assert set(maps.axes.values()) == {"batch *space query key"}
    with pytest.raises(ValueError, match="c2d_tiny takes channels, time, height and width; got 3x16x16"):
        open_network("c2d_tiny", shape=(3, 16, 16))
