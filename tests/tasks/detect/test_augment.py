import pytest
import torch
from tests.tasks.detect.scenes import Scenes

from foveate.tasks.detect.augment import MEAN, STD, Augmentation, BoxSet, Size
from foveate.tasks.detect.geometry import xyxy

SMALL = Augmentation(shorts=(24, 30), longest=60, before=(20, 26), crop=(14, 22))


def pixels(image: torch.Tensor) -> torch.Tensor:
    """Back from what a network sees, in 0..255."""
    return (image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255


@pytest.mark.parametrize(
    ("size", "picture", "found"),
    [
        (Size(), (480, 640), (800, 1066)),
        (Size(), (640, 480), (1066, 800)),
        (Size(), (500, 500), (800, 800)),
        (Size(), (400, 1000), (533, 1332)),
        (Size(480, 1333), (1, 4000), (1, 4000)),
        (Size(10, 13), (10, 11), (10, 11)),
    ],
)
def test_the_shorter_side_gets_its_length_unless_the_longer_would_pass_its_limit(size, picture, found):
    assert size.of(*picture) == found


def test_an_evaluated_picture_is_resized_and_normalised_and_its_boxes_with_it():
    held = BoxSet(Scenes((20, 40), [[4, 2, 12, 10], [20, 5, 40, 20]]), Size(10, 100), masks=True)
    image, target, index = held[17]
    assert (image.shape, image.dtype, index) == ((3, 10, 20), torch.float32, 17)
    assert type(image) is type(target.boxes) is type(target.masks) is torch.Tensor
    wanted = torch.tensor([[0.2, 0.3, 0.2, 0.4], [0.75, 0.625, 0.5, 0.75]])
    torch.testing.assert_close(target.boxes, wanted)
    assert target.labels.tolist() == [3, 4]
    assert target.masks.shape == (2, 10, 20)
    assert target.masks[0].sum() == 4 * 4
    seen = pixels(image)
    assert seen[:, 3, 4].tolist() == pytest.approx([50] * 3, abs=0.01)
    assert seen[:, 0, 0].tolist() == pytest.approx([0] * 3, abs=0.01)


@pytest.mark.parametrize("index", range(12))
def test_boxes_and_masks_stay_on_their_objects_through_every_change(index):
    held = BoxSet(Scenes((36, 48), [[6, 4, 26, 20], [28, 12, 44, 34]]), augmentation=SMALL, masks=True)
    image, target, _ = held[index]
    height, width = image.shape[1:]
    assert min(height, width) in SMALL.shorts or max(height, width) >= SMALL.longest - 2
    # A mask's edge is rounded to a pixel before and after the crop, which is then up to twice enlarged.
    for box, mask, number in zip(xyxy(target.boxes), target.masks, target.numbers, strict=True):
        shade = (pixels(image)[0] - 50 * (number + 1)).abs() < 10
        left, top, right, bottom = (box * torch.tensor([width, height, width, height])).tolist()
        assert -1e-3 <= left < right <= width + 1e-3
        assert -1e-3 <= top < bottom <= height + 1e-3
        rows, columns = mask.nonzero().unbind(dim=1)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [edge.item() for edge in edges] == pytest.approx([left, top, right, bottom], abs=2.5)
        assert shade[mask].float().mean() > 0.6
    assert target.labels.tolist() == (target.numbers + 3).tolist()


def test_what_happens_to_a_picture_depends_on_seed_epoch_and_number_alone():
    scenes = Scenes((36, 48), [[6, 4, 26, 20]])
    one, other = BoxSet(scenes, augmentation=SMALL, seed=5), BoxSet(scenes, augmentation=SMALL, seed=5)
    torch.manual_seed(1)
    one[3]
    first = one[7]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = other[7]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].boxes, again[1].boxes)
    later = BoxSet(scenes, augmentation=SMALL, seed=5)
    later.epoch = 1
    runs = [one, later, BoxSet(scenes, augmentation=SMALL, seed=6)]
    seen = [tuple(held[index][0].numpy().tobytes() for index in range(8)) for held in runs]
    assert len(set(seen)) == 3
    assert all(len(set(pictures)) > 4 for pictures in seen)


def test_chances_are_the_releases():
    """Half are flipped, half are cropped; each length of the shorter side is as frequent as the others."""
    scenes = Scenes((36, 48), [[0, 0, 1, 36]])  # at the left edge
    plain = Augmentation(shorts=(36, 40), longest=100, before=(30,), crop=(10, 12))
    held = BoxSet(scenes, augmentation=plain)
    flipped = cropped = short = 0
    for index in range(100):
        image, target, _ = held[index]
        short += min(image.shape[1:]) == 36
        shape = tuple(image.shape[1:])
        whole = shape in ((36, 48), (40, 53))
        cropped += not whole
        flipped += whole and target.boxes[0, 0].item() > 0.5
    assert 35 < cropped < 65
    assert 0.35 < flipped / (100 - cropped) < 0.65
    assert 35 < short < 65


def test_objects_that_are_cut_away_and_crowds_leave_the_target():
    # A crop of 12 x 12 out of 36 x 48 cannot hold both corners.
    corners = [[0, 0, 4, 4], [0, 0, 48, 36], [44, 32, 48, 36]]
    always = Augmentation(shorts=(36,), longest=100, before=(36,), crop=(12, 12), flip=0)
    held = BoxSet(Scenes((36, 48), corners, [False, True, False]), augmentation=always)
    kept = {tuple(held[index][1].numbers.tolist()) for index in range(40)}
    assert (0, 2) in kept  # those that are not cropped
    assert () in kept
    assert all(1 not in numbers for numbers in kept)
    empty = next(target for _, target, _ in map(held.__getitem__, range(40)) if not len(target.labels))
    assert empty.boxes.shape == (0, 4)


def test_a_picture_without_objects_stays_one():
    image, target, _ = BoxSet(Scenes((36, 48), []), augmentation=SMALL, masks=True)[0]
    assert target.boxes.shape == (0, 4)
    assert target.masks.shape == (0, *image.shape[1:])


def test_lengths_are_scaled_with_the_size_at_which_pictures_are_evaluated():
    assert Augmentation.around(Size()) == Augmentation()
    half = Augmentation.around(Size(400, 667))
    assert (half.shorts[0], half.shorts[-1], half.longest) == (240, 400, 667)
    assert (half.before, half.crop) == ((200, 250, 300), (192, 300))


def test_lengths_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="short must be from 1 to longest; got short 900 and longest 800"):
        Size(900, 800)
    with pytest.raises(
        ValueError, match=r"lengths must be above zero, and those of crop in order; got .*crop=\(9, 5\)"
    ):
        Augmentation(crop=(9, 5))
    with pytest.raises(ValueError, match=r"flip must be from 0 to 1; got 1\.5"):
        Augmentation(flip=1.5)


def test_masks_that_were_not_opened_are_asked_for():
    class Bare(Scenes):
        def masks(self, index):
            return None

        def image(self, index):
            return torch.zeros(3, self.height, self.width, dtype=torch.uint8)

    with pytest.raises(ValueError, match="scene 4 has no masks; open the data with masks=True"):
        BoxSet(Bare((36, 48), []), masks=True)[4]
