import math

import pytest
import torch
from torch.testing import assert_close

from foveate.capture import (
    channel_profile,
    entropy,
    gate_entropy,
    health,
    likeness,
    pointing_hits,
    rollout,
    saturation,
    variation,
)

# entropy


def test_the_entropy_of_one_key_is_zero_and_of_all_keys_alike_is_one():
    rows = torch.stack([torch.eye(5)[2], torch.full((5,), 0.2)])
    assert_close(entropy(rows), torch.tensor([0.0, 1.0]))


def test_the_entropy_of_two_keys_of_four_is_one_half():
    assert_close(entropy(torch.tensor([[0.5, 0.0, 0.5, 0.0]])), torch.tensor([0.5]))


def test_keys_may_have_several_axes():
    weights = torch.rand(2, 3, 5, 7, 11).flatten(3).softmax(dim=3)
    assert_close(entropy(weights.unflatten(3, (7, 11)), key_axes=2), entropy(weights))


def test_entropy_over_one_key_is_an_error():
    with pytest.raises(ValueError, match=r"rows over two keys or more; got \(2, 1\) with 1 key axes"):
        entropy(torch.ones(2, 1))


def test_a_gate_is_undecided_at_one_half_and_decided_at_its_ends():
    gate = torch.tensor([0.0, 0.5, 1.0, 0.25, 1.5])
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert_close(gate_entropy(gate), torch.tensor([0.0, 1.0, 0.0, quarter, 0.0]))


# likeness


def test_queries_that_look_alike_have_a_likeness_of_one_and_those_that_look_elsewhere_of_zero():
    assert_close(likeness(torch.tensor([[0.2, 0.3, 0.5]] * 4)), torch.tensor(1.0))
    assert_close(likeness(torch.eye(5)), torch.tensor(0.0))
    halves = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    assert_close(likeness(halves), torch.tensor(0.5))


def test_likeness_is_the_mean_cosine_of_all_pairs():
    weights = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)
    found = likeness(weights)
    assert (found.shape, found.dtype) == ((2, 3), torch.float32)
    for batch in range(2):
        for head in range(3):
            rows = weights[batch, head]
            cosines = [
                torch.dot(rows[one], rows[other]) / (rows[one].norm() * rows[other].norm())
                for one in range(5)
                for other in range(5)
                if one != other
            ]
            assert_close(found[batch, head], torch.stack(cosines).mean())


def test_likeness_of_one_query_is_an_error():
    with pytest.raises(ValueError, match=r"^likeness takes rows of two queries or more; got \(3, 1, 5\)$"):
        likeness(torch.ones(3, 1, 5))


# saturation and variation


def test_saturation_is_the_share_near_closed_or_open():
    gate = torch.tensor([[0.0, 0.01, 0.03, 0.5], [0.97, 0.985, 1.0, 1.2]])
    assert saturation(gate) == 5 / 8
    assert saturation(gate, within=0.05) == 7 / 8


def test_variation_is_the_deviation_over_inputs_relative_to_the_size():
    assert variation(torch.tensor([[1.0, 2.0], [3.0, 2.0]])) == pytest.approx((1.0 + 0.0) / 2 / 2)


def test_a_map_that_is_the_same_for_every_input_does_not_vary():
    assert variation(torch.rand(1, 3, 5).expand(4, 3, 5)) == pytest.approx(0, abs=1e-12)
    assert variation(torch.zeros(4, 3)) == 0


def test_variation_of_one_input_is_an_error():
    with pytest.raises(ValueError, match=r"variation takes two inputs or more along the first axis; got \(1, 3\)"):
        variation(torch.rand(1, 3))


# health


def test_a_gate_held_open_is_not_alive():
    summary = health(torch.ones(5, 3), "batch channel")
    assert summary == {
        "axes": "batch channel",
        "mean": 1.0,
        "std": 0.0,
        "entropy": 0.0,
        "saturation": 1.0,
        "variation": 0.0,
        "alive": False,
    }


def test_a_gate_that_follows_its_input_is_alive():
    gate = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    summary = health(gate, "batch channel")
    assert summary["alive"] is True
    assert summary["mean"] == pytest.approx(gate.mean().item())
    assert summary["std"] == pytest.approx(gate.std(correction=0).item())
    assert summary["entropy"] == pytest.approx(gate_entropy(gate).mean().item())


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 3, 5, 7), "batch head query key"),
        ((2, 3, 5, 7, 11), "batch *query *key"),
        ((2, 3, 5, 3, 2, 2, 2), "batch *query *key"),
        ((2, 5, 7), "batch *query *key"),
        ((2, 3, 4, 5, 7, 11), "batch time *query *key"),
        ((2, 4, 5, 5, 7), "batch *space query key"),
    ],
)
def test_attention_weights_are_measured_by_rows(shape, axes):
    shape = (*shape[:-1], 2) if shape == (2, 3, 5, 7, 11) else shape  # as many query axes as key axes
    keys = {"batch head query key": 1, "batch *space query key": 1}.get(axes, (len(shape) - axes.count(" ") + 1) // 2)
    rows = torch.full(shape, 1 / math.prod(shape[-keys:]))
    summary = health(rows, axes)
    assert summary["entropy"] == pytest.approx(1)
    assert summary["saturation"] is None


# rollout


def test_rollout_of_one_layer_is_half_itself_and_half_the_residual():
    weights = torch.rand(2, 3, 5, 5).softmax(dim=3)
    assert_close(rollout([weights]), (weights.mean(dim=1) + torch.eye(5)) / 2)


def test_rollout_multiplies_later_layers_from_the_left():
    first = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    second = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    by_hand = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]) @ torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    assert_close(rollout([first, second]), by_hand)


def test_the_rows_of_rollout_sum_to_one():
    flow = rollout([torch.randn(2, 3, 5, 5).softmax(dim=3) for _ in range(4)])
    assert_close(flow.sum(dim=2), torch.ones(2, 5))


@pytest.mark.parametrize("shapes", [[(2, 3, 5, 7)], [(5, 5)], [(2, 3, 5, 5), (2, 3, 7, 7)]])
def test_rollout_needs_square_weights_of_one_size(shapes):
    with pytest.raises(
        ValueError, match=r"rollout takes \(batch, head, token, token\) with equal tokens in every layer"
    ):
        rollout([torch.ones(shape) for shape in shapes])


def test_rollout_of_no_layer_is_an_error():
    with pytest.raises(ValueError, match="rollout takes the weights of one layer or more; got none"):
        rollout([])


# pointing


def test_a_maximum_inside_the_true_place_is_a_hit():
    heat = torch.zeros(2, 3, 4)
    heat[0, 2, 1] = heat[1, 0, 3] = 1  # their cells cover rows 8-11, columns 3-5, and rows 0-3, columns 9-11
    masks = torch.zeros(2, 12, 12, dtype=torch.bool)
    masks[:, 10, 4] = True
    assert pointing_hits(heat, masks).tolist() == [True, False]


def test_the_maximum_is_the_centre_of_its_cell():
    heat = torch.tensor([[0.0, 1.0]])
    for place, hit in ((4, False), (5, False), (6, True), (7, False)):
        mask = torch.zeros(1, 8, dtype=torch.uint8)
        mask[0, place] = 1
        assert pointing_hits(heat, mask).item() is hit


def test_a_map_finer_than_the_mask_points_as_well():
    heat = torch.zeros(1, 9, 9)
    heat[0, 7, 1] = 1
    mask = torch.zeros(1, 3, 3, dtype=torch.bool)
    mask[0, 2, 0] = True
    assert pointing_hits(heat, mask).item()


def test_a_map_that_is_the_same_everywhere_points_nowhere():
    masks = torch.ones(2, 4, 4, dtype=torch.bool)
    masks[:, 0, 0] = False
    assert not pointing_hits(torch.ones(2, 4, 4), masks).any()
    assert not pointing_hits(torch.full((2, 4, 4), torch.nan), masks).any()


def test_of_equal_maxima_all_have_to_be_inside():
    heat = torch.tensor([[1.0, 0.0, 1.0]])
    assert pointing_hits(heat, torch.tensor([[1, 0, 1]])).item()
    assert not pointing_hits(heat, torch.tensor([[1, 0, 0]])).item()


def test_pointing_works_in_volumes_too():
    heat = torch.zeros(1, 2, 3, 5)
    heat[0, 1, 2, 3] = 1
    masks = torch.zeros(1, 4, 6, 10)
    masks[0, 3, 5, 7] = 1
    assert pointing_hits(heat, masks).item()


@pytest.mark.parametrize(("heat", "masks"), [((2, 3, 3), (2, 3, 3, 3)), ((2, 3), (3, 3)), ((2,), (2,))])
def test_pointing_needs_maps_and_masks_that_go_together(heat, masks):
    with pytest.raises(ValueError, match=r"pointing_hits takes heat \(batch, \*cells\) and masks"):
        pointing_hits(torch.ones(heat), torch.ones(masks))


# channel_profile


def test_a_profile_is_the_mean_gate_of_each_class():
    gate = torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [3.0, 2.0, 1.0]])
    profile = channel_profile(gate, torch.tensor([0, 3, 0]), num_classes=4)
    assert_close(profile[[0, 3]], torch.tensor([[2.0, 2.0, 2.0], [5.0, 5.0, 5.0]]))
    assert profile[[1, 2]].isnan().all()


def test_a_profile_averages_over_space():
    gate = torch.rand(5, 3, 2, 7)
    labels = torch.tensor([0, 1, 1, 0, 1])
    assert_close(channel_profile(gate, labels, 2), channel_profile(gate.mean(dim=(2, 3)), labels, 2))


def test_a_profile_needs_a_label_for_each_input():
    with pytest.raises(ValueError, match=r"one label an input; got \(5, 3\) and \(4,\)"):
        channel_profile(torch.rand(5, 3), torch.zeros(4, dtype=torch.long), 2)


def test_weights_over_a_single_key_have_no_entropy():
    summary = health(torch.ones(5, 1, 1, 1, 1), "batch *query *key")
    assert summary["entropy"] is None
    assert not summary["alive"]


def test_dot_products_below_zero_have_no_entropy():
    values = torch.randn(5, 2, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    summary = health(values, "batch *query *key")
    assert summary["entropy"] is None
    assert summary["alive"]
    assert all(math.isfinite(summary[name]) for name in ("mean", "std", "variation"))  # pyright: ignore[reportArgumentType]
    assert health(values.abs(), "batch *query *key")["entropy"] is not None
