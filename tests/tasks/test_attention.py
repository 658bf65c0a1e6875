import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveate.capture import Tap
from foveate.data import open_pictures
from foveate.networks.resnet import resnet_tiny
from foveate.tasks.attention import (
    Look,
    gate_health,
    look,
    own_taps,
    pick_samples,
    pointing,
    spread_out,
    true_places,
)
from foveate.tasks.maps import write_maps
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import PictureSet

CPU = torch.device("cpu")


class Spots:
    """Pictures of 8x12 with one bright pixel, whose place is known as a box around it."""

    def __init__(self, places: list[tuple[int, int]], known: bool = True) -> None:
        self.places, self.known = places, known

    def __len__(self) -> int:
        return len(self.places)

    def image(self, index: int) -> Tensor:
        image = torch.zeros(1, 8, 12, dtype=torch.uint8)
        image[0, self.places[index][0], self.places[index][1]] = 255
        return image

    def label(self, index: int) -> int:
        return index % 2

    def name(self, index: int) -> str:
        return f"spot {index}"

    def boxes_xyxy(self, index: int) -> Tensor | None:
        y, x = self.places[index]
        return torch.tensor([[x - 1.0, y - 1.0, x + 2.0, y + 2.0]]) if self.known else None

    def mask(self, index: int) -> None:
        return None


class Looker(nn.Module):
    """Every kind of map, made of the picture itself."""

    def __init__(self) -> None:
        super().__init__()
        self.mechanism = nn.ModuleDict(
            {
                "channel": Tap("batch channel"),
                "space": Tap("batch *space"),
                "both": Tap("batch channel *space"),
                "rows": Tap("batch *query *key"),
            }
        )
        self.other = Tap("batch channel")
        self.features = nn.Identity()
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.ones_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, x / 2], dim=1)
        self.other(x.mean(dim=(2, 3)))
        self.mechanism["channel"](x.mean(dim=(2, 3)))
        self.mechanism["space"](x[:, 0])
        self.mechanism["both"](x)
        # Every place looks at itself and at the first place, half and half.
        batch, _, height, width = x.shape
        count = height * width
        weights = torch.eye(count).repeat(batch, 1, 1) / 2
        weights[:, :, 0] += 0.5
        self.mechanism["rows"](weights.reshape(batch, height, width, height, width))
        return self.head(self.features(x).mean(dim=(2, 3)))


PLAIN = Preprocess(["even", "odd"], 1, (8, 12), (0.0,), (1.0,))
PLACES = [(3, 2), (5, 9), (1, 7), (6, 4), (2, 2)]


def seen(split: Spots) -> Look:
    return look(Looker(), ["mechanism"], PLAIN, split, list(range(len(split))), 2, CPU)


def test_only_the_taps_of_the_mechanism_are_looked_at():
    assert set(own_taps(Looker(), ["mechanism"])) == {
        f"mechanism.{name}" for name in ("channel", "space", "both", "rows")
    }
    assert own_taps(Looker(), []) == {}


def test_maps_are_kept_by_their_kind():
    found = seen(Spots(PLACES))
    assert set(found.profiles) == {"mechanism.channel", "mechanism.both"}
    assert set(found.spatial) == {"mechanism.space", "mechanism.both", "mechanism.rows"}
    assert set(found.rows) == {"mechanism.rows"}
    assert found.profiles["mechanism.both"].shape == (5, 2)
    torch.testing.assert_close(found.profiles["mechanism.channel"], torch.tensor([[1 / 96, 1 / 192]]).repeat(5, 1))
    for index, (y, x) in enumerate(PLACES):
        assert found.spatial["mechanism.space"][index].argmax() == 12 * y + x
        assert found.spatial["mechanism.both"][index, y, x] == pytest.approx(0.75)
        assert found.network is not None
        assert found.network[index].argmax() == 12 * y + x
        # The row is that of the middle of the true box.
        assert found.rows["mechanism.rows"][index, y, x] == 0.5
        assert found.rows["mechanism.rows"][index, 0, 0] == 0.5


def test_pointing_is_the_share_of_maxima_in_the_true_place():
    found = pointing(seen(Spots(PLACES)))
    assert found["samples"] == 5
    assert found["chance"] == pytest.approx(9 / 96)
    assert found["network"] == 1
    # What each place is given by all is most at the first place, where nothing is.
    assert found["taps"] == {"mechanism.space": 1, "mechanism.both": 1, "mechanism.rows": 0}
    assert found["mechanism"] == pytest.approx(2 / 3)


def test_without_true_places_nothing_points():
    split = Spots(PLACES, known=False)
    found = seen(split)
    assert pointing(found) == {"network": None, "mechanism": None, "chance": None, "samples": 0, "taps": {}}
    assert found.points.tolist() == [[0.5, 0.5]] * 5
    assert found.rows["mechanism.rows"][0, 4, 6] == 0.5


def test_a_network_without_a_mechanism_is_still_looked_at():
    found = look(resnet_tiny(in_channels=1, num_classes=2), [], PLAIN, Spots(PLACES), [4, 0, 1], 64, CPU)
    assert found.spatial == found.profiles == found.values == {}
    assert found.network is not None
    assert found.logits.shape == (3, 2)
    assert found.labels.tolist() == [0, 0, 1]


def test_gates_that_never_change_are_not_alive():
    health = gate_health(seen(Spots(PLACES)))
    assert set(health) == {f"mechanism.{name}" for name in ("channel", "space", "both", "rows")}
    assert health["mechanism.space"]["alive"]
    assert not health["mechanism.channel"]["alive"]  # the mean of one bright pixel is the same wherever it is
    assert not health["mechanism.rows"]["alive"]
    assert health["mechanism.rows"]["saturation"] is None


def test_boxes_are_carried_to_what_the_network_sees():
    # Twice as large, then cut from 12 to 8 columns: two columns of the picture fall away on each side.
    preprocess = Preprocess(["even", "odd"], 1, (16, 16), (0.0,), (1.0,))
    masks, boxes = true_places(PictureSet(Spots([(3, 5), (3, 2)]), preprocess), [0, 1])
    assert boxes == [[4.0, 4.0, 10.0, 10.0], [0.0, 4.0, 4.0, 10.0]]
    assert masks is not None
    assert masks.sum(dim=(1, 2)).tolist() == [36, 24]
    assert masks[0, 4:10, 4:10].all()


def test_samples_are_the_first_of_each_class():
    assert pick_samples([0, 0, 0, 1, 1, 2], 3) == [0, 1, 2, 3, 4, 5]
    labels = [kind for kind in range(10) for _ in range(5)]
    picked = pick_samples(labels, 10)
    assert picked == [5 * kind + place for kind in range(8) for place in range(2)]
    assert len(pick_samples(list(range(40)), 40)) == 16


def test_of_many_pictures_some_are_looked_at_evenly():
    few = spread_out(5, [3, 1])
    assert few[:2] == [3, 1]
    assert sorted(few) == [0, 1, 2, 3, 4]
    many = spread_out(2000, [7])
    assert many[0] == 7
    assert sorted(many[1:]) == list(range(0, 2000, 4))
    # Pictures often lie class by class: the first few looked at are not those of the first classes.
    assert max(many[1:60]) > 1500
    assert many == spread_out(2000, [7])


def test_maps_are_written_as_the_report_reads_them(tmp_path: Path):
    split = Spots(PLACES)
    write_maps(tmp_path, seen(split), split, PLAIN.classes, 3)
    index, arrays = json.loads((tmp_path / "maps.json").read_text()), np.load(tmp_path / "maps.npz")
    assert index["classes"] == ["even", "odd"]
    assert index["image_size"] == [8, 12]
    assert index["samples"][1] == {
        "index": 1,
        "name": "spot 1",
        "label": "odd",
        "prediction": index["samples"][1]["prediction"],
        "box_xyxy": [8.0, 4.0, 11.0, 7.0],
    }
    assert arrays["images"].shape == (3, 8, 12, 3)
    kinds = {(entry["tap"].removeprefix("mechanism."), entry["kind"]) for entry in index["maps"]}
    assert kinds == {
        ("channel", "channel_profile"),
        ("both", "channel_profile"),
        ("space", "spatial"),
        ("both", "spatial"),
        ("rows", "rows"),
        ("network", "network"),
    }
    for entry in index["maps"]:
        shape = (2, 2) if entry["kind"] == "channel_profile" else (3, 8, 12)
        assert arrays[entry["key"]].shape == shape
    (rows,) = [entry for entry in index["maps"] if entry["kind"] == "rows"]
    assert rows["point"][0] == [pytest.approx(3.5 / 8, abs=1e-4), pytest.approx(2.5 / 12, abs=1e-4)]


def test_the_demo_knows_its_true_places():
    pictures = open_pictures("demo")
    preprocess = Preprocess(["a"], 1, (40, 40), (0.0,), (1.0,))
    masks, boxes = true_places(PictureSet(pictures.splits["test"], preprocess), [0, 1])
    assert masks is not None
    assert boxes[0] == pictures.splits["test"].boxes_xyxy(0)[0].tolist()  # pyright: ignore[reportOptionalSubscript]


class MovingSpots(Spots):
    """Clips of three frames in which the spot goes a row down in each."""

    def length(self, index: int) -> int:
        return 3

    def clip(self, index: int, frames: Sequence[int]) -> Tensor:
        return torch.stack([self.image(index).roll(frame, dims=1) for frame in frames], dim=1)

    def boxes_xyxy(self, index: int) -> Tensor | None:
        first = super().boxes_xyxy(index)
        return None if first is None else first + torch.arange(3)[:, None] * torch.tensor([0.0, 1.0, 0.0, 1.0])


class FilmLooker(nn.Module):
    """Every place gives 3/4 of its weight to where the spot is in the next frame, and 1/4 to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.mechanism = nn.ModuleDict({"gate": Tap("batch *space"), "rows": Tap("batch *query *key")})
        self.features = nn.Identity()
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.ones_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        self.mechanism["gate"](x[:, 0])
        batch, space = len(x), x.shape[2:]
        weights = torch.eye(space.numel()).reshape(*space, *space).repeat(batch, *[1] * 6) / 4
        for frame in range(3):
            weights[:, frame, :, :, (frame + 1) % 3] += x[:, 0, (frame + 1) % 3, None, None] * 0.75
        self.mechanism["rows"](weights)
        return self.head(self.features(torch.cat([x, x / 2], dim=1)).mean(dim=(2, 3, 4)))


FILM = dataclasses.replace(PLAIN, frames=3)
STARTS = [(3, 2), (4, 9), (1, 7), (2, 4)]


def seen_in_time(split: MovingSpots) -> Look:
    return look(FilmLooker(), ["mechanism"], FILM, split, list(range(len(split))), 2, CPU)


def test_clips_are_looked_at_in_space_and_time():
    found = seen_in_time(MovingSpots(STARTS))
    assert found.frames == 3
    for index, (y, x) in enumerate(STARTS):
        assert found.points[index].tolist() == pytest.approx([0.5, (y + 1.5) / 8, (x + 0.5) / 12])
        row = found.rows["mechanism.rows"][index]  # of the spot in the middle frame
        assert row[1, y + 1, x] == 0.25
        assert row[2, y + 2, x] == 0.75
        assert row.sum() == 1
        received = found.spatial["mechanism.rows"][index]
        assert [received[frame].argmax() for frame in range(3)] == [12 * (y + frame) + x for frame in range(3)]
        assert found.spatial["mechanism.gate"][index, 2].argmax() == 12 * (y + 2) + x
        assert found.network is not None
        assert found.network[index, 0].argmax() == 12 * y + x
    onward = torch.tensor([[1.0, 3, 0], [0, 1, 3], [3, 0, 1]]) / 4
    torch.testing.assert_close(found.between["mechanism.rows"], onward.repeat(4, 1, 1))
    assert found.logits.shape == (4, 2)


def test_maxima_in_clips_point_at_the_true_place_in_their_own_frame():
    split = MovingSpots(STARTS)
    found = pointing(seen_in_time(split))
    assert found["samples"] == 4
    assert found["chance"] == pytest.approx(9 / 96)
    assert found["network"] == 1
    assert found["taps"]["mechanism.gate"] == 1
    late = MovingSpots(STARTS)
    late.clip = lambda index, frames: split.clip(index, [(frame + 2) % 3 for frame in frames])
    assert pointing(seen_in_time(late))["network"] < 1


def test_maps_of_clips_are_written_as_sheets(tmp_path: Path):
    split = MovingSpots(STARTS)
    write_maps(tmp_path, seen_in_time(split), split, FILM.classes, 2)
    index, arrays = json.loads((tmp_path / "maps.json").read_text()), np.load(tmp_path / "maps.npz")
    assert (index["frames"], index["image_size"]) == (3, [8, 36])
    assert [sample["box_xyxy"] for sample in index["samples"]] == [None, None]
    entries = {(entry["tap"].removeprefix("mechanism."), entry["kind"]): entry for entry in index["maps"]}
    assert set(entries) == {("gate", "spatial"), ("rows", "rows"), ("rows", "frames"), ("network", "network")}
    assert arrays[entries["rows", "frames"]["key"]].shape == (3, 3)
    # The second spot is at (4, 9), then one row down in each frame.
    for frame in range(3):
        top, left = 4 + frame, 12 * frame + 9
        assert arrays["truth"][1, top - 1 : top + 2, left - 1 : left + 2].all()
        assert arrays["truth"][1, :, 12 * frame : 12 * frame + 12].sum() == 9
        assert arrays["images"][1, top, left].tolist() == [255] * 3
    point = entries["rows", "rows"]["point"][1]
    assert point == pytest.approx([5.5 / 8, 21.5 / 36], abs=1e-4)
    rows = arrays[entries["rows", "rows"]["key"]][1]
    assert (rows[6, 33], rows[5, 21]) == (0.75, 0.25)


def test_without_true_places_the_middle_of_a_clip_asks():
    found = seen_in_time(MovingSpots(STARTS, known=False))
    assert found.points.tolist() == [[0.5, 0.5, 0.5]] * 4
    assert found.places is None
    assert pointing(found)["samples"] == 0
