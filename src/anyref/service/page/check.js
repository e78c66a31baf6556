// Live validation: what the request would give, or what is wrong, beside the field it concerns.

import * as api from "./api.js";
import { $, debounce, fill, h, plural, tidy } from "./dom.js";
import { draft, facts, nameFault, onChange, set } from "./draft.js";
import { mention, replaceMention } from "./prompt.js";
import { fieldOf, showFault } from "./references.js";
import { formOf } from "./request.js";
import { reveal } from "./settings.js";

const PAUSE = 350;
const FIELDS = ["prompt", "model", "size", "frames", "seed", "layout", "form"];
let asking = null;
let touched = false; // before the first Generate an empty prompt is no fault
const later = debounce(() => check(), PAUSE);

export function start() {
  onChange(() => later());
}

/** Ask the service about the request; its answer, or null when the question was overtaken or lost. */
export async function check({ strict = false } = {}) {
  later.cancel();
  touched ||= strict;
  const own = ownFault();
  if (own) {
    show(own, strict);
    return null;
  }
  asking?.abort();
  const asked = (asking = new AbortController());
  try {
    const answer = await api.validate(formOf({ light: true }), asked.signal);
    if (asked.signal.aborted) return null;
    show(answer.valid ? null : faultOf(answer.error), strict);
    if (answer.valid) summarise(answer);
    return answer.valid ? answer : null;
  } catch (problem) {
    if (problem.name === "AbortError" || problem.lost || problem.status === 401) return null;
    show(faultOf({ message: problem.message, param: problem.param }), strict);
    return null;
  }
}

/** Show a refusal of the service that came with a submission. */
export const showProblem = (problem) => show(faultOf(problem), true);

function ownFault() {
  for (const reference of draft.references) {
    if (nameFault(reference)) return { field: "reference", reference, message: "" };
  }
  if (draft.seed !== "" && !(/^\d+$/.test(draft.seed) && Number.isSafeInteger(Number(draft.seed)))) {
    return { field: "seed", message: "A seed is a whole number from 0, like 7. Leave it empty for a new one." };
  }
  if (!draft.prompt.trim()) {
    const say = touched ? "Say what happens, like “@fox walks from left to right”." : "";
    return { field: "prompt", message: say, quiet: !touched };
  }
  const needs = facts()?.needs_references && !draft.references.length;
  if (needs) {
    const message = touched ? "This model needs at least one picture. Add one above." : "";
    return { field: "references", message, quiet: !touched };
  }
  return null;
}

/** The service's words, sorted to the field they concern, with what would mend it. */
function faultOf({ message, param }) {
  const unknown = /mentions @(\S+) but no reference/.exec(message);
  if (unknown) return unknownMention(unknown[1]);
  const unused = /reference '([^']+)' is never used/.exec(message);
  if (unused) return { field: "prompt", message: "", quiet: true, unused: unused[1] };
  const side = /^(width|height) (\d+) is .*?(?:try|use) (\d+)/.exec(message);
  if (side) return sideFault(side, message);
  if (/frames/.test(message) && param === "size") return { field: "frames", message: sentence(message) };
  const part = /^r(\d+)(?:v\d+|mask)$/.exec(param || "") || /^references\.(\d+)/.exec(param || "");
  if (part && draft.references[part[1]]) {
    return { field: "reference", reference: draft.references[part[1]], message: sentence(message) };
  }
  const named = /reference '([^']+)'/.exec(message);
  const reference = named && draft.references.find((one) => one.name === named[1]);
  if (reference) return { field: "reference", reference, message: sentence(message) };
  if (/\bbox|layout/.test(message)) return { field: "layout", message: sentence(message) };
  const place = param || "form";
  return { field: $(`fault-${place}`) ? place : "form", message: sentence(message) };
}

function unknownMention(name) {
  const near = draft.references.find((one) => one.name && distance(one.name, name) <= 2);
  const fixes = [{ label: `Write “${name}” without @`, act: () => replaceMention(name, name) }];
  if (near) fixes.unshift({ label: `Use @${near.name}`, act: () => replaceMention(name, `@${near.name}`) });
  return {
    field: "prompt",
    message: `No picture is called @${name}. Add one and name it so, or:`,
    fixes,
  };
}

function unusedPicture(name) {
  return {
    field: "prompt",
    message: `@${name} is not in the text. Mention it, or remove the picture.`,
    fixes: [{ label: `Mention @${name}`, act: () => mention(name) }],
  };
}

function sideFault([, side, value, near], message) {
  const over = /is over/.test(message);
  const word = side === "width" ? "Width" : "Height";
  const step = facts()?.[`${side}_step`];
  return {
    field: "size",
    message: over ? `${word} ${value} is more than this model makes.` : `${word} goes in steps of ${step}: ${value} is in between.`,
    fixes: [{ label: `Use ${near}`, act: () => set({ [side]: near }) }],
  };
}

/** A message as a sentence of its own. */
function sentence(message) {
  const text = message.replace(/^[\w.]+: /, "").replace(/; /g, ". ").trim();
  const capital = text.charAt(0).toUpperCase() + text.slice(1).replace(/\. ([a-z])/g, (_, letter) => `. ${letter.toUpperCase()}`);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

function show(fault, strict) {
  for (const field of FIELDS) if (field !== fault?.field) clear(field);
  document.querySelectorAll("#more-fields .fault").forEach((place) => {
    if (place.id !== `fault-${fault?.field}`) clear(place.id.slice(6));
  });
  showFault(fault?.field === "reference" ? fault.reference : null, referenceWords(fault));
  if (!fault) return;
  $("summary").textContent = "";
  if (fault.unused && strict) fault = unusedPicture(fault.unused);
  const place = $(`fault-${fault.field}`);
  if (place && fault.message && fault.field !== "references") {
    place.hidden = false;
    fill(place, h("span", {}, fault.message), ...(fault.fixes || []).map(fixButton));
    control(fault)?.setAttribute("aria-invalid", "true");
  }
  if (strict) {
    reveal(fault.field);
    control(fault)?.focus();
  }
}

function referenceWords(fault) {
  return ["reference", "references"].includes(fault?.field) ? fault.message : "";
}

function fixButton({ label, act }) {
  return h("button", { class: "link", type: "button", onclick: act }, label);
}

function clear(field) {
  const place = $(`fault-${field}`);
  if (!place) return;
  place.hidden = true;
  fill(place);
  control({ field })?.removeAttribute("aria-invalid");
}

/** What to focus for a fault. */
function control({ field, reference }) {
  if (field === "reference") return fieldOf(reference);
  const ids = { size: "width", frames: "length", references: "files", form: "generate", layout: "" };
  return $(field in ids ? ids[field] : field);
}

function summarise(answer) {
  const seconds = `${tidy(answer.seconds, 1)} s`;
  $("summary").textContent = [answer.model, answer.size.replace("x", " × "), seconds, plural(answer.steps, "step")].join(" · ");
}

/** Levenshtein's distance of two words. */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
