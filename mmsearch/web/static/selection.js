// What the reader has selected, and where it may go: a zip archive, paths to copy, a list of paths.

import { counted, el, icon } from "./dom.js";

export class Selection {
  constructor(place, changed) {
    Object.assign(this, { place, changed });
    this.hits = new Map();
    this.last = null;
  }

  has(id) {
    return this.hits.has(id);
  }

  /** Select a hit or leave it out again; with `range`, all from the last one to it in `order`. */
  toggle(hit, order, range) {
    const [from, to] = [order.findIndex((each) => each.id === this.last), order.findIndex((each) => each.id === hit.id)];
    if (range && from >= 0 && to >= 0) {
      for (const each of order.slice(Math.min(from, to), Math.max(from, to) + 1)) this.hits.set(each.id, each);
    } else if (this.hits.has(hit.id)) this.hits.delete(hit.id);
    else this.hits.set(hit.id, hit);
    this.last = hit.id;
    this.draw();
  }

  clear() {
    this.hits.clear();
    this.draw();
  }

  draw() {
    this.place.hidden = !this.hits.size;
    const paths = [...this.hits.values()].map((hit) => hit.path);
    const form = el("form", { method: "post", action: "/export" },
      el("input", { type: "hidden", name: "ids", value: [...this.hits.keys()].join(",") }),
      el("button", { class: "main", type: "submit" }, "Download as zip"));
    const said = el("span", { role: "status" }, `${counted(this.hits.size, "file")} selected`);
    const copy = el("button", { class: "button", type: "button" }, "Copy paths");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(`${paths.join("\n")}\n`).then(
        () => (said.textContent = `${counted(paths.length, "path")} copied`),
        () => (said.textContent = "the browser doesn't allow that; use Save paths"),
      );
    });
    const list = URL.createObjectURL(new Blob([`${paths.join("\n")}\n`], { type: "text/plain" }));
    URL.revokeObjectURL(this.list);
    this.list = list;
    const save = el("a", { class: "button", href: list, download: "paths.txt" }, "Save paths");
    const clear = el("button", { class: "quiet", type: "button", "aria-label": "Clear the selection", onclick: () => this.clear() }, icon("close"));
    this.place.replaceChildren(said, form, copy, save, clear);
    this.changed();
  }
}
