// Several videos of one request: seeds, models or strengths, then side by side.

import * as api from "./api.js";
import { toast } from "./actions.js";
import { check } from "./check.js";
import { $, fill, h, plural } from "./dom.js";
import { draft, known, newSeed } from "./draft.js";
import { icon } from "./icons.js";
import { formOf } from "./request.js";
import * as videos from "./videos.js";

const MOST = 6;
const STRENGTHS = [0.5, 1, 2, 4];
let kind = "seeds";
let count = 3;
let about = 0; // the reference whose strength varies

export function start() {
  fill($("several"), icon("compare"), h("span", {}, "Make several…"));
  $("several").addEventListener("click", async () => {
    if (!(await check({ strict: true }))) return;
    render();
    $("several-dialog").showModal();
  });
}

function changes() {
  const seed = /^\d+$/.test(draft.seed) ? Number(draft.seed) : newSeed();
  if (kind === "seeds") return Array.from({ length: count }, (_, at) => ({ seed: seed + at }));
  if (kind === "models") return known.models.slice(0, MOST).map(({ id }) => ({ seed, model: id }));
  const now = draft.references.map((reference) => reference.strength);
  return STRENGTHS.map((strength) => ({ seed, strengths: now.map((own, k) => (k === about ? strength : own)) }));
}

function render() {
  const ways = [
    ["seeds", "Seeds", true],
    ["models", "Models", known.models.length > 1],
    ["strengths", "Strengths", draft.references.length > 0],
  ].filter(([, , possible]) => possible);
  if (!ways.some(([id]) => id === kind)) kind = "seeds";
  about = Math.min(about, Math.max(0, draft.references.length - 1));
  const focused = document.activeElement?.id;
  fill(
    $("several-dialog"),
    h("div", { class: "dialog-head" }, h("h2", { id: "several-title" }, "Make several"), h("button", { class: "quiet square", type: "button", "aria-label": "Close", onclick: () => $("several-dialog").close() }, icon("close"))),
    h("p", { class: "hint" }, "The same request, with one thing changed, to look at side by side."),
    h("div", { class: "chips", role: "group", "aria-label": "What changes" }, ...ways.map(choice)),
    h("div", { class: "several-fields" }, fields()),
    h("div", { class: "dialog-buttons" }, h("button", { class: "primary", type: "button", id: "several-go", onclick: make }, `Make ${plural(changes().length, "video")}`)),
  );
  if (focused && $(focused)) $(focused).focus();
}

function choice([id, word]) {
  const pick = () => {
    kind = id;
    render();
  };
  return h("button", { class: "chip", type: "button", id: `several-${id}`, "aria-pressed": String(kind === id), onclick: pick }, word);
}

function fields() {
  if (kind === "seeds") {
    const input = h("input", {
      type: "number",
      id: "several-count",
      min: 2,
      max: MOST,
      value: count,
      onchange: (event) => {
        count = Math.min(MOST, Math.max(2, Math.round(Number(event.target.value)) || 2));
        render();
      },
    });
    return h("label", { class: "field" }, h("span", { class: "label" }, `How many, 2 to ${MOST}`), input);
  }
  if (kind === "models") return h("p", {}, `With the same seed by ${known.models.map(({ id }) => id).join(", ")}.`);
  const select = h(
    "select",
    { id: "several-about", onchange: (event) => (about = Number(event.target.value)) },
    ...draft.references.map((reference, k) => h("option", { value: k, selected: k === about }, reference.name || `picture ${k + 1}`)),
  );
  return h("label", { class: "field" }, h("span", { class: "label" }, `Strength ${STRENGTHS.join(", ")} of`), h("span", { class: "select" }, select));
}

async function make() {
  $("several-go").disabled = true;
  const ids = [];
  try {
    for (const change of changes()) {
      const video = await api.create(formOf({ change: withoutForeign(change) }));
      videos.add(video);
      ids.push(video.id);
    }
  } catch (problem) {
    const so = ids.length ? ` ${plural(ids.length, "video")} of them ${ids.length === 1 ? "is" : "are"} on the way.` : "";
    toast(`${problem.message}.${so}`.replace("..", "."));
  }
  $("several-dialog").close();
  if (ids.length) window.location.hash = ids.length > 1 ? `#compare/${ids.join(",")}` : `#video/${ids[0]}`;
}

/** Another model: its own size and length, and none of the options of the one in the form. */
function withoutForeign(change) {
  if (!("model" in change) || change.model === draft.model) return change;
  const target = known.models.find(({ id }) => id === change.model);
  const gone = ["layout", "shuffle", "disentangle", "reference_offset", "reference_size"].filter((name) => !target.facts.options.includes(name));
  return { ...change, ...Object.fromEntries(gone.map((name) => [name, undefined])) };
}
