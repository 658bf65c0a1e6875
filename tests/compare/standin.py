"""Work for a study that takes no time: a run is a file that counts, and its behaviour stands in network_options.

seconds: of one epoch. fail, kill, siteless, silent: the arm that raises, kills its worker, has no mechanism, or writes
no summary. noise: the standard deviation of an arm's accuracy, by arm.
"""

import os
import random
import signal
import time
from functools import partial

from foveate.compare.engine import Event, explain
from foveate.compare.work import Work, train_arm
from foveate.tasks.summary import Progress, Summary

PARAMETERS = {"none": 1000, "placebo": 1000, "eca": 1003, "se": 1100, "cbam": 1300, "nonlocal": 2000}
GAIN = {"none": 0.0, "placebo": 0.0, "se": 0.0137, "eca": -0.0021, "cbam": 0.0313, "wider": 0.0071}


def train(config, folder, *, progress=None):
    behaviour = config.network_options
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json())
    with (folder / "begun.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if behaviour.get("fail") == config.arm:
        raise ValueError("the loss is not finite; got nan")
    if behaviour.get("kill") == config.arm:
        os.kill(os.getpid(), signal.SIGKILL)
    checkpoint = folder / "epoch.txt"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for epoch in range(first + 1, config.epochs + 1):
        time.sleep(behaviour.get("seconds", 0.0))
        checkpoint.write_text(str(epoch))
        if progress:
            progress(progress_of(config, epoch))
    if behaviour.get("silent") != config.arm:
        (folder / "summary.json").write_text(summary(config, first).to_json())


def progress_of(config, epoch):
    return Progress(
        arm=config.arm,
        seed=config.seed,
        stage="train",
        epoch=epoch,
        epochs=config.epochs,
        fraction=epoch / config.epochs,
        seconds_left=None,
    )


def summary(config, resumed=0, **changes):
    accuracy = 0.8 + 0.01 * config.seed + GAIN.get(config.arm, 0.0) * (1 + 0.1 * (config.seed % 3))
    arm = "none" if config.arm == "placebo" else config.arm
    noise = config.network_options.get("noise", {}).get(arm, 0.0)
    accuracy += random.Random(f"{arm} {config.seed}").gauss(0, 1) * noise
    absent = config.mechanism == "none" or config.network_options.get("siteless") == config.arm
    values = {
        "task": "classify",
        "arm": config.arm,
        "mechanism": config.mechanism,
        "network": config.network,
        "seed": config.seed,
        "start": "published",
        "metrics": {"accuracy": accuracy, "loss": 1 - accuracy, "auroc": None},
        "sites": [] if absent else [{"name": "layer1.0", "channels": 7}],
        "parameters": 1000,
        "epochs": float(config.epochs or 0),
        "steps": 11,
        "training_seconds": 0.5,
        "stopped_by": "epochs",
        "resumed": int(resumed > 0),
        "train_size": 101,
        "val_size": 13,
        "test_size": 17,
        "gate_health": {} if absent else {"layer1.0.mechanism.gate": {"axes": "batch channel", "alive": True}},
        "pointing": {"network": 0.5, "mechanism": None, "chance": 0.1, "samples": 17},
        "versions": {},
        "machine": {},
        "command": "",
    }
    return Summary(**{**values, **changes})


def survey(configs, wider, known, *, report):
    for arm in configs:
        report(arm)
    arms = {arm: {"parameters": PARAMETERS[arm], "sites": int(arm != "none")} for arm in configs}
    counts = known | {arm: found["parameters"] for arm, found in arms.items()}
    largest = max(counts, key=lambda arm: counts[arm])
    if wider:
        arms["wider"] = {
            "parameters": counts[largest] + 1,
            "sites": 0,
            "width": counts[largest] / 1000,
            "matches": largest,
        }
    return {"arms": arms, "left_out": {}, "versions": {"foveate": "0"}, "machine": {"cores": 1}}


def measure(configs, *, report):
    for arm in configs:
        report(arm)
    return {arm: {"parameters": 1000, "latency_ms": 2.5, "width": config.width} for arm, config in configs.items()}


WORK = Work(survey, measure, partial(train_arm, train=train))


class InlineEngine:
    """Does jobs in this process, one after another, and remembers which."""

    workers = 1

    def __init__(self):
        self.done = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, jobs, following=0):
        for job in jobs:
            self.done.append(job.key)
            yield Event(job.key, "started")
            reported = []
            try:
                kind, value = "finished", job.work(*job.arguments, report=reported.append)
            except Exception as error:
                kind, value = "failed", explain(error)
            for message in reported:
                yield Event(job.key, "progress", message)
            yield Event(job.key, kind, value)
