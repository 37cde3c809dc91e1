// One hit in the grid: what it looks like, and what happens under the pointer.

import * as api from "./api.js";
import { el, icon, momentOf, nameOf, marked } from "./dom.js";

const WAIT_MS = 60; // what is scrolled past in less isn't loaded
const HOVER_MS = 350;
const middle = (hit) => (hit.start_s === null ? 0 : (hit.start_s + hit.end_s) / 2);

let playing = null; // the one sound that plays in the grid

/** Make the tile of a hit. `open(hit)` and `select(hit, range)` are told what the reader wants. */
export function makeTile(hit, { query, selected, open, select }) {
  const name = nameOf(hit.path);
  const moment = momentOf(hit);
  const label = `${name}${moment ? `, ${moment}` : ""}${hit.confidence === null ? "" : `, ${sure(hit)} sure`}`;
  const face = { image: picture, video: film, audio: sound, text: words }[hit.modality](hit, name, moment, query);
  const opener = el("button", { class: "open", type: "button", "aria-label": label, onclick: (event) => act(event) }, ...face);
  const box = el("button", {
    class: "pick",
    type: "button",
    tabindex: "-1",
    "aria-label": `Select ${name}`,
    "aria-pressed": selected,
    onclick: (event) => select(hit, event.shiftKey),
  }, icon("check"));
  const tile = el("div", { class: `tile ${hit.modality}${selected ? " selected" : ""}` }, opener, box);
  if (hit.modality === "audio") tile.append(player(hit, name));
  if (hit.modality === "video") hover(tile, hit);

  function act(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) select(hit, event.shiftKey);
    else open(hit);
  }
  return tile;
}

/** End what a tile has begun. */
export function dropTile(tile) {
  clearTimeout(tile.waiting);
  const image = tile.querySelector("img");
  clearTimeout(image?.waiting);
  if (image && !image.complete) image.removeAttribute("src");
  tile.querySelector("video")?.remove();
  if (playing && tile.contains(playing)) {
    playing.pause();
    playing = null;
  }
}

export const sure = (hit) => `${Math.round(hit.confidence * 100)} %`;

function still(hit, at) {
  const image = el("img", { alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => image.classList.add("ready"));
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "none" }, "can't be shown")));
  image.waiting = setTimeout(() => (image.src = api.still(hit.id, at, 320)), WAIT_MS);
  return image;
}

const picture = (hit, name) => [still(hit, 0), el("span", { class: "caption" }, name)];

const film = (hit, name, moment) => [
  still(hit, middle(hit)),
  el("span", { class: "moment" }, icon("film"), moment),
  el("span", { class: "caption" }, name),
];

const sound = (hit, name, moment) => [
  el("span", { class: "lines" }, el("strong", {}, name), el("span", {}, moment)),
  icon("sound"),
];

const words = (hit, name, moment, query) => [
  el("span", { class: "lines" }, el("strong", {}, name), el("span", { class: "excerpt" }, marked(excerpt(hit, query), query))),
];

/** The part of a text in which the words of the query stand. */
function excerpt(hit, query) {
  const text = (hit.text ?? "").replace(/\s+/g, " ");
  const word = (query.match(/[\p{L}\p{N}]{3,}/gu) ?? []).find((each) => text.toLowerCase().includes(each.toLowerCase()));
  const at = word ? text.toLowerCase().indexOf(word.toLowerCase()) : 0;
  return at > 90 ? `… ${text.slice(at - 60, at + 240)}` : text.slice(0, 300);
}

function player(hit, name) {
  const button = el("button", { class: "play", type: "button", tabindex: "-1", "aria-label": `Play ${name}` }, icon("play"));
  const heard = el("audio", { preload: "none" });
  const shown = (state) => button.replaceChildren(icon(state));
  heard.addEventListener("play", () => shown("pause"));
  heard.addEventListener("pause", () => shown("play"));
  heard.addEventListener("error", () => {
    if (heard.src && !heard.src.includes("/clip") && hit.start_s !== null) {
      heard.src = api.clip(hit.id, hit.start_s, Math.min(hit.end_s, hit.start_s + 60));
      heard.play().catch(() => shown("play"));
    }
  });
  button.addEventListener("click", () => {
    if (!heard.paused) return heard.pause();
    if (playing && playing !== heard) playing.pause();
    playing = heard;
    if (!heard.src) heard.src = `${api.file(hit.id)}#t=${hit.start_s ?? 0}`;
    return heard.play().catch(() => shown("play"));
  });
  button.append(heard);
  return button;
}

/** Play a video without sound from its moment on, while the pointer rests on it. */
function hover(tile, hit) {
  tile.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse" || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    tile.waiting = setTimeout(() => {
      const film_ = el("video", { muted: true, playsinline: true, preload: "auto", "aria-hidden": "true", tabindex: "-1" });
      film_.muted = true;
      film_.src = `${api.file(hit.id)}#t=${hit.start_s ?? 0}`;
      film_.addEventListener("error", () => film_.remove());
      tile.querySelector(".open").append(film_);
      film_.play().catch(() => film_.remove());
    }, HOVER_MS);
  });
  tile.addEventListener("pointerleave", () => {
    clearTimeout(tile.waiting);
    tile.querySelector("video")?.remove();
  });
}
