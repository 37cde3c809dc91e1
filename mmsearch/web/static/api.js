// What the page asks the server, and nothing else.

export class Refused extends Error {}

async function checked(response) {
  if (response.ok) return response.json();
  if (response.status === 401) {
    location.assign("/login");
    throw new Refused("log in first");
  }
  const problem = await response.json().catch(() => null);
  throw new Refused(problem?.detail ?? `the server answered with ${response.status}`);
}

async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the server doesn't answer; is it still running?");
  }
  return checked(response);
}

/** Search for what a state asks, with files where there are any. */
export function search(state, files, options, signal) {
  const { k, all = false, explain = false } = options;
  if (files.length) {
    const form = new FormData();
    for (const file of files) form.append("file", file);
    if (state.q) form.append("q", state.q);
    for (const kind of state.kinds) form.append("in", kind);
    for (const id of state.like) form.append("like", id);
    for (const id of state.unlike) form.append("unlike", id);
    form.append("k", k);
    form.append("all", all);
    form.append("explain", explain);
    return ask("/search", { method: "POST", body: form, signal });
  }
  const body = { q: state.q, in: state.kinds, like: state.like, unlike: state.unlike, k, all, explain };
  const headers = { "Content-Type": "application/json" };
  return ask("/search", { method: "POST", headers, body: JSON.stringify(body), signal });
}

export const item = (id, signal) => ask(`/items/${id}`, { signal });
export const facets = () => ask("/facets");
export const status = () => ask("/status");
export const index = () => ask("/index", { method: "POST" });
export const stop = (job) => ask(`/jobs/${job}`, { method: "DELETE" });

export const still = (id, at, size) => `/items/${id}/thumbnail?size=${size}&at=${Math.max(0, at).toFixed(1)}`;
export const file = (id) => `/items/${id}/file`;
export const clip = (id, start, end) => `/items/${id}/clip?start=${start.toFixed(2)}&end=${end.toFixed(2)}`;

/** Call `tell` with an index run whenever it changes; returns what ends that. */
export function watch(job, tell) {
  const source = new EventSource(`/jobs/${job}/events`);
  source.addEventListener("progress", (event) => {
    const told = JSON.parse(event.data);
    tell(told);
    if (told.state !== "running") source.close();
  });
  source.onerror = () => source.readyState === EventSource.CLOSED || source.close();
  return () => source.close();
}
