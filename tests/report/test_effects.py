import json

from foveate.report.effects import effects_finding, effects_tables
from foveate.report.html import write_report
from foveate.report.read import read_study


def study_with(folder, start="identity", **effects):
    """Write a study of finished runs, each arm with the (strength, ramp, change) of its one site."""
    for arm, (strength, ramp, change) in effects.items():
        for seed in (0, 1):
            run = folder / "runs" / arm / f"seed{seed}"
            run.mkdir(parents=True)
            site = {"name": "layer1.0", "channels": 16, "strength": strength, "ramp": ramp, "change": change}
            summary = {"version": 1, "task": "classify", "arm": arm, "seed": seed, "metrics": {"accuracy": 0.5}}
            (run / "summary.json").write_text(json.dumps(summary | {"sites": [] if arm == "none" else [site]}))
            (run / "config.json").write_text(json.dumps({"task": "classify", "arm": arm, "seed": seed}))
    plan = {"version": 1, "task": "classify", "data": "demo", "network": "resnet_tiny", "start": start}
    plan |= {
        "baseline": "none",
        "arms": [{"arm": arm, "mechanism": arm, "options": {}, "width": 1.0} for arm in effects],
        "seeds": [0, 1],
        "config": {},
        "left_out": {},
        "notes": [],
    }
    (folder / "study.json").write_text(json.dumps(plan))
    return read_study(folder)


def test_the_answer_says_at_which_strength_each_arm_ended(tmp_path):
    study = study_with(tmp_path, none=(None, None, None), se=(1.04, 1.0, 0.23), bam=(None, None, 0.08))
    about, sentence = effects_finding(study)
    assert about == "How strongly they act"
    assert "se 1.04 (features change by 23\N{NO-BREAK SPACE}%)" in sentence.replace(
        "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"
    )
    assert "bam without a ramp" in sentence
    assert "too short" not in sentence


def test_a_training_that_was_too_short_to_act_is_told(tmp_path):
    sentence = effects_finding(study_with(tmp_path, none=(None,) * 3, se=(0.4, 0.4, 0.1), eca=(1.0, 1.0, 0.2)))[1]
    assert "The training of se was too short for the mechanism to act" in sentence


def test_a_mechanism_that_hardly_changes_anything_is_told(tmp_path):
    sentence = effects_finding(study_with(tmp_path, none=(None,) * 3, bam=(None, None, 0.0004)))[1]
    assert "The training of bam was too short" in sentence


def test_published_starts_and_controls_need_no_sentence(tmp_path):
    assert effects_finding(study_with(tmp_path, "published", none=(None,) * 3, se=(None, None, 0.5))) is None
    assert effects_finding(study_with(tmp_path / "b", none=(None,) * 3, placebo=(None, None, 0.0))) is None


def test_the_table_marks_sites_without_effect_but_not_those_of_a_control(tmp_path):
    study = study_with(tmp_path, none=(None,) * 3, se=(0.0, 0.0, 0.0), placebo=(None, None, 0.0), eca=(1.0, 1.0, 0.2))
    told = {
        arm: (sentence, acts) for arm, sentence, acts, _ in effects_tables({a: study.finished(a) for a in study.arms})
    }
    assert told == {
        "se": ("1 site, 1 without effect", False),
        "placebo": ("1 site, held at the identity as a control", True),
        "eca": ("1 site, each with an effect", True),
    }
    assert "without effect" in write_report(tmp_path).read_text()


def test_runs_that_did_not_measure_it_have_no_table():
    assert effects_tables({"se": []}) == []
