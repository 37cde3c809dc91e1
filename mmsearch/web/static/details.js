// One item in full: seen, heard or read, with its moments, its facts, and why it was found.

import * as api from "./api.js";
import { clock, counted, el, given, icon, marked, momentOf, nameOf } from "./dom.js";
import { sure } from "./tile.js";

const FACTS = [
  ["Taken", (facts) => facts.taken_at && new Date(facts.taken_at.slice(0, 19)).toLocaleString([], { dateStyle: "long", timeStyle: "short" })],
  ["Place", (facts) => facts.place ?? (facts.latitude !== null && facts.latitude !== undefined ? `${facts.latitude.toFixed(4)}, ${facts.longitude.toFixed(4)}` : null)],
  ["Camera", (facts) => facts.camera],
  ["Size", (facts) => facts.width && `${facts.width} × ${facts.height} pixels`],
  ["Length", (facts) => facts.duration_s && clock(facts.duration_s)],
];
const ORIGINS = { passage: "Text", caption: "Caption", subtitle: "Said", speech: "Said", ocr: "Written in it", tags: "Tags", generated: "Described" };
const MOST_TEXTS = 200;

export class Details {
  /** `place` is the panel; `actions` are { more, less, close, moved }. */
  constructor(place, actions) {
    Object.assign(this, { place, actions });
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        actions.close();
      }
    });
  }

  get isOpen() {
    return !this.place.hidden;
  }

  close() {
    this.asking?.abort();
    this.place.querySelectorAll("video, audio").forEach((each) => {
      each.pause();
      each.removeAttribute("src");
    });
    this.place.replaceChildren();
    this.place.hidden = true;
    document.body.classList.remove("with-details");
  }

  /** Show an item; `hit` is how it was found, if it was, and `at` the second to begin at. */
  async open(id, { hit, at, query, why }) {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    let item;
    try {
      item = await api.item(id, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.fill(el("p", { class: "message" }, error.message));
      return;
    }
    const name = nameOf(item.path);
    const heading = el("h2", { tabindex: "-1" }, name);
    const begin = at ?? hit?.start_s ?? 0;
    this.fill(
      el("div", { class: "head" }, heading, el("button", { class: "quiet", type: "button", "aria-label": "Close the details", onclick: this.actions.close }, icon("close"))),
      this.shown(item, hit, begin),
      el("div", { class: "buttons" }, this.button("More like this", "more", () => this.actions.more(id)), this.button("Not like this", "less", () => this.actions.less(id))),
      hit ? this.reasons(hit, why) : null,
      this.facts(item),
      this.texts(item, query),
      el("p", { class: "path" }, item.path),
      el("div", { class: "buttons" },
        el("a", { class: "button", href: api.file(id), target: "_blank", rel: "noopener" }, "Open the file"),
        el("a", { class: "button", href: `${api.file(id)}?download=1` }, "Download"),
        hit && hit.start_s !== null && item.modality !== "text"
          ? el("a", { class: "button", href: `${api.clip(id, hit.start_s, Math.min(hit.end_s, hit.start_s + 120))}&download=1` }, `Download ${momentOf(hit)}`)
          : null),
    );
    heading.focus({ preventScroll: true });
  }

  fill(...parts) {
    this.close();
    this.place.replaceChildren(...given(parts));
    this.place.hidden = false;
    this.place.scrollTop = 0;
    document.body.classList.add("with-details");
  }

  button(words, name, act) {
    return el("button", { class: "button", type: "button", onclick: act }, icon(name), words);
  }

  shown(item, hit, begin) {
    if (item.modality === "image") return el("img", { class: "whole", alt: nameOf(item.path), src: api.still(item.id, 0, 1600) });
    if (item.modality === "text") return null;
    const media = el(item.modality === "video" ? "video" : "audio", { controls: true, preload: "metadata", playsinline: true });
    media.src = `${api.file(item.id)}#t=${begin.toFixed(2)}`;
    media.addEventListener("error", () => {
      if (media.src.includes("/clip?")) return;
      const end = hit?.end_s ?? begin + 30;
      media.src = api.clip(item.id, begin, Math.min(Math.max(end, begin + 1), begin + 60));
    });
    return el("div", { class: "media" }, media, this.timeline(item, hit, media));
  }

  /** A line of all moments, the one that was found marked; a click goes there. */
  timeline(item, hit, media) {
    const moments = item.segments.filter((segment) => segment.start_s !== null);
    const whole = item.facts.duration_s || Math.max(0, ...moments.map((moment) => moment.end_s));
    if (!whole || moments.length < 2) return null;
    const found = [hit, ...(hit?.moments ?? [])].filter(Boolean).map((each) => each.start_s);
    const bar = el("div", { class: "timeline", role: "group", "aria-label": "Moments" });
    for (const moment of moments.slice(0, 400)) {
      if (moment.end_s - moment.start_s >= whole * 0.98 && moments.length > 2) continue; // it belongs to the whole
      const is = found.some((start) => Math.abs(start - moment.start_s) < 0.05);
      const part = el("button", {
        type: "button",
        class: is ? "found" : null,
        title: `${clock(moment.start_s)}–${clock(moment.end_s)}`,
        "aria-label": `${is ? "Found: " : ""}from ${clock(moment.start_s)} to ${clock(moment.end_s)}`,
        onclick: () => {
          media.currentTime = moment.start_s;
          media.play().catch(() => {});
        },
      });
      part.style.left = `${(100 * moment.start_s) / whole}%`;
      part.style.width = `${(100 * Math.max(0.2, moment.end_s - moment.start_s)) / whole}%`;
      bar.append(part);
    }
    const hand = el("span", { class: "hand" });
    media.addEventListener("timeupdate", () => (hand.style.left = `${(100 * media.currentTime) / whole}%`));
    bar.append(hand);
    return bar;
  }

  reasons(hit, why) {
    const table = el("dl", { class: "facts" });
    const row = (name, value) => table.append(el("dt", {}, name), el("dd", {}, value));
    if (hit.confidence !== null) row("Confidence", sure(hit));
    row("Found by", { visual: "how it looks", audio: "how it sounds", text: "what it says" }[hit.view] ?? hit.view);
    row("Score", `${hit.score.toFixed(2)} standard deviations`);
    const whole = el("details", { class: "why" }, el("summary", {}, "Why this was found"), table);
    let asked = false;
    whole.addEventListener("toggle", async () => {
      if (!whole.open || asked) return;
      asked = true;
      const said = await why(hit).catch(() => null);
      if (!said) return;
      row("By itself", said.first_stage.toFixed(2));
      if (said.agreement) row("By agreement", `${said.agreement >= 0 ? "+" : ""}${said.agreement.toFixed(2)}`);
      if (said.hubness !== null) row("Near to anything", said.hubness.toFixed(2));
      if (said.neighbours.length) row("Agrees with", said.neighbours.map((each) => nameOf(each.path)).join(", "));
    });
    return whole;
  }

  facts(item) {
    const known = FACTS.map(([name, read]) => [name, read(item.facts)]).filter(([, value]) => value);
    if (item.segment_count > 1) known.push(["Moments", counted(item.segment_count, "moment")]);
    if (!known.length) return null;
    return el("dl", { class: "facts" }, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  texts(item, query) {
    if (!item.texts.length) return null;
    const list = el("ol", { class: "texts" });
    for (const text of item.texts.slice(0, MOST_TEXTS)) {
      const about = [ORIGINS[text.origin] ?? text.origin, text.start_s === null ? "" : clock(text.start_s)].filter(Boolean).join(", ");
      list.append(el("li", {}, item.modality === "text" ? null : el("small", {}, about), marked(text.words, query)));
    }
    if (item.texts.length > MOST_TEXTS) list.append(el("li", {}, el("small", {}, `and ${counted(item.texts.length - MOST_TEXTS, "more", "more")}`)));
    return list;
  }
}
