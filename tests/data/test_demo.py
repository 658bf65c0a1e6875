import numpy as np
import torch

from foveate.data import SPLITS, open_pictures
from foveate.data.demo import CANVAS, DIGIT, INK, DigitSplit, open_demo


def digits(split: str) -> set[bytes]:
    return {digit.tobytes() for digit in open_demo().splits[split].digits}


def test_the_demo_has_ten_classes_in_three_splits():
    pictures = open_pictures("demo")
    assert pictures.classes == [str(kind) for kind in range(10)]
    assert (pictures.channels, pictures.size) == (1, (CANVAS, CANVAS))
    assert [len(pictures.splits[name].digits) for name in SPLITS] == [1252, 270, 275]


def test_no_handwritten_digit_stands_in_two_splits():
    assert not digits("train") & digits("val")
    assert not digits("train") & digits("test")
    assert not digits("val") & digits("test")


def test_a_picture_is_decided_by_its_number_whatever_was_asked_before():
    one, other = open_demo.__wrapped__(), open_demo.__wrapped__()
    for index in (17, 3, 5):
        one.splits["val"].image(index)
    assert torch.equal(one.splits["val"].image(5), other.splits["val"].image(5))
    assert not torch.equal(open_demo.__wrapped__(seed=1).splits["val"].image(5), other.splits["val"].image(5))


def test_the_true_place_is_where_the_digit_is():
    split = open_demo().splits["test"]
    for index in (0, 7, len(split) - 1):
        digit = torch.from_numpy(split.digits[index % len(split.digits)])
        mask, (left, top, right, bottom) = split.mask(index), split.boxes_xyxy(index)[0].int().tolist()
        assert mask.sum() == (digit >= INK).sum()
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask[top].any()
        assert mask[bottom - 1].any()
        assert mask[:, left].any()
        assert mask[:, right - 1].any()
        # Clutter only brightens: in the true place the picture is the digit or brighter.
        assert (split.image(index)[0][mask] >= digit[digit >= INK]).all()


def test_two_drawings_of_one_digit_differ():
    split = open_demo().splits["val"]
    count = len(split.digits)
    assert split.label(0) == split.label(count)
    assert not torch.equal(split.image(0), split.image(count))
    assert split.name(count) == "digit 0, drawing 1"


def test_clutter_is_never_cut_from_the_digit_itself():
    # Two digits, one blank: whatever is outside the digit's square would have come from the digit itself.
    pair = np.stack([np.full((DIGIT, DIGIT), 200, np.uint8), np.zeros((DIGIT, DIGIT), np.uint8)])
    split = DigitSplit(pair, np.array([0, 1]), repeats=5, seed=0)
    for index in range(0, 10, 2):
        assert split.image(index).sum() == 200 * DIGIT * DIGIT
