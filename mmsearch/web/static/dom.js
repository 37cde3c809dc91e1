// Small helpers: elements, icons, and how times, names and numbers are written.

export const KINDS = { image: "Pictures", video: "Videos", audio: "Sounds", text: "Texts" };

/** Make an element: attributes by name, `on…` as listeners, and children that are nodes or text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else made.setAttribute(key, value);
  }
  made.append(...given(children));
  return made;
}

/** Those children that there are. */
export const given = (children) => children.filter((child) => child !== null && child !== undefined);

const PATHS = {
  close: "M6 6l12 12M18 6 6 18",
  play: "M8 5.500v13l11-6.500z",
  pause: "M8 5.500v13M16 5.500v13",
  more: "M12 5v14M5 12h14",
  less: "M5 12h14",
  check: "m5 12.500 4.500 4.500L19 7.500",
  note: "M6 3.500h9l4 4v13H6zM9 11h7M9 15h7M9 7h3",
  sound: "M4 10v4M8 7v10M12 4v16M16 8v8M20 10.500v3",
  film: "M4 5.500h16v13H4zM8 5.500v13M16 5.500v13",
};

/** Draw one of the icons; what it means is said by the element around it. */
export function icon(name) {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawn.setAttribute("viewBox", "0 0 24 24");
  drawn.setAttribute("class", `icon icon-${name}`);
  drawn.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  drawn.append(path);
  return drawn;
}

/** 3725.4 → "1:02:05". */
export function clock(seconds) {
  if (!Number.isFinite(seconds)) return "end";
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** The last part of a path. */
export const nameOf = (path) => path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);

/** "0:12–0:17" where a hit has a moment, else "". */
export const momentOf = (hit) => (hit.start_s === null ? "" : `${clock(hit.start_s)}–${clock(hit.end_s)}`);

export const number = (count) => count.toLocaleString("en");

export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** The text with the words of a query marked. */
export function marked(text, query) {
  const words = query.match(/[\p{L}\p{N}]{2,}/gu) ?? [];
  const whole = el("span");
  if (!words.length) {
    whole.append(text);
    return whole;
  }
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  for (const [n, part] of text.split(new RegExp(`(${escaped.join("|")})`, "giu")).entries()) {
    if (part) whole.append(n % 2 ? el("mark", {}, part) : part);
  }
  return whole;
}
