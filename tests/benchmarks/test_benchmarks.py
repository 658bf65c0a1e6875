"""The scripts of benchmarks/ run, and the times of which they make ratios are what they say."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch.utils import tensorboard

from foveate import networks
from foveate.layers import catalogue as layers

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """What imports a script of benchmarks/, for the length of a test."""

    def loaded(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


def test_steps_take_turns_and_the_first_quartile_of_what_counts_is_told(load, monkeypatch):
    timing, now, order = load("timing"), [0.0], []
    # Seconds of each turn, the first two not counted; of the other five the first quartile is the second smallest.
    lasting = {"slow": [9, 9, 5, 1, 3, 4, 2], "fast": [9, 9, 0.5, 0.1, 0.3, 0.4, 0.2]}

    def step(name):
        order.append(name)
        now[0] += lasting[name][order.count(name) - 1]

    monkeypatch.setattr(timing.time, "process_time", lambda: 2 * now[0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    found = timing.interleaved({name: lambda name=name: step(name) for name in lasting}, turns=5)
    assert (found["slow"].wall_ms, found["slow"].cpu_ms) == pytest.approx((2000, 4000))
    assert (found["fast"].wall_ms, found["fast"].cpu_ms) == pytest.approx((200, 400))
    assert order[:4] in (["slow", "fast", "fast", "slow"], ["fast", "slow", "slow", "fast"])
    assert order == (order[:4] * 4)[:14]


def test_one_turn_has_no_quartile(load):
    with pytest.raises(ValueError, match="turns must be at least 2; got 1"):
        load("timing").interleaved({"step": lambda: None}, turns=1)


def test_a_ratio_knows_whether_its_bound_is_reached(load):
    timing = load("timing")
    reached = {(">= 1.6", 1.6): True, (">= 1.6", 1.59): False, ("<= 1.05", 1.05): True, ("<= 1.05", 1.06): False}
    for (target, value), expected in reached.items():
        assert timing.Ratio("this", "that", value, target).reached is expected
    assert timing.Ratio("this", "that", 2.0).reached is None
    assert timing.Ratio("this", "that", 2.0).possible is None
    assert timing.Ratio("this", "that", 1.5, ">= 2", limit=1.7).possible is False
    assert timing.Ratio("this", "that", 1.5, "<= 1.2", limit=1.1).possible is True
    line = timing.time_ratio("this", "that", timing.Times(6.0, 8.0), timing.Times(3.0, 2.0), ">= 1")
    assert (line.value, line.wall) == (2.0, 4.0)
    assert timing.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def test_threads_are_set_before_torch_is_there_to_read_them(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    with pytest.raises(RuntimeError, match="set_threads comes before the import of torch"):
        load("timing").set_threads(1)


@pytest.mark.slow
def test_what_the_gate_costs_is_measured_and_told(load, monkeypatch, tmp_path, capsys):
    load("timing")
    load("processes")
    script = load("attention_gate")
    monkeypatch.setattr(script, "WIDTHS", (2, 3, 5))
    monkeypatch.setattr(script, "set_threads", lambda count: None)
    monkeypatch.setattr(script, "in_fresh_process", lambda function, *given: function(*given))
    script.main(size=8, large=16, turns=2, peers=False, json_file=tmp_path / "found.json")
    said = capsys.readouterr().out
    assert "| attention_unet, two gates |" in said
    assert "MONAI" not in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 < found["memory"]["followed"] < found["memory"]["process"]
    assert found["times"].keys() == {"unet", "attention_unet", "attention_unet, two gates"}


@pytest.mark.slow
def test_decoding_and_a_training_step_are_timed(load, monkeypatch, tmp_path, capsys):
    load("timing")
    script = load("decoding")
    monkeypatch.setattr(script, "set_threads", lambda count: None)
    monkeypatch.setattr(script, "SIZES", {"embed_dim": 8, "num_heads": 2, "hidden_channels": 12})
    monkeypatch.setattr(script, "LAYERS", 1)
    script.main(batches="1,2", length=4, turns=2, peers=False, json_file=tmp_path / "found.json")
    said = capsys.readouterr().out
    assert "Sentences decoded with a beam of 4, 4 tokens, 2 threads:" in said
    assert "| torch.nn.Transformer" in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["decoding"]["2"].keys() == {"foveate"}
    assert len(found["training"]["1"]) == 3
    monkeypatch.setattr(script, "TOKENS", 4)
    with pytest.raises(RuntimeError, match="every target must have 9 tokens, so that all take as many steps; got"):
        script.decode(3, 9, 2, peers=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RuntimeError, match="the peer needs transformers"):
        script.decode(1, 4, 2, peers=True)


@pytest.mark.slow
def test_a_volume_is_read_both_ways(load, monkeypatch, tmp_path, capsys):
    load("timing")
    script = load("volumetric")
    monkeypatch.setattr(script, "set_threads", lambda count: None)
    script.main("va_mask_rcnn_tiny", size=64, bag=3, turns=2, json_file=tmp_path / "found.json")
    assert "va_mask_rcnn_tiny, slices of 64 x 64, bags of 3, 1 thread:" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert tuple(found["times"]) == script.FEATURES + script.WHOLE
    read = networks.MaskRCNN.read_volume

    def wrongly(network, slices):
        return ({name: x + 1 for name, x in levels.items()} for levels in read(network, slices))

    monkeypatch.setattr(networks.MaskRCNN, "read_volume", wrongly)
    with pytest.raises(RuntimeError, match="both ways must give the same features; at level 0 they differ"):
        script.main("va_mask_rcnn_tiny", size=64, bag=3, turns=2)


@pytest.mark.slow
def test_both_forms_of_matching_are_timed_once_they_agree(load, monkeypatch, tmp_path, capsys):
    load("timing")
    script = load("matcher")
    monkeypatch.setattr(script, "set_threads", lambda count: None)
    script.main(batches="1,3", boxes=4, queries=7, layers=2, turns=2, json_file=tmp_path / "found.json")
    assert "Matching 2 decoder layers of 7 queries with 4 objects a picture" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["times"]["3"].keys() == {"within each picture", "whole batch"}
    monkeypatch.setattr(script, "ours", lambda *answers: [])
    with pytest.raises(RuntimeError, match="the two forms must give the same pairs; at batch 1 they differ"):
        script.main(batches="1", boxes=4, queries=7, layers=2, turns=2)


@pytest.mark.slow
@pytest.mark.parametrize("peers", [False, True])
def test_a_training_step_of_detr_is_measured_and_told(load, monkeypatch, tmp_path, capsys, peers):
    if peers:
        pytest.importorskip("transformers", reason="the peer is missing; pip install 'foveate[bench]' brings it")
    load("timing")
    load("processes")
    script = load("detr")
    monkeypatch.setattr(script, "LAYERS", 1)
    monkeypatch.setattr(script, "set_threads", lambda count: None)
    monkeypatch.setattr(script, "in_fresh_process", lambda function, *given: function(*given))
    script.main(height=64, width=96, objects=3, turns=2, threads=1, peers=peers, json_file=tmp_path / "found.json")
    said = capsys.readouterr().out
    assert "A training step at 64 x 96, batch 2, 3 objects a picture, 1 thread:" in said
    assert ("| Hugging Face, frozen, dropout, channels last |" in said) == peers
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["times"].keys() == found["memory_mib"].keys() == {*script.OURS, *(script.THEIRS if peers else ())}


@pytest.mark.slow
def test_both_sides_train_what_the_benchmark_says(load, monkeypatch):
    pytest.importorskip("transformers", reason="the peer is missing; pip install 'foveate[bench]' brings it")
    load("timing")
    load("processes")
    script = load("detr")
    labels, boxes = [torch.tensor([3])], [torch.full((1, 4), 0.5)]
    trained = {
        name: sum(each.numel() for each in network.parameters() if each.requires_grad)
        for name, (network, _) in {
            "Foveate": script.ours(labels, boxes),
            **{name: script.theirs(name, labels, boxes) for name in ("Hugging Face", "Hugging Face, frozen")},
        }.items()
    }
    assert trained == {"Foveate": 41_302_368, "Hugging Face": 41_524_768, "Hugging Face, frozen": 41_302_368}


def test_a_peer_that_is_missing_is_told(load, monkeypatch):
    load("timing")
    load("processes")
    script = load("detr")
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    with pytest.raises(typer.BadParameter, match=r"transformers is missing: pip install 'foveate\[bench\]', or give"):
        script.main(peers=True)


@pytest.mark.slow
def test_the_memory_of_long_clips_is_told_beside_its_forecast(load, monkeypatch, capsys):
    script = load("long_clips")
    monkeypatch.setattr(script.torch, "set_num_threads", lambda count: None)
    script.main(frames=4, side=64, blocks=True, threads=1)
    said = capsys.readouterr().out
    assert "layer2.1.mechanism.weights" in said
    assert "(1, 2, 8, 8, 2, 8, 8)" in said
    assert "process training on one clip: " in said


def prepare(load, monkeypatch, name, *others):
    """A script with what it imports from beside it, which leaves the threads of this process alone."""
    for other in ("timing", "processes", *others):
        load(other)
    script = load(name)
    for module in (script, *(sys.modules[other] for other in others)):
        if hasattr(module, "set_threads"):
            monkeypatch.setattr(module, "set_threads", lambda count: None)
    return script


def lines_of(file):
    """What a script wrote for the table, by what was measured."""
    return {line["what"]: line for line in json.loads(file.read_text())["ratios"]}


@pytest.mark.parametrize("gate", ["se", "eca", "cbam", "bam", "scse"])
def test_all_forms_of_a_gate_have_the_same_weights_and_compute_the_same(load, monkeypatch, gate):
    script = prepare(load, monkeypatch, "gates", "published_gates")
    for layout in (torch.contiguous_format, torch.channels_last):
        layers = script.forms(gate, 32, layout)
        assert layers.keys() == {"foveate", "published"} | ({"timm"} if gate in ("se", "eca", "cbam") else set())
        script.check(gate, layers, torch.randn(8, 32, 5, 3).contiguous(memory_format=layout))
    with torch.no_grad():
        next(layers["published"].parameters()).add_(0.5)
    with pytest.raises(RuntimeError, match=f"all forms of {gate} must compute the same; published is 0"):
        script.check(gate, layers, torch.randn(8, 32, 5, 3))


@pytest.mark.slow
def test_gates_are_timed_in_both_layouts(load, monkeypatch, tmp_path, capsys):
    script = prepare(load, monkeypatch, "gates", "published_gates")
    script.main(sizes="32x4", gates="se,cbam", turns=2, threads=1, json_file=tmp_path / "found.json")
    assert "Gates at batch 8, eager, 1 thread:" in capsys.readouterr().out
    lines = lines_of(tmp_path / "found.json")
    assert lines["gates, forward and backward: mean"]["target"] == ">= 1.6"
    assert len(lines) == 4
    script.main(sizes="32x4", gates="eca", compiled=True, turns=2, threads=1, json_file=tmp_path / "found.json")
    lines = lines_of(tmp_path / "found.json")
    assert {line["target"] for line in lines.values()} == {"", ">= 1"}
    assert lines["gates, forward, compiled: least of the published code"]["against"] == "a second copy of it"


@pytest.mark.slow
def test_a_training_step_of_resnet_is_timed_with_its_memory(load, monkeypatch, tmp_path, capsys):
    script = prepare(load, monkeypatch, "resnet_step")
    script.main("resnet18", size=32, batch=2, turns=2, threads=1, json_file=tmp_path / "found.json")
    assert "| foveate cbam, recompute |" in capsys.readouterr().out
    lines = lines_of(tmp_path / "found.json")
    assert lines["resnet18 step, contiguous: cbam over none"]["peer"] > 0
    assert lines["resnet18 step, contiguous: cbam over none"]["limit"] > 1
    assert lines["resnet18 step, contiguous: cbam, recompute, over none"]["target"] == ""
    less, more = (lines[f"resnet18 step, contiguous: memory that {name} adds"] for name in ("cbam, recompute", "cbam"))
    assert less["value"] <= more["value"]  # of pictures this small, parameters are all that counts
    assert lines["resnet18 step, channels last: memory that cbam adds"]["value"] > 0


def test_both_forms_of_non_local_are_timed(load, monkeypatch, tmp_path, capsys):
    script = prepare(load, monkeypatch, "non_local")
    given = {"channels": "8", "softmax_channels": "4,8", "turns": 2, "threads": 1, "json_file": tmp_path / "found.json"}
    script.main(positions="6,1000,2000", softmax_positions="6", limit_gib=0.01, **given)
    assert "| embedded_gaussian |" in capsys.readouterr().out
    lines = lines_of(tmp_path / "found.json")
    assert lines["NonLocal, dot_product, 6 positions of 8"]["target"] == ">= 1"
    assert lines["NonLocal, concatenation, 1,000 to 2,000 positions of 8"]["target"] == "<= 2.3"
    assert "NonLocal, dot_product, 1,000 positions of 8" not in lines  # the limit left the map out
    forms = script.forms("dot_product", 8)
    with torch.no_grad():
        forms["explicit"].g.bias.add_(1.0)
        forms["explicit"].out.weight.mul_(2.0)
    x = torch.randn(1, 8, 9)
    with pytest.raises(RuntimeError, match="both forms of dot_product must compute the same; they differ by"):
        script.check("dot_product", {name: script.passes(each, x, True) for name, each in forms.items()})


@pytest.mark.slow
def test_starts_are_timed(load, monkeypatch, tmp_path, capsys):
    script = prepare(load, monkeypatch, "start")
    script.main(turns=2, json_file=tmp_path / "found.json")
    assert "foveate --help" in capsys.readouterr().out
    assert lines_of(tmp_path / "found.json")["import foveate behind torch, ms"]["value"] > 0


def test_a_comparison_is_held_against_its_time_in_fit(load, monkeypatch, tmp_path, capsys):
    script = prepare(load, monkeypatch, "study")
    ran, began = [], time.time()

    def run(command, **given):
        ran.append(command)
        for seed in (0, 1):
            folder = Path(command[-1]) / "runs" / "se" / f"seed{seed}"
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text(json.dumps({"training_seconds": 32.0}))
            with tensorboard.SummaryWriter(folder / "tensorboard") as writer:
                writer.add_scalar("loss", 1.0, 1, walltime=began + 40.0 + seed)

    seconds = iter((0.0, 44.55))
    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr(script.time, "perf_counter", lambda: next(seconds))
    script.main("se", seeds=2, seconds=40, workers=2, json_file=tmp_path / "found.json")
    assert " ".join(ran[0][3:-2]) == "compare classify --mechanisms se --seeds 2 --max-time 40s --workers 2"
    in_fit, trained = json.loads((tmp_path / "found.json").read_text())["ratios"]
    assert in_fit["against"] == "time in fit"
    assert in_fit["value"] == pytest.approx(1.1, rel=0.01)  # of 40.5 seconds
    assert trained["value"] == pytest.approx(44.55 / 32)
    assert "of which 40.5 s in fit, 32.0 s of training" in capsys.readouterr().out


@pytest.mark.slow
def test_growth_is_drawn(load, monkeypatch, tmp_path):
    script = prepare(load, monkeypatch, "growth", "published_gates", "gates", "non_local")
    script.main(sides="4,8", channels="16,32", turns=2, threads=1, out=tmp_path, json_file=tmp_path / "found.json")
    assert (tmp_path / "growth_positions.png").stat().st_size > 10_000
    assert (tmp_path / "growth_channels.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(layers.MECHANISMS) - {"nonlocal"} < found["positions"].keys()
    assert [point[0] for point in found["positions"]["nonlocal, dot product"]["explicit"]] == [16, 64]
    assert [point[0] for point in found["channels"]["cbam"]["timm"]] == [16, 32]


def test_one_table_holds_all_parts_and_says_what_is_missing(load, monkeypatch, tmp_path, capsys):
    load("timing")
    script = load("table")

    class Done:
        returncode = 0

    def run(command, **given):
        done = Done()
        done.returncode = "broken" in command[1]
        line = {"what": "this", "against": "that", "value": 2.0, "target": ">= 1.6", "wall": 1.25, "limit": 1.8}
        Path(command[command.index("--json") + 1]).write_text(json.dumps({"ratios": [line]}))
        assert command[command.index("--threads") + 1] == "2"
        assert given["env"]["OMP_WAIT_POLICY"] == "PASSIVE"
        return done

    monkeypatch.setattr(script.subprocess, "run", run)
    parts = (script.Part("gates"), script.Part("broken"), script.Part("detr", needs="nothing_of_that_name"))
    monkeypatch.setattr(script, "PARTS", parts)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- end -->\nafter\n")
    script.main(page=page)
    said = capsys.readouterr().out
    assert page.read_text() == f"before\n<!-- table -->\n{said}<!-- end -->\nafter\n"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines()[2:]]
    assert cells[0] == ["what", "against", "ratio", "by wall time", "peer", "limit", "target", "reached"]
    assert cells[2] == ["this", "that", "2", "1.25", "", "1.8", ">= 1.6", "yes"]
    assert cells[3][0::7] == ["broken", "failed; what it printed says why"]
    assert cells[4][0::7] == ["detr", "nothing_of_that_name is not installed"]
    assert "torch 2" in said.splitlines()[0]
    page.write_text("nothing")
    with pytest.raises(ValueError, match=r"page.md must hold <!-- table --> and <!-- end -->"):
        script.main(page=page)


def test_every_part_of_the_table_is_a_script(load):
    load("timing")
    assert all((BENCHMARKS / f"{part.script}.py").is_file() for part in load("table").PARTS)


def test_holms_claims_are_those_worked_out_by_hand(load):
    verdicts = load("verdicts")
    # Differences 1, 2, 3 (p 0.074), 20, 21, 22 (p 0.0008, times 3 is below 0.05) and 1, -1, 0 (p 1).
    study = np.array([[0, 0, 0], [1, 2, 3], [20, 21, 22], [1, -1, 0]]) + np.array([5.0, 3.0, 8.0])
    assert verdicts.holm_claims(study) == [False, True, False]
    assert verdicts.best_claims(study) == [True, True, False]


def test_simulated_studies_have_the_wanted_spreads(load):
    verdicts = load("verdicts")
    values, sd = verdicts.simulate(4000, 3, 5, 0.5, baseline=2.0)
    paired = (values[:, 1] - values[:, 0]).std(axis=1, ddof=1)
    assert np.mean(paired**2 / (sd[:, 0] ** 2 + sd[:, 1] ** 2)) == pytest.approx(1, abs=0.05)
    assert np.median(sd[:, 0]) == pytest.approx(2, rel=0.05)


@pytest.mark.slow
def test_the_verdicts_are_simulated_and_drawn(load, tmp_path, capsys):
    load("verdicts").main(studies=10, out=tmp_path, json_file=tmp_path / "found.json")
    assert (tmp_path / "statistics_power.png").stat().st_size > 10_000
    assert (tmp_path / "statistics_error.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["power"]["8 arms, 3 seeds"]["foveate"][-1] > found["power"]["8 arms, 3 seeds"]["foveate"][0]
    assert "baseline e^0.8 wider" in capsys.readouterr().out


def test_a_simulated_study_in_rounds_claims_a_large_effect_and_saves_its_runs(load):
    load("verdicts")
    random = np.random.default_rng(0)
    study = random.standard_normal((3, 10)) + np.array([[0.0], [12.0], [0.0]])
    grown = load("rounds").Grown(study)
    assert grown.claims == [True, False]
    assert grown.trainings == 3 + 2 * grown.rounds[-1].seeds


@pytest.mark.slow
def test_the_rounds_are_simulated_and_drawn(load, tmp_path, capsys):
    load("verdicts")
    load("rounds").main(studies=10, out=tmp_path, json_file=tmp_path / "found.json")
    assert (tmp_path / "statistics_rounds.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"error of rounds", "rounds"}
    assert "fixed seeds of that power" in capsys.readouterr().out


@pytest.mark.slow
def test_the_tables_of_insertion_have_a_row_a_mechanism(load, monkeypatch, tmp_path, capsys):
    insertion = load("insertion")
    for name, value in (("STEPS", 2), ("HOST_EPOCHS", 1), ("EPOCHS", 2), ("BATCH", 4)):
        monkeypatch.setattr(insertion, name, value)
    insertion.steps_table(["torchvision mobilenet_v3_small"], ["eca"])
    row = capsys.readouterr().out.strip().splitlines()[-1]
    assert row.startswith("| eca | 0 of 2 | 0.0")  # the second step counts in the pass after it
    random = np.random.default_rng(0)
    arrays = {
        f"{split}_{name}": random.integers(0, most, (12, *shape), dtype=np.uint8)
        for split in ("train", "test")
        for name, most, shape in (("images", 255, (32, 32, 3)), ("labels", 10, (1,)))
    }
    np.savez(tmp_path / "pictures.npz", **arrays)
    insertion.accuracy_table(tmp_path / "pictures.npz", ["eca"], 2, 1e-3, [])
    rows = capsys.readouterr().out.strip().splitlines()
    assert [row.split("|")[2].strip() for row in rows[-2:]] == ["identity", "published"]
