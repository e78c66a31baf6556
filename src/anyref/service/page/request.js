// The draft as the service's interface takes it: a form with pictures as its file parts.

import { SETTINGS, draft, model, nameFault, takes } from "./draft.js";

const MODEL_OPTIONS = [
  "shuffle",
  "disentangle",
  "reference_offset",
  "reference_size",
  "strength_map",
];
const NUMBERS = ["num_inference_steps", "guidance_scale", "flow_shift", "disentangle"];
// one white pixel: stands for a picture where only the words are checked
const PIXEL = Uint8Array.from(
  atob("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FwAAAABJRU5ErkJggg=="),
  (letter) => letter.charCodeAt(0),
);

/** Fields of the request without its pictures, each as the interface's JSON has it. */
export function fieldsOf(from = draft) {
  const fields = { prompt: from.prompt, model: model()?.id };
  if (from.width || from.height) {
    const usual = model().facts.defaults;
    fields.size = `${from.width || usual.width}x${from.height || usual.height}`;
  }
  if (from.frames !== null) fields.num_frames = from.frames;
  if (/^\d+$/.test(from.seed)) fields.seed = Number(from.seed);
  for (const name of SETTINGS) {
    const value = from.settings[name];
    if (value === "" || (MODEL_OPTIONS.includes(name) && !takes(name))) continue;
    fields[name] = settingOf(name, value);
  }
  const layout = layoutOf(from);
  if (layout) fields.layout = layout;
  return fields;
}

function settingOf(name, value) {
  if (NUMBERS.includes(name)) return Number(value);
  if (name === "guidance_interval") return value.split(",").map(Number);
  if (name === "shuffle") return value === "yes";
  if (name === "reference_offset" && value !== "video") return Number(value);
  return value;
}

function layoutOf(from) {
  if (!from.layout || !takes("layout")) return null;
  if (from.layout !== "boxes") return from.layout;
  return from.references.flatMap((reference) => reference.views.map((view) => view.box));
}

/** References without pictures: fields that differ from the defaults. */
function referenceFields(reference) {
  const fields = {};
  if (reference.name && !nameFault(reference)) fields.name = reference.name;
  if (reference.kind !== "object") fields.kind = reference.kind;
  if (reference.text.trim()) fields.text = reference.text.trim();
  if (reference.strength !== 1) fields.strength = reference.strength;
  return fields;
}

/**
 * The form of a request.
 * light: a pixel in place of every picture, for checks of everything else.
 */
export function formOf({ light = false, from = draft, change = {} } = {}) {
  const form = new FormData();
  const pixel = new Blob([PIXEL], { type: "image/png" });
  const references = from.references.map((reference, k) => {
    const fields = referenceFields(reference);
    fields.images = reference.views.map((view, n) => {
      const part = `r${k}v${n}`;
      form.append(part, light ? pixel : view.blob, view.fileName);
      return part;
    });
    if (reference.mask && reference.views.length === 1) {
      fields.mask = `r${k}mask`;
      form.append(fields.mask, light ? pixel : reference.mask.blob, "mask.png");
    }
    return fields;
  });
  const fields = { ...fieldsOf(from), ...change };
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || name === "strengths") continue;
    const text = Array.isArray(value) ? JSON.stringify(value) : String(value);
    form.append(name, text);
  }
  change.strengths?.forEach((strength, k) => (references[k].strength = strength));
  if (references.length) form.append("references", JSON.stringify(references));
  return form;
}

/** What a layout depends on, to ask for one only when it changes. */
export function layoutKey() {
  const fields = fieldsOf();
  delete fields.prompt;
  for (const name of ["num_inference_steps", "guidance_scale", "negative_prompt", "solver", "flow_shift"]) {
    delete fields[name];
  }
  if (!takes("layout")) delete fields.seed;
  const pictures = draft.references.map((reference) => [
    nameFault(reference) ? "" : reference.name,
    reference.views.map((view) => view.id),
    reference.mask && reference.mask.url,
  ]);
  return JSON.stringify([fields, pictures]);
}
