"""A study is trained once, remembers what it did, refuses to be another, and loses nothing when something fails."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import standin
from filelock import FileLock

from foveate.compare import LocalEngine, Study, compare
from foveate.compare.folder import Failure
from foveate.compare.study import _suited_engine
from foveate.compare.work import Work, train_arm
from foveate.errors import RunError
from foveate.tasks.config import RunConfig

ARMS = ("none", "se", "cbam", "placebo", "wider")


def study_of(arms=ARMS, seeds=(0, 1), behaviour=None, where=None, options=None, **settings):
    base = RunConfig(**{"epochs": 2, "device": "cpu", "network_options": behaviour or {}, **settings})
    return Study(base=base, arms=arms, seeds=seeds, where=where, options=options or {})


def run(study, out, **options):
    engine = standin.InlineEngine()
    told = []
    result = compare(study, out, engine=engine, progress=told.append, work=standin.WORK, **options)
    return result, engine.done, told


def begun(out, arm, seed):
    """How often a run was begun."""
    path = out / "runs" / arm / f"seed{seed}" / "begun.txt"
    return len(path.read_text().split()) if path.exists() else 0


def test_every_arm_is_trained_with_every_seed_and_seeds_take_turns(tmp_path):
    result, done, _ = run(study_of(seeds=(3, 5)), tmp_path)
    assert done == ["survey", "measure", *((arm, seed) for seed in (3, 5) for arm in ARMS)]
    assert (result.finished, result.total) == (10, 10)
    assert [arm.arm for arm in result.arms] == list(ARMS)
    assert all((tmp_path / "runs" / arm / f"seed{seed}" / "summary.json").exists() for arm in ARMS for seed in (3, 5))


def test_the_same_call_again_only_reads(tmp_path):
    first, _, _ = run(study_of(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again, done, told = run(study_of(), tmp_path)
    assert again == first
    assert (done, told) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_finished_study_starts_no_worker_and_needs_no_right_to_write(tmp_path, monkeypatch):
    first, _, _ = run(study_of(), tmp_path)
    monkeypatch.setattr("foveate.compare.study.locked", pytest.fail)
    monkeypatch.setattr(LocalEngine, "_start", pytest.fail)
    assert compare(study_of(), tmp_path) == first


def test_study_json_says_what_was_compared(tmp_path):
    run(study_of(options={"se": {"reduction": 8}}), tmp_path, command="foveate compare --seeds 2")
    plan = json.loads((tmp_path / "study.json").read_text())
    assert {name: plan[name] for name in ("version", "task", "data", "network", "baseline", "seeds")} == {
        "version": 1,
        "task": "classify",
        "data": "demo",
        "network": "resnet18",
        "baseline": "none",
        "seeds": [0, 1],
    }
    assert plan["budget"] == {"epochs": 2}
    assert plan["start"] == "published"
    assert plan["command"] == "foveate compare --seeds 2"
    assert plan["versions"] == {"foveate": "0"}
    assert plan["wall_seconds"] > 0
    assert plan["arms"][1] == {
        "arm": "se",
        "mechanism": "se",
        "options": {"reduction": 8},
        "width": 1.0,
        "parameters": 1100,
        "sites": 1,
    }
    assert plan["arms"][4] == {
        "arm": "wider",
        "mechanism": "none",
        "options": {},
        "width": 1.3,
        "parameters": 1301,
        "sites": 0,
        "matches": "cbam",
    }


def test_runs_of_a_study_differ_in_arm_and_seed_and_in_nothing_else():
    study = study_of(where="layer3.*", options={"se": {"reduction": 8}}, learning_rate=0.01)
    se = study.config(study.entry("se"), 5)
    assert (se.arm, se.mechanism, se.options, se.where, se.seed, se.width) == (
        "se",
        "se",
        {"reduction": 8},
        "layer3.*",
        5,
        1.0,
    )
    wider = study.config(study.entry("wider") | {"width": 1.25}, 5)
    assert (wider.arm, wider.mechanism, wider.options, wider.where, wider.width) == ("wider", "none", {}, None, 1.25)
    own = {"arm": None, "mechanism": "none", "options": {}, "where": None, "seed": 0, "width": 1.0}
    assert dataclasses.replace(se, **own) == dataclasses.replace(wider, **own) == study.base
    assert study.base.threads == 1


def test_data_are_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_of(data="pictures").base.data == str(tmp_path / "pictures")


def test_a_checkpoint_to_start_from_is_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_of(init="first.safetensors").base.init == str(tmp_path / "first.safetensors")
    assert study_of().base.init is None


@pytest.mark.parametrize("workers", [None, 1, 5])
def test_workers_of_a_machine_with_gpus_see_one_each_however_many_are_asked_for(monkeypatch, workers):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    engine = _suited_engine(study_of(device="cuda").base, workers)
    assert (engine.workers, engine.gpus) == (workers or 3, ("4", "5", "7"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 0}, "workers must be 1 or more; got 0"),
        ({"workers": 2, "engine": standin.InlineEngine()}, "workers needs no engine beside it: .*; got 2"),
    ],
)
def test_workers_that_make_no_sense_are_refused(tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        compare(study_of(), tmp_path, work=standin.WORK, **options)


def test_a_failing_run_is_recorded_and_the_others_go_on(tmp_path):
    result, done, told = run(study_of(behaviour={"fail": "se"}), tmp_path)
    failures = (
        Failure("se", 0, "the loss is not finite; got nan"),
        Failure("se", 1, "the loss is not finite; got nan"),
    )
    assert result.failures == failures
    assert json.loads((tmp_path / "failures.json").read_text()) == [dataclasses.asdict(failure) for failure in failures]
    assert len(done) == 2 + 10
    assert (result.finished, result.total) == (8, 10)
    assert "se, seed 0, failed: the loss is not finite; got nan" in [state.message for state in told]
    assert (told[-1].stage, told[-1].done, told[-1].failed) == ("done", 8, 2)


def test_only_what_failed_is_tried_again_and_forgotten_once_it_is_well(tmp_path):
    study = study_of(arms=("none", "se"))
    run(study, tmp_path)
    shutil.rmtree(tmp_path / "runs" / "se" / "seed1")
    (tmp_path / "failures.json").write_text('[{"arm": "se", "seed": 1, "sentence": "No space left on device"}]')
    result, done, told = run(study, tmp_path)
    assert done == [("se", 1)]
    assert told[0].done == 3
    assert result.failures == ()
    assert not (tmp_path / "failures.json").exists()


def test_a_run_without_its_mechanism_is_a_failure_and_counts_for_nothing(tmp_path):
    result, _, _ = run(study_of(arms=("none", "se", "cbam"), behaviour={"siteless": "se"}), tmp_path)
    told = "the network was trained without se: the summary of its run lists no site"
    assert [failure.sentence for failure in result.failures] == [told, told]
    assert result.arms[1].values == ()
    assert result.sites == {"none": 0, "se": 0, "cbam": 1}


def test_a_run_that_ends_without_a_summary_is_a_failure(tmp_path):
    result, _, _ = run(study_of(arms=("none", "se"), behaviour={"silent": "se"}), tmp_path)
    assert result.failures[0] == Failure("se", 0, "it ended without a summary")


def test_a_damaged_summary_is_named_and_nothing_else_is_lost(tmp_path):
    study = study_of(arms=("none", "se"))
    run(study, tmp_path)
    (tmp_path / "runs" / "se" / "seed0" / "summary.json").write_text('{"version": 1, "tas')

    def damaged(config, folder, *, report):
        raise RunError(f"{folder} is damaged")

    work = Work(standin.survey, standin.measure, damaged)
    result = compare(study, tmp_path, engine=standin.InlineEngine(), work=work)
    assert [(failure.arm, failure.seed) for failure in result.failures] == [("se", 0)]
    assert "summary.json is damaged" in result.failures[0].sentence
    assert result.finished == 3


def test_a_study_whose_memory_is_lost_finds_its_finished_runs(tmp_path):
    first, _, _ = run(study_of(), tmp_path)
    (tmp_path / "study.json").write_text("half a fil")
    with pytest.raises(RunError, match=r"study\.json cannot be read .*; remove it and run the same command again"):
        run(study_of(), tmp_path)
    (tmp_path / "study.json").unlink()
    again, done, _ = run(study_of(), tmp_path)
    assert done == ["survey", "measure"]
    assert again == first


def test_a_study_in_which_every_run_failed_says_the_first_reason(tmp_path):
    with pytest.raises(RunError, match="has no finished run; none, seed 0: the loss is not finite; got nan"):
        run(study_of(arms=("none",), behaviour={"fail": "none"}), tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 3}, "its epochs is 2, not 3"),
        ({"data": "/elsewhere"}, "its data is 'demo', not '/elsewhere'"),
        ({"network": "resnet34"}, "its network is 'resnet18', not 'resnet34'"),
        ({"where": "layer3.*"}, r"its where is None, not 'layer3\.\*'"),
        ({"options": {"se": {"reduction": 8}}}, r"its options of se is {}, not {'reduction': 8}"),
    ],
)
def test_another_study_in_the_same_folder_is_refused(tmp_path, change, told):
    run(study_of(), tmp_path)
    with pytest.raises(RunError, match=f"holds another study: {told}; take another folder, or start over with --fresh"):
        run(study_of(**change), tmp_path)


def test_fresh_starts_over_and_touches_nothing_else(tmp_path):
    run(study_of(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    result, done, _ = run(study_of(arms=("none", "se"), epochs=3), tmp_path, fresh=True)
    assert len(done) == 2 + 4
    assert [arm.arm for arm in result.arms] == ["none", "se"]
    assert not (tmp_path / "runs" / "cbam").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_seeds_can_be_added(tmp_path):
    run(study_of(arms=("none", "se"), seeds=(0,)), tmp_path)
    result, done, _ = run(study_of(arms=("none", "se"), seeds=(0, 1)), tmp_path)
    assert done == [("none", 1), ("se", 1)]
    assert [arm.seeds for arm in result.arms] == [(0, 1), (0, 1)]


def test_arms_can_be_added_and_costs_are_measured_anew_together(tmp_path):
    run(study_of(arms=("none", "se")), tmp_path)
    result, done, _ = run(study_of(arms=("none", "cbam", "se")), tmp_path)
    assert done == ["survey", "measure", ("cbam", 0), ("cbam", 1)]
    assert [arm.arm for arm in result.arms] == ["none", "cbam", "se"]
    assert set(result.costs) == {"none", "cbam", "se"}


def test_arms_and_seeds_that_are_no_longer_asked_for_stay_if_they_are_finished(tmp_path):
    run(study_of(arms=("none", "se"), seeds=(0, 1)), tmp_path)
    result, done, _ = run(study_of(arms=("none", "cbam"), seeds=(0,)), tmp_path)
    assert done == ["survey", "measure", ("cbam", 0)]
    assert {arm.arm: arm.seeds for arm in result.arms} == {"none": (0, 1), "cbam": (0,), "se": (0, 1)}
    assert result.arms[1].remark == "1 of 2 seeds in common with none; one seed: no interval"


def test_the_wider_host_keeps_its_width_once_it_has_run_and_the_reader_is_told(tmp_path):
    run(study_of(arms=("none", "se", "wider"), seeds=(0,)), tmp_path)
    result, done, _ = run(study_of(arms=("none", "se", "wider", "nonlocal"), seeds=(0,)), tmp_path)
    assert done == ["survey", "measure", ("nonlocal", 0)]
    assert result.notes == (
        "wider is resnet18 at width 1.1: 1,101 parameters, where se has 1,100; nonlocal, which joined later, has 2,000",
    )


def test_the_wider_host_grows_with_the_arms_while_it_has_not_run(tmp_path):
    run(study_of(arms=("none", "se", "wider"), seeds=(0,)), tmp_path)
    shutil.rmtree(tmp_path / "runs" / "wider")
    result, _, _ = run(study_of(arms=("none", "se", "wider", "nonlocal"), seeds=(0,)), tmp_path)
    assert result.notes == ("wider is resnet18 at width 2: 2,001 parameters, where nonlocal has 2,000",)
    assert result.costs["wider"]["width"] == 2.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"network": "timm/resnet50"}, "timm/resnet50 has no width to set"),
        ({"pretrained": True}, "trained weights fit resnet18 at its own width only"),
    ],
)
def test_a_host_that_cannot_be_widened_is_reported_and_not_dropped_in_silence(tmp_path, settings, told):
    study = study_of(arms=("none", "se", "wider"), seeds=(0,), **settings)
    result, done, _ = run(study, tmp_path)
    assert ("wider", 0) not in done
    assert len(result.notes) == 1
    assert told in result.notes[0]
    assert run(study, tmp_path)[1] == []


def test_a_folder_that_another_process_works_in_is_refused(tmp_path):
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(RunError, match=r"another process is at work in .*; wait until it ends"),
    ):
        run(study_of(), tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file cannot be written: (File exists|Not a directory)"):
        run(study_of(), tmp_path / "file")


@pytest.mark.slow
def test_the_time_of_an_interrupted_run_is_counted(tmp_path):
    def interrupted(config, folder, *, report):
        time.sleep(0.3)
        raise KeyboardInterrupt

    work = Work(standin.survey, standin.measure, interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(study_of(), tmp_path, engine=standin.InlineEngine(), work=work)
    spent = json.loads((tmp_path / "study.json").read_text())["wall_seconds"]
    assert spent > 0.3
    run(study_of(), tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["wall_seconds"] > spent


def test_a_survey_that_fails_stops_the_study_before_anything_is_trained(tmp_path):
    def survey(configs, wider, known, *, report):
        raise RunError("resnet18 has no place for se; name one with where")

    work = Work(survey, standin.measure, pytest.fail)
    with pytest.raises(RunError, match="resnet18 has no place for se"):
        compare(study_of(), tmp_path, engine=standin.InlineEngine(), work=work)
    assert not (tmp_path / "study.json").exists()


@pytest.mark.parametrize(
    ("arms", "network", "told"),
    [
        (("none", "ecca"), "resnet18", 'no mechanism "ecca"; did you mean "eca"?'),
        (("none", "se+ecca"), "resnet18", 'no mechanism "ecca"; did you mean "eca"?'),
        (("none", "se"), "resnet81", 'no network "resnet81"; did you mean "resnet18"?'),
    ],
)
def test_a_name_that_there_is_not_is_refused_before_a_worker_starts(tmp_path, arms, network, told):
    engine = standin.InlineEngine()
    with pytest.raises(LookupError) as raised:
        compare(study_of(arms=arms, network=network), tmp_path, engine=engine, work=standin.WORK)
    assert raised.value.args[0] == told
    assert engine.done == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"arms": ("se", "cbam")}, 'the arms must hold the baseline "none"; got se, cbam'),
        ({"arms": ("none", "se", "se")}, "arms takes one or more, each once; got none, se, se"),
        ({"arms": ()}, "arms takes one or more, each once; got none"),
        ({"seeds": (1, 1)}, "seeds takes one or more, each once; got 1, 1"),
        ({"seed": 5}, "a study names its seeds, one for each run; got base.seed 5"),
        ({"arm": "x"}, "a study names its arms, one for each run; got base.arm 'x'"),
        ({"mechanism": "se"}, "a study names its mechanisms as arms; got base.mechanism 'se'"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(wrong, told):
    with pytest.raises(ValueError) as raised:
        study_of(**wrong)
    assert str(raised.value) == told


def test_options_for_an_arm_that_there_is_not_are_refused():
    with pytest.raises(LookupError, match='options for "eca", which is no arm; there are none, se'):
        study_of(arms=("none", "se"), options={"eca": {"kernel_size": 3}})


SCRIPT = """
import signal
import sys
from pathlib import Path
import standin
from foveate.compare import LocalEngine, Study, compare, study
from foveate.tasks.config import RunConfig
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    study._check_names = lambda *_: None  # they are right, and torch takes seconds
    base = RunConfig(epochs=4, device="cpu", network_options={"seconds": 0.1})
    study = Study(base=base, arms=("none", "se", "placebo"), seeds=(0, 1))
    compare(study, Path(sys.argv[1]), engine=LocalEngine(2), work=standin.WORK)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_is_killed_is_taken_up_where_it_was(tmp_path, how):
    out, script = tmp_path / "study", tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, script, out], stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(3000):
        if len(list(out.glob("runs/*/*/summary.json"))) >= 2:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT) if how == signal.SIGINT else process.kill()
    process.wait(20)
    finished = {path.parent for path in out.glob("runs/*/*/summary.json")}
    assert 2 <= len(finished) < 6
    subprocess.run([sys.executable, script, out], check=True, timeout=60)
    study = Study(
        base=RunConfig(epochs=4, device="cpu", network_options={"seconds": 0.1}),
        arms=("none", "se", "placebo"),
        seeds=(0, 1),
    )
    result = compare(study, out)
    assert (result.finished, result.failures) == (6, ())
    assert all(begun(out, folder.parent.name, folder.name[-1]) == 1 for folder in finished)
    assert [arm.values for arm in result.arms if arm.arm == "none"] == [(0.8, 0.81)]


@pytest.mark.slow
def test_a_killed_worker_does_not_stop_the_others(tmp_path):
    study = study_of(arms=("none", "se"), behaviour={"kill": "se"})
    result = compare(study, tmp_path, engine=LocalEngine(2), work=standin.WORK)
    told = "its worker process was killed by SIGKILL, as happens when memory runs out, 2 times"
    assert result.failures == (Failure("se", 0, told), Failure("se", 1, told))
    assert [arm.values for arm in result.arms] == [(0.8, 0.81), ()]
    assert begun(tmp_path, "se", 0) == 2
    assert (tmp_path / "workers.log").exists()


def test_what_was_read_is_told_before_anything_is_trained_and_kept(tmp_path):
    def survey(configs, wider, known, *, report):
        return standin.survey(configs, wider, known, report=report) | {
            "read": {"source": "here"},
            "told": ("read here",),
        }

    told = []
    work = Work(survey, standin.measure, standin.WORK.train)
    study = study_of(arms=("none",), seeds=(0,))
    compare(study, tmp_path, engine=standin.InlineEngine(), progress=told.append, work=work)
    assert [state.notes for state in told if state.notes] == [("read here",)]
    assert next(state for state in told if state.notes).stage == "survey"
    assert json.loads((tmp_path / "study.json").read_text())["read"] == {"source": "here"}


def test_runs_are_resumed_with_changed_data_only_when_asked(tmp_path):
    asked = []

    def train(config, folder, *, progress=None, **options):
        asked.append(options)
        standin.train(config, folder, progress=progress)

    work = Work(standin.survey, standin.measure, partial(train_arm, train=train))
    study = study_of(arms=("none",), seeds=(0,))
    for number, options in enumerate(({}, {"accept_changed_data": True})):
        compare(study, tmp_path / str(number), engine=standin.InlineEngine(), work=work, **options)
    assert asked == [{}, {"accept_changed_data": True}]
