"""Whose token looks at which, and the pictures that show it."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tests.tasks.translate.conftest import OPTIONS, WORDS

import foveate as fv
from foveate.networks import Transformer
from foveate.tasks.translate.attending import KINDS, Looks, looks_of, write_heat
from foveate.tasks.translate.preparation import Preparation
from foveate.tasks.translate.vocabulary import BEGIN, Vocabulary

VOCABULARY = Vocabulary.learn([" ".join([*WORDS, *WORDS.values()])], 61)
PREPARED = Preparation("en", "de", VOCABULARY.to_json())
SIZES = OPTIONS | {"encoder_layers": 2, "decoder_layers": 3}


def network(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(len(VOCABULARY), **SIZES | changes).eval()  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("layer", "encoder", "decoder"), [(None, 1, 2), (1, 0, 0), (2, 1, 1)])
def test_maps_are_those_of_the_layer(layer: int | None, encoder: int, decoder: int):
    host = network()
    seen = looks_of(host, PREPARED, "ana bek cir", "Zü Yor", layer)
    source, said = VOCABULARY.encode(["ana bek cir", "Zü Yor"])
    with fv.capture(host) as maps, torch.no_grad():
        host(torch.tensor([source]), torch.tensor([[BEGIN, *said[:-1]]]))
    assert list(seen.maps) == list(KINDS)
    for kind, name in (
        ("encoder", f"encoder.layers.{encoder}.self_attn.weights"),
        ("decoder", f"decoder.layers.{decoder}.self_attn.weights"),
        ("cross", f"decoder.layers.{decoder}.cross_attn.weights"),
    ):
        torch.testing.assert_close(seen.maps[kind], maps[name][0])
        torch.testing.assert_close(seen.maps[kind].sum(dim=2), torch.ones(seen.maps[kind].shape[:2]))


def test_labels_fit_rows_and_columns():
    seen = looks_of(network(), PREPARED, "ana bek cir dol", "Zü Yor")
    assert seen.source[-1] == seen.said[-1] == "<end>"
    assert seen.given == ["<begin>", *seen.said[:-1]]
    assert "".join(seen.source).replace("_", " ") == " ana bek cir dol<end>"
    assert len(seen.source) != len(seen.said)
    for kind, weights in seen.maps.items():
        rows, columns = seen.labels(kind)
        assert weights.shape == (2, len(rows), len(columns))
    assert seen.labels("encoder") == (seen.source, seen.source)
    assert seen.labels("decoder") == (seen.said, seen.given)
    assert seen.labels("cross") == (seen.said, seen.source)
    # A token of the translation looks at none that is said later.
    assert torch.equal(seen.maps["decoder"], seen.maps["decoder"].tril())


def test_an_empty_translation_has_an_end():
    seen = looks_of(network(), PREPARED, "ana", "")
    assert (seen.given, seen.said) == (["<begin>"], ["<end>"])
    assert seen.maps["cross"].shape == (2, 1, len(seen.source))


def test_a_network_without_an_encoder_has_none_of_its_maps():
    assert list(looks_of(network(encoder_layers=0), PREPARED, "ana", "Zü", 3).maps) == ["decoder", "cross"]


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (0, "the encoder has layers 1 to 2; got 0"),
        (3, "the encoder has layers 1 to 2; got 3"),
    ],
)
def test_a_layer_must_be_there(layer: int, told: str):
    with pytest.raises(ValueError, match=f"^{told}$"):
        looks_of(network(), PREPARED, "ana", "Zü", layer)
    with pytest.raises(ValueError, match=r"^the decoder has layers 1 to 3; got 4$"):
        looks_of(network(encoder_layers=5), PREPARED, "ana", "Zü", 4)


# The pictures.

ODD = ["$a_b$", "_", "$", "\\frac", "<end>", "{^}", "%&#~"]


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written from now on."""
    found: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *given: Any, **options: Any) -> None:
        found.append(self)
        save(self, *given, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def looks(labels: list[str], heads: int = 1) -> Looks:
    torch.manual_seed(0)
    cross = torch.rand(heads, 2, len(labels)).softmax(dim=2)
    return Looks(labels, ["<begin>", "a"], ["a", "<end>"], {"cross": cross})


def test_tokens_are_no_formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures = drawn(monkeypatch)
    path = write_heat(tmp_path / "maps" / "one.png", looks(ODD), "cross", heads=False)
    assert Image.open(path).format == "PNG"
    (axes,) = figures[0].axes
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert [tick.get_text() for tick in ticks] == [*ODD, "a", "<end>"]
    assert not any(tick.get_parse_math() for tick in ticks)


def test_characters_without_a_glyph_are_boxes(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_heat(
            tmp_path / "one.png", looks(["\N{CJK UNIFIED IDEOGRAPH-72AC}", "\N{DOG FACE}", "a"]), "cross", heads=False
        )
    assert Image.open(tmp_path / "one.png").width > 100


def test_a_picture_shows_the_mean_over_heads_or_every_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures = drawn(monkeypatch)
    seen = looks(["a", "b", "c"], heads=3)
    for heads in (False, True):
        write_heat(tmp_path / f"{heads}.png", seen, "cross", heads=heads)
    mean, every = ([axes for axes in figure.axes if axes.images] for figure in figures)
    assert torch.equal(torch.from_numpy(mean[0].images[0].get_array()), seen.maps["cross"].mean(dim=0))
    assert mean[0].get_xlabel() == ""
    assert [axes.get_xlabel() for axes in every] == [f"head {number}" for number in range(1, 4)]
    for axes, weights in zip(every, seen.maps["cross"], strict=True):
        assert torch.equal(torch.from_numpy(axes.images[0].get_array()), weights)
    assert [figure.get_suptitle() for figure in figures] == ["its translation looks at the sentence"] * 2
    assert Image.open(tmp_path / "True.png").width > 2 * Image.open(tmp_path / "False.png").width


def test_a_picture_of_many_tokens_has_smaller_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("foveate.tasks.translate.attending.PIXELS", 97)
    write_heat(tmp_path / "one.png", looks(["a", "b", "c"]), "cross", heads=False)
    assert max(Image.open(tmp_path / "one.png").size) in (96, 97)
