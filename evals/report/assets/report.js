// What the page can do beyond being read: step through edits, sort tables, search problems, and show
// samples. Without this script all but the samples can be read. Text of models enters the page as
// text only: nothing here makes markup of a string.
"use strict";

// As in charts.py: what can't be seen, or turns text around, is written out by its number.
const visible = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) =>
  character === "\n" || character === "\t"
    ? character
    : `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);

const make = (tag, kind = "", text = "") => {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text) element.textContent = visible(text);
  return element;
};

// --- programs, action by action ------------------------------------------------------------------

for (const stepper of document.querySelectorAll("[data-stepper]")) {
  const steps = [...stepper.querySelectorAll(".steps > li")];
  const controls = stepper.querySelector(".controls");
  const [back, forward] = controls.querySelectorAll("button");
  const slider = controls.querySelector("input");
  const caption = controls.querySelector("output");
  let current = 0;

  const show = (number) => {
    current = Math.min(Math.max(number, 0), steps.length - 1);
    steps.forEach((step, i) => { step.hidden = i !== current; });
    slider.value = String(current);
    back.disabled = current === 0;
    forward.disabled = current === steps.length - 1;
    const text = steps[current].querySelector("summary").textContent.trim();
    caption.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };

  for (const step of steps) step.querySelector("details").open = true;
  // As tall as its tallest step, so that the page does not jump.
  stepper.classList.add("live");
  const tallest = Math.max(...steps.map((step) => step.offsetHeight));
  stepper.querySelector(".steps").style.minHeight = `${tallest}px`;
  slider.max = String(steps.length - 1);
  back.addEventListener("click", () => show(current - 1));
  forward.addEventListener("click", () => show(current + 1));
  slider.addEventListener("input", () => show(Number(slider.value)));
  stepper.addEventListener("keydown", (event) => {
    const to = {
      ArrowLeft: current - 1,
      ArrowRight: current + 1,
      Home: 0,
      End: steps.length - 1,
    }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(to);
  });
  controls.hidden = false;
  show(steps.length - 1);
}

// --- tables that sort ----------------------------------------------------------------------------

const valueOf = (row, column) => {
  const cell = row.cells[column];
  const value = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(value);
  return value !== "" && Number.isFinite(number) ? number : value;
};

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", "sort");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Numbers are most often wanted from the largest down, names from the first up.
      const first = column === 0 ? "ascending" : "descending";
      const second = column === 0 ? "descending" : "ascending";
      const order = before === first ? second : first;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      const values = new Map(rows.map((row) => [row, valueOf(row, column)]));
      rows.sort((a, b) => {
        const one = values.get(a), other = values.get(b);
        if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
        return sign * (typeof one === "number" ? one - other : one.localeCompare(other));
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// --- problems and samples ------------------------------------------------------------------------

const store = document.getElementById("blocks");
const blocks = store ? store.textContent.split("\n") : [];

const FIELDS = ["index", "status", "message", "program", "answer", "actions", "finish", "tokens",
  "cpu", "memory", "trust", "output"];

const unpack = async (number) => {
  const packed = Uint8Array.from(atob(blocks[number]), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const runs = JSON.parse(await new Response(stream).text());
  for (const run of runs) {
    if (!run) continue;
    run.samples = run.s.map((row) => {
      const sample = Object.fromEntries(FIELDS.map((name, i) => [name, row[i]]));
      if (sample.program === 1) sample.program = run.p + sample.answer;
      if (sample.program === 2) sample.program = sample.answer;
      return sample;
    });
  }
  return runs;
};

const MOST_LINES = 4000;

// `given`: how many of the first lines stood in the prompt.
const codeBlock = (text, given = 0) => {
  const block = make("pre", "code");
  block.tabIndex = 0;
  const lines = text ? visible(text).replace(/\n$/, "").split("\n") : [];
  lines.slice(0, MOST_LINES).forEach((line, i) =>
    block.append(make("span", i < given ? "given" : "", line)));
  const left = lines.length - MOST_LINES;
  if (!text) block.append(make("span", "none", "(empty)"));
  if (left > 0) block.append(make("span", "none", `… and ${left} more lines`));
  return block;
};

const fold = (title, text, open = false) => {
  const details = make("details");
  details.open = open;
  details.append(make("summary", "", title), codeBlock(text));
  return details;
};

for (const explorer of document.querySelectorAll("[data-explorer]")) {
  const names = JSON.parse(explorer.dataset.runs);
  const tools = explorer.querySelector(".tools");
  const [search, deep] = tools.querySelectorAll("input");
  const which = tools.querySelector("select");
  const said = tools.querySelector("output");
  const listing = explorer.querySelector(".listing");
  const body = listing.querySelector("tbody");
  const viewer = explorer.querySelector(".viewer");
  const hasSamples = Boolean(body.querySelector("[data-block]"));
  deep.closest("label").hidden = !hasSamples;

  // The rows in the order of the file, with what filters need.
  const rows = [...body.rows].map((row) => ({
    row,
    id: row.cells[0].textContent.toLowerCase(),
    rates: names.map((_, i) => Number(row.cells[i + 1].dataset.value)),
    block: row.dataset.block,
  }));

  const fits = ({ rates }) => {
    const known = rates.filter((rate) => rate >= 0);
    switch (which.value) {
      case "none": return known.every((rate) => rate === 0);
      case "some": return known.some((rate) => rate > 0);
      case "every": return known.length > 0 && known.every((rate) => rate === 1);
      case "differ": return new Set(known).size > 1;
      default: return true;
    }
  };

  const holds = async (number, wanted) => (await unpack(number)).some((run) => run &&
    (run.p.toLowerCase().includes(wanted) || run.samples.some((sample) =>
      [sample.program, sample.answer, sample.message, sample.actions, sample.output].some(
        (text) => text.toLowerCase().includes(wanted)))));

  let round = 0; // of searching: a newer one ends an older one
  const filter = async () => {
    const mine = ++round;
    const wanted = search.value.trim().toLowerCase();
    const far = deep.checked && wanted && hasSamples;
    let count = 0;
    listing.setAttribute("aria-busy", "true");
    for (const [i, entry] of rows.entries()) {
      let shown = fits(entry) && (!wanted || entry.id.includes(wanted));
      if (!shown && far && entry.block !== undefined && fits(entry)) {
        shown = await holds(entry.block, wanted);
        if (mine !== round) return;
        if (i % 10 === 0) said.textContent = `Searched ${i + 1} of ${rows.length} …`;
      }
      entry.row.hidden = !shown;
      count += shown;
    }
    listing.removeAttribute("aria-busy");
    said.textContent = count === rows.length ? "" : `${count} of ${rows.length} problems`;
    if (wanted || which.value !== "all") listing.open = true;
  };
  let timer = 0;
  const soon = () => { clearTimeout(timer); timer = setTimeout(filter, 150); };
  search.addEventListener("input", soon);
  which.addEventListener("change", filter);
  deep.addEventListener("change", filter);
  tools.hidden = false;

  // --- the viewer ---
  let opened = null; // {row, runs, run, status, place}

  const chosen = () => {
    const run = opened.runs[opened.run];
    return run.samples.filter((s) => !opened.status || s.status === opened.status);
  };

  const draw = () => {
    const { runs, row } = opened;
    const samples = chosen();
    opened.place = Math.min(Math.max(opened.place, 0), Math.max(samples.length - 1, 0));
    const sample = samples[opened.place];
    const head = make("div", "viewer-head");
    const title = make("h4", "", row.cells[0].textContent);
    title.tabIndex = -1;
    const close = make("button", "", "Close");
    close.type = "button";
    close.addEventListener("click", shut);
    head.append(title, close);

    const bar = make("div", "controls");
    if (names.length > 1) bar.append(choice("Run", names.map((name, i) => [i, name]), opened.run,
      (value) => { opened.run = Number(value); opened.status = ""; opened.place = 0; draw(); },
      (i) => !runs[i]));
    const statuses = {};
    for (const s of runs[opened.run].samples) statuses[s.status] = (statuses[s.status] ?? 0) + 1;
    const all = runs[opened.run].samples.length;
    bar.append(choice("Verdict", [["", `all verdicts (${all})`],
      ...Object.entries(statuses).map(([name, count]) => [name, `${name} (${count})`])],
      opened.status, (value) => { opened.status = value; opened.place = 0; draw(); }));
    const back = make("button", "", "← Back");
    const forward = make("button", "", "Next →");
    back.type = forward.type = "button";
    back.disabled = opened.place === 0;
    forward.disabled = opened.place >= samples.length - 1;
    back.addEventListener("click", () => move(-1, ".back"));
    forward.addEventListener("click", () => move(1, ".forward"));
    back.classList.add("back");
    forward.classList.add("forward");
    const where = make("output", "where", `${opened.place + 1} of ${samples.length}`);
    where.setAttribute("aria-live", "polite");
    bar.append(back, where, forward);

    const inside = make("div", "viewer-body");
    const verdict = make("p", "verdict");
    const badge = make("span", `badge ${sample.status}`);
    badge.append(make("span", "", sample.status));
    verdict.append(badge);
    const facts = [`sample ${sample.index}`];
    if (sample.tokens) facts.push(`${sample.tokens} tokens`);
    if (sample.finish === "length") facts.push("cut off at its limit");
    if (sample.cpu) facts.push(`${sample.cpu} s CPU`);
    if (sample.memory) facts.push(`${sample.memory} MiB`);
    if (sample.trust === "in_sandbox") facts.push("the program could have forged this verdict");
    verdict.append(make("span", "muted small", facts.join(" · ")));
    inside.append(verdict);
    if (sample.message) inside.append(make("p", "message", sample.message));
    inside.append(make("h5", "", sample.program ? "Program" : "No program was found"));
    const prompt = runs[opened.run].p;
    const given = prompt && sample.program.startsWith(prompt) ? prompt.split("\n").length - 1 : 0;
    if (sample.program) inside.append(codeBlock(sample.program, given));
    if (sample.output) inside.append(fold("What it printed", sample.output, true));
    if (sample.answer !== sample.program) {
      inside.append(fold("What the model wrote", sample.answer, !sample.program));
    }
    if (sample.actions) inside.append(fold("Its actions", sample.actions));
    inside.append(fold("The prompt", prompt));
    viewer.replaceChildren(head, bar, inside);
    viewer.hidden = false;
  };

  const choice = (label, options, value, pick, disabled = () => false) => {
    const select = make("select");
    select.setAttribute("aria-label", label);
    for (const [key, text] of options) {
      const option = make("option", "", text);
      option.value = String(key);
      option.disabled = disabled(key);
      select.append(option);
    }
    select.value = String(value);
    select.addEventListener("change", () => {
      pick(select.value);
      viewer.querySelector(`select[aria-label="${label}"]`)?.focus();
    });
    return select;
  };

  const move = (step, from) => {
    opened.place += step;
    draw();
    if (from) {
      const button = viewer.querySelector(from);
      (button.disabled ? viewer.querySelector("h4") : button).focus();
    }
  };

  const shut = () => {
    const row = opened?.row;
    row?.classList.remove("open");
    opened = null;
    viewer.hidden = true;
    viewer.replaceChildren();
    row?.querySelector("button")?.focus();
  };

  const open = async (row, run) => {
    let runs;
    try {
      runs = await unpack(row.dataset.block);
    } catch (error) {
      viewer.replaceChildren(make("p", "message", `The samples can't be unpacked: ${error}`));
      viewer.hidden = false;
      return;
    }
    opened?.row.classList.remove("open");
    row.classList.add("open");
    const known = runs[run] ? run : runs.findIndex(Boolean);
    opened = { row, runs, run: known, status: "", place: 0 };
    draw();
    viewer.querySelector("h4").focus({ preventScroll: true });
    viewer.scrollIntoView({ block: "nearest" });
  };

  for (const { row } of rows) {
    if (row.dataset.block === undefined) continue;
    const name = row.cells[0];
    const button = make("button", "open-samples");
    button.type = "button";
    button.append(...name.childNodes);
    name.append(button);
  }
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row?.dataset.block === undefined) return;
    const column = event.target.closest("td")?.cellIndex ?? 1;
    open(row, Math.min(Math.max(column - 1, 0), names.length - 1));
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !opened) return;
    if (event.key === "Escape") shut();
    if (["SELECT", "INPUT", "PRE"].includes(event.target.tagName)) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
    if (event.key.startsWith("Arrow") && opened) viewer.querySelector("h4").focus();
  });
}
