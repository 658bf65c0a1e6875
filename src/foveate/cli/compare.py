"""foveate compare: which mechanism helps, what it costs, and what it looks at."""

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.options import (
    AcceptChangedData,
    Data,
    Device,
    Devices,
    Epochs,
    Json,
    MaxTime,
    Network,
    Out,
    Precision,
    Settings,
    Start,
    Task,
    TaskArgument,
    check_budget,
    given,
    parse_time,
    task_of,
)
from foveate.escaping import printable

if TYPE_CHECKING:
    from foveate.cli.progress import Board
    from foveate.compare import StudyProgress, StudyResult
    from foveate.compare.sequential import Rule

__all__ = ["compare"]

ANSWERED = ("What is ruled out", "What it could see", "Two seeds", "Rounds", "How strongly they act")  # on a terminal
SHOWN = (
    "Arm",
    "Accuracy",
    "Dice",
    "Difference",
    "Verdict",
    "Latency",
)  # of the report's columns, what fits 80 characters


class EngineName(StrEnum):
    """Where runs are computed."""

    local = "local"
    ray = "ray"


def compare(
    task: TaskArgument = Task.classify,
    data: Data = "demo",
    network: Network = None,
    mechanisms: Annotated[
        str | None,
        typer.Option(
            help="Arms, by comma: mechanisms, also with options as nonlocal:group=time, chains by +, none, and the "
            "controls placebo and wider; to segment also attention-gate. Default: what suits the task, both controls "
            "among it."
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="N|auto[:MAX]",
            help="Runs of each arm, with seeds 0, 1, ...; or auto: from 3 seeds on one is added at a time, and an arm "
            "gets no more once it is better or worse, once its interval is narrow, or once neither can be expected by "
            "MAX seeds (10). All looks together err in at most 5 % of studies.",
        ),
    ] = "3",
    precision_of: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="With --seeds auto: an interval is narrow if it reaches no further than X to each side, in units of "
            "the first metric. Default: 0.01, which is one point, or one test picture if that is more.",
        ),
    ] = None,
    total_time: Annotated[
        str | None,
        typer.Option(help="With --seeds auto: begin no round that would end later than this, such as 90m or 8h."),
    ] = None,
    epochs: Epochs = None,
    max_time: MaxTime = None,
    start: Annotated[
        Start | None,
        typer.Option(help="How mechanisms start. Default: as the identity in a pretrained host, else as published."),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Pattern of the modules that every mechanism follows, such as 'layer3.*'.")
    ] = None,
    out: Out = Path("comparison"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, whatever the folder holds.")] = False,
    accept_changed_data: AcceptChangedData = False,
    engine: Annotated[EngineName, typer.Option(help="Processes of this machine, or a Ray cluster.")] = EngineName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at once. Default: one a core or GPU.")] = None,
    address: Annotated[str | None, typer.Option(help="The Ray cluster's address.")] = None,
    device: Device = None,
    devices: Devices = None,
    precision: Precision = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a network with each mechanism under the same conditions, and write one offline report.

    Without arguments it runs on real handwriting that comes with Foveate. The same command takes an interrupted
    comparison up, and leaves a finished one alone. The last line printed is the path of the report. Where runs failed,
    the others are reported and the exit status is 2.

    Example: foveate compare classify --data photos --network timm/resnet50 --mechanisms none,se,cbam --epochs 20

    Example: foveate compare segment --data Task04_Hippocampus --mechanisms none,attention-gate,wider --max-time 15m
    """
    seconds = check_budget(epochs, max_time)
    number, auto = parse_seeds(seeds, precision_of, total_time)
    from foveate.compare import Study
    from foveate.compare import compare as run
    from foveate.compare.task import task_named
    from foveate.report import write_report
    from foveate.tasks.config import config_for

    if task is Task.segment and data == "demo":
        raise ValueError("segment needs --data: a folder of scans or pictures with labels; none was given")
    meant = task_of(task, data, network, settings)
    about = task_named(meant)
    options = given(
        settings,
        task=meant,
        network=network,
        epochs=epochs,
        max_time_s=seconds,
        start=start.value if start else None,
        device=device,
        devices=devices,
        precision=precision,
    )
    arms = about.arms if mechanisms is None else tuple(arm.strip() for arm in mechanisms.split(","))
    base = config_for(data, **{**about.settings, **options})
    study = Study(base=base, arms=arms, seeds=tuple(range(number)), where=where, auto=auto)
    from foveate.cli.progress import board

    with board() as drawn:
        result = run(
            study,
            out,
            engine=chosen_engine(engine, workers, address, study.base.threads or 1, drawn.note),
            workers=workers,
            fresh=fresh,
            progress=Drawing(drawn),
            accept_changed_data=accept_changed_data,
        )
    report = write_report(out)
    if as_json:
        read = json.loads((out / "study.json").read_text(encoding="utf-8")).get("read", {})
        print(json.dumps(result.to_dict() | {"read": read, "report": str(report)}, indent=2))
    else:
        print_result(result)
        print(printable(str(report)))
    if result.failures:
        raise typer.Exit(2)


def parse_seeds(text: str, precision: float | None, total_time: str | None) -> tuple[int, "Rule | None"]:
    """Return the number of seeds, and the rule by which they are added if the text says auto or auto:MAX."""
    from foveate.compare.sequential import MOST, Rule

    word, colon, most = text.partition(":")
    if word == "auto" and (most.isdecimal() if colon else True):
        rule = Rule(int(most) if most else MOST, precision, None if total_time is None else parse_time(total_time))
        return rule.most, rule
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--seeds takes a number, 1 or more, auto, or auto:MAX; got {text}")
    for name, value in (("--precision-of", precision), ("--total-time", total_time)):
        if value is not None:
            raise ValueError(f"{name} is for --seeds auto; got {value} with --seeds {text}")
    return int(text), None


def chosen_engine(
    name: EngineName,
    workers: int | None,
    address: str | None,
    threads: int,
    on_note: Callable[[str], object] | None = None,
) -> Any:
    """The engine asked for; None is the study's own choice, which takes `workers`."""
    from foveate.compare import RayEngine

    if name is EngineName.ray:
        if workers is not None:
            raise ValueError(f"--workers is for --engine local; a Ray cluster knows its own size; got {workers}")
        return RayEngine(address, threads, on_note=on_note)
    if address is not None:
        raise ValueError(f"--address is for --engine ray; got {address}")
    return None


class Drawing:
    """Draw a study: a bar for the whole, and one for each run under way."""

    def __init__(self, board: "Board") -> None:
        self.board = board
        self.shown: set[str] = set()

    def __call__(self, state: "StudyProgress") -> None:
        for line in state.notes:
            self.board.note(line)
        if state.stage in ("survey", "measure"):
            if state.message:
                self.board.show("preparing", 0.0, None, state.message)
            return
        self.board.drop("preparing")
        if state.message:
            self.board.note(state.message)
        running = sum(run.fraction for run in state.running)
        ended = state.done + state.failed
        note = f"{ended} of {state.total} runs" + (f", {state.failed} failed" if state.failed else "")
        self.board.show("all runs", (ended + running) / max(1, state.total), state.seconds_left, note)
        now = {f"{run.arm}, seed {run.seed}": run for run in state.running}
        for name in self.shown - set(now):
            self.board.drop(name)
        for name, run in now.items():
            self.board.show(name, run.fraction, run.seconds_left, f"epoch {run.epoch:.1f}")
        self.shown = set(now)


def print_result(result: "StudyResult") -> None:
    """Print the report's main table and answer; the report says more."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from foveate.report import study_answer, study_table

    told, answer = study_table(result.folder), study_answer(result.folder)
    table = Table(
        title=Text(printable(f"{told.caption}, against {result.baseline}")),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    shown = [index for index, column in enumerate(told.columns) if column.title.startswith(SHOWN)]
    for column in (told.columns[index] for index in shown):
        unit = f", {column.note}" if column.note in ("%", "ms") else ""
        heading = column.title.removesuffix(f" to {result.baseline}") + unit
        table.add_column(Text(printable(heading)), justify="right" if column.numeric else "left", no_wrap=True)
    for group in told.groups:
        for row in group.rows:
            cells = [row.cells[index] for index in shown]
            table.add_row(
                *(Text(printable(f"{cell.text} {cell.sub}" if cell.interval else cell.text)) for cell in cells)
            )
    console = Console()
    if answer.warning:
        console.print(answer.warning, style="bold", markup=False, highlight=False)
    console.print(table)
    console.print(answer.sentence, markup=False, highlight=False)
    for about, sentence in answer.findings:
        if about in ANSWERED:
            console.print(f"{about}: {sentence}", markup=False, highlight=False)
    for note in (
        *result.notes,
        *(f"{each.arm}, seed {each.seed}, failed: {each.sentence}" for each in result.failures),
    ):
        console.print(printable(note), markup=False, highlight=False)
