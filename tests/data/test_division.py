import json
from pathlib import Path

import pytest

from foveate.data.division import divide
from foveate.data.layouts import Listing
from foveate.data.volumes import Case
from foveate.errors import DataError


def cases(*names: object) -> list[Case]:
    return [Case(str(name), (Path(f"{name}.png"),), Path(f"{name}_mask.png")) for name in names]


def listing(held: list[Case], val: list[Case] | None = None, test: list[Case] | None = None) -> Listing:
    return Listing(Path("here"), 2, ["grey"], ["background", "cell"], {0: 0, 1: 1}, held, val, test, [])


def names(splits) -> dict[str, list[str]]:
    return {split: [case.name for case in held] for split, held in splits.items()}


def save(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_last_fifth_is_for_testing_and_a_tenth_of_the_rest_for_validation():
    splits, rule, left = divide(listing(cases(*range(160))), None, 5, None)
    assert names(splits)["train"] == [str(number) for number in range(116)]
    assert names(splits)["val"] == [str(number) for number in range(116, 128)]
    assert names(splits)["test"] == [str(number) for number in range(128, 160)]
    assert rule == (
        "in the order of the names, in blocks without gaps: the last fifth is for testing, and of the rest the last "
        "tenth is for validation"
    )
    assert left == []


def test_numbers_in_names_count_by_value_and_the_order_of_the_files_does_not():
    splits, _, _ = divide(listing(cases("s10", "s9", "a2", "s2", "a10", "s1")), None, 5, None)
    assert names(splits) == {"train": ["a2", "a10", "s1", "s2"], "val": ["s9"], "test": ["s10"]}


def test_folds_are_blocks_that_cover_the_rest_once():
    held: list[str] = []
    for fold in range(5):
        splits, rule, _ = divide(listing(cases(*range(17))), fold, 5, None)
        found = names(splits)
        assert found["test"] == ["14", "15", "16"]
        numbers = [int(name) for name in found["val"]]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert sorted(found["train"] + found["val"], key=int) == [str(number) for number in range(14)]
        assert f"block {fold} of 5 (counted from 0) is for validation" in rule
        held += found["val"]
    assert held == [str(number) for number in range(14)]


def test_folders_that_say_are_obeyed():
    given = listing(cases(*range(10)), cases("v"), cases("t"))
    splits, rule, _ = divide(given, None, 5, None)
    assert (names(splits)["val"], names(splits)["test"], rule) == (["v"], ["t"], "as the folders say")
    assert len(splits["train"]) == 10
    with pytest.raises(ValueError, match=r"fold chooses what validates, which the folders of here say already; got 1"):
        divide(given, 1, 5, None)


def test_a_test_split_that_is_given_leaves_all_others_to_train_and_validate():
    splits, rule, _ = divide(listing(cases(*range(10)), None, cases("t")), 1, 5, None)
    assert names(splits)["val"] == ["2", "3"]
    assert names(splits)["test"] == ["t"]
    assert len(splits["train"]) == 8
    assert "the folders say what is for testing, and of the rest block 1 of 5" in rule


def test_a_file_divides_and_what_it_leaves_out_is_told(tmp_path: Path):
    path = save(tmp_path / "s.json", {"train": ["1", "2.png"], "val": ["3"], "test": ["0"]})
    path.write_text(path.read_text(), encoding="utf-8-sig")
    splits, rule, left = divide(listing(cases(*range(5))), None, 5, path)
    assert names(splits) == {"train": ["1", "2"], "val": ["3"], "test": ["0"]}
    assert rule == "as s.json says"
    assert [case.name for case in left] == ["4"]


def test_folds_in_a_file_are_chosen_and_the_given_test_split_stays(tmp_path: Path):
    content = [{"train": ["0", "1"], "val": ["2"]}, {"train": ["1", "2"], "val": ["0"]}]
    path = save(tmp_path / "splits_final.json", content)
    splits, rule, left = divide(listing(cases(*range(3)), None, cases("t")), 1, 5, path)
    assert names(splits) == {"train": ["1", "2"], "val": ["0"], "test": ["t"]}
    assert rule == "as fold 1 (counted from 0) of 2 in splits_final.json says"
    assert left == []
    for fold in (None, 2, -1):
        with pytest.raises(ValueError, match=rf"fold must choose one of the 2 folds of .*, from 0; got {fold}"):
            divide(listing(cases(*range(3))), fold, 5, path)


def test_a_fold_that_chooses_nothing_is_an_error(tmp_path: Path):
    path = save(tmp_path / "s.json", {"train": ["1"], "val": ["3"]})
    with pytest.raises(ValueError, match=r"s\.json holds one division, of which fold has nothing to choose; got 0"):
        divide(listing(cases(*range(5))), 0, 5, path)
    for fold, folds in ((5, 5), (-1, 5), (0, 1)):
        with pytest.raises(
            ValueError, match=rf"fold must be from 0 to folds - 1, .* got fold {fold} and folds {folds}"
        ):
            divide(listing(cases(*range(10))), fold, folds, None)
    with pytest.raises(ValueError, match=r"folds must be at most the 8 cases that are divided; got 9"):
        divide(listing(cases(*range(10))), 0, 9, None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"train": ["1"], "val": ["9"]}, r"s\.json names '9' in val; here has no such case with a label"),
        ({"train": ["1", "2"], "val": ["2"]}, r"must name each case once; '2' is there 2 times, in train and val"),
        ({"train": ["1", "1"], "val": ["2"]}, r"must name each case once; '1' is there 2 times, in train$"),
        ({"train": ["1", "1.png"], "val": ["2"]}, r"must name each case once; '1' is there 2 times"),
        ({"train": "1", "val": ["2"]}, r"must list names of cases under 'train'; got '1'"),
        ({"train": ["1"]}, r"must hold {\"train\": .* and, at will, \"test\"; got train"),
        ({"train": ["1"], "val": ["2"], "dev": ["3"]}, r"at will, \"test\"; got dev, train, val"),
        ("all", r"at will, \"test\"; got str"),
    ],
)
def test_a_file_that_does_not_fit_is_told(tmp_path: Path, content: object, told: str):
    with pytest.raises(DataError, match=told):
        divide(listing(cases(*range(5))), None, 5, save(tmp_path / "s.json", content))


def test_a_file_and_folders_cannot_both_divide(tmp_path: Path):
    path = save(tmp_path / "s.json", {"train": ["1"], "val": ["2"]})
    with pytest.raises(DataError, match=r"s\.json divides cases that the folders of here divide already; keep one"):
        divide(listing(cases(*range(5)), cases("v"), []), None, 5, path)


def test_two_cases_cannot_be_divided():
    with pytest.raises(DataError, match=r"here has too few cases to be divided: 2 with labels"):
        divide(listing(cases(1, 2)), None, 5, None)


def test_a_damaged_file_is_told(tmp_path: Path):
    (tmp_path / "s.json").write_text('{"train"')
    with pytest.raises(DataError, match=r"s\.json is damaged and cannot be read"):
        divide(listing(cases(*range(5))), None, 5, tmp_path / "s.json")
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        divide(listing(cases(*range(5))), None, 5, tmp_path / "none.json")
