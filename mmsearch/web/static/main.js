// The page: one box, what it finds, and the address that remembers it.

import * as address from "./address.js";
import * as api from "./api.js";
import { Details } from "./details.js";
import { counted, el, icon, KINDS, number } from "./dom.js";
import { Grid, sectionsOf } from "./grid.js";
import { showLibrary } from "./library.js";
import { Selection } from "./selection.js";
import { dropTile, makeTile } from "./tile.js";

const TYPING_MS = 160;
const STEPS = [60, 1000, 10000]; // how many hits are asked for: more when the reader comes near the end
const STRICT = ["everything", "likely", "sure", "very sure"];
const LEAST = [0, 0, 0.5, 0.9]; // the confidence that a step of strictness demands; the server cuts at "likely" itself
const at = (id) => document.getElementById(id);

let state = { ...address.EMPTY };
let uploads = []; // { file, address }: what is asked with, beside what lies in the address
let answer = null;
let step = 0;
let asking = null;
let typing = 0;

const selection = new Selection(at("selection"), () => redraw());
const details = new Details(at("details"), {
  more: (id) => go({ like: [id], unlike: [], q: "", item: null, at: null }, []),
  less: (id) => go({ unlike: [...new Set([...state.unlike, id])], like: state.like.filter((each) => each !== id), item: null, at: null }),
  close: () => go({ item: null, at: null }),
});
const grid = new Grid(at("grid"), {
  make: (hit) => makeTile(hit, {
    query: state.q,
    selected: selection.has(hit.id),
    open: (each) => go({ item: each.id, at: each.start_s }),
    select: (each, range) => selection.toggle(each, grid.hits, range),
  }),
  drop: dropTile,
  near: () => more(),
});

// The state and the address

/** Change the state, and the address with it; `files` replace what was uploaded. */
function go(change, files = uploads, { replace = false } = {}) {
  const before = state;
  const typing_ = typing ? { q: at("q").value } : {}; // what is being typed isn't lost by a click
  clearTimeout(typing);
  typing = 0;
  state = { ...state, ...typing_, ...change };
  const same = address.write(state) === address.write(before) && files === uploads;
  uploads = files;
  if (!same) history[replace ? "replaceState" : "pushState"]({ uploads: uploads.length }, "", address.write(state));
  apply(before, files);
}

/** Bring the page to the state: ask again only where the question is another one. */
function apply(before, files, forced = false) {
  const question = (each) => JSON.stringify([each.q.trim(), each.kinds, each.like, each.unlike, each.strict === 0]);
  draw();
  if (forced || question(before) !== question(state) || apply.files !== files) {
    apply.files = files;
    ask();
  } else if (before.strict !== state.strict) redraw();
  if (before.item !== state.item || forced) showItem(before.item);
}

function draw() {
  if (at("q").value !== state.q) at("q").value = state.q;
  at("strict").value = state.strict;
  at("strict-said").textContent = STRICT[state.strict];
  for (const chip of at("kinds").children) {
    const kinds = chip.dataset.kind ? state.kinds.includes(chip.dataset.kind) : !state.kinds.length;
    chip.setAttribute("aria-pressed", kinds);
  }
  const words = state.q || (state.like.length ? "more like this" : "");
  document.title = words ? `${words} – mmsearch` : "mmsearch";
  drawTerms();
}

function drawTerms() {
  const parts = [];
  for (const upload of uploads) {
    const shown = upload.file.type.startsWith("image/") ? el("img", { src: upload.address, alt: "" }) : icon(upload.file.type.startsWith("audio/") ? "sound" : "film");
    parts.push(term(shown, upload.file.name || "pasted", () => go({}, uploads.filter((each) => each !== upload))));
  }
  for (const [name, sign] of [["like", "like"], ["unlike", "not like"]]) {
    for (const id of state[name]) {
      const image = el("img", { src: api.still(id, 0, 160), alt: "" });
      image.addEventListener("error", () => image.remove());
      parts.push(term(image, sign, () => go({ [name]: state[name].filter((each) => each !== id) }), sign === "not like"));
    }
  }
  at("terms").replaceChildren(...parts);
}

function term(shown, words, remove, minus = false) {
  const button = el("button", { type: "button", "aria-label": `Ask without ${words}`, onclick: remove }, icon("close"));
  return el("li", { class: minus ? "minus" : null }, shown, el("span", {}, words), button);
}

// Asking

const isEmpty = () => !state.q.trim() && !state.like.length && !state.unlike.length && !uploads.length;

/** Ask for the first hits; an answer to an older question is thrown away. */
async function ask() {
  step = 0;
  await request();
  if (answer && !isEmpty()) scrollTo(0, 0);
}

async function request() {
  asking?.abort();
  if (isEmpty()) {
    answer = null;
    at("message").replaceChildren();
    redraw();
    return start();
  }
  const mine = (asking = new AbortController());
  const wanted = { k: STEPS[step], all: state.strict === 0 };
  at("box").classList.add("busy");
  try {
    const [given, files] = [state, uploads.map((each) => each.file)];
    const found = await api.search(given, files, wanted, mine.signal);
    const nearest = found.hits.length ? null : await api.search(given, files, { k: 6, all: true }, mine.signal);
    if (mine !== asking) return;
    answer = { ...found, nearest, full: found.hits.length < STEPS[step] };
    redraw();
  } catch (error) {
    if (error.name === "AbortError" || mine !== asking) return;
    answer = null;
    redraw();
    at("message").replaceChildren(el("div", { class: "message" }, el("h2", {}, "That can't be answered"), el("p", {}, error.message)));
    say(error.message);
  } finally {
    if (mine === asking) at("box").classList.remove("busy");
  }
}

/** Ask for more, once the reader comes near the end. */
function more() {
  if (!answer || answer.full || step + 1 >= STEPS.length || at("box").classList.contains("busy")) return;
  step += 1;
  request();
}

// Showing

function redraw() {
  if (!answer) {
    grid.show([]);
    if (!isEmpty()) at("said").textContent = "";
    return;
  }
  const hits = answer.hits.filter((hit) => hit.confidence === null || hit.confidence >= LEAST[state.strict]);
  const cut = answer.hits.length - hits.length;
  at("message").replaceChildren();
  if (hits.length) {
    grid.show(sectionsOf(hits, !answer.full));
    say(summary(hits.length, cut));
  } else nothing(cut);
}

function summary(shown, cut) {
  const left = [];
  if (answer.hidden) left.push(counted(answer.hidden, "copy", "copies"));
  if (answer.weak + cut) left.push(counted(answer.weak + cut, "weak match", "weak matches"));
  const found = `${counted(shown, "hit")}${answer.full ? "" : " or more"}`;
  return left.length ? `${found}; ${left.join(" and ")} left out` : found;
}

/** "Nothing here" is an answer of its own, with what came nearest. */
function nothing(cut) {
  const nearest = cut ? answer.hits.slice(0, 6) : (answer.nearest?.hits ?? []);
  const asked = state.q ? `“${state.q}”` : "that";
  const strict = cut ? "Nothing here is that sure." : `Nothing here looks, sounds or reads like ${asked}.`;
  const hint = nearest.length ? "This came nearest, but no nearer than it comes to most questions:" : "The library has no such files.";
  const buttons = el("div", { class: "buttons" }, el("button", { class: "button", type: "button", onclick: () => go({ strict: 0 }) }, "Show everything"));
  if (state.kinds.length) buttons.append(el("button", { class: "button", type: "button", onclick: () => go({ kinds: [] }) }, "Look at all kinds"));
  at("message").replaceChildren(el("div", { class: "message nothing" }, el("h2", {}, strict), el("p", {}, hint), ...(nearest.length ? [buttons] : [])));
  at("said").textContent = strict;
  at("grid").classList.toggle("faint", true);
  grid.show(sectionsOf(nearest, false));
}

function say(words) {
  at("grid").classList.remove("faint");
  at("said").textContent = words;
}

async function start() {
  at("said").textContent = "";
  at("grid").classList.remove("faint");
  const held = await facets;
  if (!isEmpty() || !held) return;
  const all = Object.values(held.modalities).reduce((sum, count) => sum + count, 0);
  const examples = ["a dog on a beach", "rain", "people laughing", "a red car at night"];
  const parts = all
    ? [el("h2", {}, `${counted(all, "file")}, and one box`), el("p", {}, "Write what you see, hear or remember. Or drop, paste or choose a picture, a sound or a clip: it finds what looks or sounds like it."),
      el("div", { class: "buttons" }, ...examples.map((words) => el("button", { class: "button", type: "button", onclick: () => go({ q: words }) }, words)))]
    : [el("h2", {}, "The library is empty"), el("p", {}, "Fill it on the command line: ", el("code", {}, "mmsearch index FOLDER"))];
  at("message").replaceChildren(el("div", { class: "message start" }, ...parts));
}

function showItem(before) {
  if (!state.item) {
    if (!details.isOpen) return;
    details.close();
    const n = grid.hits.findIndex((hit) => hit.id === before);
    if (n >= 0) grid.focus(n);
    return;
  }
  const hit = [...(answer?.hits ?? []), ...(answer?.nearest?.hits ?? [])].find((each) => each.id === state.item) ?? null;
  details.open(state.item, { hit, at: state.at, query: state.q, why });
}

/** Ask why a hit was found: only then are the reasons computed. */
async function why(hit) {
  const k = Math.max(10, answer.hits.length || 10);
  const said = await api.search(state, uploads.map((each) => each.file), { k, all: true, explain: true });
  return said.hits.find((each) => each.id === hit.id)?.why ?? null;
}

// What the reader does

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  go({ q: at("q").value, item: null, at: null });
  typed = false;
});
let typed = false; // whether the newest entry of the history is being typed: it is then replaced, not added to
at("q").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    go({ q: at("q").value, item: null, at: null }, uploads, { replace: typed });
    typed = true;
  }, TYPING_MS);
});
at("q").addEventListener("blur", () => (typed = false));
at("q").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && grid.hits.length) {
    event.preventDefault();
    grid.focus(grid.focused);
  } else if (event.key === "Escape") go({ ...address.EMPTY, kinds: state.kinds, strict: state.strict }, []);
  else if (event.key === "Backspace" && !at("q").value && at("terms").lastChild) at("terms").lastChild.querySelector("button").click();
});
at("strict").addEventListener("input", () => go({ strict: Number(at("strict").value) }, uploads, { replace: true }));
at("library").addEventListener("click", () => showLibrary(at("dialog")));
at("dialog").addEventListener("click", (event) => event.target === at("dialog") && at("dialog").close());
at("home").addEventListener("click", (event) => {
  event.preventDefault();
  go({ ...address.EMPTY }, []);
  at("q").focus();
});

addEventListener("keydown", (event) => {
  const writes = event.target.closest?.("input, textarea, dialog, [contenteditable]");
  if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
  const hit = grid.current();
  if (event.key === "/" || (event.key === "ArrowUp" && hit)) {
    event.preventDefault();
    at("q").focus();
  } else if (event.key === "Escape") {
    if (details.isOpen) go({ item: null, at: null });
    else if (selection.hits.size) selection.clear();
  } else if (hit && event.key === "x") {
    selection.toggle(hit, grid.hits, false);
    grid.focus(grid.focused);
  } else if (hit && event.key === "m") details.actions.more(hit.id);
  else if (hit && event.key === "n") details.actions.less(hit.id);
});

// Files: chosen, dropped, pasted

function take(files) {
  const [file] = [...files].filter((each) => /^(image|audio|video|text)\//.test(each.type) || !each.type);
  if (!file) return;
  for (const each of uploads) URL.revokeObjectURL(each.address);
  go({ like: [], unlike: [], item: null, at: null }, [{ file, address: URL.createObjectURL(file) }]);
}

at("file").addEventListener("change", () => {
  take(at("file").files);
  at("file").value = "";
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    take(event.clipboardData.files);
  }
});
let depth = 0;
const dragged = (by) => {
  depth = Math.max(0, depth + by);
  at("drop").hidden = !depth;
};
addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && dragged(1));
addEventListener("dragleave", (event) => event.dataTransfer?.types.includes("Files") && dragged(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  dragged(0);
  if (event.dataTransfer?.files.length) take(event.dataTransfer.files);
});

addEventListener("popstate", () => {
  const before = state;
  state = address.read(location.search);
  if (!history.state?.uploads) uploads = [];
  apply(before, uploads);
});

// The beginning

const facets = api.facets().catch(() => null);
facets.then((held) => {
  const chips = [["", "All", null], ...Object.entries(KINDS).map(([kind, title]) => [kind, title, held?.modalities[kind] ?? null])];
  at("kinds").replaceChildren(...chips.map(([kind, title, count]) => {
    const press = () => go({ kinds: kind ? (state.kinds.includes(kind) ? state.kinds.filter((each) => each !== kind) : [...state.kinds, kind]) : [] });
    return el("button", { class: "chip", type: "button", "data-kind": kind, "aria-pressed": "false", onclick: press }, title, count === null ? null : el("small", {}, number(count)));
  }));
  draw();
});
state = address.read(location.search);
apply.files = uploads;
draw();
await ask();
if (state.item) showItem(null);
if (!state.item && matchMedia("(pointer: fine)").matches) at("q").focus();
