import csv
import math
from pathlib import Path

import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn

from foveate.tasks.preprocess import Preprocess
from foveate.tasks.scoring import classify, measure, write_predictions


def test_the_measures_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (71,), generator=generator)
    logits = torch.randn(71, 5, generator=generator) + torch.nn.functional.one_hot(labels, 5)
    found = measure(logits, labels)
    predicted, chances = logits.argmax(dim=1), logits.double().softmax(dim=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(labels, chances, multi_class="ovr"), abs=1e-6)
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, chances), abs=1e-6)


def test_without_pictures_of_a_class_auroc_is_not_defined():
    assert measure(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))["auroc"] is None


def test_predictions_are_a_row_a_picture(tmp_path: Path):
    logits = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    write_predictions(tmp_path / "p.csv", ["a, b.png", "c.png"], logits, ["cat", "dog"], torch.tensor([1, 1]))
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "name", "label", "prediction", "p_cat", "p_dog"]
    assert (rows[0]["name"], rows[0]["label"], rows[0]["prediction"]) == ("a, b.png", "dog", "dog")
    assert (rows[1]["label"], rows[1]["prediction"]) == ("dog", "cat")
    assert float(rows[0]["p_dog"]) == pytest.approx(0.731059, abs=1e-6)


def test_the_mean_over_views_stays_a_number_where_all_are_sure():
    class Views:
        def __len__(self) -> int:
            return 2

        def label(self, index: int) -> int:
            return 1

        def length(self, index: int) -> int:
            return 5

        def clip(self, index: int, frames: list[int]) -> Tensor:
            return torch.full((1, len(frames), 4, 4), 40 * (index + 1) + frames[0], dtype=torch.uint8)

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.mean(dim=(1, 2, 3, 4)) * 255 * 10, torch.zeros(len(x))], dim=1)

    preprocess = Preprocess(["a", "b"], 1, (4, 4), (0.0,), (1.0,), frames=1, frame_stride=1, test_clips=2)
    found = classify(Sure(), preprocess, Views(), torch.device("cpu"))
    # Views begin at frames 0 and 4: 40 and 44 of 255 in one video, 80 and 84 in the other, times ten.
    wanted = torch.tensor([[400.0, 440.0], [800.0, 840.0]])
    logs = (-wanted).logsumexp(dim=1) - math.log(2)
    torch.testing.assert_close(found, torch.stack([torch.zeros(2), logs], dim=1))
