// The studio: views, the key, colours, and what is made when Generate is pressed.

import * as actions from "./actions.js";
import * as api from "./api.js";
import * as check from "./check.js";
import * as compare from "./compare.js";
import * as copying from "./copying.js";
import * as detail from "./detail.js";
import { $, announce, debounce, fill, h, plural, prefersCalm } from "./dom.js";
import { changed, draft, known } from "./draft.js";
import * as gallery from "./gallery.js";
import { icon } from "./icons.js";
import * as latest from "./latest.js";
import * as layout from "./layout.js";
import * as prompt from "./prompt.js";
import * as references from "./references.js";
import { formOf } from "./request.js";
import * as settings from "./settings.js";
import * as several from "./several.js";
import * as videos from "./videos.js";

const VIEWS = ["create", "gallery", "video", "compare", "key"];
const HEALTH = 15000;
const RETRY = 3000;
const THEME = "anyref.theme";
let started = false;

function route({ focus = true } = {}) {
  const [name, rest = ""] = window.location.hash.slice(1).split("/");
  const view = VIEWS.includes(name) && name !== "key" ? name : "create";
  show(view, focus);
  if (view !== "compare") compare.leave();
  if (view === "gallery") gallery.show();
  if (view === "video") detail.show(rest);
  if (view === "compare") compare.show(rest.split(",").filter(Boolean));
}

function show(view, focus) {
  for (const name of VIEWS) $(`view-${name}`).hidden = name !== view;
  for (const name of ["create", "gallery"]) {
    if (name === view) $(`tab-${name}`).setAttribute("aria-current", "page");
    else $(`tab-${name}`).removeAttribute("aria-current");
  }
  document.body.dataset.view = view;
  const title = $(view === "video" ? "title-video-view" : `title-${view}`);
  if (focus) {
    title.focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  }
}

function startTheme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem(THEME);
  const apply = () => {
    const now = chosen() || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = now;
    fill($("theme"), icon(now === "dark" ? "sun" : "moon"));
    $("theme").setAttribute("aria-pressed", String(now === "dark"));
  };
  $("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme;
    localStorage.setItem(THEME, now === "dark" ? "light" : "dark");
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

function startKey() {
  api.on("key", () => {
    if ($("view-key").hidden) askKey(api.hasKey());
  });
  $("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    api.setKey($("key").value.trim());
    const fault = $("fault-key");
    fault.hidden = true;
    try {
      await open();
      $("key").value = "";
    } catch (problem) {
      fault.hidden = false;
      fault.textContent = problem.status === 401 ? "This key is not known here. Check it for missing letters." : problem.message;
      $("key").focus();
    }
  });
}

function askKey(wrong) {
  api.setKey("");
  show("key", true);
  $("fault-key").hidden = !wrong;
  $("fault-key").textContent = wrong ? "The key is no longer valid here. Enter another one." : "";
  $("key").focus();
}

function startConnection() {
  const banner = $("banner");
  api.on("lost", () => {
    banner.hidden = false;
    banner.textContent = "The server does not answer. What you wrote stays here; the page goes on as soon as it is back.";
    window.setTimeout(probe, RETRY);
  });
  api.on("found", async () => {
    banner.hidden = true;
    announce("The server is back");
    if (started) await videos.load().catch(() => {});
    layout.again();
    check.check();
  });
}

async function probe() {
  try {
    await api.health();
  } catch {
    window.setTimeout(probe, RETRY);
  }
}

async function showHealth() {
  try {
    const { status, workers, queued, running } = await api.health();
    const busy = queued + running ? `${plural(queued + running, "video")} in the queue` : "ready";
    const words = workers ? busy : "no worker is running: videos wait";
    fill($("service"), h("span", { class: `dot ${status}` }), words);
  } catch {
    fill($("service"), h("span", { class: "dot away" }), "no connection");
  }
}

function watchHealth() {
  const later = debounce(showHealth, 500);
  videos.onVideos((video, before) => {
    if (!video || video.status !== before?.status) later();
  });
  window.setInterval(showHealth, HEALTH);
  showHealth();
}

/** Tell the style sheet how tall the side is. */
function watchSide() {
  const side = document.querySelector(".side");
  new ResizeObserver(() => side.style.setProperty("--side-height", `${side.offsetHeight}px`)).observe(side);
}

async function generate(event) {
  event.preventDefault();
  const button = $("generate");
  if (button.getAttribute("aria-disabled") === "true") return;
  if (!(await check.check({ strict: true }))) return;
  busy(true);
  try {
    const video = await api.create(formOf());
    videos.add(video);
    announce(video.queue_position > 1 ? `Queued, ${video.queue_position} in the line` : "Queued");
    if ($("latest-card").getBoundingClientRect().top > window.innerHeight * 0.7) {
      $("latest-card").scrollIntoView({ behavior: prefersCalm() ? "auto" : "smooth", block: "start" });
    }
  } catch (problem) {
    check.showProblem(friendly(problem));
  } finally {
    busy(false);
  }
}

/** Refusals that concern no field, in words that say what to do next. */
function friendly(problem) {
  if (problem.code === "queue_full") {
    const words = /^you have (\d+)/.exec(problem.message);
    const message = words
      ? `The queue takes ${words[1]} of your videos at a time, and that many wait or run. Wait for one to finish, or cancel one in the gallery`
      : "The queue is full at the moment. Your request is still here: press Generate again in a while";
    return { message, param: "form" };
  }
  if (problem.code === "storage_full") {
    return { message: "The server has no room left for another video. Delete old ones in the gallery, then try again", param: "form" };
  }
  return problem.param ? problem : { message: problem.message, param: "form" };
}

function busy(on) {
  $("generate").setAttribute("aria-disabled", String(on));
  fill($("generate"), icon("play"), h("span", {}, on ? "Sending…" : "Generate"));
}

/** Learn what is served, show everything; raises when a key is needed. */
async function open() {
  known.models = await api.models();
  known.abilities = await api.abilities().catch(() => null);
  if (!started) {
    started = true;
    draft.model = known.models[0].id;
    settings.modelsKnown();
  }
  await videos.load();
  changed("all", "references", "model");
  route({ focus: !$("view-key").hidden });
}

async function start() {
  startTheme();
  startKey();
  startConnection();
  for (const part of [references, prompt, settings, layout, latest, gallery, detail, compare, check, copying, several]) {
    part.start();
  }
  busy(false);
  $("form").addEventListener("submit", generate);
  $("skip").addEventListener("click", () => $("main").focus());
  window.addEventListener("hashchange", () => started && $("view-key").hidden && route());
  window.addEventListener("unhandledrejection", (event) => {
    if (event.reason instanceof api.Problem) actions.toast(event.reason.message);
  });
  watchHealth();
  watchSide();
  for (;;) {
    try {
      await open();
      return;
    } catch (problem) {
      if (problem.status === 401) {
        askKey(false);
        return;
      }
      await new Promise((resolve) => window.setTimeout(resolve, RETRY));
    }
  }
}

start();
