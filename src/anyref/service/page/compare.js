// Videos side by side, played as one, each labelled by what sets it apart.

import { again, button } from "./actions.js";
import { playerOf, screenOf, settingsOf, stateOf } from "./card.js";
import { $, fill, h, prefersCalm, tidy } from "./dom.js";
import { icon } from "./icons.js";
import { Players } from "./players.js";
import { get, isActive, onVideos } from "./videos.js";

let videos = [];
const ready = new Map(); // id: its player
let players = null;
const parts = {};

export function start() {
  onVideos((video) => {
    if ($("view-compare").hidden || !video) return;
    const at = videos.findIndex((one) => one.id === video.id);
    if (at < 0) return;
    const changed = videos[at].status !== video.status;
    videos[at] = video;
    if (isActive(video)) {
      const place = document.querySelector(`[data-compare="${video.id}"]`);
      fill(place.querySelector(".compare-screen"), screenOf(video));
      fill(place.querySelector(".compare-state"), ...stateOf(video));
    } else if (changed) render();
  });
}

export async function show(ids) {
  leave();
  fill($("compare"), h("div", { class: "empty tall" }, icon("compare"), h("p", {}, "Looking for them…")));
  const found = await Promise.allSettled(ids.map(get));
  videos = found.filter((one) => one.status === "fulfilled").map((one) => one.value);
  const missing = ids.length - videos.length;
  $("compare-hint").textContent = missing ? `${missing} of ${ids.length} are no longer here.` : "";
  if (videos.length) render();
  else {
    const text = "None of these videos is here any more.";
    fill($("compare"), h("div", { class: "empty tall" }, icon("info"), h("p", {}, text), h("a", { class: "primary", href: "#gallery" }, "To the gallery")));
  }
}

export function leave() {
  players?.stop();
  players = null;
  ready.clear();
}

function render() {
  players?.stop();
  players = new Players(refreshTime);
  const labels = differences(videos);
  const same = shared(videos);
  fill(
    $("compare"),
    h("div", { class: "compare-grid", "data-count": Math.min(videos.length, 4) }, ...videos.map((video, at) => cellOf(video, labels[at]))),
    controls(),
    same.length ? h("p", { class: "hint compare-same" }, `The same in all: ${same.join(" · ")}`) : null,
  );
  gather();
}

function cellOf(video, label) {
  const screen = h("div", { class: "compare-screen" }, screenOf(video));
  return h(
    "figure",
    { class: "compare-cell", "data-compare": video.id },
    screen,
    h(
      "figcaption",
      {},
      h("div", { class: "compare-label" }, ...label.map(([name, value]) => h("span", {}, h("span", { class: "hint" }, name), " ", h("strong", {}, value)))),
      h("div", { class: "compare-state" }, ...(video.status === "completed" ? [] : stateOf(video))),
      h("div", { class: "row" }, button("again", "Again with changes", () => again(video)), h("a", { class: "quiet", href: `#video/${video.id}` }, icon("info"), h("span", {}, "Details"))),
    ),
  );
}

async function gather() {
  const mine = players;
  for (const video of videos.filter((one) => one.status === "completed")) {
    const element = ready.get(video.id) || (await playerOf(video, { bare: true }).catch(() => null));
    if (players !== mine) return;
    if (!element) continue;
    ready.set(video.id, element);
    const screen = document.querySelector(`[data-compare="${video.id}"] .screen`);
    if (screen) fill(screen, element);
  }
  mine.use([...ready.values()]);
  mine.seek(0);
  if (!prefersCalm() && ready.size) whenLoaded(mine).then(() => players === mine && toggle(true));
}

function whenLoaded(mine) {
  const waits = mine.elements.map(
    (element) => element.readyState >= 2 || new Promise((resolve) => element.addEventListener("loadeddata", resolve, { once: true })),
  );
  return Promise.race([Promise.all(waits), new Promise((resolve) => window.setTimeout(resolve, 3000))]);
}

function controls() {
  parts.play = h("button", { class: "primary square", type: "button", id: "play-all", onclick: () => toggle(!players.playing) });
  parts.place = h("input", {
    type: "range",
    id: "scrub",
    min: 0,
    max: 1000,
    step: 1,
    value: 0,
    "aria-label": "Place in all videos",
    oninput: (event) => {
      if (players.playing) toggle(false);
      players.seek((Number(event.target.value) / 1000) * players.length);
    },
  });
  parts.time = h("output", { class: "value", for: "scrub" });
  parts.rate = h(
    "select",
    { id: "rate", "aria-label": "Speed", onchange: (event) => players.setRate(Number(event.target.value)) },
    ...[0.25, 0.5, 1, 2].map((rate) => h("option", { value: rate, selected: rate === 1 }, `${rate} ×`)),
  );
  drawPlay(false);
  return h("div", { class: "controls", role: "group", "aria-label": "All players" }, parts.play, parts.place, parts.time, h("span", { class: "select small" }, parts.rate));
}

function toggle(play) {
  if (play) players.play();
  else players.pause();
  drawPlay(players.playing);
}

function drawPlay(playing) {
  fill(parts.play, icon(playing ? "pause" : "play"));
  parts.play.setAttribute("aria-label", playing ? "Pause all" : "Play all");
}

function refreshTime(time, length) {
  if (!parts.place) return;
  parts.place.value = String(length ? Math.round((time / length) * 1000) : 0);
  const words = `${tidy(time, 1)} of ${tidy(length, 1)} s`;
  parts.place.setAttribute("aria-valuetext", words);
  parts.time.textContent = `${time.toFixed(1)} / ${length.toFixed(1)} s`;
}

/** Pairs of every video that are not the same in all; the seed when nothing differs. */
function differences(given) {
  const all = given.map(pairs);
  const names = [...new Set(all.flatMap((one) => [...one.keys()]))];
  const differ = names.filter((name) => new Set(all.map((one) => one.get(name) ?? "–")).size > 1);
  const shown = differ.length ? differ : ["Seed"];
  return all.map((one) => shown.map((name) => [name, one.get(name) ?? "–"]));
}

function shared(given) {
  const all = given.map(pairs);
  return [...all[0]].filter(([name, value]) => !isPlain(name, value) && all.every((one) => one.get(name) === value)).map(([name, value]) => `${name} ${value}`);
}

const isPlain = (name, value) => name === "What happens" || (name.startsWith("Strength") && value === "1");

function pairs(video) {
  const found = new Map([["What happens", video.prompt], ...settingsOf(video)]);
  found.delete("Kept until");
  found.delete("Steps"); // known only once it runs
  if (video.settings.num_inference_steps) found.set("Steps", String(video.settings.num_inference_steps));
  for (const reference of video.references) {
    const name = reference.name ? `@${reference.name}` : "a picture";
    found.set(`Strength of ${name}`, tidy(reference.strength));
  }
  return found;
}
