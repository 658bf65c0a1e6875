import pytest

from foveate.networks.places import chosen_blocks, non_local_blocks

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@pytest.mark.parametrize(
    ("depth", "count", "expected"),
    [
        (50, 1, [(3, 4)]),
        (101, 1, [(3, 21)]),
        (50, 5, [(2, 1), (2, 3), (3, 1), (3, 3), (3, 5)]),
        (101, 5, [(2, 1), (2, 3), (3, 6), (3, 13), (3, 20)]),
        (50, 10, [(2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5)]),
        (18, 1, [(3, 0)]),
        (18, 5, [(2, 1), (3, 1)]),
    ],
)
def test_non_local_blocks_stand_where_they_were_published(depth, count, expected):
    assert list(non_local_blocks(DEPTHS[depth], count)) == expected


def test_a_stage_of_one_block_holds_its_non_local_block_behind_that():
    assert non_local_blocks((1, 1, 1), 5) == ((2, 0), (3, 0))
    assert non_local_blocks((1, 1, 1), 1) == ((3, 0),)


def test_published_places_of_a_network_of_18_layers():
    def places(place, **asked):
        return chosen_blocks(DEPTHS[18], place, **{"stages": None, "blocks": None} | asked)

    assert places("every block") == [(stage, index) for stage in (1, 2, 3, 4) for index in (0, 1)]
    assert places("between stages") == [(1, 1), (2, 1), (3, 1)]
    assert places("chosen blocks") == [(2, 1), (3, 1)]
    assert places("every block", stages=(2, 4)) == [(2, 0), (2, 1), (4, 0), (4, 1)]
    assert places("between stages", stages=(2,)) == [(2, 1)]
    assert places("every block", blocks=[(4, 1), (1, 0)]) == [(1, 0), (4, 1)]
    assert places("every block", blocks=[[4, 1]]) == [(4, 1)]  # as a configuration file has it


@pytest.mark.parametrize(
    ("place", "asked", "sentence"),
    [
        ("every block", {"stages": (1,), "blocks": [(1, 0)]}, "stages and blocks both say where; give one of them"),
        ("every block", {"blocks": [(1, 0), (2, 2)]}, r"blocks are \(stage from 1, block from 0\) .* got \(2, 2\)"),
        ("every block", {"blocks": [(0, 0)]}, r"in stages of \(2, 2, 2, 2\) blocks; got \(0, 0\)"),
        ("every block", {"blocks": []}, "blocks must name at least one block"),
        ("every block", {"stages": (1, 5)}, r"stages are 1 to 4; got \(1, 5\)"),
        ("chosen blocks", {"stages": (1, 4)}, r"published place in stages \(1, 4\) of this mechanism; name the blocks"),
        ("chosen blocks", {"blocks": 3}, "non-local blocks were published as 1, 5 or 10 to a network; got 3"),
    ],
)
def test_places_that_do_not_exist_are_refused(place, asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        chosen_blocks(DEPTHS[18], place, **{"stages": None, "blocks": None} | asked)
