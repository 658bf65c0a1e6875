import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.errors import CheckpointError, DataError, RunError
from foveate.networks.published import read_file
from foveate.networks.published.reading import write_file
from foveate.tasks.classify_run import load_run, read_preprocess
from foveate.tasks.config import RunConfig
from foveate.tasks.overlays import overlay
from foveate.tasks.run import attend, evaluate, open_network, predict, train


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of cbam on the shapes."""
    out = tmp_path_factory.mktemp("run") / "cbam"
    settings = {"network": "resnet_tiny", "mechanism": "cbam", "batch_size": 8, "threads": 1, "device": "cpu"}
    train(RunConfig(data=str(shapes), epochs=4, learning_rate=6e-3, **settings), out)
    return out


@pytest.fixture
def photos(shapes: Path, tmp_path: Path) -> Path:
    """The first test pictures as files, in two folders."""
    for index, image in enumerate(np.load(shapes)["test_images"][:4]):
        path = tmp_path / "photos" / "xy"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "photos"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_is_evaluated_to_what_it_said(run: Path, shapes: Path, tmp_path: Path):
    said = json.loads((run / "summary.json").read_text())["metrics"]
    found = evaluate(run, device="cpu")
    assert found["samples"] == {"test": len(rows(run / "predictions.csv"))}
    assert {name: found[name] for name in said if name in found} == pytest.approx(
        {name: said[name] for name in said if name in found}
    )
    assert evaluate(run, split="val", device="cpu")["accuracy"] == pytest.approx(said["val_accuracy"])
    shutil.copy(shapes, tmp_path / "copy.npz")
    assert evaluate(run, str(tmp_path / "copy.npz"), device="cpu") == found
    with pytest.raises(ValueError, match="split takes train, val or test; got 'all'"):
        evaluate(run, split="all")
    with pytest.raises(DataError, match=r"demo has classes \['0', '1', .*; the run knows \['0', '1', '2'\]"):
        evaluate(run, "demo")


def test_pictures_are_classified_as_in_the_test(run: Path, photos: Path, tmp_path: Path):
    path = predict(run, [photos / "x", photos / "y" / "1.png"], tmp_path / "out", device="cpu")
    assert path == tmp_path / "out" / "predictions.csv"
    tested = rows(run / "predictions.csv")
    found = rows(path)
    assert [row["name"] for row in found] == ["x/0.png", "x/2.png", "y/1.png"]
    assert list(found[0]) == ["index", "name", "prediction", "p_0", "p_1", "p_2"]
    for row, index in zip(found, (0, 2, 1), strict=True):
        for name in ("p_0", "p_1", "p_2"):
            assert float(row[name]) == pytest.approx(float(tested[index][name]), abs=1e-4)


def test_inputs_that_are_no_pictures_are_told(run: Path, photos: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing\.png does not exist"):
        predict(run, [photos / "nothing.png"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no pictures \(\.png, "):
        predict(run, [tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(DataError, match="at least one picture is needed; none was given"):
        predict(run, [], tmp_path / "out")
    (photos / "x" / "9.png").write_text("no picture")
    with pytest.raises(DataError, match=r"x/9\.png is not a picture"):
        predict(run, [photos], tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written: "):
        predict(run, [photos / "y"], tmp_path / "file" / "out")


def test_pictures_that_cannot_be_read_are_told_when_all_others_are_done(run: Path, photos: Path, tmp_path: Path):
    (photos / "x" / "1.png").write_text("no picture")
    (photos / "y" / "2.png").touch()
    told = r"x/1\.png is not a picture[^\n]*\n\S+y/2\.png is "
    with pytest.raises(DataError, match=told):
        predict(run, [photos], tmp_path / "out", device="cpu")
    found = rows(tmp_path / "out" / "predictions.csv")
    assert [row["name"] for row in found] == ["x/0.png", "x/2.png", "y/1.png", "y/3.png"]
    tested = rows(run / "predictions.csv")
    assert [float(row["p_0"]) for row in found] == pytest.approx(
        [float(tested[index]["p_0"]) for index in (0, 2, 1, 3)], abs=1e-4
    )
    with pytest.raises(DataError, match=told):
        attend(run, [photos], tmp_path / "maps", device="cpu")
    drawn = {path.name.partition(".")[0] for path in (tmp_path / "maps").glob("*.network.png")}
    assert drawn == {"x_0", "x_2", "y_1", "y_3"}


def test_maps_do_not_lie_among_the_pictures(run: Path, photos: Path):
    with pytest.raises(ValueError, match=r"results must not lie among the pictures; .*photos/maps is in "):
        attend(run, [photos], photos / "maps")


def test_what_a_run_attends_to_is_drawn(run: Path, photos: Path, tmp_path: Path):
    written = attend(run, [photos], tmp_path / "out", device="cpu")
    assert all(path.is_file() for path in written)
    gates = [f"layer{stage}.0.mechanism.spatial_gate" for stage in (1, 2, 3)]
    pictures = ("x_0.png", "x_2.png", "y_1.png", "y_3.png")
    names = {f"{picture}.{tap}.png" for picture in pictures for tap in ["network", *gates]}
    assert {path.name for path in written} == {*names, "gates.csv"}
    with Image.open(written[0]) as picture:
        assert picture.size == (224, 224)
    table = rows(tmp_path / "out" / "gates.csv")
    assert len(table) == 4 * (16 + 32 + 64)
    assert table[0]["picture"] == "x/0.png"
    assert all(0 <= float(row["gate"]) <= 1 for row in table)


def test_a_map_is_laid_over_its_picture():
    image = torch.zeros(1, 4, 6, dtype=torch.uint8)
    heat = torch.zeros(2, 3)
    heat[1, 2] = 1
    drawn = np.asarray(overlay(image, heat)).astype(int)
    assert drawn.shape == (224, 336, 3)
    assert drawn[-1, -1].sum() > drawn[0, 0].sum() + 100
    assert np.asarray(overlay(image, torch.ones(2, 3))).std(axis=(0, 1)).max() == 0  # nothing stands out


@pytest.mark.slow
def test_a_run_is_loaded_without_what_it_started_from(run: Path, shapes: Path, tmp_path: Path):
    network, config = load_run(run)
    assert config == RunConfig.from_file(run / "config.json")
    assert not network.training
    init, out = tmp_path / "init.safetensors", tmp_path / "run"
    shutil.copy(run / "model.safetensors", init)
    # Weights with a mechanism start a run with that mechanism.
    settings = {"network": "resnet_tiny", "mechanism": "cbam", "start": "published", "batch_size": 8, "device": "cpu"}
    summary = train(RunConfig(data=str(shapes), init=str(init), epochs=1, threads=1, **settings), out)
    assert summary.metrics["accuracy"] is not None
    init.unlink()
    loaded, _ = load_run(out)
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in network.named_parameters()]


def test_a_folder_that_is_no_finished_run_is_told(run: Path, tmp_path: Path):
    with pytest.raises(RunError, match=r"this takes the folder of a finished run; .* is no run folder"):
        load_run(tmp_path)
    shutil.copytree(run, tmp_path / "half")
    (tmp_path / "half" / "summary.json").unlink()
    with pytest.raises(RunError, match=r"this takes the folder of a finished run; .*half is not finished"):
        evaluate(tmp_path / "half")


def test_damaged_weights_are_told(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RunError, match=r"model\.safetensors cannot be read as the weights of a run"):
        load_run(tmp_path / "run")


def test_a_network_is_opened_by_name_or_by_run(run: Path):
    network, shape = open_network("resnet_tiny", "se")
    assert shape == (3, 40, 40)
    assert network.eval()(torch.zeros(1, *shape)).shape == (1, 1000)
    trained, shape = open_network(str(run))
    assert shape == (1, 16, 16)
    assert trained(torch.zeros(1, *shape)).shape == (1, 3)
    with pytest.raises(ValueError, match="is a run, whose mechanism is settled; give a network's name"):
        open_network(str(run), "se")


def test_what_a_network_takes_is_kept_with_its_weights(run: Path, shapes: Path):
    preprocess = read_preprocess(run)
    assert (preprocess.classes, preprocess.size, preprocess.channels) == (["0", "1", "2"], (16, 16), 1)
    assert preprocess.mean[0] == pytest.approx(np.load(shapes)["train_images"].mean() / 255, abs=1e-5)


def changed(run: Path, to: Path, *, nan: str | None = None, **kept) -> Path:
    """A copy of a run with a tensor that holds NaN, or other values in what is kept with its weights."""
    shutil.copytree(run, to)
    state, said = read_file(to / "model.safetensors")
    if nan is not None:
        state[nan].view(-1)[0] = torch.nan
    said["foveate"] = json.dumps(json.loads(said["foveate"]) | kept)
    write_file(to / "model.safetensors", state, said)
    return to


def test_weights_that_are_not_finite_are_refused(run: Path, photos: Path, tmp_path: Path):
    broken = changed(run, tmp_path / "run", nan="fc.weight")
    for use in (lambda: predict(broken, [photos], tmp_path / "out"), lambda: evaluate(broken)):
        with pytest.raises(RunError, match=r"run/model\.safetensors must hold finite weights; fc\.weight holds NaN or"):
            use()
    config = RunConfig(data="demo", network="resnet_tiny", mechanism="cbam", init=str(broken / "model.safetensors"))
    with pytest.raises(CheckpointError, match=r"run/model\.safetensors must hold finite weights; fc\.weight holds NaN"):
        train(config, tmp_path / "next")


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"std": [0.0]}, r"std must be greater than 0; got \(0\.0,\)"),
        ({"std": [float("nan")]}, r"std must be a finite number for each of 1 channels"),
        ({"mean": [0.1, 0.2, 0.3]}, r"mean must be a finite number for each of 1 channels"),
        ({"size": [0, 16]}, r"a preprocessing needs classes, 1 or 3 channels and a size"),
        ({"classes": []}, r"a preprocessing needs classes"),
        ({"classes": [1, 2, 3]}, r"classes takes a list such as"),
        ({"bits": 40}, r"frames, .* and bits make no sense"),
    ],
)
def test_a_kept_preparation_that_was_edited_is_refused(run: Path, photos: Path, tmp_path: Path, kept, told):
    broken = changed(run, tmp_path / "run", **kept)
    with pytest.raises(RunError, match=rf"run/model\.safetensors cannot be read as the weights of a run: {told}"):
        predict(broken, [photos], tmp_path / "out")


@pytest.mark.parametrize("edit", [{"network": "resnet_tinier"}, {"width": 1e30}, {"options": {"reduction": -1}}])
def test_a_configuration_that_was_edited_is_refused(run: Path, photos: Path, tmp_path: Path, edit):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(RunError, match=r"run/config\.json does not describe the network of this run: "):
        predict(tmp_path / "run", [photos], tmp_path / "out")
