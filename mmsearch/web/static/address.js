// The whole query lies in the address, so that it can be kept, sent, and gone back to.

export const EMPTY = Object.freeze({ q: "", kinds: [], like: [], unlike: [], strict: 1, item: null, at: null });

const numbers = (values) => values.map(Number).filter((value) => Number.isInteger(value) && value > 0);

/** The state that an address means. */
export function read(search) {
  const given = new URLSearchParams(search);
  const strict = Number(given.get("strict") ?? 1);
  const at = Number(given.get("at"));
  return {
    q: given.get("q") ?? "",
    kinds: given.getAll("in").filter((kind) => ["image", "video", "audio", "text"].includes(kind)),
    like: numbers(given.getAll("like")),
    unlike: numbers(given.getAll("unlike")),
    strict: [0, 1, 2, 3].includes(strict) ? strict : 1,
    item: numbers(given.getAll("item"))[0] ?? null,
    at: given.has("at") && Number.isFinite(at) ? at : null,
  };
}

/** The address of a state. */
export function write(state) {
  const given = new URLSearchParams();
  if (state.q) given.set("q", state.q);
  for (const kind of state.kinds) given.append("in", kind);
  for (const id of state.like) given.append("like", id);
  for (const id of state.unlike) given.append("unlike", id);
  if (state.strict !== 1) given.set("strict", state.strict);
  if (state.item) given.set("item", state.item);
  if (state.item && state.at !== null) given.set("at", state.at);
  const search = given.toString();
  return search ? `/?${search}` : "/";
}
