// Model, size, length, seed, and the settings that few people need.

import { $, announce, fill, h, plural, tidy } from "./dom.js";
import { draft, facts, frames, known, model, newSeed, onChange, set, setSetting, size, takes } from "./draft.js";
import { icon } from "./icons.js";

const parts = {};
// name, label, what the field is, hint; choices are [value, word]
const MORE = [
  ["speed", "Speed", [["exact", "Exact"], ["balanced", "Balanced"], ["fast", "Fast"], ["distilled", "Distilled: 4 steps"]], "What may be left out to be quicker; distilled needs weights made for it."],
  ["num_inference_steps", "Steps", { min: 1, max: 1000, step: 1 }, "More take longer."],
  ["guidance_scale", "Guidance", { min: 0, max: 50, step: 0.5 }, "How closely the text is followed."],
  ["negative_prompt", "Not in the video", "text", ""],
  ["solver", "Solver", [["unipc", "UniPC"], ["dpm++", "DPM++"], ["euler", "Euler"]], ""],
  ["flow_shift", "Timestep shift", { min: 0.1, max: 100, step: 0.1 }, ""],
  ["shuffle", "Order on the canvas", [["yes", "Drawn from the seed"], ["no", "As given"]], ""],
  ["disentangle", "Keep subjects apart", { min: 0, max: 10, step: 0.1 }, "0 is off; needs a named picture."],
  ["reference_offset", "Distance of the pictures", "offset", "In patches, or video for the video's own size."],
  ["reference_size", "Size of the pictures", [["letterbox", "The video's, on white"], ["native", "Their own shape"]], ""],
  ["strength_map", "Strength acts", [["attention", "Where the video looks"], ["uniform", "Everywhere"], ["guidance", "By guidance (slower)"]], "Where a strength is not 1."],
  ["step_cache", "Steps that reuse earlier ones", "text", "As in taylorseer:2; the speed says it for you."],
  ["guidance_interval", "Guidance between", "text", "Two shares of the steps, as in 0, 0.6."],
];
const MODEL_ONLY = ["shuffle", "disentangle", "reference_offset", "reference_size", "strength_map"];

export function start() {
  fill($("fields"), modelField(), sizeField(), lengthField(), seedField());
  fill($("more-fields"), ...MORE.map((given) => settingField(...given)));
  onChange((what) => {
    if (["model", "settings", "width", "height", "frames", "seed", "all"].some((name) => what.has(name))) {
      refresh();
    }
  });
}

/** Show what the served models offer. */
export function modelsKnown() {
  fill(parts.model, ...known.models.map(({ id }) => h("option", { value: id }, id)));
  refresh();
}

function field(id, label, input, ...more) {
  return h(
    "div",
    { class: `field field-${id}`, id: `field-${id}` },
    h("label", { class: "label", for: input.id || id }, label),
    ...more,
    h("p", { class: "fault", id: `fault-${id}`, hidden: true }),
  );
}

function modelField() {
  parts.model = h("select", {
    id: "model",
    "aria-describedby": "model-hint fault-model",
    onchange: (event) => set({ model: event.target.value, frames: null, width: "", height: "" }),
  });
  parts.modelHint = h("p", { class: "hint", id: "model-hint" });
  return field("model", "Model", parts.model, h("span", { class: "select" }, parts.model), parts.modelHint);
}

function sizeField() {
  const side = (name, label) =>
    h("input", {
      id: name,
      type: "number",
      min: 1,
      inputmode: "numeric",
      "aria-label": label,
      "aria-describedby": "fault-size",
      oninput: (event) => set({ [name]: event.target.value.trim() }),
    });
  parts.width = side("width", "Width in pixels");
  parts.height = side("height", "Height in pixels");
  parts.shapes = h("div", { class: "chips", role: "group", "aria-label": "Shapes" });
  return h(
    "div",
    { class: "field field-size", id: "field-size", role: "group", "aria-labelledby": "size-label" },
    h("span", { class: "label", id: "size-label" }, "Size"),
    h("div", { class: "pair" }, parts.width, h("span", { "aria-hidden": "true" }, "×"), parts.height),
    parts.shapes,
    h("p", { class: "fault", id: "fault-size", hidden: true }),
  );
}

function lengthField() {
  parts.length = h("input", {
    id: "length",
    type: "range",
    "aria-describedby": "fault-frames",
    oninput: (event) => set({ frames: Number(event.target.value) }),
  });
  parts.lengthText = h("output", { for: "length", class: "value" });
  return field("frames", "Length", parts.length, h("div", { class: "slide" }, parts.length, parts.lengthText));
}

function seedField() {
  parts.seed = h("input", {
    id: "seed",
    inputmode: "numeric",
    autocomplete: "off",
    placeholder: "a new one each time",
    "aria-describedby": "seed-hint fault-seed",
    oninput: (event) => set({ seed: event.target.value.trim() }),
  });
  const renew = h(
    "button",
    {
      class: "plain",
      type: "button",
      id: "new-seed",
      onclick: () => {
        set({ seed: String(newSeed()) });
        announce(`Seed ${draft.seed}`);
      },
    },
    icon("dice"),
    h("span", {}, "New"),
    h("span", { class: "sr-only" }, " seed"),
  );
  return field(
    "seed",
    "Seed",
    parts.seed,
    h("div", { class: "pair" }, parts.seed, renew),
    h("p", { class: "hint", id: "seed-hint" }, "The same seed makes the same video again."),
  );
}

function settingField(name, label, what, hint) {
  const described = `${name}-hint fault-${name}`;
  const change = (event) => setSetting(name, event.target.value.trim());
  let input;
  if (Array.isArray(what)) {
    const choices = [["", "The model's own"], ...what];
    input = h(
      "select",
      { id: name, "aria-describedby": described, onchange: change },
      ...choices.map(([value, word]) => h("option", { value }, word)),
    );
  } else if (typeof what === "object") {
    input = h("input", { id: name, type: "number", inputmode: "decimal", "aria-describedby": described, ...what, oninput: change });
  } else {
    input = h("input", { id: name, "aria-describedby": described, maxlength: 4000, oninput: change });
  }
  parts[name] = input;
  const shown = Array.isArray(what) ? h("span", { class: "select" }, input) : input;
  return field(name, label, input, shown, h("p", { class: "hint", id: `${name}-hint`, hidden: !hint }, hint));
}

function refresh() {
  const now = facts();
  if (!now) return;
  parts.model.value = model().id;
  parts.modelHint.textContent = model().description;
  const [usualWidth, usualHeight] = [now.defaults.width, now.defaults.height];
  refreshSide(parts.width, draft.width, usualWidth, now.width_step);
  refreshSide(parts.height, draft.height, usualHeight, now.height_step);
  refreshShapes(now);
  const { first, step, last } = now.frames;
  Object.assign(parts.length, { min: first, max: Math.max(last, frames()), step });
  parts.length.value = String(frames());
  const words = `${tidy(frames() / now.fps, 1)} s · ${plural(frames(), "frame")}`;
  parts.lengthText.value = words;
  parts.length.setAttribute("aria-valuetext", words);
  if (document.activeElement !== parts.seed) parts.seed.value = draft.seed;
  for (const [name] of MORE) refreshSetting(name, now);
}

function refreshSide(input, value, usual, step) {
  if (document.activeElement !== input) input.value = value || usual;
  input.step = step;
}

function refreshSetting(name, now) {
  const input = parts[name];
  if (document.activeElement !== input) input.value = draft.settings[name];
  $(`field-${name}`).hidden = MODEL_ONLY.includes(name) && !takes(name);
  const usual = now.defaults[name === "negative_prompt" ? "default_negative_prompt" : name];
  if (input.tagName === "INPUT") input.placeholder = usual === undefined || usual === "" ? "" : String(usual).slice(0, 60);
}

/** Shapes of about the model's own number of pixels. */
function refreshShapes(now) {
  const { width, height } = now.defaults;
  const key = `${width}x${height}:${size().join("x")}`;
  if (parts.shapes.dataset.key === key) return;
  parts.shapes.dataset.key = key;
  const side = Math.sqrt(width * height);
  const round = (value, step) => Math.max(step, Math.round(value / step) * step);
  const shapes = [
    ["Wide", width > height ? [width, height] : [side * 1.33, side / 1.33]],
    ["Square", [side, side]],
    ["Tall", width > height ? [height, width] : [side / 1.33, side * 1.33]],
  ].map(([word, [w, t]]) => [word, round(w, now.width_step), round(t, now.height_step)]);
  const focused = parts.shapes.contains(document.activeElement) && document.activeElement.textContent;
  fill(
    parts.shapes,
    ...shapes.map(([word, w, t]) =>
      h(
        "button",
        {
          class: "chip",
          type: "button",
          title: `${w} × ${t}`,
          "aria-pressed": String(size()[0] === w && size()[1] === t),
          onclick: () => set({ width: String(w), height: String(t) }),
        },
        word,
      ),
    ),
  );
  if (focused) [...parts.shapes.children].find((chip) => chip.textContent === focused)?.focus();
}

/** Open the settings when a fault is among them. */
export function reveal(name) {
  if (MORE.some(([known_]) => known_ === name)) $("more").open = true;
}
