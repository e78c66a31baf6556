// This client's videos, kept up to date: a stream for the ones that run, a look at the rest.

import * as api from "./api.js";

const STREAMS = 2; // browsers open six connections to one server, and the page needs some
const LOOK = 2000;
const ACTIVE = ["queued", "in_progress"];

export const list = []; // newest first
export const previews = new Map(); // id: data URI of the last preview
const streams = new Map(); // id: AbortController
const listeners = new Set();
let more = null; // id after which older ones come
let timer = 0;

export const isActive = (video) => ACTIVE.includes(video.status);
export const find = (id) => list.find((video) => video.id === id);
export const hasMore = () => more !== null;

/** Call a function with the video that changed, or null for the whole list. */
export const onVideos = (call) => listeners.add(call);

function tell(video, before = null) {
  for (const call of listeners) call(video, before);
}

/** Load the newest page. */
export async function load() {
  const page = await api.videos();
  list.splice(0, list.length, ...page.data);
  more = page.has_more ? page.last_id : null;
  tell(null);
  follow();
}

/** Load the page before. */
export async function loadMore() {
  const page = await api.videos(more);
  list.push(...page.data);
  more = page.has_more ? page.last_id : null;
  tell(null);
}

/** A video by its id, also one that no page has shown yet. */
export async function get(id) {
  const known = find(id);
  if (known) return known;
  const video = await api.video(id);
  return video;
}

/** A video that was just queued. */
export function add(video) {
  if (find(video.id)) return;
  list.unshift(video);
  tell(null);
  follow();
}

function take(video) {
  const at = list.findIndex((one) => one.id === video.id);
  if (at < 0) return;
  const before = list[at];
  list[at] = video;
  if (!isActive(video)) previews.delete(video.id);
  if (JSON.stringify(before) !== JSON.stringify(video)) tell(video, before);
}

function forget(id) {
  const at = list.findIndex((one) => one.id === id);
  if (at >= 0) list.splice(at, 1);
  previews.delete(id);
  tell(null);
}

export async function cancel(id) {
  take(await api.cancel(id));
}

/** Delete a video; one that is gone already is no fault. */
export async function remove(id) {
  try {
    await api.remove(id);
  } catch (problem) {
    if (problem.status !== 404) throw problem;
  }
  forget(id);
}

/** Stream the oldest active videos, and look at the others now and then. */
function follow() {
  const active = list.filter(isActive).reverse();
  const running = active.filter((video) => video.status === "in_progress");
  const chosen = [...new Set([...running, ...active])].slice(0, STREAMS);
  for (const video of chosen) if (!streams.has(video.id) && streams.size < STREAMS) stream(video.id);
  window.clearTimeout(timer);
  if (active.length > streams.size || (active.length && !streams.size)) timer = window.setTimeout(look, LOOK);
}

async function stream(id) {
  const control = new AbortController();
  streams.set(id, control);
  let ended = false;
  try {
    for await (const { kind, data } of api.events(id, control.signal)) {
      if (kind === "preview") {
        previews.set(id, data.picture);
        const video = find(id);
        if (video) tell(video, video);
      } else if (kind === "deleted") {
        ended = true;
        forget(id);
      } else {
        take(data);
        ended = kind !== "progress";
      }
    }
  } catch (problem) {
    if (problem.name === "AbortError") return;
  } finally {
    streams.delete(id);
  }
  if (ended) follow();
  else timer = window.setTimeout(look, LOOK); // the stream broke: look, then stream again
}

async function look() {
  for (const video of list.filter(isActive)) {
    if (streams.has(video.id)) continue;
    try {
      take(await api.video(video.id));
    } catch (problem) {
      if (problem.status === 404) forget(video.id);
      else break;
    }
  }
  follow();
}
