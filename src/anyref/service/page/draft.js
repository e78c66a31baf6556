// The request that is being written, in one place; everything else shows it or changes it.

const MAX_NAME = 64;
const HUES = 8; // colours of references, in theme.css

/** Fields beside prompt, references, model, size, length and seed; empty means the model's default. */
export const SETTINGS = [
  "num_inference_steps",
  "guidance_scale",
  "negative_prompt",
  "solver",
  "flow_shift",
  "shuffle",
  "disentangle",
  "reference_offset",
  "reference_size",
  "strength_map",
  "speed",
  "step_cache",
  "guidance_interval",
];

export const draft = {
  prompt: "",
  references: [], // {id, hue, name, kind, text, strength, views: [view], mask, busy, fault}
  model: "",
  width: "",
  height: "",
  frames: null,
  seed: "",
  layout: "", // "", columns, grid, quarters, or boxes: then every view has its box
  settings: Object.fromEntries(SETTINGS.map((name) => [name, ""])),
};

export const known = { models: [], abilities: null };

const listeners = new Set();
let ids = 0;

/** Call a function with the names of what has changed. */
export const onChange = (call) => listeners.add(call);

export function changed(...what) {
  for (const call of listeners) call(new Set(what));
}

/** Change fields of the draft. */
export function set(fields) {
  Object.assign(draft, fields);
  changed(...Object.keys(fields));
}

export function setSetting(name, value) {
  draft.settings[name] = value;
  changed("settings", name);
}

export const model = () => known.models.find((one) => one.id === draft.model) || known.models[0];
export const facts = () => model()?.facts;
export const takes = (option) => facts()?.options.includes(option) ?? false;

export const size = () => [
  Number(draft.width) || facts()?.defaults.width || 96,
  Number(draft.height) || facts()?.defaults.height || 96,
];
export const frames = () => draft.frames ?? facts()?.defaults.num_frames ?? 1;

/** Every view with its reference, in the order the model is given them. */
export const allViews = () =>
  draft.references.flatMap((reference) => reference.views.map((view) => ({ reference, view })));

/** A lower-case word from a file's name that no other reference has. */
function nameFor(fileName) {
  const stem = fileName.replace(/\.[^.]*$/, "").normalize("NFKD").toLowerCase();
  let word = stem.replace(/[^a-z0-9]+/g, "_").replace(/^[^a-z]+|_+$/g, "").slice(0, 32);
  if (!word) word = "picture";
  const taken = new Set(draft.references.map((reference) => reference.name));
  for (let number = 2; taken.has(word); number += 1) word = `${word.replace(/_\d+$/, "")}_${number}`;
  return word;
}

/** Why a name cannot be, in words for people; empty when it can. */
export function nameFault(reference) {
  const { name } = reference;
  if (!name) return "";
  if (!/^[a-z][a-z0-9_-]*$/.test(name)) {
    return "Names are small letters, digits, - and _, and begin with a letter, like fox or red_car.";
  }
  if (name.length > MAX_NAME) return `Names have at most ${MAX_NAME} letters.`;
  const same = draft.references.filter((other) => other.name === name);
  return same.length > 1 ? `Two pictures are called @${name}. Names are unique.` : "";
}

function freeHue() {
  const taken = new Set(draft.references.map((reference) => reference.hue));
  for (let hue = 1; hue <= HUES; hue += 1) if (!taken.has(hue)) return hue;
  return 1;
}

/** Add a reference of some views. */
export function addReference(views, fields = {}) {
  const reference = {
    id: `reference-${++ids}`,
    hue: freeHue(),
    name: nameFor(views[0].fileName),
    kind: "object",
    text: "",
    strength: 1,
    mask: null,
    busy: false,
    fault: "", // of the request
    trouble: "", // of removing its background
    views,
    ...fields,
  };
  draft.references.push(reference);
  placeNew();
  changed("references", "order");
  return reference;
}

export function removeReference(reference) {
  draft.references = draft.references.filter((other) => other !== reference);
  if (!draft.references.length && draft.layout === "boxes") draft.layout = "";
  changed("references", "order", "layout");
}

export function updateReference(reference, fields) {
  Object.assign(reference, fields);
  if ("views" in fields) placeNew();
  changed("references", ...("views" in fields || "mask" in fields ? ["order"] : []));
}

/** Boxes of your own: a view that came later gets one in the middle. */
function placeNew() {
  if (draft.layout !== "boxes") return;
  for (const { view } of allViews()) view.box ||= [0.3, 0.3, 0.7, 0.7];
}

/** Replace the whole draft, as "again with changes" does. */
export function load(fields, references) {
  draft.references = [];
  Object.assign(draft, fields);
  for (const { views, ...rest } of references) {
    draft.references.push({
      id: `reference-${++ids}`,
      hue: freeHue(),
      busy: false,
      fault: "",
      trouble: "",
      mask: null,
      views,
      ...rest,
    });
  }
  changed("all", "prompt", "references", "order", "model", "settings", "layout", "seed", "width", "frames");
}

/** A seed of the size that the service draws. */
export const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 2 ** 31;

/** Names that the prompt mentions, in order; "@@" is a plain @. */
export function mentions(prompt) {
  const found = [];
  for (const match of prompt.matchAll(/@@|(?<![\w@])@([A-Za-z0-9_][\w-]*)/g)) {
    if (match[1]) found.push({ name: match[1], start: match.index, end: match.index + match[0].length });
  }
  return found;
}
