"use strict";
// Everything on the page can be read without this script; it sorts, switches layers and changes the theme.

const root = document.documentElement;
const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
const remembered = (value) => {
  try {
    if (value !== undefined) localStorage.setItem("foveate-theme", value);
    return localStorage.getItem("foveate-theme");
  } catch { return null; }  // a page opened from a file may have no storage
};

function setUpTheme() {
  const button = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  const known = remembered();
  if (known === "dark" || known === "light") root.dataset.theme = known;
  label();
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; remembered(root.dataset.theme); label(); });
}

function sortKey(row, index) {
  const text = row.cells[index].dataset.sort;
  if (text === undefined) return null;
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

function setUpSorting() {
  all("th[aria-sort]").forEach((heading) => heading.querySelector("button").addEventListener("click", () => {
    const table = heading.closest("table");
    const index = heading.cellIndex;
    const direction = heading.getAttribute("aria-sort") === "descending" ? "ascending"
      : heading.getAttribute("aria-sort") === "ascending" ? "descending"
      : heading.classList.contains("number") ? "descending" : "ascending";
    all("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", other === heading ? direction : "none"));
    for (const body of table.tBodies) {  // the controls are sorted among themselves
      const rows = Array.from(body.rows).filter((row) => !row.classList.contains("group"));
      const keyed = rows.map((row) => ({ row, key: sortKey(row, index) }));
      keyed.sort((a, b) => {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);  // what is not known stands last
        const order = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key));
        return direction === "ascending" ? order : -order;
      });
      keyed.forEach(({ row }) => body.append(row));
    }
  }));
}

function setUpChoices() {
  all(".choice").forEach((choice) => {
    choice.hidden = false;
    all("button", choice).forEach((button) => button.addEventListener("click", () => {
      all("button", choice).forEach((other) => {
        other.setAttribute("aria-pressed", String(other === button));
        document.getElementById(other.dataset.shows).hidden = other !== button;
      });
    }));
  });
}

function setUpMaps() {
  const data = JSON.parse(document.getElementById("layers").textContent);
  all("table[data-maps]").forEach((table) => all("select[data-column]", table).forEach((select) => select.addEventListener("change", () => {
    const column = select.dataset.column;
    const layer = data[table.dataset.maps][column][select.value];
    select.closest("th").querySelector(".hits").textContent = layer.hits;
    layer.cells.forEach(([uri, range, alt, peak], row) => {
      const cell = table.querySelector(`[data-cell="${column} ${row}"]`);
      cell.querySelector("img").src = uri;
      cell.querySelector("img").alt = alt;
      cell.querySelector("small").textContent = range;
      let mark = cell.querySelector(".peak");
      if (!peak) { if (mark) mark.remove(); return; }
      if (!mark) { mark = document.createElement("i"); mark.className = "peak"; cell.querySelector(".look").append(mark); }
      mark.style.left = `${peak[0]}%`;
      mark.style.top = `${peak[1]}%`;
    });
  })));
  all("[data-profile] select").forEach((select) => select.addEventListener("change", () => {
    const figure = select.closest("[data-profile]");
    const [uri, caption, alt] = data[figure.dataset.kind][figure.dataset.profile][select.value];
    figure.querySelector(".heat img").src = uri;
    figure.querySelector(".heat img").alt = alt;
    figure.querySelector(".caption").textContent = caption;
  }));
  all(".needs-script").forEach((label) => { label.hidden = false; });
  const strength = document.getElementById("strength");
  if (!strength) return;
  strength.addEventListener("input", () => root.style.setProperty("--strength", strength.value / 100));
  document.getElementById("cells").addEventListener("change", (event) => root.classList.toggle("cells", event.target.checked));
}

function setUpMore() {
  all(".show-more").forEach((button) => {
    const rows = all(`table[data-maps="${button.dataset.for}"] .more`);
    const show = (shown) => rows.forEach((row) => { row.hidden = !shown; });
    show(false);
    button.hidden = false;
    button.addEventListener("click", () => { show(true); button.hidden = true; });
    addEventListener("beforeprint", () => show(true));
  });
}

function setUpHighlights() {
  const marks = all("svg [data-arm]");
  all(".results tr[data-arm], .legend [data-arm]").forEach((source) => {
    const arm = source.dataset.arm;
    source.addEventListener("mouseenter", () => marks.forEach((mark) => mark.classList.toggle("dimmed", mark.dataset.arm !== arm)));
    source.addEventListener("mouseleave", () => marks.forEach((mark) => mark.classList.remove("dimmed")));
  });
}

function setUpCopying() {
  if (!navigator.clipboard) return;
  all(".with-copy button").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  });
}

setUpTheme();
setUpSorting();
setUpChoices();
setUpMaps();
setUpMore();
setUpHighlights();
setUpCopying();
