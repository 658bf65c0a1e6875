import math
from itertools import permutations

import pytest
import torch
from tests.tasks.detect.answers import random_boxes, random_logits, random_targets
from torchvision.ops import generalized_box_iou

from foveate.errors import TrainingError
from foveate.tasks.detect.geometry import xyxy
from foveate.tasks.detect.matcher import Costs, Pairs, Stability, match
from foveate.tasks.detect.targets import Target


def cost_by_hand(logits, boxes, target, costs=(1, 5, 2)):
    """Of one picture and layer: (query, object)."""
    p = logits.softmax(-1)
    matrix = torch.zeros(len(boxes), len(target.labels), dtype=torch.float64)
    for query, box in enumerate(boxes):
        for number, (label, wanted) in enumerate(zip(target.labels, target.boxes, strict=True)):
            overlap = generalized_box_iou(xyxy(box)[None], xyxy(wanted)[None]).item()
            distance = (box - wanted).abs().sum()
            matrix[query, number] = -costs[0] * p[query, label] + costs[1] * distance - costs[2] * overlap
    return matrix


def rows(pairs: Pairs, layer: int, picture: int) -> list[tuple[int, int]]:
    chosen = (pairs.layer == layer) & (pairs.picture == picture)
    return list(zip(pairs.query[chosen].tolist(), pairs.object[chosen].tolist(), strict=True))


@pytest.mark.parametrize("costs", [Costs(), Costs(classes=3, boxes=0, giou=1)])
def test_every_layer_and_picture_has_the_assignment_of_least_cost(costs):
    logits, boxes = random_logits(2, 3, 5, 6), random_boxes(2, 3, 5)
    targets = random_targets(3, 0, 2)
    pairs = match(logits, boxes, targets, costs)
    assert len(pairs) == 2 * 5
    for layer in range(2):
        for picture, target in enumerate(targets):
            found = rows(pairs, layer, picture)
            by_hand = (costs.classes, costs.boxes, costs.giou)
            matrix = cost_by_hand(logits[layer, picture], boxes[layer, picture], target, by_hand)
            least = min(
                sum(matrix[query, number].item() for number, query in enumerate(queries))
                for queries in permutations(range(5), len(target.labels))
            )
            assert sum(matrix[pair].item() for pair in found) == pytest.approx(least)
            assert sorted(number for _, number in found) == list(range(len(target.labels)))
            assert found == sorted(found)


def test_what_is_matched_does_not_depend_on_the_order_of_the_objects():
    logits, boxes, (target,) = random_logits(1, 1, 7, 6), random_boxes(1, 1, 7), random_targets(4)
    order = torch.tensor([2, 0, 3, 1])
    turned = Target(target.labels[order], target.boxes[order])
    found = {query: order[number].item() for query, number in rows(match(logits, boxes, [turned]), 0, 0)}
    assert found == dict(rows(match(logits, boxes, [target]), 0, 0))


def test_with_fewer_queries_than_objects_every_query_has_one():
    pairs = match(random_logits(1, 1, 3, 6), random_boxes(1, 1, 3), random_targets(5))
    assert pairs.query.tolist() == [0, 1, 2]
    assert len(set(pairs.object.tolist())) == 3


def test_a_batch_without_objects_has_no_pairs():
    pairs = match(random_logits(2, 2, 3, 6), random_boxes(2, 2, 3), random_targets(0, 0))
    assert len(pairs) == 0
    assert pairs.query.dtype == torch.int64


def test_costs_are_computed_in_single_precision_under_autocast():
    logits, boxes = random_logits(2, 2, 30, 6).bfloat16(), random_boxes(2, 2, 30).bfloat16()
    targets = [Target(target.labels, target.boxes.float()) for target in random_targets(9, 7)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = match(logits, boxes, targets)
    full = match(logits.float(), boxes.float(), targets)
    assert torch.equal(half.query, full.query)
    assert torch.equal(half.object, full.object)


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("boxes", math.nan, r"network's boxes must be finite; got \[nan, .*\] of query 2, picture 1 of .* layer 0"),
        ("logits", math.inf, r"network's logits must be finite; got \[inf, .*\] of query 2, picture 1 of .* layer 0"),
        ("truth", math.nan, r"true boxes must be finite; got \[nan, .*\] in picture 1 of the batch"),
    ],
)
def test_what_is_not_finite_is_named(what, value, said):
    logits, boxes, targets = random_logits(1, 2, 3, 6), random_boxes(1, 2, 3), random_targets(1, 2)
    {"boxes": boxes[0, 1, 2], "logits": logits[0, 1, 2], "truth": targets[1].boxes[0]}[what][0] = value
    with pytest.raises(TrainingError, match=said):
        match(logits, boxes, targets)


@pytest.mark.parametrize("costs", [(0, 0, 0), (1, -1, 2)])
def test_costs_below_zero_or_all_zero_are_refused(costs):
    with pytest.raises(ValueError, match=r"costs must not be negative, nor all be zero; got \("):
        Costs(*costs)


def pairs_of(*rows: tuple[int, int, int, int]) -> Pairs:
    return Pairs(*torch.tensor(rows).T)


def test_stability_counts_queries_whose_object_changed():
    targets = random_targets(2, 1)
    stability = Stability()
    # Layer 0 is not the last, and does not count.
    stability.update(pairs_of((0, 0, 9, 0), (1, 0, 3, 0), (1, 0, 4, 1), (1, 1, 5, 0)), [17, 11], targets)
    assert stability.share() is None
    # Picture 17: query 3 keeps its object, 4 loses its, 6 gets it. Picture 11: nothing changes.
    stability.update(pairs_of((1, 1, 3, 0), (1, 1, 6, 1), (1, 0, 5, 0)), [11, 17], targets[::-1])
    assert stability.share() == 2 / 4
    assert stability.share() is None


def test_stability_knows_objects_by_their_number_in_the_whole_picture():
    (target,) = random_targets(2)
    cropped = Target(target.labels[1:], target.boxes[1:], numbers=torch.tensor([1]))
    stability = Stability()
    stability.update(pairs_of((0, 0, 3, 1)), [0], [target])
    stability.update(pairs_of((0, 0, 3, 0)), [0], [cropped])
    assert stability.share() == 0


def test_a_picture_whose_objects_are_all_gone_has_changed():
    stability = Stability()
    stability.update(pairs_of((0, 0, 3, 0)), [0], random_targets(1))
    stability.update(Pairs(*torch.zeros(4, 0, dtype=torch.long)), [0], random_targets(0))
    assert stability.share() == 1
