// Everything that is asked of the server: its own interface, by the key of this browser tab.

const KEY = "anyref.key";
const bus = new EventTarget();
let key = sessionStorage.getItem(KEY) || "";
let reachable = true;

/** A refusal, or silence, as the server or the network gave it. */
export class Problem extends Error {
  constructor(message, { status = 0, code = "", param = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }

  get lost() {
    return this.status === 0;
  }
}

/** Listen to "key" (one is needed), "lost" and "found" (the server). */
export const on = (name, call) => bus.addEventListener(name, call);

export const hasKey = () => key !== "";

export function setKey(text) {
  key = text;
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

function heard(now) {
  if (now !== reachable) {
    reachable = now;
    bus.dispatchEvent(new Event(now ? "found" : "lost"));
  }
}

async function send(method, path, { body, headers, signal } = {}) {
  const own = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  try {
    answer = await fetch(path, { method, body, signal, headers: { ...own, ...headers }, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    heard(false);
    throw new Problem("The server does not answer. Nothing is lost: it is asked again when it is back.");
  }
  heard(true);
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  let fault = {};
  try {
    fault = (await answer.json()).error || {};
  } catch {
    fault = {};
  }
  if (answer.status === 401) bus.dispatchEvent(new Event("key"));
  const message = fault.message || `the server answered ${answer.status}; try again`;
  return new Problem(message, { status: answer.status, code: fault.code || "", param: fault.param });
}

const json = async (...given) => (await send(...given)).json();

export const models = () => json("GET", "/v1/models").then((list) => list.data);
export const abilities = () => json("GET", "/v1/abilities");
export const health = () => json("GET", "/healthz");
export const validate = (form, signal) => json("POST", "/v1/requests/validate", { body: form, signal });
export const layout = (form, signal) => json("POST", "/v1/requests/layout", { body: form, signal });
export const video = (id) => json("GET", `/v1/videos/${id}`);
export const cancel = (id) => json("POST", `/v1/videos/${id}/cancel`);
export const remove = (id) => json("DELETE", `/v1/videos/${id}`);

export function videos(after = "", limit = 50) {
  const query = new URLSearchParams({ limit: String(limit), order: "desc" });
  if (after) query.set("after", after);
  return json("GET", `/v1/videos?${query}`);
}

/** Queue a video; a lost answer is asked for again under the same name, so it is made once. */
export async function create(form) {
  const headers = { "Idempotency-Key": crypto.randomUUID ? crypto.randomUUID() : randomName() };
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await json("POST", "/v1/videos", { body: form, headers });
    } catch (problem) {
      if (!problem.lost || attempt === 2) throw problem;
      await new Promise((resolve) => window.setTimeout(resolve, 800 * (attempt + 1)));
    }
  }
}

/** Pages that are not from this machine have no randomUUID without TLS. */
function randomName() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(numbers, (number) => number.toString(16).padStart(8, "0")).join("");
}

export async function mask(blob, signal) {
  const headers = { "Content-Type": blob.type };
  return (await send("POST", "/v1/pictures/mask", { body: blob, headers, signal })).blob();
}

export const reference = async (id, number) =>
  (await send("GET", `/v1/videos/${id}/references/${number}`)).blob();

const media = new Map(); // path: object URL

/** An address that an element can show: the server's own, or a copy where it needs the key. */
export async function mediaAddress(path) {
  if (!key) return path;
  if (!media.has(path)) {
    const loading = send("GET", path).then(async (answer) => URL.createObjectURL(await answer.blob()));
    media.set(path, loading);
    loading.catch(() => media.delete(path));
  }
  return media.get(path);
}

export const contentOf = (id) => `/v1/videos/${id}/content`;
export const thumbnailOf = (id) => `/v1/videos/${id}/content?variant=thumbnail`;

/** Why an element could not show a video; null when it is there after all. */
export async function whyGone(id) {
  try {
    await send("HEAD", contentOf(id));
    return null;
  } catch (problem) {
    return problem;
  }
}

/** A video's events as they come: {kind, data}. EventSource could not send the key. */
export async function* events(id, signal) {
  const answer = await send("GET", `/v1/videos/${id}/events`, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let kind = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  return kind ? { kind, data: JSON.parse(data) } : null;
}
