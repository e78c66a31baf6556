// A video wherever one is shown: its picture or player, how far it is, what made it.

import * as api from "./api.js";
import { duration, fill, h, ordinal, plural, prefersCalm, tidy, when } from "./dom.js";
import { mentions } from "./draft.js";
import { icon } from "./icons.js";
import { previews } from "./videos.js";

const STAGES = {
  load: "Loading the model",
  encode: "Reading pictures and text",
  steps: "Making the video",
  decode: "Turning it into frames",
  write: "Saving",
};

/** How far a video is, as one short line. */
export function statusWords(video) {
  if (video.status === "queued") {
    const place = video.queue_position;
    return place === 1 ? "Next in the queue" : place ? `${ordinal(place)} in the queue` : "In the queue";
  }
  if (video.status === "in_progress") {
    const stage = STAGES[video.stage] || "Starting";
    if (video.stage !== "steps" || !video.steps) return stage;
    const left = video.seconds_left === null ? "" : ` · about ${duration(video.seconds_left)} left`;
    return `Step ${video.step} of ${video.steps}${left}`;
  }
  if (video.status === "failed") return failure(video);
  return video.status === "cancelled" ? "Cancelled" : `Made ${when(video.completed_at ?? video.created_at)}`;
}

function failure(video) {
  const message = video.error?.message || "it could not be made";
  return `Failed: ${message}`;
}

/** The prompt with its mentions coloured as its references are. */
export function promptOf(video) {
  const pieces = [];
  let end = 0;
  for (const { name, start, end: after } of mentions(video.prompt)) {
    const at = video.references.findIndex((reference) => reference.name === name);
    pieces.push(video.prompt.slice(end, start));
    pieces.push(h("span", { class: "mention", "data-hue": at < 0 ? "none" : (at % 8) + 1 }, video.prompt.slice(start, after)));
    end = after;
  }
  return [...pieces, video.prompt.slice(end)];
}

/** Settings that people compare, short. */
export const factsOf = (video) => [
  video.model,
  video.size.replace("x", " × "),
  `${tidy(video.seconds, 1)} s`,
  `seed ${video.seed}`,
];

/** Its bar, while it waits or runs. */
function barOf(video) {
  const bar = h("div", {
    class: "progress",
    role: "progressbar",
    "aria-valuemin": 0,
    "aria-valuemax": 100,
    "aria-valuenow": video.progress,
    "aria-valuetext": statusWords(video),
    "aria-label": "Progress",
  });
  const done = h("span", { class: "progress-done" });
  done.style.width = `${video.progress}%`;
  if (video.status === "in_progress" && video.stage !== "steps") bar.classList.add("busy");
  bar.append(done);
  return bar;
}

/**
 * What a video looks like now. player: with controls, else its picture.
 * A video whose file is gone says so instead of a broken player.
 */
export function screenOf(video, { player = false } = {}) {
  const [width, height] = video.size.split("x").map(Number);
  const screen = h("div", { class: `screen${Math.max(width, height) <= 256 ? " pixels" : ""}` });
  screen.style.aspectRatio = `${width} / ${height}`;
  screen.style.setProperty("--ratio", String(width / height));
  if (video.status === "completed") fillCompleted(screen, video, player);
  else if (previews.has(video.id)) screen.append(h("img", { src: previews.get(video.id), alt: "Preview of the video so far" }));
  else screen.append(h("div", { class: "screen-empty" }, icon(symbol(video)), video.status === "failed" ? h("span", {}, "No video") : null));
  return screen;
}

const symbol = (video) => ({ failed: "warn", cancelled: "stop", queued: "clock" })[video.status] || "film";

async function fillCompleted(screen, video, player) {
  try {
    if (player) {
      const element = await playerOf(video);
      fill(screen, element);
    } else {
      const src = await api.mediaAddress(api.thumbnailOf(video.id));
      const image = h("img", { src, alt: `Frame of: ${video.prompt}`, loading: "lazy" });
      image.addEventListener("error", () => gone(screen, video.id), { once: true });
      fill(screen, image);
    }
  } catch (problem) {
    showGone(screen, problem);
  }
}

/** A video element that says why when it cannot play. */
export async function playerOf(video, options = {}) {
  const calm = prefersCalm();
  const element = h("video", {
    controls: !options.bare,
    loop: true,
    muted: true,
    playsinline: true,
    autoplay: !options.bare && !calm,
    preload: "auto",
    "aria-label": `Video: ${video.prompt}`,
  });
  element.addEventListener("error", () => gone(element.parentElement, video.id), { once: true });
  element.src = await api.mediaAddress(api.contentOf(video.id));
  return element;
}

async function gone(screen, id) {
  if (!screen) return;
  const problem = await api.whyGone(id);
  showGone(screen, problem || { message: "This browser cannot play it. Download it instead." });
}

function showGone(screen, problem) {
  const text =
    problem.status === 404
      ? "This video is no longer kept here. “Again with changes” makes it anew."
      : problem.message;
  fill(screen, h("div", { class: "screen-empty" }, icon("info"), h("span", {}, text)));
}

/** What is left to say below a screen while a video is on its way. */
export function stateOf(video) {
  const active = ["queued", "in_progress"].includes(video.status);
  const line = h("p", { class: `state state-${video.status}` }, statusWords(video));
  return [active ? barOf(video) : null, line];
}

/** Every setting of a video as pairs of label and words. */
export function settingsOf(video) {
  const rows = [
    ["Model", video.model],
    ["Size", video.size.replace("x", " × ")],
    ["Length", `${tidy(video.seconds, 2)} s, ${plural(video.num_frames, "frame")} at ${tidy(video.fps)} a second`],
    ["Seed", String(video.seed)],
    ...(video.expires_at ? [["Kept until", when(video.expires_at)]] : []),
    ["Steps", String(video.steps || video.settings.num_inference_steps || "the model's own")],
  ];
  const words = {
    guidance_scale: "Guidance",
    negative_prompt: "Not in the video",
    solver: "Solver",
    flow_shift: "Timestep shift",
    layout: "Layout",
    shuffle: "Order on the canvas",
    disentangle: "Keep subjects apart",
    reference_offset: "Distance of the pictures",
    reference_size: "Size of the pictures",
    strength_map: "Strength acts",
    speed: "Speed",
    step_cache: "Step cache",
    guidance_interval: "Guidance between",
  };
  for (const [name, label] of Object.entries(words)) {
    if (name in video.settings) rows.push([label, valueWords(video.settings[name])]);
  }
  return rows;
}

function valueWords(value) {
  if (typeof value[0] === "number") return value.map((share) => tidy(share)).join(" to ");
  if (Array.isArray(value)) return value.map((box) => box.map((edge) => tidy(edge)).join(" ")).join("; ");
  if (typeof value === "boolean") return value ? "drawn from the seed" : "as given";
  return String(value);
}
