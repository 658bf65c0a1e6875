"""What is kept of where a detector looks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tasks.detect.conftest import COUNTS, OPTIONS
from tests.tasks.detect.scenes import Scenes
from torch import Tensor, nn

from foveate.data.boxes import open_boxes
from foveate.networks import detr_resnet50, detr_tiny
from foveate.report.read import read_maps, read_run
from foveate.tasks.detect import looks
from foveate.tasks.detect.found import Found
from foveate.tasks.detect.geometry import cxcywh
from foveate.tasks.detect.looks import Sight, gate_health, grid_of, on_picture, pointing, see, spatial_maps
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.square import SIDE

PREPARED = Preparation(["a", "b", "c", "d", "e"], [1, 2, 3, 4, 5], [], 20, 30, 5, False)
BOXES = [[0, 0, 15, 10], [30, 20, 45, 30]]


class Nobody(nn.Module):
    stride = 5  # of pictures that are brought to half their size


NOBODY = Nobody()


def sight(queries: Tensor, spatial: dict[str, Tensor], order: list[int]) -> Sight:
    """Query order[n] answers for object n, exactly."""
    logits = torch.full((1, 1, 5, 6), -5.0)
    boxes = torch.full((1, 1, 5, 4), 0.9)
    true = torch.tensor(BOXES, dtype=torch.float32) / torch.tensor([60, 40, 60, 40])
    for number, query in enumerate(order):
        logits[0, 0, query, 3 + number], boxes[0, 0, query] = 5.0, cxcywh(true[number])
    return Sight(Found(torch.zeros(5), torch.zeros(5), torch.zeros(5, 4)), queries, spatial, logits, boxes)


def cell(row: int, column: int, rows: int = 4, columns: int = 4) -> Tensor:
    heat = torch.zeros(rows, columns)
    heat[row, column] = 1.0
    return heat


def pointed(monkeypatch: pytest.MonkeyPatch, split: Any, seen: Sight) -> dict[str, Any]:
    monkeypatch.setattr(looks, "see", lambda *_: seen)
    return pointing(NOBODY, PREPARED, [], split)  # pyright: ignore[reportArgumentType]


class Few(Scenes):
    def __len__(self) -> int:
        return 3


def test_the_query_of_an_object_points_where_it_is(monkeypatch: pytest.MonkeyPatch):
    # Tokens are 10 x 10 pixels: in the first box lies the token (0, 0), in the second one (2, 3).
    queries = torch.stack([cell(row, column, 4, 6) for row, column in ((3, 3), (2, 3), (1, 1), (0, 0), (0, 3))])
    split = Few((40, 60), BOXES)
    both = pointed(monkeypatch, split, sight(queries, {}, [3, 1]))
    assert (both["network"], both["samples"], both["mechanism"], both["taps"]) == (1.0, 6, None, {})
    assert both["chance"] == pytest.approx(150 / 2400)
    assert pointed(monkeypatch, split, sight(queries, {}, [1, 3]))["network"] == 0  # each looks at the other's object
    assert pointed(monkeypatch, split, sight(queries, {}, [3, 0]))["network"] == 0.5


def test_a_mechanism_points_where_any_object_is(monkeypatch: pytest.MonkeyPatch):
    spatial = {"one": cell(2, 2), "two": cell(1, 1), "fine": cell(29, 37, 40, 60)}
    found = pointed(monkeypatch, Few((40, 60), BOXES), sight(torch.zeros(5, 4, 4), spatial, [0, 1]))
    assert found["taps"] == {"one": 1.0, "two": 0.0, "fine": 1.0}
    assert found["mechanism"] == pytest.approx(2 / 3)


def test_a_crowd_is_no_object_that_a_query_answers_for(monkeypatch: pytest.MonkeyPatch):
    queries = torch.stack([cell(row, column, 4, 6) for row, column in ((3, 3), (2, 3), (1, 1), (0, 0), (0, 3))])
    found = pointed(monkeypatch, Few((40, 60), BOXES, [True, False]), sight(queries, {}, [3, 1]))
    assert (found["network"], found["samples"]) == (1.0, 3)
    nothing = pointed(monkeypatch, Few((40, 60), BOXES, [True, True]), sight(queries, {"one": cell(0, 0)}, [3, 1]))
    assert nothing == {"network": None, "mechanism": None, "chance": None, "samples": 0, "taps": {}}
    assert pointed(monkeypatch, Few((40, 60), []), sight(queries, {}, [3, 1]))["samples"] == 0


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "nothing"),
        (["owl"], "owl"),
        (["owl", "elk", "owl", "owl"], "elk, 3 owl"),
        (["fox", "elk", "fox"], "elk, 2 fox"),
    ],
)
def test_objects_are_counted_in_words(names: list[str], told: str):
    assert looks._told(names) == told


def test_a_token_covers_its_pixels_of_what_the_network_got():
    heat = torch.arange(6.0).reshape(2, 3)
    drawn = on_picture(heat, 4, (5, 9), (10, 18))  # what it got is half as large as the picture
    assert drawn.shape == (10, 18)
    assert drawn[0].tolist() == [0.0] * 8 + [1.0] * 8 + [2.0] * 2
    assert drawn[:, 0].tolist() == [0.0] * 8 + [3.0] * 2


def test_small_boxes_are_painted_above_large_ones():
    boxes = torch.tensor([[1.0, 1, 3, 2], [0, 0, 5, 3], [3.6, -2, 9, 9]])
    painted = looks._painted(boxes, torch.tensor([4, 0, 1]), (4, 6))
    assert painted.tolist() == [[1, 1, 1, 1, 1, 2], [1, 5, 5, 1, 1, 2], [1, 1, 1, 1, 1, 2], [0, 0, 0, 0, 2, 2]]


@pytest.mark.parametrize(("size", "grid"), [((41, 73), (6, 10)), ((40, 72), (5, 9)), ((1, 8), (1, 1))])
def test_tokens_lie_in_a_grid(size: tuple[int, int], grid: tuple[int, int]):
    network = detr_tiny(num_classes=3, num_queries=5, **OPTIONS).eval()
    assert grid_of(network, size) == grid
    seen = see(network, Preparation(["a"], [1], [], min(size), max(size), 5, False), [], torch.zeros(3, *size).byte())
    assert seen.queries.shape == (5, *grid)


def test_a_dilated_backbone_has_twice_as_many_tokens_along_each_side():
    with torch.device("meta"):
        assert grid_of(detr_resnet50(), (800, 1066)) == (25, 34)
        assert grid_of(detr_resnet50(dilation=True), (800, 1066)) == (50, 67)


def test_maps_without_places_are_left_out():
    maps = {
        "channel": torch.rand(1, 7),
        "spatial": torch.rand(1, 3, 5),
        "both": torch.rand(1, 7, 3, 5),
        "pairs": torch.rand(1, 3, 5, 3, 5),
    }
    axes = {"channel": "batch channel", "spatial": "batch *space", "both": "batch channel *space"}
    found = spatial_maps(maps, axes | {"pairs": "batch *query *key"})
    assert list(found) == ["spatial", "both", "pairs"]
    assert torch.equal(found["spatial"], maps["spatial"][0])
    torch.testing.assert_close(found["both"], maps["both"][0].mean(dim=0))
    torch.testing.assert_close(found["pairs"], maps["pairs"][0].mean(dim=(0, 1)))


def test_health_says_whether_a_gate_depends_on_the_picture(scenes: Path):
    split = open_boxes(scenes).splits["test"]
    network = detr_tiny(num_classes=3, num_queries=5, mechanism="eca", **OPTIONS).eval()
    health = gate_health(network, PREPARED, list(network.sites), split)
    assert list(health) == [f"backbone.layer{stage}.0.mechanism.gate" for stage in (1, 2, 3)]
    assert all(each["alive"] and each["axes"] == "batch channel" for each in health.values())
    constant = detr_tiny(num_classes=3, num_queries=5, mechanism="placebo", **OPTIONS).eval()
    assert not any(each["alive"] for each in gate_health(constant, PREPARED, list(constant.sites), split).values())
    assert gate_health(network, PREPARED, [], split) == {}
    assert gate_health(network, PREPARED, list(network.sites), Lone((36, 52), BOXES)) == {}


class Lone(Scenes):
    def __len__(self) -> int:
        return 1


def test_the_maps_of_a_run_stand_beside_its_pictures(run: Path):
    index = json.loads((run / "maps" / "maps.json").read_text())
    with np.load(run / "maps" / "maps.npz") as held:
        arrays = dict(held)
    assert index["classes"] == ["nothing", "square", "disc"]
    assert index["image_size"] == [SIDE, SIDE]
    assert [(entry["kind"], entry["key"]) for entry in index["maps"]] == [
        ("prediction", "prediction"),
        ("weights", "weights"),
        *(("spatial", f"spatial_{number}") for number in range(3)),
    ]
    assert index["maps"][1]["tap"] == "decoder.layers.1.cross_attn.weights"
    assert index["maps"][2]["tap"] == "backbone.layer1.0.mechanism.spatial.gate"
    count = COUNTS["test"]
    assert [sample["index"] for sample in index["samples"]] == list(range(count))
    assert arrays["images"].shape == (count, SIDE, SIDE, 3)
    # Of 48 x 40 pixels, 40 wide in 48: what lies beside the picture is no part of a map.
    number = [sample["name"] for sample in index["samples"]].index("shapes 013.png")
    assert np.isnan(arrays["weights"][number][:, :13].astype(float)).all()
    assert np.isfinite(arrays["weights"][number][:, 14:146].astype(float)).all()
    assert (arrays["images"][number][:, :13] == 0).all()
    for entry in index["maps"][1:]:
        assert arrays[entry["key"]].dtype == np.float16
    assert set(np.unique(arrays["truth"])) == {0, 1, 2}
    red = arrays["images"][..., 0].astype(int) - arrays["images"][..., 2]
    assert red[arrays["truth"] == 1].mean() > 100  # squares are red
    assert red[arrays["truth"] == 2].mean() < -40  # discs are blue, and fill not all of their boxes
    assert index["samples"][0]["label"] in {"square", "disc", "disc, square", "2 disc", "2 square", "2 disc, square"}


def test_a_report_reads_the_maps_of_a_run(run: Path):
    maps = read_maps(read_run(run))
    assert maps is not None
    assert maps.problems == ()
    assert len(maps.samples) == COUNTS["test"]
    assert [entry.tap for entry in maps.maps][:2] == ["prediction", "decoder.layers.1.cross_attn.weights"]
