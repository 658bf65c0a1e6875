"""The commands as a user meets them: results on standard output, one sentence and status 2 for what went wrong."""

import csv
import json
from pathlib import Path

import pytest

from foveate._version import __version__
from foveate.data.faults import joined

SMALL = ("--network", "resnet_tiny", "--set", "augment=none", "--set", "batch_size=8", "--device", "cpu")


def test_the_version_is_printed(foveate):
    assert foveate("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("kind", ["mechanisms", "networks", "data"])
def test_what_there_is_can_be_read_by_a_program(foveate, kind):
    status, out, _ = foveate("list", kind, "--json")
    assert status == 0
    assert len(json.loads(out)) >= 3


def test_everything_is_listed_for_people(foveate):
    status, out, _ = foveate("list")
    assert status == 0
    for name in ("eca-spatial", "resnet50", "FILE.npz"):
        assert name in out


@pytest.mark.slow
def test_a_cost_can_be_read_by_a_program(foveate):
    status, out, _ = foveate("profile", "resnet_tiny", "--mechanism", "se", "--input-shape", "3x24x24", "--json")
    cost = json.loads(out)
    assert status == 0
    assert cost["input_shape"] == [1, 3, 24, 24]
    assert cost["parameters"] > 0
    assert cost["macs"] > 0
    assert cost["latency_ms"] > 0


@pytest.mark.slow
def test_the_cost_of_a_network_of_bags_of_slices_has_its_training_step_and_is_counted_the_same_again(foveate):
    costs = []
    for _ in range(2):
        status, out, _ = foveate("profile", "va_mask_rcnn_tiny", "--input-shape", "5x3x64x64", "--json")
        assert status == 0
        costs.append(json.loads(out))
    assert costs[0]["input_shape"] == [1, 5, 3, 64, 64]
    assert costs[0]["step_ms"] > 0
    for name in ("parameters", "macs", "memory_mib", "step_memory_mib"):
        assert costs[0][name] == costs[1][name] > 0


@pytest.mark.parametrize(("shape", "convolutions"), [("1x32x32", 2), ("2x16x16x8", 3)])
def test_a_network_that_segments_is_built_for_the_axes_that_are_asked_for(shape, convolutions):
    from foveate.cli.profile import parse_shape
    from foveate.tasks.run import open_network

    network, taken = open_network("attention-unet", shape=parse_shape(shape))
    assert taken == parse_shape(shape)
    assert network.get_parameter("encoder.1.0.conv1.weight").shape == (16, taken[0], *[3] * convolutions)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("compare", "--mechanisms", "none,ecca"), 'no mechanism "ecca"; did you mean "eca"?'),
        (("compare", "--mechanisms", "se,eca"), 'the arms must hold the baseline "none"; got se, eca'),
        (("compare", "--network", "resnet181"), 'no network "resnet181"; did you mean "resnet18"?'),
        (
            ("compare", "--epochs", 1, "--max-time", "1m"),
            "a run ends by --epochs or by --max-time, not both; got 1 and 1m",
        ),
        (("compare", "--address", "auto"), "--address is for --engine ray; got auto"),
        (("compare", "--engine", "ray", "--workers", 3), "--workers is for --engine local; a Ray cluster"),
        (("train", "--mechanism", "cbm"), 'no mechanism "cbm"; did you mean "cbam"?'),
        (("train", "--data", "nowhere"), "nowhere"),
        (("train", "--set", "batchsize=3"), 'a run has no setting "batchsize"; did you mean "batch_size"?'),
        (("evaluate", "nowhere"), "nowhere"),
        (("predict", "nowhere", "a.png", "--out", "out"), "nowhere"),
        (("attend", "nowhere", "a.png", "--out", "out"), "nowhere"),
        (("report", "nowhere"), "nowhere"),
        (("profile", "resnet5"), 'no network "resnet5"'),
        (
            ("profile", "resnet50", "--input-shape", "224"),
            "an input shape is written like 3x224x224 or 1x64x64x32; got '224'",
        ),
        (("profile", "resnet50", "--input-shape", "1x8x8x8"), "resnet50 takes channels, height and width; got 1x8x8x8"),
        (
            ("export", "va_mask_rcnn_tiny", "--format", "pt2", "--out", "va.pt2"),
            "this takes the folder of a finished run; va_mask_rcnn_tiny is no run folder",
        ),
    ],
)
def test_what_went_wrong_is_one_sentence_and_status_two(foveate, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    status, out, err = foveate(*arguments)
    assert status == 2
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("foveate: ")
    assert sentence in last
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    from foveate.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["foveate", "train", "--mechanism", "cbm", "--debug"])
    with pytest.raises(LookupError, match='no mechanism "cbm"'):
        main()


def test_what_nobody_foresaw_is_a_sentence_too(foveate, monkeypatch):
    def fail(folder):
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr("foveate.report.write_report", fail)
    told = "foveate: RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB; --debug shows where\n"
    assert foveate("report", "demo") == (2, "", told)


def test_a_warning_of_ours_is_a_sentence_and_one_of_others_says_where():
    import foveate.cli as cli

    told = cli.formatted("no weights fit", UserWarning, str(Path(cli.__file__).parent.parent / "tasks" / "x.py"), 3)
    assert told == "foveate: no weights fit\n"
    assert cli.formatted("beware", UserWarning, "/elsewhere/x.py", 3).startswith(
        "/elsewhere/x.py:3: UserWarning: beware"
    )


def test_every_fault_of_the_data_is_a_sentence_on_a_line_of_its_own(foveate, monkeypatch):
    def fail(folder):
        raise joined(["a.nii.gz does not exist", "b.nii.gz does not exist"])

    monkeypatch.setattr("foveate.report.write_report", fail)
    told = "foveate: a.nii.gz does not exist\nfoveate: b.nii.gz does not exist\n"
    assert foveate("report", "demo") == (2, "", told)


@pytest.mark.slow
def test_a_run_goes_from_training_to_pictures(foveate, photos, tmp_path):
    run = tmp_path / "run"
    train = ("train", "classify", "--data", photos, *SMALL, "--mechanism", "cbam", "--epochs", 2, "--out", run)
    status, out, _ = foveate(*train)
    assert status == 0
    assert out.splitlines()[-1] == str(run)

    # The same command leaves a finished run alone.
    before = (run / "summary.json").stat().st_mtime_ns
    assert foveate(*train)[0] == 0
    assert (run / "summary.json").stat().st_mtime_ns == before

    status, out, _ = foveate("evaluate", run, "--json")
    assert status == 0
    assert json.loads(out)["accuracy"] == json.loads((run / "summary.json").read_text())["metrics"]["accuracy"]

    status, out, _ = foveate("predict", run, photos / "test" / "red", "--out", tmp_path / "predictions")
    assert status == 0
    assert len(list(csv.DictReader(Path(out.strip()).read_text().splitlines()))) == 4

    status, out, _ = foveate("attend", run, photos / "test" / "red" / "0.png", "--out", tmp_path / "maps")
    assert status == 0
    assert any("spatial_gate" in line for line in out.splitlines())

    status, out, _ = foveate("report", run)
    assert status == 0
    assert out.strip() == str(run / "report.html")


@pytest.mark.slow
def test_a_comparison_ends_with_its_report_and_a_second_call_returns_at_once(foveate, photos, tmp_path):
    out_folder = tmp_path / "study"
    compare = ("compare", "classify", "--data", photos, *SMALL, "--mechanisms", "none,se,placebo", "--seeds", 1)
    compare = (*compare, "--epochs", 1, "--workers", 1, "--out", out_folder)
    status, out, err = foveate(*compare)
    assert status == 0, err
    assert out.splitlines()[-1] == str(out_folder / "report.html")
    assert (out_folder / "report.html").is_file()

    status, out, _ = foveate(*compare, "--json")
    result = json.loads(out)
    assert status == 0
    assert result["finished"] == result["total"] == 3
    none, placebo = (next(arm for arm in result["arms"] if arm["arm"] == name) for name in ("none", "placebo"))
    assert none["values"] == placebo["values"]
