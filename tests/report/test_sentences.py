"""Translations on the page of a run, whatever lies in its folder."""

import io
import json

import pytest
from PIL import Image

from foveate.report import write_report
from foveate.report.read import read_run
from foveate.report.sentences import read_sentences


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "maps").mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"task": "translate", "data": "text", "network": "transformer_base"})
    )
    body = io.BytesIO()
    Image.new("RGB", (3, 2)).save(body, format="PNG")
    (folder / "maps" / "one.png").write_bytes(body.getvalue())
    (folder / "maps" / "text.png").write_text("no picture")
    (tmp_path / "secret.png").write_bytes(body.getvalue())
    return folder


def listed(run, *pictures, **texts):
    entry = {"source": "a <b> dog", "target": "ein Hund", "prediction": "Hund", "pictures": list(pictures)} | texts
    (run / "maps" / "sentences.json").write_text(json.dumps({"sentences": [entry]}))
    return read_sentences(read_run(run))


def test_a_sentence_stands_on_the_page_with_its_pictures(run):
    (sentence,) = listed(run, {"file": "one.png", "title": "it looks at itself"})
    assert (sentence.source, sentence.target, sentence.prediction) == ("a <b> dog", "ein Hund", "Hund")
    ((title, uri),) = sentence.pictures
    assert title == "it looks at itself"
    assert uri.startswith("data:image/png;base64,")
    page = write_report(run).read_text()
    assert "a &lt;b&gt; dog" in page
    assert uri in page


@pytest.mark.parametrize("name", ["../../secret.png", "text.png", "gone.png", "x" * 300, "\0", 3, None])
def test_only_pictures_of_the_folder_itself_are_shown(run, name):
    (sentence,) = listed(run, {"file": name, "title": "?"}, "no object")
    assert sentence.pictures == ()


@pytest.mark.parametrize("content", ["", "[", "[]", '{"sentences": 3}', '{"sentences": [4]}'])
def test_a_damaged_list_leaves_the_page_whole(run, content):
    (run / "maps" / "sentences.json").write_text(content)
    assert all(not sentence.pictures for sentence in read_sentences(read_run(run)))
    assert "Translations" not in write_report(run).read_text() or content == '{"sentences": [4]}'
