// A grid of thousands of hits, of which only those near the window are elements.

import { el, counted, KINDS } from "./dom.js";

const AHEAD = 700; // pixels above and below the window that are ready
const GAP = 10;
const HEADER = 44;
const SHAPES = {
  image: { least: 168, phone: 108, height: (width) => Math.round(width * 0.75) },
  video: { least: 220, phone: 160, height: (width) => Math.round((width * 9) / 16) },
  audio: { least: 260, phone: 260, height: () => 76 },
  text: { least: 300, phone: 280, height: () => 128 },
};

export class Grid {
  /** `place` is the element to fill; `make(hit)` returns the tile of a hit, and `drop(tile)` is told when it goes. */
  constructor(place, { make, drop, open, near }) {
    Object.assign(this, { place, make, drop, open, near });
    this.rows = [];
    this.shown = new Map();
    this.hits = [];
    this.focused = 0;
    place.classList.add("grid");
    addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(place);
    place.addEventListener("keydown", (event) => this.key(event));
    place.addEventListener("focusin", (event) => {
      const tile = event.target.closest("[data-n]");
      if (tile) this.focused = Number(tile.dataset.n);
    });
  }

  /** Show sections: [{ kind, title, hits }]. */
  show(sections) {
    this.sections = sections.filter((section) => section.hits.length);
    this.hits = this.sections.flatMap((section) => section.hits);
    this.focused = Math.min(this.focused, Math.max(0, this.hits.length - 1));
    this.rebuild();
  }

  resized() {
    if (this.place.clientWidth !== this.width && this.sections) this.rebuild();
  }

  /** Make every tile again; the one that has the focus keeps it. */
  rebuild() {
    const held = this.current();
    for (const [key, node] of this.shown) this.remove(key, node);
    this.lay();
    this.draw();
    if (held) this.shown.get(this.focused)?.querySelector(".open").focus({ preventScroll: true });
  }

  /** Work out where every row lies. */
  lay() {
    this.width = this.place.clientWidth;
    this.rows = [];
    let top = 0;
    let n = 0;
    for (const section of this.sections) {
      const shape = SHAPES[section.kind];
      const least = this.width < 600 ? shape.phone : shape.least;
      const columns = Math.max(1, Math.floor((this.width + GAP) / (least + GAP)));
      const width = (this.width - GAP * (columns - 1)) / columns;
      const height = shape.height(width);
      if (section.title) {
        this.rows.push({ top, height: HEADER, section });
        top += HEADER;
      }
      for (let at = 0; at < section.hits.length; at += columns) {
        const count = Math.min(columns, section.hits.length - at);
        this.rows.push({ top, height, first: n, count, width });
        n += count;
        top += height + GAP;
      }
      top += GAP;
    }
    this.place.style.height = `${top}px`;
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  /** Make what came near the window, and remove what left it. */
  draw() {
    if (!this.sections) return;
    const offset = this.place.getBoundingClientRect().top;
    const [from, to] = [-offset - AHEAD, -offset + innerHeight + AHEAD];
    const wanted = new Set();
    for (let at = this.rowAt(from); at < this.rows.length && this.rows[at].top < to; at++) {
      const row = this.rows[at];
      if (row.section) {
        const key = `s${row.section.kind}`;
        wanted.add(key);
        if (!this.shown.has(key)) this.add(key, this.heading(row), 0, row.top, this.width, row.height);
        continue;
      }
      for (let column = 0; column < row.count; column++) {
        const n = row.first + column;
        wanted.add(n);
        if (!this.shown.has(n)) this.add(n, this.tile(n), column * (row.width + GAP), row.top, row.width, row.height);
      }
    }
    const held = document.activeElement?.closest?.("[data-n]");
    for (const [key, node] of this.shown) {
      if (!wanted.has(key) && node !== held) this.remove(key, node);
    }
    if (to > this.place.clientHeight * 0.6) this.near?.();
  }

  rowAt(top) {
    let [low, high] = [0, this.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const row = this.rows[middle];
      if (row.top + row.height < top) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  heading(row) {
    const { title, hits, more } = row.section;
    return el("h2", { class: "section" }, title, el("span", {}, ` ${counted(hits.length, "hit")}${more ? " or more" : ""}`));
  }

  tile(n) {
    const tile = this.make(this.hits[n]);
    tile.dataset.n = n;
    tile.querySelector(".open").tabIndex = n === this.focused ? 0 : -1;
    return tile;
  }

  add(key, node, left, top, width, height) {
    node.style.transform = `translate(${left}px, ${top}px)`;
    node.style.width = `${width}px`;
    node.style.height = `${height}px`;
    this.shown.set(key, node);
    this.place.append(node);
  }

  remove(key, node) {
    this.shown.delete(key);
    if (typeof key === "number") this.drop(node);
    node.remove();
  }

  /** Bring a hit into the window and give it the focus. */
  focus(n) {
    if (!this.hits.length) return;
    const old = this.shown.get(this.focused)?.querySelector(".open");
    if (old) old.tabIndex = -1;
    this.focused = Math.max(0, Math.min(this.hits.length - 1, n));
    const row = this.rows.find((each) => !each.section && this.focused < each.first + each.count);
    const top = this.place.getBoundingClientRect().top + row.top;
    const header = document.querySelector(".top").offsetHeight + 64;
    if (top < header) scrollBy(0, top - header);
    else if (top + row.height > innerHeight - 24) scrollBy(0, top + row.height - innerHeight + 24);
    this.draw();
    const tile = this.shown.get(this.focused)?.querySelector(".open");
    if (tile) tile.tabIndex = 0;
    tile?.focus({ preventScroll: true });
  }

  /** The hit that has the focus, if any has. */
  current() {
    return document.activeElement?.closest?.("[data-n]") ? this.hits[this.focused] : null;
  }

  key(event) {
    const at = this.rows.findIndex((row) => !row.section && this.focused < row.first + row.count);
    const row = this.rows[at];
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    const vertical = (step) => {
      let next = at + step;
      while (this.rows[next]?.section) next += step;
      const other = this.rows[next];
      if (!other) return null;
      const share = (this.focused - row.first + 0.5) / (this.width / (row.width + GAP));
      return other.first + Math.min(other.count - 1, Math.floor((share * this.width) / (other.width + GAP)));
    };
    const moves = {
      ArrowRight: () => this.focused + 1,
      ArrowLeft: () => this.focused - 1,
      ArrowDown: () => vertical(1),
      ArrowUp: () => vertical(-1),
      Home: () => 0,
      End: () => this.hits.length - 1,
    };
    if (!moves[event.key]) return;
    const next = moves[event.key]();
    if (next === null && event.key === "ArrowUp") return; // the page takes it from here
    event.preventDefault();
    event.stopPropagation();
    if (next !== null) this.focus(next);
  }
}

/** Hits → sections by kind, the kind of the best hit first; one section where only one kind is asked for. */
export function sectionsOf(hits, more) {
  const byKind = new Map();
  for (const hit of hits) {
    if (!byKind.has(hit.modality)) byKind.set(hit.modality, []);
    byKind.get(hit.modality).push(hit);
  }
  const several = byKind.size > 1;
  return [...byKind].map(([kind, own]) => ({ kind, hits: own, more, title: several ? KINDS[kind] : "" }));
}
