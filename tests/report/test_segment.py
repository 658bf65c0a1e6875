"""The page of a study that segments: its words, its columns, its outlines."""

import base64
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image
from tests.report.segmented import GATE, write_study

from foveate.report import study_table, write_report
from foveate.report.looks import TRUE
from foveate.report.overlays import outline_uri, overlays
from foveate.report.read import Map, Sample


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_table_has_dice_over_cases_and_what_stands_beside_it(segmentations: Path) -> None:
    table = study_table(segmentations)
    titles = [column.title for column in table.columns]
    wanted = ["Arm", "Sites", "Dice", "Difference to none", "In each seed", "Verdict", "False positives", "HD95"]
    assert titles[:8] == wanted
    assert "Pointing" not in titles
    assert (table.columns[3].note, table.columns[9].note) == ("points, paired by seed and case", "a patch")
    gated = dict(zip(titles, table.groups[0].rows[1].cells, strict=True))
    assert gated["Difference to none"].text.startswith("+4.")
    assert re.fullmatch(r"\+[34]\.\d; \+[34]\.\d", gated["In each seed"].text)
    assert gated["Verdict"].text == "better"
    assert gated["Verdict"].sub == "p\N{NO-BREAK SPACE}<0.001"
    assert gated["False positives"].sub.startswith("\N{MINUS SIGN}0.08 [")


def test_the_page_speaks_of_cases(segmentations: Path) -> None:
    page = write_report(segmentations).read_text(encoding="utf-8")
    assert "over none, at 6 cases and 2 seeds." in page
    assert "Cases: train, validation, test" in page
    assert "paired by seed and by case, over 6 test cases" in page
    assert "More than size:</b> attention-gate over wider" in page
    assert "at 6 cases and 2 seeds: gains beyond size" in page
    assert "an empty answer" not in page
    assert "the empty answer counts as perfect in their difference" in page
    assert "Validation Dice, %" in page
    for word in ("Pointing", "Grad-CAM", "ccuracy"):
        assert word not in page
    assert page.count(GATE) >= 2
    assert "none, wider have no spatial map of their own" in page
    assert "below it the Dice of the whole case" in page
    assert 'aria-label="attention-gate on' not in page
    assert "Dice 0.812" in page


def test_with_one_seed_the_page_says_so(tmp_path: Path) -> None:
    page = write_report(write_study(tmp_path, seeds=1)).read_text(encoding="utf-8")
    assert "Training was not repeated" in page
    assert "trained once" in page


def test_a_gain_that_the_widened_host_has_too_is_told_as_that(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    for seed in ("seed0", "seed1"):
        scores = tmp_path / "runs" / "wider" / seed / "cases.csv"
        scores.write_bytes((tmp_path / "runs" / "attention-gate" / seed / "cases.csv").read_bytes())
    page = write_report(study).read_text(encoding="utf-8")
    assert "at 6 cases and 2 seeds: no difference shown, so the gain may be owed to size" in page


def test_the_page_of_one_run_shows_what_it_found(segmentations: Path) -> None:
    page = write_report(segmentations / "runs" / "attention-gate" / "seed0").read_text(encoding="utf-8")
    assert "What it finds" in page
    assert ">6</dd>" in page  # cases are counted, not measured
    assert "<dt>Cases</dt>" in page
    for name in ("dice low", "dice_low", "dice.anterior"):  # the table of cases has them
        assert name not in page


def test_outlines_are_borders_with_nothing_between() -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[2:4, 2:4] = 3
    drawn = np.asarray(decoded(outline_uri(classes, TRUE)).convert("RGBA"))
    border = np.zeros((8, 8), bool)
    border[1:5, 2:4] = border[2:4, 1:5] = True
    assert ((drawn[..., 3] > 0) == border).all()
    assert (drawn[border][:, :3] == 255).all()


def test_the_borders_of_dense_structures_are_half_as_wide() -> None:
    stripes = np.zeros((6, 12), np.uint8)
    stripes[:, 2:4] = stripes[:, 7:9] = 1
    drawn = np.asarray(decoded(outline_uri(stripes, TRUE)).convert("RGBA"))[0, :, 3] > 0
    assert np.nonzero(drawn)[0].tolist() == [3, 4, 7, 8, 13, 14, 17, 18]  # halves of the pixels on either side


def test_nothing_is_drawn_beyond_a_picture() -> None:
    values = np.linspace(0.2, 0.8, 64, dtype=np.float32).reshape(1, 8, 8)
    values[0, :, :3] = np.nan
    sample = Sample("a", "a", "", np.zeros((8, 8, 3), np.uint8), None, (8, 8))
    (overlay,) = overlays(Map("tap", "spatial", values), [sample], 64)
    alpha = np.asarray(decoded(overlay.uri).convert("RGBA"))[..., 3]
    assert ((alpha > 0) == ~np.isnan(values[0])).all()
    assert (overlay.low, overlay.high) == (np.nanmin(values), np.nanmax(values))
