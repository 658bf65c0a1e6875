"""Which way round attention is read, and at which place."""

from typing import Any

import pytest
import torch
from tests.tasks.detect.conftest import OPTIONS
from torch import Tensor

from foveate import capture, edit
from foveate.networks import DETR, detr_tiny
from foveate.tasks.detect.attending import attention_in, mask_panels, point_panels, query_panels
from foveate.tasks.detect.looks import on_picture
from foveate.tasks.detect.preparation import Preparation

PREPARED = Preparation(["a", "b", "c"], [1, 2, 3], [], 41, 73, 7, False)
PICTURE = torch.randint(0, 256, (3, 41, 73), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
GRID = (6, 10)  # of tokens that stand for 8 pixels along each axis
ENCODER, DECODER = "encoder.layers.{}.self_attn.weights", "decoder.layers.{}.cross_attn.weights"
MASKED = {"panoptic": True, "embed_dim": 64, "num_heads": 8}


def network(**options: Any) -> DETR:
    torch.manual_seed(3)
    sizes = {"num_classes": 3, "num_queries": 7, **OPTIONS, "encoder_layers": 2}
    return detr_tiny(**{**sizes, **options}).eval()


def whole(host: DETR, name: str) -> Tensor:
    """A whole map: (head, query, key)."""
    with capture(host, only=[name]) as maps, torch.no_grad():
        host(PREPARED.prepare(PICTURE)[None])
    return maps[name][0]


def test_a_point_looks_along_its_row_and_is_looked_at_along_its_column():
    host = network()
    seen = attention_in(host, PREPARED, [], PICTURE, threshold=0.0, points=[(72.0, 0.0), (37.0, 21.0)])
    weights = whole(host, ENCODER.format(1))
    assert weights.shape == (2, 60, 60)
    assert seen.looks_at is not None
    assert seen.looked_at_by is not None
    assert seen.looks_at.shape == seen.looked_at_by.shape == (2, 2, *GRID)
    for number, token in enumerate((9, 2 * 10 + 4)):
        torch.testing.assert_close(seen.looks_at[number].flatten(1), weights[:, token])
        torch.testing.assert_close(seen.looked_at_by[number].flatten(1), weights[:, :, token])
        assert not torch.allclose(weights[:, token], weights[:, :, token], rtol=0.01)
    torch.testing.assert_close(seen.looks_at.sum(dim=(2, 3)), torch.ones(2, 2))


def test_where_all_look_at_one_place_it_is_looked_at_by_all():
    host, name = network(), ENCODER.format(1)
    corner = torch.zeros(60, 60)
    corner[:, 59] = 1.0
    with edit(host, {name: corner}):
        seen = attention_in(host, PREPARED, [], PICTURE, threshold=0.0, points=[(72.9, 40.9), (0.0, 0.0)])
    assert seen.looks_at is not None
    assert seen.looked_at_by is not None
    for looks_at in seen.looks_at:
        assert (looks_at[:, 5, 9] == 1).all()
        assert looks_at.sum() == 2  # of two heads
    assert (seen.looked_at_by[0] == 1).all()
    assert (seen.looked_at_by[1] == 0).all()


@pytest.mark.parametrize(
    ("point", "row", "column"),
    [((0, 0), 0, 0), ((72, 40), 5, 9), ((7, 7), 0, 0), ((8, 7), 0, 1), ((7, 8), 1, 0), ((39.9, 20), 2, 4)],
)
def test_the_token_of_a_point_is_that_under_which_it_is_drawn(point: tuple[float, float], row: int, column: int):
    host, name = network(), ENCODER.format(1)
    own = torch.arange(60.0)[:, None].expand(60, 60)  # every query's weights are its number
    with edit(host, {name: own}):
        seen = attention_in(host, PREPARED, [], PICTURE, threshold=0.0, points=[point])
    assert seen.looks_at is not None
    assert (seen.looks_at == row * 10 + column).all()
    drawn = on_picture(torch.arange(60.0).reshape(GRID), 8, (41, 73), (41, 73))
    assert drawn[int(point[1]), int(point[0])] == row * 10 + column


def test_every_box_above_the_threshold_has_where_its_query_looks():
    host = network()
    seen = attention_in(host, PREPARED, [], PICTURE, threshold=0.0)
    assert seen.shown == seen.found.scores.argsort(descending=True).tolist()
    weights = whole(host, DECODER.format(1))
    assert seen.queries.shape == (7, 2, *GRID)
    for place, query in enumerate(seen.shown):
        torch.testing.assert_close(seen.queries[place].flatten(1), weights[:, query])
    best = attention_in(host, PREPARED, [], PICTURE, threshold=0.999)
    assert best.shown == seen.shown[:1]
    assert best.queries.shape == (1, 2, *GRID)
    # Where nobody asks for points, they are the middles of the best boxes.
    left, top, right, bottom = seen.found.boxes_xyxy[seen.shown[0]].tolist()
    assert best.points == [pytest.approx(((left + right) / 2, (top + bottom) / 2))]
    assert len(seen.points) == 4


def test_layers_are_counted_from_one():
    host = network()
    for layer in (1, 2):
        seen = attention_in(host, PREPARED, [], PICTURE, threshold=0.999, points=[(1, 2)], layer=layer)
        weights = whole(host, DECODER.format(layer - 1))[:, seen.shown[0]]
        torch.testing.assert_close(seen.queries[0].flatten(1), weights)
        assert seen.looks_at is not None
        torch.testing.assert_close(seen.looks_at[0].flatten(1), whole(host, ENCODER.format(layer - 1))[:, 0])
    with pytest.raises(ValueError, match=r"^the encoder has layers 1 to 2; got 3$"):
        attention_in(host, PREPARED, [], PICTURE, threshold=0.5, layer=3)
    with pytest.raises(ValueError, match=r"^the decoder has layers 1 to 1; got 2$"):
        attention_in(network(decoder_layers=1), PREPARED, [], PICTURE, threshold=0.5, layer=2)


@pytest.mark.parametrize("point", [(73.0, 0.0), (0.0, 41.0), (-1.0, 3.0), (float("nan"), 3.0)])
def test_a_point_outside_of_the_picture_is_refused(point: tuple[float, float]):
    told = rf"^a point lies in the picture, which has 73 x 41 pixels; got {point[0]:g},{point[1]:g}$"
    with pytest.raises(ValueError, match=told):
        attention_in(network(), PREPARED, [], PICTURE, threshold=0.5, points=[(1.0, 2.0), point])


def test_without_an_encoder_points_look_nowhere():
    host = network(encoder_layers=0)
    with pytest.raises(LookupError, match=r"^points look at each other in the encoder; .* has encoder_layers=0$"):
        attention_in(host, PREPARED, [], PICTURE, threshold=0.5, points=[(1.0, 2.0)])
    seen = attention_in(host, PREPARED, [], PICTURE, threshold=0.0)
    assert seen.looks_at is seen.looked_at_by is None
    assert seen.queries.shape == (7, 2, *GRID)
    assert point_panels(PICTURE, seen, heads=False) == []


def test_the_mechanism_is_seen_by_its_places_and_by_its_channels():
    host = network(mechanism="eca+spatial")
    new = [f"backbone.layer{stage}.0.mechanism" for stage in (1, 2, 3)]
    seen = attention_in(host, PREPARED, new, PICTURE, threshold=0.5)
    assert list(seen.spatial) == [f"{name}.spatial.gate" for name in new]
    assert list(seen.gates) == [f"{name}.eca.gate" for name in new]
    with capture(host) as maps, torch.no_grad():
        host(PREPARED.prepare(PICTURE)[None])
    for name, heat in seen.spatial.items():
        torch.testing.assert_close(heat, maps[name].reshape(heat.shape))
    for name, gates in seen.gates.items():
        torch.testing.assert_close(gates, maps[name][0])
    pairwise = network(mechanism="nonlocal")
    sites = list(pairwise.sites)
    seen = attention_in(pairwise, PREPARED, sites, PICTURE, threshold=0.5)
    with capture(pairwise) as maps, torch.no_grad():
        pairwise(PREPARED.prepare(PICTURE)[None])
    assert seen.spatial
    for name, heat in seen.spatial.items():
        weights = maps[name][0]  # rows, columns, rows, columns: how much attention each place is given by all
        torch.testing.assert_close(heat, weights.flatten(0, 1).mean(dim=0))
    assert seen.gates == {}


def test_what_a_mask_begins_with_is_shared_by_heads_and_places():
    host = network(**MASKED)
    prepared = Preparation(["a", "b", "c"], [1, 2, 3], [], 41, 73, 7, True)
    seen = attention_in(host, prepared, [], PICTURE, threshold=0.0)
    assert seen.masks is not None
    assert seen.masks.shape == (7, 8, *GRID)
    with capture(host, only=["mask_attention.weights"]) as maps, torch.no_grad():
        host(prepared.prepare(PICTURE)[None])
    torch.testing.assert_close(seen.masks, maps["mask_attention.weights"][0, seen.shown])
    torch.testing.assert_close(seen.masks.sum(dim=(1, 2, 3)), torch.ones(7))
    panels = mask_panels(PICTURE, seen, prepared.classes, heads=False)
    assert len(panels) == 7
    assert (
        panels[0].title == f"mask of {prepared.classes[int(seen.found.labels[seen.shown[0]])]}, query {seen.shown[0]}"
    )
    assert len(mask_panels(PICTURE, seen, prepared.classes, heads=True)) == 7 * 8


def test_panels_show_the_mean_over_heads_or_every_head():
    seen = attention_in(network(), PREPARED, [], PICTURE, threshold=0.999, points=[(1, 2), (30, 40)])
    (query,) = seen.shown
    box = seen.found.boxes_xyxy[query].tolist()
    title = f"{PREPARED.classes[int(seen.found.labels[query])]} {float(seen.found.scores[query]):.2f}, query {query}"
    every, mean = query_panels(PICTURE, seen, PREPARED.classes, heads=False)
    assert (every.title, every.heat, every.boxes_xyxy) == ("what is found", None, [box])
    assert (mean.title, mean.boxes_xyxy) == (title, [box])
    assert mean.heat is not None
    torch.testing.assert_close(mean.heat[::8, ::8], seen.queries[0].mean(dim=0))
    heads = query_panels(PICTURE, seen, PREPARED.classes, heads=True)
    assert [panel.title for panel in heads] == [f"{title}, head 1", f"{title}, head 2"]
    assert seen.looks_at is not None
    assert seen.looked_at_by is not None
    points = point_panels(PICTURE, seen, heads=False)
    assert [(panel.title, panel.point) for panel in points] == [
        ("what (1, 2) looks at", (1, 2)),
        ("what looks at (1, 2)", (1, 2)),
        ("what (30, 40) looks at", (30, 40)),
        ("what looks at (30, 40)", (30, 40)),
    ]
    for panel, weights in zip(points[2:], (seen.looks_at[1], seen.looked_at_by[1]), strict=True):
        assert panel.heat is not None
        torch.testing.assert_close(panel.heat[::8, ::8], weights.mean(dim=0))
    assert len(point_panels(PICTURE, seen, heads=True)) == 2 * 2 * 2
    assert mask_panels(PICTURE, seen, PREPARED.classes, heads=False) == []
