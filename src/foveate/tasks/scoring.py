"""What a trained network says of pictures, and how good that is."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.data import ClipSplit, Split
from foveate.files import write_atomic
from foveate.tasks.answers import logits_of
from foveate.tasks.clips import sample_set
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import WholeBatches

__all__ = ["classify", "labels_of", "measure", "write_predictions"]

BATCH, CLIP_BATCH = 128, 8


@torch.inference_mode()
def classify(network: nn.Module, preprocess: Preprocess, split: Split | ClipSplit, device: torch.device) -> Tensor:
    """Logits of every sample of a split, float32 (sample, class), on the CPU; the network is left in eval mode.

    Of a video that is seen in several views they are the logarithm of the mean of the probabilities.
    """
    network.eval()
    samples = sample_set(split, preprocess)
    found = []
    for indices in WholeBatches(len(samples), CLIP_BATCH if preprocess.frames else BATCH):
        seen = []
        for view in range(samples.views):
            answers = network(preprocess.normalise(samples.view(indices, view).to(device)))
            seen.append(logits_of(network, answers).cpu())
        found.append(seen[0] if len(seen) == 1 else torch.stack(seen).softmax(dim=-1).mean(dim=0).log())
    return torch.cat(found)


def measure(logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Accuracy, balanced accuracy, macro F1, AUROC (one class against the rest, averaged) and the mean loss.

    Shape:
        logits (picture, class), labels (picture,)
    """
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_auroc, multiclass_f1_score

    count = logits.shape[1]
    probabilities = logits.softmax(dim=1)
    every_class = len(torch.unique(labels)) == count
    return {
        "accuracy": multiclass_accuracy(probabilities, labels, count, average="micro").item(),
        "balanced_accuracy": multiclass_accuracy(probabilities, labels, count, average="macro").item(),
        "macro_f1": multiclass_f1_score(probabilities, labels, count, average="macro").item(),
        "auroc": multiclass_auroc(probabilities, labels, count, average="macro").item() if every_class else None,
        "loss": F.cross_entropy(logits, labels).item(),
    }


def write_predictions(
    path: Path, names: Sequence[str], logits: Tensor, classes: Sequence[str], labels: Tensor | None = None
) -> None:
    """A row a picture: index, name, label if it is known, prediction, and the probability of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    known = ["label"] if labels is not None else []
    writer.writerow(["index", "name", *known, "prediction", *(f"p_{kind}" for kind in classes)])
    probabilities = logits.double().softmax(dim=1)
    for index, (name, row) in enumerate(zip(names, probabilities.tolist(), strict=True)):
        label = [classes[int(labels[index])]] if labels is not None else []
        prediction = classes[max(range(len(row)), key=row.__getitem__)]
        writer.writerow([index, name, *label, prediction, *(f"{value:.6g}" for value in row)])
    write_atomic(path, text.getvalue())


def labels_of(split: Split | ClipSplit) -> Tensor:
    """The class of every sample of a split."""
    return torch.tensor([split.label(index) for index in range(len(split))])
