// The library in a dialog: what it holds, an index run and its progress, the files that failed, and the keys.

import * as api from "./api.js";
import { counted, el, given, icon, KINDS, nameOf, number } from "./dom.js";

const KEYS = [
  ["/", "to the box"],
  ["↓", "from the box to the hits; arrows go on from there"],
  ["Enter", "open a hit"],
  ["x", "select a hit"],
  ["m, n", "more like it, not like it"],
  ["Esc", "close, or clear"],
];

let end = null;

export async function showLibrary(dialog) {
  const body = el("div", {}, el("p", {}, "…"));
  dialog.replaceChildren(
    el("div", { class: "head" }, el("h2", { id: "dialog-title" }, "Library"), el("button", { class: "quiet", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
    body,
  );
  dialog.addEventListener("close", () => end?.(), { once: true });
  dialog.showModal();
  await fill(body);
}

async function fill(body) {
  let status;
  try {
    status = await api.status();
  } catch (error) {
    body.replaceChildren(el("p", {}, error.message));
    return;
  }
  const counts = el("dl", { class: "facts" });
  for (const [kind, title] of Object.entries(KINDS)) counts.append(el("dt", {}, title), el("dd", {}, number(status.media[kind] ?? 0)));
  counts.append(el("dt", {}, "Model"), el("dd", {}, status.model ?? status.profile));
  const progress = el("div", { class: "progress", role: "status" });
  const start = el("button", { class: "main", type: "button" }, "Update now");
  start.addEventListener("click", async () => {
    try {
      follow(await api.index(), progress, body);
    } catch (error) {
      progress.replaceChildren(el("p", {}, error.message));
    }
  });
  const roots = el("ul", { class: "paths" }, ...status.roots.map((root) => el("li", {}, root)));
  body.replaceChildren(...given([
    counts,
    el("h3", {}, "Folders"),
    roots,
    el("div", { class: "buttons" }, start),
    progress,
    failures(status),
    el("h3", {}, "Keys"),
    el("dl", { class: "facts keys" }, ...KEYS.flatMap(([key, meaning]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, meaning)])),
  ]));
  if (status.job?.state === "running") follow(status.job, progress, body);
}

function failures(status) {
  if (!status.failed?.length) return null;
  const rows = status.failed.map((each) => el("li", {}, el("strong", { title: each.path }, nameOf(each.path)), el("span", {}, ` ${each.reason}`)));
  return el("details", {}, el("summary", {}, `${counted(status.failures, "file")} couldn't be indexed`), el("ul", { class: "paths" }, ...rows));
}

/** Show how far an index run is until it ends. */
function follow(job, place, body) {
  end?.();
  end = api.watch(job.id, (told) => {
    const bar = el("progress", { "aria-label": "Index run", max: Math.max(1, told.total), value: told.done });
    if (told.state === "running") {
      const stop = el("button", { class: "button", type: "button", onclick: () => api.stop(job.id) }, "Stop");
      place.replaceChildren(bar, el("p", {}, told.total ? `${number(told.done)} of ${number(told.total)} files` : "looking at the folders …"), stop);
      return;
    }
    const report = told.report;
    const said = report
      ? `${told.state}: ${number(report.added)} added, ${number(report.updated)} updated, ${number(report.removed)} removed, ${number(report.failed)} failed`
      : told.error;
    fill(body).then(() => body.querySelector(".progress")?.replaceChildren(el("p", {}, said)));
  });
}
