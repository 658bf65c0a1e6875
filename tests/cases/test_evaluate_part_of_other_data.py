"""Other data than a run's own are measured as a whole, or the split that they say; how many is always said."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cases.calling import foveate

from foveate.errors import DataError
from foveate.tasks.config import config_for
from foveate.tasks.run import evaluate, train
from foveate.tasks.segment.scoring import open_other


def write(root: Path, *folders: str, count: int = 20, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(root / folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("own"), "a", "b")


@pytest.fixture(scope="module")
def run(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train(config_for(str(own), network="resnet_tiny", epochs=1, augment="none", device="cpu"), out)
    return out


def measured(*words: object) -> dict:
    status, out, err = foveate("evaluate", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_all_of_other_pictures_are_measured_and_counted(run: Path, tmp_path: Path):
    other = write(tmp_path / "other", "a", "b", seed=1)
    assert measured(run, "--data", other, "--out", tmp_path / "rows.csv")["samples"] == {"test": 40}
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 41
    assert measured(run, "--data", other, "--split", "val")["samples"] == {"val": 40}
    _, out, _ = foveate("evaluate", run, "--data", other)
    assert [line.split(maxsplit=1) for line in out.splitlines()[:2]] == [
        ["samples", "40 test"],
        ["measured", f"all of {other}"],
    ]


@pytest.mark.parametrize("folder", ["test", "Testing", "test_set/test_set"])
def test_a_test_folder_alone_is_enough(run: Path, tmp_path: Path, folder: str):
    only = write(tmp_path / "only", f"{folder}/a", f"{folder}/b", seed=2)
    found = measured(run, "--data", only)
    assert found["samples"] == {"test": 40}
    assert found["measured"] == f"as the folder {Path(folder).name} says"


def test_other_data_may_lack_a_class_but_have_no_other(run: Path, tmp_path: Path):
    found = measured(run, "--data", write(tmp_path / "few", "b", seed=3))
    assert (found["samples"], found["auroc"]) == ({"test": 20}, None)
    with pytest.raises(DataError, match=r"has classes \['b', 'c'\]; the run knows \['a', 'b'\]"):
        evaluate(run, str(write(tmp_path / "more", "b", "c", seed=3)), device="cpu")


def test_the_runs_own_data_are_divided_as_it_divided_them(run: Path, own: Path):
    assert measured(run)["samples"] == {"test": 6}
    assert measured(run, "--data", own, "--split", "train")["samples"] == {"train": 28}


def test_a_copy_with_new_pictures_is_measured_without_what_the_run_learned_from(run: Path, own: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    for path in own.rglob("*.png"):
        (copy / path.relative_to(own)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(own)).write_bytes(path.read_bytes())
    (write(tmp_path / "new", "x", count=1, seed=4) / "x" / "0.png").rename(copy / "a" / "new.png")
    with pytest.warns(
        UserWarning, match=r"34 of 41 samples of .* are those of other splits of the run, such as a/.*out$"
    ):
        assert evaluate(run, str(copy), device="cpu")["samples"] == {"test": 7}
    (copy / "test").mkdir()
    for name in ("a", "b"):
        (copy / name).rename(copy / "test" / name)
    with pytest.raises(DataError, match=r"34 of 41 samples .*; measure them nevertheless with --accept-changed-data"):
        evaluate(run, str(copy), device="cpu")
    assert evaluate(run, str(copy), device="cpu", accept_changed_data=True)["samples"] == {"test": 41}


def write_masks(root: Path, key: str, count: int = 5) -> Path:
    root.mkdir()
    entries = []
    for index in range(count):
        image, mask = np.full((8, 8), 9 * index, np.uint8), np.eye(8, dtype=np.uint8)
        Image.fromarray(image).save(root / f"image_{index}.png")
        Image.fromarray(mask).save(root / f"mask_{index}.png")
        entries.append({"image": f"image_{index}.png", "label": f"mask_{index}.png"})
    about = {"labels": {"0": "background", "1": "line"}, "channel_names": {"0": "grey"}, key: entries}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


@pytest.mark.parametrize(
    ("key", "split"), [("test", "test"), ("testing", "test"), ("training", "test"), ("val", "val")]
)
def test_cases_of_one_list_are_measured(tmp_path: Path, key: str, split: str):
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["x"], "val": ["y"], "test": ["z"]}))
    data = write_masks(tmp_path / "data", key)
    volumes, cases = open_other(str(data), tmp_path / "splits.json", split)
    assert len(cases) == 5
    assert volumes.rule == (f"all of {data}" if key == "training" else "as the data say")


def test_a_list_that_is_not_there_is_named(tmp_path: Path):
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["x"], "val": ["y"], "test": ["z"]}))
    with pytest.raises(DataError, match=r"has no case in its val split; it has test$"):
        open_other(str(write_masks(tmp_path / "data", "test")), tmp_path / "splits.json", "val")


def test_a_run_that_segments_measures_a_test_list(tmp_path: Path):
    data = write_masks(tmp_path / "data", "training", count=8)
    status, _, err = foveate(
        *("train", "segment", "--data", data, "--network", "unet", "--max-time", "1s", "--out", tmp_path / "run")
    )
    assert status == 0, err
    other = write_masks(tmp_path / "other", "test")
    for path in other.glob("*.png"):
        path.rename(path.with_name(f"other_{path.name}"))
    about = (other / "dataset.json").read_text()
    (other / "dataset.json").write_text(about.replace("image_", "other_image_").replace("mask_", "other_mask_"))
    assert measured(tmp_path / "run", "--data", other)["samples"] == {"test": 5}
