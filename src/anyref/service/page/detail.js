// One video with every setting and its pictures.

import * as api from "./api.js";
import { again, againWithNewSeed, button, cancel, download, remove } from "./actions.js";
import { $, fill, h, tidy } from "./dom.js";
import { promptOf, screenOf, settingsOf, stateOf } from "./card.js";
import { icon } from "./icons.js";
import { get, isActive, onVideos } from "./videos.js";

const KINDS = { object: "thing", human: "person", background: "place" };
let shown = null;

export function start() {
  onVideos((video) => {
    if (!shown || $("view-video").hidden || !video || video.id !== shown.id) return;
    if (video.status !== shown.status) render(video);
    else if (isActive(video)) refresh(video);
    shown = video;
  });
}

export async function show(id) {
  shown = null;
  fill($("video"), h("div", { class: "empty tall" }, icon("film"), h("p", {}, "Looking for it…")));
  try {
    render(await get(id));
  } catch (problem) {
    const text =
      problem.status === 404
        ? "This video is not here any more: it was deleted, or its time is over. Its link does not work again."
        : problem.message;
    fill(
      $("video"),
      h("div", { class: "empty tall" }, icon("info"), h("p", {}, text), h("a", { class: "primary", href: "#gallery" }, "To the gallery")),
    );
  }
}

function refresh(video) {
  fill($("video-screen"), screenOf(video));
  fill($("video-state"), ...stateOf(video));
}

function render(video) {
  shown = video;
  const done = video.status === "completed";
  const detail = h("article", { class: "detail" });
  const [width, height] = video.size.split("x").map(Number);
  detail.style.setProperty("--ratio", String(width / height));
  fill(
    $("video"),
    fill(
      detail,
      h(
        "div",
        { class: "detail-main" },
        h("div", { id: "video-screen" }, screenOf(video, { player: done })),
        h("div", { id: "video-state", class: "latest-state" }, ...stateOf(video)),
        h("div", { class: "row" }, ...buttons(video, done)),
      ),
      h(
        "div",
        { class: "detail-side card" },
        h("h2", {}, "What happens"),
        h("p", { class: "detail-prompt" }, ...promptOf(video)),
        video.references.length ? h("h2", {}, "Pictures") : null,
        pictures(video),
        h("h2", {}, "Settings"),
        h("dl", { class: "facts-list" }, ...settingsOf(video).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      ),
    ),
  );
}

function buttons(video, done) {
  if (isActive(video)) return [button("stop", "Cancel", () => cancel(video), { kind: "plain" })];
  return [
    button("again", "Again with changes", () => again(video), { kind: "primary" }),
    done ? button("dice", "New seed", () => againWithNewSeed(video), { kind: "plain" }) : null,
    done ? button("download", "Download", () => download(video), { kind: "plain" }) : null,
    button("trash", "Delete", async () => (await remove(video)) && (window.location.hash = "#gallery"), { kind: "plain" }),
  ].filter(Boolean);
}

function pictures(video) {
  return h(
    "ul",
    { class: "used" },
    ...video.references.map((reference, at) => {
      const words = [KINDS[reference.kind], reference.text, reference.strength === 1 ? "" : `strength ${tidy(reference.strength)}`, reference.mask === null ? "" : "background removed"];
      return h(
        "li",
        { "data-hue": (at % 8) + 1 },
        ...reference.images.map((number) => pictureOf(video, reference, number)),
        h("div", {}, h("strong", {}, reference.name ? `@${reference.name}` : "no name"), h("span", { class: "hint" }, words.filter(Boolean).join(" · "))),
      );
    }),
  );
}

function pictureOf(video, reference, number) {
  const image = h("img", { alt: reference.name || "picture" });
  api
    .mediaAddress(`/v1/videos/${video.id}/references/${number}`)
    .then((src) => (image.src = src))
    .catch(() => image.replaceWith(h("span", { class: "hint" }, "no longer kept")));
  return image;
}
