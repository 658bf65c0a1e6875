"""The page: gather what the tables, charts and maps show, fill the template, write one file at once."""

import base64
import dataclasses
import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from foveate.compare.folder import read_plan
from foveate.compare.result import ArmResult, StudyResult, summarise
from foveate.errors import RunError
from foveate.escaping import printable
from foveate.files import write_alone
from foveate.report import figures, looks, records, rounds, tables
from foveate.report.answer import Answer, answer, max_time_of
from foveate.report.effects import effects_tables
from foveate.report.froc import froc_curve
from foveate.report.overlays import colour_bar_uri
from foveate.report.read import Run, Study, dig, kind_of_folder, number, read_run, read_study
from foveate.report.sentences import read_sentences
from foveate.report.words import Words, words_for

__all__ = ["study_answer", "study_table", "write_report"]

MEASURES = {
    "val_accuracy": ("Validation accuracy, %", 100.0),
    "val_dice": ("Validation Dice, %", 100.0),
    "val_bleu": ("Validation BLEU", 1.0),
    "val_map": ("Validation mAP, %", 100.0),
    "val_sensitivity": ("Validation sensitivity, %", 100.0),
    "val_unstable": ("Matches that are new, %", 100.0),
    "val_alike": ("Queries look alike, %", 100.0),
    "val_loss": ("Validation loss", 1.0),
    "train_loss": ("Training loss", 1.0),
}


def write_report(folder: Path) -> Path:
    """Write report.html into a study folder or a run folder, all of it or nothing, and return its path.

    Raises:
        RunError: If the folder is neither, or cannot be written.
    """
    folder = Path(folder)
    page = _study_page(folder) if kind_of_folder(folder) == "study" else _run_page(folder)
    path = folder / "report.html"
    try:
        write_alone(path, page)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
    return path


def study_table(folder: Path) -> tables.Table:
    """The main table of a study, for a terminal: cells have text, and a second line `sub`.

    Raises:
        RunError: If the folder is no study.
    """
    study, result = _study_and_result(Path(folder))
    return tables.results_table(study, result)


def study_answer(folder: Path) -> Answer:
    """Return the answer of a study in words, for a terminal.

    Raises:
        RunError: If the folder is no study.
    """
    return answer(*_study_and_result(Path(folder)))


def _study_and_result(folder: Path) -> tuple[Study, StudyResult]:
    """The study, and what its seeds allow to be said. A run that `summarise` rejects counts as failed here too."""
    plan = read_plan(folder)
    study = read_study(folder)
    try:
        result = summarise(folder, tuple(words_for(plan["task"]).metrics))
        failures = tuple((failure.arm, failure.seed, failure.sentence) for failure in result.failures)
    except RunError as error:  # no run is finished, or costs.json is damaged: the page says so and shows the rest
        result = _empty_result(study, plan)
        failures = study.failures
        study = dataclasses.replace(study, problems=(*study.problems, str(error)))
    failed = {(arm, seed) for arm, seed, _ in failures}
    runs = {key: dataclasses.replace(run, summary={}) if key in failed else run for key, run in study.runs.items()}
    return dataclasses.replace(study, runs=runs, failures=failures), result


def _empty_result(study: Study, plan: dict[str, Any]) -> StudyResult:
    """A result that says nothing of any arm."""
    told: dict[str, Any] = {name: str(plan[name]) for name in ("task", "data", "network", "start", "baseline")}
    return StudyResult(
        folder=study.path,
        **told,
        seeds=study.seeds,
        arms=tuple(ArmResult(arm, (), ()) for arm in study.arms),
        metrics={},
        costs={},
        sites={},
        dead_gates={},
        failures=(),
        notes=(),
        finished=0,
        total=len(study.wanted),
    )


def _study_page(folder: Path) -> str:
    study, result = _study_and_result(folder)
    words = words_for(result.task, study.runs.values())
    style = figures.styles(study.arms, study.baseline)
    arms = {arm: study.finished(arm) for arm in study.arms}
    looked = looks.looks_of_study(arms, style)
    timed = max_time_of(study) is not None
    chance = next(
        (value for runs in arms.values() if (value := tables.mean_of(runs, "pointing", "chance")) is not None), None
    )
    pointing = [(arm, _pointing(runs, "network"), _pointing(runs, "mechanism")) for arm, runs in arms.items()]
    looked_at = max((number(dig(run.summary, "pointing", "samples")) or 0 for run in study.runs.values()), default=0)
    return _render(
        "study.html.j2",
        words=words,
        looked_at=int(looked_at),
        subject=_subject(study),
        study=study,
        result=result,
        answer=answer(study, result),
        facts=_study_facts(study, result, words),
        notices=_notices(study),
        notes=[note for note in result.notes if note not in _left_out(study)],
        style=style,
        results=tables.results_table(study, result),
        measures=tables.measures_table(result, words.metrics),
        rounds=rounds.rounds_table(result),
        scatters=_scatters(study, result, words, style),
        curves=_curves(arms, style, study.baseline, timed),
        froc=_froc(arms, style, study.baseline),
        looks=looked,
        layers=_layers(looked),
        pointing=figures.dots(pointing, style, chance, f"share of {words.seen}, %"),
        health=records.health_tables(arms),
        effects=effects_tables(arms),
        runs=records.runs_table(study, words.names),
        timed=timed,
        problems=_problems(study, looked),
    )


def _run_page(folder: Path) -> str:
    run = read_run(folder)
    words = words_for(run.config.get("task"), [run])
    looked = looks.looks_of_run(run)
    style = {run.arm: figures.Style("hue0", figures.MARKERS["circle"], "", False)}
    curves = _curves({run.arm: [run]}, style, "", number(run.config.get("max_time_s")) is not None)
    return _render(
        "run.html.j2",
        words=words,
        run=run,
        facts=_run_facts(run),
        metrics=[
            (words.names.get(name, name.replace("_", " ")), records.metric_text(value))
            for name, value in records.plain_metrics(run).items()
        ],
        style=style,
        curves=curves,
        froc=_froc({run.arm: [run]}, style, ""),
        looks=looked,
        sentences=read_sentences(run),
        layers=_layers(looked),
        health=records.health_tables({run.arm: [run]}),
        effects=effects_tables({run.arm: [run]}),
        confusion=records.confusion(folder / "predictions.csv"),
        problems=[*run.problems, *looked.problems],
        title=f"{run.arm}" + ("" if run.seed is None else f", seed {run.seed}"),
    )


def _render(template: str, **values: Any) -> str:
    """Fill a template. Everything is escaped; only our own style sheet and script go in as they are."""
    files = resources.files("foveate.report") / "templates"
    script = (files / "report.js").read_text(encoding="utf-8")
    values |= {
        "css": Markup((files / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        "bar": colour_bar_uri(),
    }
    return _templates().get_template(template).render(values)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("foveate.report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Escape what a page would not show, in every text that a template puts in, except in markup of ours."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _subject(study: Study) -> str:
    """What the study is about, short enough for a heading."""
    data = str(study.plan.get("data"))
    return "cluttered digits" if data == "demo" else Path(data).stem or data


def _study_facts(study: Study, result: StudyResult, words: Words) -> list[tuple[str, str]]:
    plan = study.plan
    first = next((run for run in study.runs.values() if run.finished), None)
    sizes = [number(dig(first.summary, name)) if first else None for name in ("train_size", "val_size", "test_size")]
    seconds = max_time_of(study)
    epochs = number(dig(plan, "budget", "epochs")) or number(dig(plan, "config", "epochs"))
    budget = (
        f"{seconds:g} s of training a run"
        if seconds
        else f"{epochs:g} epoch{'s' if epochs != 1 else ''} a run"
        if epochs
        else tables.DASH
    )
    data = str(plan.get("data"))
    facts = [
        ("Data", "embedded cluttered digits (demo)" if data == "demo" else data),
        (
            f"{words.samples.capitalize()}: train, validation, test",
            ", ".join(f"{size:,.0f}" for size in sizes if size is not None) or tables.DASH,
        ),
        ("Network", str(plan.get("network"))),
        ("Arms", f"{len(study.arms)}, each with {_seeds(study, result)}"),
        ("Budget", budget),
        (
            "Start",
            {"identity": "inserted as the identity", "published": "as published"}.get(
                str(plan.get("start")), str(plan.get("start"))
            ),
        ),
        ("Finished", f"{result.finished} of {result.total} runs"),
    ]
    wall = number(plan.get("wall_seconds"))
    return facts + ([("Wall time", f"{wall / 60:.1f} min")] if wall else [])


def _seeds(study: Study, result: StudyResult) -> str:
    counts = [len(study.seeds_of(arm)) for arm in study.arms]
    told = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{max(counts)}"
    seeds = f"{told} seed{'s' if max(counts) != 1 else ''}"
    return seeds if result.most is None else f"{seeds}, added in rounds up to {result.most}"


def _run_facts(run: Run) -> list[tuple[str, str]]:
    config, summary = run.config, run.summary
    facts = [("Data", config.get("data")), ("Network", config.get("network")), ("Mechanism", config.get("mechanism"))]
    facts += [("Start", summary.get("start")), ("Seed", run.seed), ("Epochs", summary.get("epochs"))]
    facts += [("Steps", summary.get("steps")), ("Training, s", summary.get("training_seconds"))]
    facts += [
        ("Ended by", str(summary.get("stopped_by", tables.DASH)).replace("_", " ")),
        ("Parameters", summary.get("parameters")),
    ]
    return [(name, _text(value)) for name, value in facts if value is not None]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _notices(study: Study) -> list[str]:
    failed = {(arm, seed) for arm, seed, _ in study.failures}
    missing = [f"{arm} seed {seed}" for arm, seed in study.missing if (arm, seed) not in failed]
    told = [f"{arm}, seed {seed}, failed: {sentence}" for arm, seed, sentence in study.failures]
    if missing:
        names = ", ".join(missing[:12]) + (" and others" if len(missing) > 12 else "")
        count = f"{len(missing)} of {len(study.wanted)} runs {'is' if len(missing) == 1 else 'are'} not finished"
        told.append(
            f"{count}: {names}. The same command takes up those that it asks for; arms and seeds of "
            "earlier commands stay for their finished runs."
        )
    return told + _left_out(study) + list(study.problems)


def _left_out(study: Study) -> list[str]:
    """Why arms that were asked for could not be made."""
    left_out = study.plan.get("left_out")
    return [str(sentence) for sentence in left_out.values()] if isinstance(left_out, dict) else []


def _problems(study: Study, looked: looks.Looks) -> list[str]:
    told = [f"{run.arm}, seed {run.seed}: {problem}" for run in study.runs.values() for problem in run.problems]
    return told + list(looked.problems)


def _pointing(runs: list[Run], whose: str) -> list[float]:
    return [value for run in runs if (value := number(dig(run.summary, "pointing", whose))) is not None]


def _scatters(
    study: Study, result: StudyResult, words: Words, style: dict[str, figures.Style]
) -> list[tuple[str, figures.Scatter]]:
    drawn = []
    for name, heading, title, unit in (
        ("latency_ms", "Quality against latency", "latency of an inference, ms", "ms"),
        ("parameters", "Quality against parameters", "parameters", "parameters"),
    ):
        entries = []
        for arm in result.arms:
            cost = tables.cost_of(study, arm.arm, name)
            if cost is None or arm.mean is None:
                continue
            low, high = tables.clipped(arm.low, arm.high)
            interval = tables.bracketed(low, high, tables.points)
            hint = f"{tables.points(arm.mean)} % {interval}".rstrip() + f", {cost:,.6g} {unit}"
            entries.append(figures.Entry(arm.arm, cost, arm.mean, low, high, hint))
        titles = title, f"{words.quality}, %"
        chart = figures.scatter(entries, style, titles, factor=100, baseline=study.baseline)
        if chart:
            drawn.append((heading, chart))
    return drawn


def _curves(
    arms: dict[str, list[Run]], style: dict[str, figures.Style], baseline: str, timed: bool
) -> list[tuple[str, str, list[figures.Lines]]]:
    """(column of metrics.csv, heading, a panel an arm) for each measure that any run has; over time if it ends runs."""
    x, title = ("seconds", "seconds") if timed else ("epoch", "epochs")
    drawn = []
    for measure, (heading, factor) in MEASURES.items():
        kept = {arm: [points for run in runs if (points := _curve(run, x, measure))] for arm, runs in arms.items()}
        panels = figures.lines(kept, style, (title, heading), factor=factor, baseline=baseline)
        if panels:
            drawn.append((measure, heading, panels))
    return drawn


def _froc(arms: dict[str, list[Run]], style: dict[str, figures.Style], baseline: str) -> list[figures.Lines]:
    """How much is found at how many false positives a slice, a panel an arm; nothing for runs without such a curve."""
    kept = {arm: [points for run in runs if (points := froc_curve(run))] for arm, runs in arms.items()}
    titles = "false positives a slice", "lesions found, %"
    return figures.lines(kept, style, titles, factor=100, baseline=baseline, log=True)


def _curve(run: Run, x: str, y: str) -> list[tuple[float, float]]:
    return [(a, b) for row in run.curves if (a := row.get(x)) is not None and (b := row.get(y)) is not None]


def _layers(looked: looks.Looks) -> dict[str, Any]:
    """What the page's script needs to change from one layer to another, where there are several."""
    cells: dict[str, Any] = {}
    for name, columns in (("own", looked.own), ("network", looked.network)):
        cells[name] = [
            [
                {"hits": layer.hits, "cells": [[c.uri, c.range, c.alt, c.peak] for c in layer.cells]}
                for layer in column.layers
            ]
            if len(column.layers) > 1
            else []
            for column in columns
        ]
    for name, columns in (("profiles", looked.profiles), ("times", looked.times), ("slices", looked.slices)):
        cells[name] = [[[layer.drawn.uri, layer.caption, layer.alt] for layer in column.layers] for column in columns]
    return cells
