"""Arms that are a mechanism with options: read, kept apart, remembered and told like any other."""

import json

import pytest
import standin

from foveate.compare import Study, compare
from foveate.compare.arms import arm_folder, parse_arm
from foveate.errors import RunError
from foveate.report.read import read_study
from foveate.tasks.config import RunConfig

TIME, SPACE = "nonlocal:group=time", "nonlocal:group=space:pool=none"


@pytest.fixture(autouse=True)
def _they_have_parameters(monkeypatch):
    monkeypatch.setattr(standin, "PARAMETERS", standin.PARAMETERS | {TIME: 2000, SPACE: 2003})


def study_of(*arms, options=None, **behaviour):
    base = RunConfig(epochs=1, device="cpu", network_options=behaviour)
    return Study(base=base, arms=("none", *arms), seeds=(0,), options=options or {})


def run(study, out):
    engine = standin.InlineEngine()
    return compare(study, out, engine=engine, work=standin.WORK), engine.done


@pytest.mark.parametrize(
    ("arm", "mechanism", "options"),
    [
        ("eca", "eca", {}),
        ("eca+spatial", "eca+spatial", {}),
        (TIME, "nonlocal", {"group": "time"}),
        ("se:reduction=8", "se", {"reduction": 8}),
        ("x:a=0.5:b=-3:c=1e-3", "x", {"a": 0.5, "b": -3, "c": 0.001}),
        ("x:a=true:b=False:c=None:d=null", "x", {"a": True, "b": False, "c": None, "d": None}),
        ("x:a=3x1x1:b_c=dot_product", "x", {"a": "3x1x1", "b_c": "dot_product"}),
    ],
)
def test_an_arm_is_a_mechanism_and_its_options(arm, mechanism, options):
    assert parse_arm(arm) == (mechanism, options)
    kinds = [type(value) for value in parse_arm(arm)[1].values()]
    assert kinds == [type(value) for value in options.values()]


@pytest.mark.parametrize("arm", ["x:", "x:a", "x:a=", "x:=1", "x:a=1:", "x:a=[1]", "x:a=../b", "x:A=1", "x:a=1 "])
def test_what_is_no_option_is_told(arm):
    with pytest.raises(ValueError, match="an arm is MECHANISM, or MECHANISM:OPTION=VALUE with as many options as want"):
        parse_arm(arm)


def test_an_option_is_given_once():
    with pytest.raises(ValueError, match="an arm has each option once; got a twice in 'x:a=1:b=2:a=3'"):
        parse_arm("x:a=1:b=2:a=3")


def test_a_folder_has_a_name_that_every_file_system_takes():
    assert arm_folder(SPACE) == "nonlocal_group=space_pool=none"
    assert arm_folder("eca+spatial") == "eca+spatial"


def test_arms_of_one_mechanism_have_runs_of_their_own_that_the_report_finds(tmp_path):
    result, done = run(study_of("nonlocal", TIME, SPACE), tmp_path)
    assert done == ["survey", "measure", *((arm, 0) for arm in ("none", "nonlocal", TIME, SPACE))]
    assert [arm.arm for arm in result.arms] == ["none", "nonlocal", TIME, SPACE]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "none",
        "nonlocal",
        "nonlocal_group=time",
        "nonlocal_group=space_pool=none",
    }
    config = json.loads((tmp_path / "runs" / arm_folder(SPACE) / "seed0" / "config.json").read_text())
    assert (config["arm"], config["mechanism"]) == (SPACE, "nonlocal")
    assert config["options"] == {"group": "space", "pool": "none"}
    plan = json.loads((tmp_path / "study.json").read_text())
    assert [entry["options"] for entry in plan["arms"]] == [
        {},
        {},
        {"group": "time"},
        {"group": "space", "pool": "none"},
    ]
    read = read_study(tmp_path)
    assert read.arms == ("none", "nonlocal", TIME, SPACE)
    assert read.missing == []
    assert read.finished(TIME)[0].config["options"] == {"group": "time"}
    again, done = run(study_of("nonlocal", TIME, SPACE), tmp_path)
    assert (again, done) == (result, [])


def test_an_arm_whose_options_were_others_is_refused(tmp_path):
    run(study_of(TIME), tmp_path)
    told = "its options of nonlocal:group=time is {'group': 'time'}, not {'group': 'time', 'scale': True}"
    with pytest.raises(RunError, match=f"holds another study: {told}; take another folder, or start over with --fresh"):
        run(study_of(TIME, options={TIME: {"scale": True}}), tmp_path)


def test_a_run_that_fails_is_told_by_its_whole_name_and_tried_again(tmp_path):
    result, _ = run(study_of(TIME, "nonlocal", fail=TIME), tmp_path)
    assert [(failure.arm, failure.sentence) for failure in result.failures] == [
        (TIME, "the loss is not finite; got nan")
    ]
    assert read_study(tmp_path).failures == ((TIME, 0, "the loss is not finite; got nan"),)
    _, done = run(study_of(TIME, "nonlocal", fail=TIME), tmp_path)
    assert done == [(TIME, 0)]


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ("nonlocl:group=time", 'no mechanism "nonlocl"; did you mean "nonlocal"'),
        ("wider:width=2", "wider has no mechanism that could have options; got 'wider:width=2'"),
        ("none:group=time", "none has no mechanism that could have options; got 'none:group=time'"),
        ("nonlocal:group", "an arm is MECHANISM, or MECHANISM:OPTION=VALUE .*; got 'nonlocal:group'"),
    ],
)
def test_an_arm_that_cannot_be_is_refused_before_anything_is_done(tmp_path, arm, told):
    with pytest.raises((LookupError, ValueError), match=told):
        run(study_of(arm), tmp_path)
    assert not (tmp_path / "study.json").exists()
