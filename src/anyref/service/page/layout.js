// What the model is given: the canvas with its mask and boxes, or tokens before the video's.

import * as api from "./api.js";
import { showBoxes } from "./boxes.js";
import { $, debounce, fill, h } from "./dom.js";
import { allViews, draft, facts, onChange, set, takes } from "./draft.js";
import { icon } from "./icons.js";
import { formOf, layoutKey } from "./request.js";
import { showTokens } from "./tokens.js";

const PAUSE = 300;
const TALLEST = 320; // pixels of the page
const LAYOUTS = [
  ["", "The model's own"],
  ["columns", "Columns"],
  ["grid", "Grid"],
  ["quarters", "Quarters"],
  ["boxes", "Your boxes"],
];
let asked = null;
let shownKey = "";
let side = "canvas"; // or mask
let last = null;
const later = debounce(() => ask(), PAUSE);

export function start() {
  onChange((what) => {
    if (!facts() || (what.size === 1 && what.has("prompt"))) return;
    refreshTools();
    later();
  });
  refreshTools();
  showEmpty();
}

/** Ask again, as after the server was away. */
export function again() {
  shownKey = "";
  later();
}

async function ask() {
  const key = layoutKey();
  if (key === shownKey) return;
  asked?.abort();
  if (!draft.references.length && (facts().needs_references || !takes("reference_offset"))) {
    shownKey = key;
    showEmpty();
    return;
  }
  const request = (asked = new AbortController());
  $("layout").setAttribute("aria-busy", "true");
  try {
    const answer = await api.layout(formOf({ change: { prompt: "layout" } }), request.signal);
    if (request.signal.aborted) return;
    shownKey = key;
    show(answer);
  } catch (problem) {
    if (problem.name !== "AbortError" && !problem.lost) showFault(problem.message);
  } finally {
    if (asked === request) $("layout").removeAttribute("aria-busy");
  }
}

function show(answer) {
  if (!answer.valid) {
    if (!last) showEmpty();
    return; // what is wrong stands beside its field already
  }
  last = answer;
  if (answer.kind === "canvas") showCanvas(answer);
  else if (answer.kind === "tokens") showTokens($("layout"), answer, draft.references);
  else showEmpty("This model does not look at pictures.");
}

function showFault(message) {
  $("fault-layout").hidden = !message;
  $("fault-layout").textContent = message;
}

function showEmpty(text = "") {
  last = null;
  if (!facts()) text ||= "Your pictures are shown here as the model reads them.";
  const words = facts()?.needs_references
    ? "Your pictures go onto one canvas, which the model reads as the frame before the first. Add a picture and you can arrange it here."
    : "Each picture becomes tokens before the video’s. Add one to see how many, and where they stand.";
  fill(
    $("layout"),
    h("div", { class: "empty" }, icon("stack"), h("p", {}, text || words)),
  );
}

function refreshTools() {
  const tools = $("layout-tools");
  const onCanvas = takes("layout") && draft.references.length > 0;
  const key = JSON.stringify([onCanvas, draft.layout, side]);
  if (tools.dataset.key === key) return;
  tools.dataset.key = key;
  const focused = document.activeElement?.id;
  fill(tools, onCanvas && layoutSelect(), onCanvas && sides());
  if (focused && tools.querySelector(`#${focused}`)) $(focused).focus();
}

function layoutSelect() {
  return h(
    "span",
    { class: "select small" },
    h(
      "select",
      { id: "layout-choice", "aria-label": "Layout of the canvas", onchange: (event) => choose(event.target.value) },
      ...LAYOUTS.map(([value, word]) => h("option", { value, selected: value === draft.layout }, word)),
    ),
  );
}

function choose(layout) {
  if (layout === "boxes") takeBoxes();
  set({ layout });
}

/** Boxes of your own begin where the pictures are now. */
export function takeBoxes() {
  const places = last?.kind === "canvas" ? last.pictures : [];
  allViews().forEach(({ view }, at) => {
    view.box = places[at]?.box.slice() || view.box || [0.3, 0.3, 0.7, 0.7];
  });
}

function sides() {
  const choice = (value, word) =>
    h(
      "button",
      {
        class: "chip",
        type: "button",
        id: `side-${value}`,
        "aria-pressed": String(side === value),
        onclick: () => {
          side = value;
          refreshTools();
          if (last) showCanvas(last);
        },
      },
      word,
    );
  return h("div", { class: "chips", role: "group", "aria-label": "Shown" }, choice("canvas", "Canvas"), choice("mask", "Mask"));
}

function showCanvas(answer) {
  showFault("");
  const words = {
    canvas: "Drag a picture to move it, a corner to resize it. With keys: arrows move, Shift and arrows resize.",
    mask: "White is where the model is told to find a picture, in steps of its own grid.",
  };
  const stage = h("div", { class: "stage", "data-side": side });
  stage.style.aspectRatio = `${answer.width} / ${answer.height}`;
  stage.style.maxWidth = `${Math.round((TALLEST * answer.width) / answer.height)}px`;
  const small = Math.max(answer.width, answer.height) <= 256;
  stage.append(
    h("img", {
      class: small ? "pixels" : "",
      src: side === "mask" ? answer.mask : answer.canvas,
      alt: side === "mask" ? "Mask of the canvas: white where pictures are" : `Canvas of ${answer.pictures.length} pictures`,
    }),
  );
  const focused = document.activeElement?.dataset?.box;
  fill($("layout"), stage, h("p", { class: "hint", id: "box-help" }, words[side]));
  showBoxes(stage, answer, takeBoxes);
  // screen readers pass keys on to an application only
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-label", "Boxes of the pictures on the canvas");
  stage.setAttribute("aria-describedby", "box-help");
  if (focused) stage.querySelector(`[data-box="${focused}"]`)?.focus();
}
