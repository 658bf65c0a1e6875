"""What a trained network says of pictures, and how good that is."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.data import ClipSplit, Split
from foveate.errors import DataError
from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.tasks.answers import logits_of
from foveate.tasks.clips import sample_set
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import PictureSet, WholeBatches

__all__ = ["classify", "classify_usable", "labels_of", "measure", "write_predictions"]

BATCH, CLIP_BATCH = 128, 8


def classify(network: nn.Module, preprocess: Preprocess, split: Split | ClipSplit, device: torch.device) -> Tensor:
    """Logits of every sample of a split, float32 (sample, class), on the CPU; the network is left in eval mode.

    Of a video that is seen in several views they are the logarithm of the mean of the probabilities.
    """
    samples = sample_set(split, preprocess)
    return torch.cat([_logits(network, samples, indices, device) for indices in _batches(samples)])


def classify_usable(
    network: nn.Module,
    preprocess: Preprocess,
    split: Split | ClipSplit,
    device: torch.device,
    usable: Callable[[Callable[[int], Tensor], int], Tensor | None],
) -> dict[int, Tensor]:
    """The logits of each sample that can be read, (class,), by its number; `usable` is that of inputs.each_input."""
    samples = sample_set(split, preprocess)
    found: dict[int, Tensor] = {}
    for indices in _batches(samples):
        try:
            found |= zip(indices, _logits(network, samples, indices, device), strict=True)
        except DataError:  # one of them: each by itself
            for index in indices:
                logits = usable(lambda index: _logits(network, samples, [index], device)[0], index)
                if logits is not None:
                    found[index] = logits
    return found


def _batches(samples: PictureSet) -> WholeBatches:
    return WholeBatches(len(samples), CLIP_BATCH if samples.preprocess.frames else BATCH)


@torch.inference_mode()
def _logits(network: nn.Module, samples: PictureSet, indices: list[int], device: torch.device) -> Tensor:
    network.eval()
    seen = []
    for view in range(samples.views):
        answers = network(samples.preprocess.normalise(samples.view(indices, view).to(device)))
        seen.append(logits_of(network, answers).cpu())
    return seen[0] if len(seen) == 1 else torch.stack(seen).log_softmax(-1).logsumexp(0) - math.log(len(seen))


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
    """A row a sample: index, name, label if it is known, prediction, and the probability of each class."""
    text = io.StringIO()
    writer = TableWriter(text)
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
