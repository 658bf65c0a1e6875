"""The page in a real browser: it works, stays quiet, fits a narrow screen, and has a light and a dark side."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from foveate.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed, so the page is not looked at in a browser"),
]

# The page stands in a frame of the wanted width (a headless window is never narrower than 500 pixels), and a script
# around it presses its buttons and writes down what happened.
AROUND = """<!doctype html><body style="margin:0"><iframe id="frame" src="report.html"
style="width:%dpx;height:900px;border:0"></iframe><pre id="told"></pre><script>
const frame = document.getElementById("frame");
frame.addEventListener("load", async () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  let told;
  try { told = await (async () => { %s })(); } catch (error) { told = { error: String(error) }; }
  document.getElementById("told").textContent = encodeURIComponent(JSON.stringify(told));
});
</script>"""


def ask(study: Path, script: str, *, width: int = 1400, dark: bool = False) -> tuple[dict[str, Any], str]:
    """What `script` returns when run beside the page of a study, and what the browser wrote to its log."""
    assert CHROMIUM is not None
    write_report(study)
    (study / "around.html").write_text(AROUND % (width, script))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    command += ["--enable-logging=stderr", "--allow-file-access-from-files", "--window-size=1500,1000"]
    command += ["--virtual-time-budget=4000", f"--user-data-dir={study / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", (study / "around.html").as_uri()]
    environment = os.environ | {"HOME": str(study)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    found = re.search(r'<pre id="told">([^<]+)</pre>', done.stdout)
    assert found, f"the browser said nothing: {done.stderr[-2000:]}"
    told = json.loads(urllib.parse.unquote(found[1]))
    assert "error" not in told, told
    return told, done.stderr


def test_a_heading_sorts_and_says_how_and_layers_can_be_changed(study: Path) -> None:
    told, log = ask(
        study,
        """
        const table = page.querySelector("table.results");
        const names = () => Array.from(table.tBodies).map((body) =>
          Array.from(body.querySelectorAll("tr[data-arm]")).map((row) => row.dataset.arm));
        const headings = Array.from(table.querySelectorAll("th[aria-sort]"));
        const heading = headings.find((th) => th.textContent.includes("Latency"));
        const before = names();
        heading.querySelector("button").focus();
        heading.querySelector("button").click();
        const down = { names: names(), sort: heading.getAttribute("aria-sort") };
        heading.querySelector("button").click();
        const up = { names: names(), sort: heading.getAttribute("aria-sort") };

        const maps = page.querySelector('table[data-maps="own"]');
        const select = maps.querySelector("select");
        const cell = maps.querySelector(`[data-cell="${select.dataset.column} 0"]`);
        const look = () => [cell.querySelector("img").src, cell.querySelector("img").alt, cell.textContent];
        const last = look();
        select.value = "0";
        select.dispatchEvent(new Event("change"));
        const first = look();

        const hidden = () => page.querySelectorAll("tr.more:not([hidden])").length;
        const few = hidden();
        page.querySelector(".show-more").click();
        const choice = page.querySelectorAll(".choice button");
        choice[1].click();
        return { before, down, up, last, first, few, many: hidden(),
          shown: [page.getElementById("curves-val_loss").hidden, page.getElementById("curves-val_accuracy").hidden],
          pressed: choice[1].getAttribute("aria-pressed"),
          wide: [page.documentElement.scrollWidth, view.innerWidth] };
        """,
    )
    assert told["before"][0][0] == "none"
    assert told["down"]["sort"] == "descending"
    assert told["down"]["names"] == [
        ["cbam", "nonlocal", "eca-spatial", "bam", "se", "eca", "none"],
        ["wider", "placebo"],
    ]
    assert told["up"] == {"sort": "ascending", "names": [names[::-1] for names in told["down"]["names"]]}
    assert all(a != b for a, b in zip(told["first"], told["last"], strict=True))
    assert "layer1.0" in told["first"][1]
    assert (told["few"], told["many"]) == (0, 10)
    assert told["shown"] == [False, True]
    assert told["pressed"] == "true"
    assert told["wide"][0] <= told["wide"][1]
    assert complaints(log) == []


def complaints(log: str) -> list[str]:
    """What the console of the page said: errors, warnings and refused requests."""
    return [line for line in log.splitlines() if ":CONSOLE" in line]


LOOKS = """
    const style = (element) => view.getComputedStyle(element);
    const colours = () => [style(page.body).backgroundColor, style(page.body).color,
      style(page.querySelector(".chart text")).fill];
    const before = colours();
    page.getElementById("theme").click();
    const loaded = view.performance.getEntriesByType("resource").map((entry) => entry.name);
    return { before, after: colours(), wide: [page.documentElement.scrollWidth, view.innerWidth],
      loaded: loaded.filter((name) => !name.startsWith("data:")),
      tables: Array.from(page.querySelectorAll("table")).every((table) => table.caption),
      pictures: Array.from(page.images).every((image) => image.alt && image.naturalWidth > 0) };
"""


@pytest.mark.parametrize("width", [390, 820])
def test_a_narrow_screen_needs_no_sideways_scrolling_and_both_themes_differ(study: Path, width: int) -> None:
    light, log = ask(study, LOOKS, width=width)
    assert light["wide"][1] == width
    assert light["wide"][0] <= width
    assert light["loaded"] == []
    assert light["tables"]
    assert light["pictures"]
    assert all(a != b for a, b in zip(light["before"], light["after"], strict=True))
    assert complaints(log) == []
    dark, _ = ask(study, LOOKS, width=width, dark=True)
    assert (dark["before"], dark["after"]) == (light["after"], light["before"])


def test_the_page_of_a_run_is_quiet_and_fits(study: Path) -> None:
    told, log = ask(study / "runs" / "cbam" / "seed0", LOOKS, width=390)
    assert told["wide"][0] <= 390
    assert told["pictures"]
    assert complaints(log) == []


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_of_segmentations_fits_and_lays_outlines_over_maps(segmentations: Path, width: int) -> None:
    script = """
        const cells = Array.from(page.querySelectorAll('table[data-maps="predicted"] td .look'));
        const outline = page.querySelector('table[data-maps="own"] td .outline');
        const style = (element) => view.getComputedStyle(element);
        const results = page.querySelector(".results").parentElement;
        return { cells: cells.length, opaque: cells.every((cell) => style(cell.querySelector("img")).opacity === "1"),
          outline: style(outline).backgroundImage.startsWith("url("),
          results: results.scrollWidth - results.clientWidth,
          wide: [page.documentElement.scrollWidth, view.innerWidth] };
    """
    told, log = ask(segmentations, script, width=width)
    assert (told["cells"], told["opaque"], told["outline"]) == (3, True, True)
    assert told["wide"][0] <= told["wide"][1]
    assert width < 1400 or told["results"] <= 0
    assert complaints(log) == []


def test_a_script_that_is_not_the_page_s_own_does_not_run(study: Path) -> None:
    told, log = ask(
        study,
        """
        const script = page.createElement("script");
        script.textContent = "window.intruded = true";
        page.body.append(script);
        return { intruded: view.intruded === true };
        """,
    )
    assert told == {"intruded": False}
    assert len(complaints(log)) == 1  # so the log would show an error, if there were one
