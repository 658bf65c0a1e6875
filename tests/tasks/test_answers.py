"""Networks that answer with several logits, from their loss to a whole run."""

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from foveate.networks.published import packed
from foveate.networks.sononet import AGSononet
from foveate.tasks.answers import logits_of, loss_of
from foveate.tasks.config import RunConfig
from foveate.tasks.hosts import build_network
from foveate.tasks.run import attend, evaluate, predict, train
from foveate.tasks.stage import Stage, grad_cam

LABELS = torch.tensor([0, 2])


def network(aggregation: str) -> AGSononet:
    return AGSononet(num_classes=3, widths=(2, 3, 5, 7), aggregation=aggregation)


def answers(count: int) -> list[torch.Tensor]:
    return [torch.randn(2, 3, generator=torch.Generator().manual_seed(number)) for number in range(count)]


def test_three_answers_are_averaged_as_probabilities_and_each_is_taught():
    three = answers(3)
    found = logits_of(network("mean"), three)
    torch.testing.assert_close(found.softmax(dim=1), sum(each.softmax(dim=1) for each in three) / 3)
    torch.testing.assert_close(F.nll_loss(found, LABELS), F.cross_entropy(found, LABELS))
    expected = sum(F.cross_entropy(each, LABELS, label_smoothing=0.1) for each in three)
    torch.testing.assert_close(loss_of(network("mean"), three, LABELS, label_smoothing=0.1), expected)


def test_of_four_answers_the_first_counts_and_the_others_are_taught_a_tenth():
    four = answers(4)
    torch.testing.assert_close(logits_of(network("deep_sup"), four), four[0].log_softmax(dim=1))
    first, *rest = (F.cross_entropy(each, LABELS) for each in four)
    torch.testing.assert_close(loss_of(network("deep_sup"), four, LABELS), first + 0.1 * sum(rest))


def test_one_answer_is_left_as_it_is():
    (one,) = answers(1)
    assert torch.equal(logits_of(nn.Identity(), one), one)
    assert torch.equal(loss_of(nn.Identity(), one, LABELS), F.cross_entropy(one, LABELS))


def test_a_certain_answer_still_has_evidence_to_show():
    torch.manual_seed(0)
    certain, image = network("mean").eval(), torch.randn(1, 1, 32, 32)
    for classifier in certain.classifiers.values():
        classifier.get_parameter("bias").data[1] = 200.0
    logits, heat = grad_cam(certain, Stage("stages.5", "channels_first"), image, None)
    assert logits.softmax(dim=1).max() == 1
    assert heat.max() > 0


def test_a_list_that_nobody_explains_is_refused():
    with pytest.raises(TypeError, match=r"^a classifier gives a tensor of logits; Identity gives several$"):
        logits_of(nn.Identity(), answers(2))


@pytest.mark.filterwarnings("ignore:.* has no weights that fit")
@pytest.mark.parametrize(("aggregation", "num_classes"), [("mean", 5), ("ft", 3), ("deep_sup", 3), ("concat", 3)])
def test_every_way_to_answer_starts_from_a_network_that_answers_thrice(
    tmp_path: Path, aggregation: str, num_classes: int
):
    path, small = tmp_path / "mean.safetensors", {"network": "ag_sononet8", "width": 0.25}
    options = {"aggregation": "mean"}
    trained = build_network(RunConfig(**small, network_options=options), 3, (1, 16, 16))[0]
    path.write_bytes(packed(trained.state_dict()))
    config = RunConfig(**small, network_options={"aggregation": aggregation}, init=str(path), seed=1)
    started = build_network(config, num_classes, (1, 16, 16))[0].state_dict()
    own = trained.state_dict()
    taken = {key for key in started if key in own and torch.equal(started[key], own[key])}
    assert {key for key in own if not key.startswith("classifier")} <= taken
    assert ("classifiers.3.weight" in taken) == (num_classes == 3 and aggregation != "concat")


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["mean", "deep_sup"])
def test_a_run_of_several_answers_goes_all_the_way(shapes: Path, tmp_path: Path, aggregation: str):
    config = RunConfig(
        data=str(shapes),
        network="ag_sononet8",
        network_options={"aggregation": aggregation},
        epochs=2,
        batch_size=8,
        threads=1,
        device="cpu",
    )
    run = tmp_path / "run"
    summary = train(config, run)
    assert set(summary.gate_health) == {"gates.3.gate", "gates.4.gate"}
    assert evaluate(run, device="cpu")["accuracy"] == summary.metrics["accuracy"]
    picture = tmp_path / "grey.png"
    Image.new("L", (16, 16), 90).save(picture)
    with predict(run, [picture], tmp_path / "out", device="cpu").open() as file:
        (row,) = csv.DictReader(file)
    assert sum(float(value) for name, value in row.items() if name.startswith("p_")) == pytest.approx(1, abs=1e-5)
    drawn = [path.name for path in attend(run, [picture], tmp_path / "maps", device="cpu")]
    assert drawn == ["grey.png.network.png", "grey.png.gates.3.gate.png", "grey.png.gates.4.gate.png"]
