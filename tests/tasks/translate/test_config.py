import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.translate.conftest import OPTIONS, SETTINGS, small

from foveate.networks import Transformer
from foveate.tasks.config import command_for, config_for, kind_of_config, parse_setting
from foveate.tasks.learner import learning_factor
from foveate.tasks.resume import Standing
from foveate.tasks.translate.config import TranslateConfig
from foveate.tasks.translate.module import Translator
from foveate.tasks.translate.network import build_network, peak_of
from foveate.tasks.translate.preparation import Preparation


def test_the_defaults_are_the_papers():
    config = TranslateConfig(data="text")
    assert kind_of_config("translate") is TranslateConfig
    assert (config.task, config.network, config.learning_rate) == ("translate", "transformer_base", None)
    assert (config.betas, config.epsilon, config.weight_decay) == ([0.9, 0.98], 1e-9, 0.0)
    assert (config.schedule, config.warmup_steps, config.label_smoothing) == ("noam", 4000, 0.1)
    assert (config.average, config.beam, config.alpha) == (5, 4, 0.6)
    assert config_for("text", task="translate") == config


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"data": ""}, r"^translating needs data: a folder of files such as train\.en and train\.de; none given$"),
        ({"batch_tokens": 0}, r"^batch_tokens must be 1 or more; got 0$"),
        ({"longest": 0}, r"^longest must be 1 or more; got 0$"),
        ({"warmup_steps": -3}, r"^warmup_steps must be 1 or more; got -3$"),
        ({"average": 0}, r"^average must be 1 or more; got 0$"),
        ({"validate_every": 0}, r"^validate_every must be 1 or more; got 0$"),
        ({"beam": 0}, r"^beam must be 1 or more; got 0$"),
        ({"vocabulary": 7}, r"^vocabulary must be 8 or more; got 7$"),
        ({"label_smoothing": 1.0}, r"^label_smoothing must be from 0 to below 1; got 1\.0$"),
        ({"label_smoothing": -0.1}, r"^label_smoothing must be from 0 to below 1; got -0\.1$"),
        ({"alpha": -0.5}, r"^alpha must be 0 or more; got -0\.5$"),
        ({"mechanism": "eca"}, r"^a network that translates takes no mechanism; got eca$"),
        ({"train_only": "inserted"}, r"^without a mechanism all learns at one rate; got train_only='inserted'$"),
        ({"host_learning_rate": 0.5}, r"^without a mechanism all learns at one rate; got host_learning_rate=0\.5$"),
        ({"warmup_epochs": 3.0}, r"^translating counts warmup_steps; got warmup_epochs=3$"),
        ({"learning_rate": 0.0}, r"^learning_rate must be greater than 0; got 0\.0$"),
        ({"betas": [0.9]}, r"^betas are two numbers from 0 to below 1; got \[0\.9\]$"),
        ({"betas": [0.9, 1.0]}, r"^betas are two numbers from 0 to below 1; got \[0\.9, 1\.0\]$"),
        ({"epsilon": 0.0}, r"^epsilon must be greater than 0; got 0\.0$"),
        (
            {"schedule": "linear"},
            r'^schedule takes "noam" or "cosine" or "step" or "drop" or "constant"; got \'linear\'$',
        ),
        ({"source": 3}, r"^source takes text or none; got 3$"),
        ({"task": "detect"}, r'^task must be "translate"; got \'detect\'$'),
    ],
)
def test_what_cannot_be_is_a_sentence(settings: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        TranslateConfig(**{"data": "text", **settings})


def test_the_schedule_of_the_paper_is_for_runs_that_translate():
    with pytest.raises(ValueError, match=r'^schedule takes "cosine" or .*; got \'noam\'$'):
        config_for("demo", schedule="noam")


def test_the_command_of_a_run_makes_it_again():
    config = TranslateConfig(
        data="multi 30k",
        source="en",
        target="de",
        network_options=OPTIONS,
        vocabulary=4001,
        batch_tokens=2048,
        longest=61,
        learning_rate=3e-4,
        betas=[0.8, 0.95],
        epsilon=1e-7,
        schedule="cosine",
        warmup_steps=400,
        label_smoothing=0.0,
        average=3,
        patience=2,
        beam=1,
        alpha=1.0,
    )
    words = shlex.split(command_for(config, Path("out")))
    assert words[:5] == ["foveate", "train", "translate", "--data", "multi 30k"]
    given = dict(parse_setting(text, TranslateConfig) for flag, text in pairwise(words) if flag == "--set")
    assert config_for("multi 30k", task="translate", **given) == config
    assert "--set" not in command_for(TranslateConfig(data="text"), Path("out"))
    assert parse_setting("learning_rate=none", TranslateConfig) == ("learning_rate", None)


def test_a_configuration_is_read_back_from_its_file(tmp_path: Path):
    config = small(tmp_path, betas=[0.5, 0.7])
    (tmp_path / "config.json").write_text(config.to_json())
    assert TranslateConfig.from_file(tmp_path / "config.json") == config


# The learning rate.


@pytest.mark.parametrize(
    ("embed_dim", "step", "rate"),
    [(512, 4000, 6.9877e-4), (512, 1, 1.747e-7), (512, 16000, 3.4939e-4), (1024, 4000, 4.941e-4)],
)
def test_the_learning_rate_is_the_papers(embed_dim: int, step: int, rate: float):
    config = TranslateConfig(data="text")
    factor = learning_factor(config.schedule, 0.5, step / config.warmup(steps_per_epoch=227))
    peak = (embed_dim * config.warmup_steps) ** -0.5
    assert peak * factor == pytest.approx(rate, rel=2e-4)
    assert peak * factor == pytest.approx(embed_dim**-0.5 * min(step**-0.5, step * 4000**-1.5), rel=1e-12)


def test_the_highest_rate_is_the_papers_unless_it_is_said(tmp_path: Path):
    settings = {"network_options": OPTIONS, "warmup_steps": 50, "learning_rate": None}
    network = build_network(small(tmp_path, **settings), 11)
    assert peak_of(small(tmp_path, **settings), network) == pytest.approx((32 * 50) ** -0.5)
    assert peak_of(small(tmp_path, **settings | {"learning_rate": 3e-3}), network) == 3e-3


def test_betas_and_epsilon_reach_the_optimizer(tmp_path: Path):
    config = small(tmp_path, betas=[0.8, 0.95], epsilon=1e-7, weight_decay=0.25)
    network = build_network(config, 11)
    learner = Translator(network, Preparation("en", "de", ""), config, 3, Standing(), [])
    optimizer = learner.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all((group["betas"], group["eps"]) == ((0.8, 0.95), 1e-7) for group in optimizer.param_groups)
    decayed = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert set(decayed) == {0.0, 0.25}
    assert sum(map(len, decayed.values())) == len(list(network.parameters()))


# The network.


def test_a_network_is_built_from_the_seed(tmp_path: Path):
    torch.manual_seed(17)
    state = torch.get_rng_state()
    one, same, other = (build_network(small(tmp_path, seed=seed), 23) for seed in (3, 3, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(one, Transformer)
    assert one.num_tokens == 23
    assert torch.equal(one.embed.weight, same.embed.weight)
    assert not torch.equal(one.embed.weight, other.embed.weight)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"network_options": {"num_tokens": 7}}, r"^network_options cannot set num_tokens; the run decides that$"),
        ({"width": 0.5}, r"^a Transformer's width is its embed_dim, an option of the network; got width=0\.5$"),
        (
            {"network_options": {"positions": "learned", "length": 60}},
            r"^longest must be at most the number of positions that are learned, 60; got 256$",
        ),
        (
            {"network_options": {"embed_dim": "x"}},
            r"^transformer_base with options {'embed_dim': 'x'} cannot be built: ",
        ),
        ({"network": "resnet18"}, r"^resnet18 is there to classify, not to translate"),
    ],
)
def test_what_no_network_can_be_is_a_sentence(tmp_path: Path, settings: dict[str, Any], told: str):
    with pytest.raises((ValueError, LookupError), match=told):
        build_network(TranslateConfig(**{"data": str(tmp_path), **SETTINGS, **settings}), 23)
