"""Error and savings of `foveate compare --seeds auto` in simulated studies: seeds in rounds against fixed numbers.

python benchmarks/rounds.py, in about ten minutes on one core. Studies are those of verdicts.py. A figure goes into
docs/figures/; the tables are those of docs/statistics.md. "Fixed seeds of that power" is the number of seeds, the same
for every arm, that shows the weakest effect as often as the rounds do; trainings are compared at that equal power.
"""

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from verdicts import ARMS, HOLM, LOOKS, OURS, PICTURES, SCENARIOS, claims, finish, show, simulate

from foveate.compare import sequential
from foveate.compare.sequential import Round, Rule, look, next_runs, settled_in
from foveate.compare.statistics import ALPHA, BETTER, WORSE, compare_to_baseline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Effects of the arms besides the baseline, in standard deviations of a paired difference
MIXTURES = {
    "12 arms: 2 without effect, 1.5, 3, 4, 4, 4, 5, 5, 6, 6": (0.0, 0.0, 1.5, 3.0, 4.0, 4.0, 4.0, 5.0, 5.0, 6.0, 6.0),
    "12 arms: 4 without effect, 1.5, 3, 3, 4, 4, 5, 6": (0.0, 0.0, 0.0, 0.0, 1.5, 3.0, 3.0, 4.0, 4.0, 5.0, 6.0),
    "9 arms: 3 without effect, 1.5, 3, 4, 5, 6": (0.0, 0.0, 0.0, 1.5, 3.0, 4.0, 5.0, 6.0),
    "8 arms: 2 without effect, 1.5, 2, 4, 5, 6": (0.0, 0.0, 1.5, 2.0, 4.0, 5.0, 6.0),
    "8 arms: 4 without effect, 1.5, 3, 4": (0.0, 0.0, 0.0, 0.0, 1.5, 3.0, 4.0),
    "4 arms: 1 without effect, 1.5, 4": (0.0, 1.5, 4.0),
    "8 arms without effect": (0.0,) * 7,
}
FIXED = (3, 4, 5, 6, 7, 8, 9, 10)
UNREACHED = 1e-9  # a precision that no interval has


def main(
    studies: Annotated[int, typer.Option(min=10, help="Simulated studies of each point.")] = 400,
    out: Annotated[Path, typer.Option(help="Folder of the figure.")] = PICTURES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
) -> None:
    """Simulate seeds that are added in rounds, print both tables and draw the figure."""
    out.mkdir(parents=True, exist_ok=True)
    found = {"error of rounds": error_of_rounds(studies), "rounds": savings(studies)}
    draw_rounds(found["rounds"]).savefig(out / "statistics_rounds.png")
    show("error of rounds", found["error of rounds"])
    table = {
        name: {
            "power at 1.5": each["power"],
            "trainings": each["trainings"],
            "fixed seeds of that power": each["seeds"],
            "their trainings": each["fixed trainings"],
            "saved": each["saved"],
        }
        for name, each in found["rounds"].items()
    }
    show("rounds", table)
    print(f"{out / 'statistics_rounds.png'} was drawn")
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")


class Grown:
    """A simulated study (arm, seed) to which seeds are added in rounds.

    Args:
        values: Of every seed that the study might have.
        precision: How far an interval may reach to each side to be narrow enough.
    """

    def __init__(self, values: np.ndarray, precision: float = UNREACHED) -> None:
        rule = Rule(values.shape[1])
        arms = [str(arm) for arm in range(len(values))]
        self.values = values.tolist()
        self.rounds: list[Round] = []
        every = {arm: range(rule.most) for arm in arms}
        while next_runs(rule, arms, "0", self.rounds):
            self.rounds.append(look(self.compare, rule, arms, "0", self.rounds, every, precision))
        self.trainings = self.rounds[-1].trainings
        self.claims = [settled_in(self.rounds).get(arm) in (BETTER, WORSE) for arm in arms[1:]]

    def compare(self, runs: Any, level: float = ALPHA) -> Any:
        """Return the differences of these runs."""
        values = {arm: {seed: self.values[int(arm)][seed] for seed in seeds} for arm, seeds in runs.items()}
        return compare_to_baseline(values, "0", alpha=level)


def error_of_rounds(studies: int) -> dict[str, dict[str, float]]:
    """Return the family-wise error of all looks, where arms out of reach go on to the end, the worst case."""
    least, sequential.LEAST_CHANCE = sequential.LEAST_CHANCE, 0.0
    names = ("equal spreads", "equal, t4 tails", "spreads e^0.5", "e^0.5, t4 tails", "baseline e^0.5 wider")
    try:
        return {
            f"{arms} arms": {
                name: float(np.mean([any(Grown(study).claims) for study in values]))
                for name in names
                for spread, heavy, baseline in (SCENARIOS[name],)
                for values in (simulate(studies, arms, 10, spread, heavy=heavy, baseline=baseline)[0],)
            }
            for arms in ARMS
        }
    finally:
        sequential.LEAST_CHANCE = least


def savings(studies: int) -> dict[str, Any]:
    """Return power and trainings in rounds, and of the fixed number of seeds with the same power for the weakest arm.

    The power of fixed designs is interpolated between numbers of seeds, so that the powers are equal.
    """
    found: dict[str, Any] = {}
    for name, effects in MIXTURES.items():
        values, sd = simulate(studies, len(effects) + 1, 10, 0.5)
        values[:, 1:] += (np.array(effects) * np.hypot(sd[:, :1], sd[:, 1:]))[..., None]
        grown = [Grown(study) for study in values]
        trainings = float(np.mean([study.trainings for study in grown]))
        found[name] = {"power": None, "trainings": trainings, "seeds": None, "fixed trainings": None, "saved": None}
        if any(effects):
            weakest = int(np.argmin([effect or np.inf for effect in effects]))
            power = float(np.mean([study.claims[weakest] for study in grown]))
            fixed = [float(np.mean([claims(study[:, :seeds])[weakest] for study in values])) for seeds in FIXED]
            seeds = float(np.interp(power, fixed, FIXED))
            total = seeds * (len(effects) + 1)
            found[name] |= {"power": power, "seeds": seeds, "fixed trainings": total, "saved": 1 - trainings / total}
            found[name]["fixed powers"] = fixed
    return found


def draw_rounds(found: dict[str, Any]) -> "Figure":
    """Draw the power for the weakest arm against the trainings, of fixed numbers of seeds and in rounds."""
    from matplotlib.figure import Figure

    known = {name: each for name, each in found.items() if each["power"] is not None}
    figure = Figure(figsize=(14, 3.9), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(known), sharey=True)
    for panel, (name, each) in zip(panels, known.items(), strict=True):
        arms = len(MIXTURES[name]) + 1
        panel.plot([arms * seeds for seeds in FIXED], each["fixed powers"], label="3 to 10 seeds", **LOOKS[HOLM])
        panel.plot(each["trainings"], each["power"], label="in rounds", **LOOKS[OURS] | {"marker": "*"}, markersize=14)
        finish(panel, textwrap.fill(name, 28), "trainings")
    panels[0].set_ylabel("power for the weakest arm")
    panels[0].legend(loc="lower right", fontsize=8)
    figure.suptitle("Seeds in rounds against fixed seeds: the arms' spreads differ by e^0.5", x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    typer.run(main)
