// What can be done with a video: again, compare, download, cancel, delete.

import * as api from "./api.js";
import { $, announce, confirmed, h } from "./dom.js";
import { SETTINGS, known, load, newSeed, set } from "./draft.js";
import { icon } from "./icons.js";
import { viewFromService, shownWithMask } from "./pictures.js";
import * as videos from "./videos.js";

/** Tell something that needs no answer; it goes by itself. */
export function toast(text) {
  const place = $("toast");
  place.textContent = text;
  place.hidden = false;
  window.clearTimeout(toast.timer);
  toast.timer = window.setTimeout(() => (place.hidden = true), 5000);
}

/** Load everything of a video back into the form, pictures and all. */
export async function again(video, change = {}) {
  let references;
  try {
    references = await Promise.all(video.references.map((reference) => referenceOf(video, reference)));
  } catch (problem) {
    toast(
      problem.status === 404
        ? "Its pictures are no longer kept here. The words and settings are loaded; add the pictures again."
        : problem.message,
    );
    references = [];
  }
  const [width, height] = video.size.split("x");
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, settingOf(video.settings[name])]));
  const { layout } = video.settings;
  if (Array.isArray(layout)) giveBoxes(references, layout);
  load(
    {
      prompt: video.prompt,
      model: known.models.some((one) => one.id === video.model) ? video.model : known.models[0].id,
      width,
      height,
      frames: video.num_frames,
      seed: String(video.seed),
      layout: Array.isArray(layout) && references.length ? "boxes" : Array.isArray(layout) ? "" : layout || "",
      settings,
    },
    references,
  );
  if (Object.keys(change).length) set(change);
  if (window.location.hash !== "#create") window.location.hash = "#create";
  announce("Everything is in the form again; change what you like");
}

export const againWithNewSeed = (video) => again(video, { seed: String(newSeed()) });

async function referenceOf(video, reference) {
  const views = await Promise.all(
    reference.images.map(async (number, at) => {
      const blob = await api.reference(video.id, number);
      const name = `${reference.name || "picture"}${at ? `-${at + 1}` : ""}.png`;
      return viewFromService(blob, name);
    }),
  );
  let mask = null;
  if (reference.mask !== null) {
    const blob = await api.reference(video.id, reference.mask);
    mask = { blob, url: URL.createObjectURL(blob), shown: await shownWithMask(views[0], blob) };
  }
  const { name, kind, text, strength } = reference;
  return { views, mask, name: name || "", kind, text: text || "", strength };
}

function giveBoxes(references, boxes) {
  const views = references.flatMap((reference) => reference.views);
  views.forEach((view, at) => (view.box = boxes[at] || [0.3, 0.3, 0.7, 0.7]));
}

function settingOf(value) {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

/** Save a video's file. */
export async function download(video) {
  const problem = await api.whyGone(video.id);
  if (problem) {
    toast(problem.status === 404 ? "This video is no longer kept here." : problem.message);
    return;
  }
  const href = await api.mediaAddress(api.contentOf(video.id));
  save(href, fileNameOf(video));
}

/** Let the browser save what is at an address. */
export function save(href, name) {
  const link = h("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

function fileNameOf(video) {
  const words = video.prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return `${words || "video"}-${video.seed}.mp4`;
}

export async function cancel(video) {
  await attempt(() => videos.cancel(video.id), "Cancelled");
}

/** Delete after asking; true when it is gone. */
export async function remove(video) {
  const text = "The video and the pictures that were sent for it are removed from this machine.";
  if (!(await confirmed("Delete this video?", text, "Delete"))) return false;
  return attempt(() => videos.remove(video.id), "Deleted");
}

async function attempt(act, done) {
  try {
    await act();
    announce(done);
    return true;
  } catch (problem) {
    toast(problem.message);
    return false;
  }
}

/** A button of a video; its label is read with what the video shows. */
export function button(drawing, label, act, { kind = "quiet", id = null, bare = false } = {}) {
  return h(
    "button",
    { class: kind, type: "button", id, onclick: act, "aria-label": bare ? label : null, title: bare ? label : null },
    icon(drawing),
    bare ? null : h("span", {}, label),
  );
}
