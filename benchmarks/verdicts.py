"""Error, coverage and power of the verdicts of `foveate compare`, beside two habits, in simulated studies.

python benchmarks/verdicts.py, in minutes on one core. "t test per arm + Holm" is a paired t test of each arm, corrected
by Holm; with cases the test is over the cases, averaged over the seeds. "Best of N seeds" calls an arm better if its
best run beats the baseline's best run. Two figures go into docs/figures/; the tables are those of docs/statistics.md.

A value is arm + seed's effect + noise; the standard deviation of the noise differs by arm, lognormally with a spread of
0, 0.5 or 0.8. Effects are in standard deviations of a paired difference of two arms. A Dice also has the effect of its
case and an arm-by-case effect that persists over the seeds.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from scipy import stats

from foveate.compare.statistics import UNSHOWN, compare_to_baseline, compare_to_baseline_by_case
from foveate.report.read import Run
from foveate.report.rising import still_rising

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = Path(__file__).parents[1] / "docs" / "figures"
ARMS, SEEDS, SPREADS = (2, 3, 5, 8, 12), (2, 3, 5, 10), (0.0, 0.5, 0.8)
OURS, HOLM, BEST = "foveate", "t test per arm + Holm", "best of N seeds"
LOOKS = {
    OURS: {"color": "tab:blue", "marker": "o"},
    HOLM: {"color": "tab:orange", "marker": "s", "linestyle": "--"},
    BEST: {"color": "tab:red", "marker": "v", "linestyle": ":"},
}
EFFECTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
POWER_PANELS = ((8, 3), (8, 5), (3, 3))  # arms, seeds
TRAINING = (0.0, 0.002, 0.005, 0.01, 0.02)  # standard deviations of Dice between trainings
RESIDUAL, CASE_SPREAD = 0.03, 0.1  # of Dice
# name: spread, heavy tails, factor of the baseline's standard deviation
SCENARIOS = {
    "equal spreads": (0.0, False, 1.0),
    "equal, t4 tails": (0.0, True, 1.0),
    "spreads e^0.5": (0.5, False, 1.0),
    "e^0.5, t4 tails": (0.5, True, 1.0),
    "baseline e^0.5 wider": (0.0, False, np.exp(0.5)),
    "spreads e^0.8": (0.8, False, 1.0),
    "baseline e^0.8 wider": (0.0, False, np.exp(0.8)),
}
# name: standard deviation between trainings, of the arm-by-case effect, spread of the arms
CASE_SCENARIOS = {
    "training 0.002": (0.002, 0.0, 0.0),
    "training 0.01": (0.01, 0.0, 0.0),
    "training 0.005, arm by case 0.02": (0.005, 0.02, 0.0),
    "arm by case 0.05": (0.0, 0.05, 0.0),
    "training 0.005, arm by case 0.01, e^0.5": (0.005, 0.01, 0.5),
}
CASE_SHAPES = (
    (2, 3, 52),
    (4, 3, 10),
    (8, 3, 52),
    (12, 3, 10),
    (4, 3, 200),
    (8, 5, 52),
    (4, 2, 52),
)  # arms, seeds, cases


def main(
    studies: Annotated[int, typer.Option(min=10, help="Simulated studies of each point.")] = 1000,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = PICTURES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Simulate studies, print the tables and draw both figures."""
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "power": {f"{arms} arms, {seeds} seeds": power(studies, arms, seeds) for arms, seeds in POWER_PANELS},
        "error": {f"spread {spread:g}": error_by_seeds(studies, 8, spread) for spread in SPREADS},
        "error by case": error_by_training(max(10, studies // 2)),
    }
    draw_power(found["power"]).savefig(out / "statistics_power.png")
    draw_error(found["error"], found["error by case"]).savefig(out / "statistics_error.png")
    found["coverage"] = coverage(studies)
    found["coverage by case"] = coverage_by_case(max(10, studies // 2))
    found["rising"] = rising_rates(studies)
    for title in ("coverage", "coverage by case", "rising"):
        show(title, found[title])
    print(f"{out / 'statistics_power.png'} and {out / 'statistics_error.png'} were drawn")
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")


def simulate(
    studies: int, arms: int, seeds: int, spread: float, *, heavy: bool = False, baseline: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return values (study, arm, seed) without any true difference, and standard deviations (study, arm)."""
    random = np.random.default_rng([arms, seeds, round(10 * spread), heavy, round(10 * baseline)])
    sd = np.exp(spread * random.standard_normal((studies, arms)))
    sd[:, 0] *= baseline
    shape = (studies, arms, seeds)
    noise = random.standard_t(4, shape) / np.sqrt(2) if heavy else random.standard_normal(shape)
    return sd[..., None] * noise + 2 * random.standard_normal((studies, 1, seeds)), sd


def simulate_cases(
    studies: int, arms: int, seeds: int, cases: int, training: float, persisting: float, spread: float
) -> Iterator[np.ndarray]:
    """Yield the Dice (arm, seed, case) of studies without any true difference."""
    random = np.random.default_rng([arms, seeds, cases, round(1000 * training), round(1000 * persisting)])
    for _ in range(studies):
        sd = np.exp(spread * random.standard_normal((arms, 1, 1)))
        dice = 0.8 + CASE_SPREAD * random.standard_normal((1, 1, cases)) + 0.01 * random.standard_normal((1, seeds, 1))
        dice = dice + training * sd * random.standard_normal((arms, seeds, 1))
        dice = dice + persisting * random.standard_normal((arms, 1, cases))
        yield dice + RESIDUAL * sd * random.standard_normal((arms, seeds, cases))


def claims(study: np.ndarray) -> list[bool]:
    """Return whether each arm but the first is called better or worse, from values (arm, seed) or (arm, seed, case)."""
    if study.ndim == 2:
        found = compare_to_baseline({str(arm): dict(enumerate(row)) for arm, row in enumerate(study.tolist())}, "0")
    else:
        arms = {
            str(arm): {seed: {str(case): value for case, value in enumerate(row)} for seed, row in enumerate(rows)}
            for arm, rows in enumerate(study.tolist())
        }
        found = compare_to_baseline_by_case(arms, "0")
    return [each.verdict != UNSHOWN for each in found.values()]


def holm_claims(study: np.ndarray) -> list[bool]:
    """Return the same by paired t tests over the last axis and Holm's correction; cases are averaged over the seeds."""
    values = study if study.ndim == 2 else study.mean(axis=1)
    p = stats.ttest_rel(values[1:], values[:1], axis=1).pvalue
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return (corrected[np.argsort(order)] < 0.05).tolist()


def best_claims(study: np.ndarray) -> list[bool]:
    """Return whether the best run of each arm beats the best run of the baseline."""
    return (study[1:].max(axis=1) > study[0].max()).tolist()


METHODS: dict[str, Callable[[np.ndarray], list[bool]]] = {OURS: claims, HOLM: holm_claims, BEST: best_claims}


def power(studies: int, arms: int, seeds: int, spread: float = 0.5) -> dict[str, list[float]]:
    """Return the share of studies that call the second arm, for each of EFFECTS and each method."""
    values, sd = simulate(studies, arms, seeds, spread)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for effect in EFFECTS:
        shifted = values.copy()
        shifted[:, 1] += (effect * np.hypot(sd[:, 0], sd[:, 1]))[:, None]
        for name, method in METHODS.items():
            found[name].append(float(np.mean([method(study)[0] for study in shifted])))
    return found


def error_by_seeds(studies: int, arms: int, spread: float) -> dict[str, list[float]]:
    """Return the family-wise error for each number of seeds and each method."""
    values = [simulate(studies, arms, seeds, spread)[0] for seeds in SEEDS]
    return {
        name: [float(np.mean([any(method(study)) for study in each])) for each in values]
        for name, method in METHODS.items()
    }


def error_by_training(studies: int, shape: tuple[int, int, int] = (4, 3, 52)) -> dict[str, list[float]]:
    """Return the family-wise error with cases for each standard deviation between trainings."""
    found: dict[str, list[float]] = {OURS: [], HOLM: []}
    for training in TRAINING:
        dice = list(simulate_cases(studies, *shape, training, 0.0, 0.0))
        for name in found:
            found[name].append(float(np.mean([any(METHODS[name](study)) for study in dice])))
    return found


def coverage(studies: int) -> dict[str, dict[str, float]]:
    """Return the share of studies whose intervals all hold the true difference."""
    return {
        f"{arms} arms, {seeds} seeds": {
            name: 1 - float(np.mean([any(claims(study)) for study in values]))
            for name, (spread, heavy, baseline) in SCENARIOS.items()
            for values in (simulate(studies, arms, seeds, spread, heavy=heavy, baseline=baseline)[0],)
        }
        for arms in ARMS
        for seeds in SEEDS
    }


def coverage_by_case(studies: int) -> dict[str, dict[str, float]]:
    """Return the same where seeds and cases are crossed."""
    return {
        f"{arms} arms, {seeds} seeds, {cases} cases": {
            name: 1
            - float(np.mean([any(claims(dice)) for dice in simulate_cases(studies, arms, seeds, cases, *scenario)]))
            for name, scenario in CASE_SCENARIOS.items()
        }
        for arms, seeds, cases in CASE_SHAPES
    }


def rising_rates(studies: int) -> dict[str, dict[str, float]]:
    """Return how often validation curves are said to rise: flat ones, and those that need more epochs."""
    random = np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {}
    for runs in (6, 24):
        for epochs in (4, 6, 10, 40):
            curves = {
                "flat, independent noise": (0.0, np.zeros(epochs)),
                "flat, noise that persists": (0.8, np.zeros(epochs)),
                "half of the epochs that it needs": (0.3, -0.64 * np.exp(-4 * np.arange(1, epochs + 1) / epochs / 2)),
                "all of the epochs that it needs": (0.3, -0.64 * np.exp(-8 * np.arange(1, epochs + 1) / epochs)),
            }
            found[f"{runs} runs, {epochs} epochs"] = {
                name: rate_of_alarms(random, studies, runs, curve, persistence)
                for name, (persistence, curve) in curves.items()
            }
    return found


def rate_of_alarms(
    random: np.random.Generator, studies: int, runs: int, curve: np.ndarray, persistence: float, sd: float = 0.02
) -> float:
    """Return the share of studies whose curves, with noise of `sd` around one curve, are said to rise."""
    noise = sd * random.standard_normal((studies, runs, len(curve)))
    for epoch in range(1, len(curve)):
        fresh = np.sqrt(1 - persistence**2) * noise[..., epoch]
        noise[..., epoch] = persistence * noise[..., epoch - 1] + fresh
    alarms = 0
    for study in (0.8 + curve + noise).tolist():
        rows = [[{"val_accuracy": value} for value in run] for run in study]
        alarms += still_rising(Run(Path(), "", 0, {}, {"version": 1}, run) for run in rows) is not None
    return alarms / studies


def show(title: str, found: dict[str, Any]) -> None:
    """Print one table, to paste into docs/statistics.md."""
    table = Table(title=title, box=MARKDOWN)
    table.add_column("study")
    for name in next(iter(found.values())):
        table.add_column(name, justify="right")
    for name, row in found.items():
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in row.values()))
    Console(width=240).print(table)


def draw_power(found: dict[str, dict[str, list[float]]]) -> "Figure":
    """Draw power against the effect, a panel for each size of study."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.9), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    for panel, (title, curves) in zip(panels, found.items(), strict=True):
        for name, values in curves.items():
            panel.plot(EFFECTS, values, label=name, **LOOKS[name])
        panel.axhline(0.05, color="0.6", linewidth=0.8)
        finish(panel, title, "true difference / sd of a paired difference")
    panels[0].set_ylabel("share of studies that call it")
    panels[-1].legend(loc="lower right", fontsize=8)
    figure.suptitle("Power: spreads of the arms differ by e^0.5; the grey line is 5 %", x=0.01, ha="left")
    return figure


def draw_error(by_seeds: dict[str, dict[str, list[float]]], by_training: dict[str, list[float]]) -> "Figure":
    """Draw the family-wise error against the seeds, and with cases against the randomness of training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.9), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(by_seeds) + 1)
    for panel, (title, curves) in zip(panels, by_seeds.items(), strict=False):
        for name, values in curves.items():
            panel.plot(SEEDS, values, label=name, **LOOKS[name])
        finish(panel, f"8 arms, {title}", "seeds")
    for name, values in by_training.items():
        panels[-1].plot(TRAINING, values, label=name, **LOOKS[name])
    finish(panels[-1], "4 arms, 3 seeds, 52 cases", "sd of Dice between trainings")
    for panel in panels:
        panel.axhline(0.05, color="0.6", linewidth=0.8)
    panels[0].set_ylabel("share of studies with a false claim")
    panels[0].legend(loc="center right", fontsize=8)
    figure.suptitle("Family-wise error without any true difference; the grey line is 5 %", x=0.01, ha="left")
    return figure


def finish(panel: "Axes", title: str, axis: str) -> None:
    """Give a panel its title, axes and grid."""
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(axis)
    panel.set_ylim(-0.02, 1.02)
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    typer.run(main)
