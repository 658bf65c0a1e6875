"""The whole page: complete, self-contained, unmoved by damaged files and hostile names."""

import html.parser
import json
import os
import re
from pathlib import Path

import pytest

from foveate.compare.folder import write_json
from foveate.errors import RunError
from foveate.files import write_alone
from foveate.report import write_report
from foveate.report.html import _templates


class Page(html.parser.HTMLParser):
    """What a browser would fetch or follow, and whether the tags nest."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_is_one_file_that_fetches_nothing(study: Path) -> None:
    text = page_of(study)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    outside = [
        address for address in page.addresses if not address.startswith(("data:image/png;base64,", "#", "runs/"))
    ]
    assert outside == []
    assert not re.search(r"url\((?!data:image/png)|@import|http-equiv=.refresh", text)
    assert len(text) < 8_000_000


@pytest.mark.slow
def test_everything_that_was_asked_for_is_on_the_page(study: Path) -> None:
    text = page_of(study)
    wanted = ("results", "cost", "curves", "attention", "pointing", "health", "runs", "measured", "reproduce")
    assert set(wanted) <= set(Page(text).ids)
    assert "foveate compare classify --data demo --network resnet_tiny" in text
    assert "2.14.1" in text
    assert "an invented processor" in text
    assert "the loss must stay finite; got nan at step 41" in text
    assert "Grad-CAM" in text
    assert "layer4.0.mechanism.spatial_gate" in text
    assert "its maximum lies" in text  # every overlay is described in words


def test_the_report_of_a_run_shows_its_metrics_and_maps(study: Path) -> None:
    text = page_of(study / "runs" / "cbam" / "seed0")
    assert {"curves", "confusion", "attention", "health"} <= set(Page(text).ids)
    assert "cbam, seed 0" in text


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has neither"):
        write_report(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        write_report(tmp_path)


@pytest.mark.slow
def test_the_old_report_stays_whole_until_the_new_one_is(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study / "report.html").write_text("old")
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(RunError, match=r"report.html cannot be written: No space left on device"):
        write_report(study)
    assert (study / "report.html").read_text() == "old"
    assert [path.name for path in study.iterdir() if path.name.startswith(".")] == []


DAMAGES = {
    "cbam": "summary.json",
    "se": "metrics.csv",
    "eca": "config.json",
    "bam": "predictions.csv",
    "none": "maps/maps.json",
    "wider": "maps/maps.npz",
}
NONSENSE = '{"metrics": 3, "samples": {"a": 1}, "maps": [7, {"tap": []}], "gate_health": [], "sites": 4}'


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["removed", "cut", "other"])
def test_damaged_files_of_runs_never_stop_the_page(study: Path, damage: str) -> None:
    for arm, name in DAMAGES.items():
        path = study / "runs" / arm / "seed0" / name
        whole = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(whole[: len(whole) // 3])
        elif damage == "other":
            path.write_text(NONSENSE)
    text = page_of(study)
    for arm in ("cbam", "none", "wider") if damage != "removed" else ("cbam",):
        assert f"{arm}, seed 0" in text  # told in the notice or in the notes on runs
    for arm in DAMAGES:
        assert Page(page_of(study / "runs" / arm / "seed0")).open == []


@pytest.mark.slow
def test_a_study_with_unfinished_runs_says_which(study: Path) -> None:
    (study / "runs" / "se" / "seed1" / "summary.json").unlink()
    text = page_of(study)
    assert "1 of 27 runs is not finished: se seed 1" in text
    assert "25 of 27 runs" in text
    assert "takes up those that it asks for" in text


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "told"), [(None, "one thread"), (1, "one thread"), (4, "4 threads")])
def test_the_page_says_how_times_were_measured(study: Path, threads: int | None, told: str) -> None:
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(plan | {"config": {"threads": threads}}))
    text = page_of(study)
    assert f"float32 with contiguous tensors, on {told}:" in text
    assert "noise floor" in text
    plan |= {"config": {"device": "auto"}, "machine": {"gpu": "an invented GPU"}}
    (study / "study.json").write_text(json.dumps(plan))
    assert "float32 with contiguous tensors, on the GPU:" in page_of(study)


@pytest.mark.slow
def test_the_page_says_what_pairs_share_and_how_pointing_is_judged(study: Path) -> None:
    text = page_of(study)
    assert "a widened host draws other weights" in text
    assert "the centre of the map&rsquo;s largest cell" in text
    assert "eca-spatial over eca: " in text


def test_a_study_without_any_finished_run_still_has_a_page(study: Path) -> None:
    for path in study.glob("runs/*/*/summary.json"):
        path.unlink()
    assert "No run is finished, so nothing can be said yet." in page_of(study)


def test_damaged_costs_are_told(study: Path) -> None:
    (study / "costs.json").write_text("[")
    text = page_of(study)
    assert "costs.json could not be read" in text


@pytest.mark.slow
def test_a_failure_that_was_made_good_is_not_told(study: Path) -> None:
    (study / "failures.json").write_text(json.dumps([{"arm": "se", "seed": 0, "sentence": "it was killed"}]))
    text = page_of(study)
    assert "it was killed" not in text


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</style></script>'


@pytest.mark.slow
def test_names_from_files_cannot_write_html(study: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    plan |= {
        "network": HOSTILE,
        "data": HOSTILE,
        "command": HOSTILE,
        "notes": [HOSTILE],
        "versions": {HOSTILE: HOSTILE},
    }
    (study / "study.json").write_text(json.dumps(plan))
    (study / "failures.json").write_text(json.dumps([{"arm": HOSTILE, "seed": 0, "sentence": HOSTILE}]))
    for path in study.glob("runs/*/*/maps/maps.json"):
        index = json.loads(path.read_text())
        index["classes"] = [HOSTILE] * 10
        for entry in index["maps"]:
            entry["tap"] += HOSTILE
        for sample in index["samples"]:
            sample["name"] = HOSTILE
        path.write_text(json.dumps(index))
    for path in study.glob("runs/*/*/summary.json"):
        summary = json.loads(path.read_text())
        summary["gate_health"] = {HOSTILE: {"axes": HOSTILE, "alive": False}}
        path.write_text(json.dumps(summary))
    text = page_of(study)
    page = Page(text)
    assert page.tags.count("script") == 2  # the data of the layers, and ours
    assert "onerror=alert(2)>{" not in text
    assert "&gt;{{ 7*7 }}" in text
    assert set(Page(page_of(study / "runs" / "cbam" / "seed0")).tags) <= set(page.tags)


@pytest.mark.slow
def test_the_policy_of_the_page_lets_only_its_own_script_run(study: Path) -> None:
    text = page_of(study)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", text)


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o027, 0o640)])
def test_a_file_keeps_the_umask_of_its_user(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_alone(tmp_path / "report.html", "page")
        write_json(tmp_path / "costs.json", {})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["costs.json", "report.html"]


def test_what_a_page_would_not_show_is_escaped():
    template = _templates().from_string("{{ name }} {{ number }}")
    assert template.render(name="caf\udce9 \x1b[31m \u202e<b>", number=3) == r"caf\xe9 \x1b[31m \u202e&lt;b&gt; 3"
