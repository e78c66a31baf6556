// Cards of the references: pictures, name, kind, words, strength, background.

import { backgroundButton } from "./backgrounds.js";
import { $, announce, debounce, fill, h, newId, tidy } from "./dom.js";
import {
  addReference,
  draft,
  mentions,
  nameFault,
  onChange,
  removeReference,
  updateReference,
} from "./draft.js";
import { icon } from "./icons.js";
import { NoPicture, readPicture } from "./pictures.js";
import { mention } from "./prompt.js";

const MOST = 8;
const MOST_STRENGTH = 100;
const SLIDER_STRENGTH = 4;
const KINDS = [
  ["object", "Thing"],
  ["human", "Person"],
  ["background", "Place"],
];
const cards = new Map(); // reference: its card's parts
const later = debounce(() => draft.references.forEach(refresh), 150);

export function start() {
  fill($("drop-art"), icon("image"));
  $("files").addEventListener("change", async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    await takeFiles(files);
  });
  listenToDrops();
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])];
    if (files.length && !$("view-create").hidden) {
      event.preventDefault();
      takeFiles(files);
    }
  });
  onChange((what) => {
    if (what.has("references") || what.has("all")) render();
    if (what.has("prompt")) later();
  });
  render();
}

function listenToDrops() {
  let depth = 0;
  const over = (on) => $("drop").classList.toggle("over", on);
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => holdsFiles(event) && over(++depth > 0));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && over(--depth > 0));
  document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    over(false);
    if (!$("view-create").hidden) takeFiles([...event.dataTransfer.files]);
  });
}

const count = () => draft.references.reduce((sum, reference) => sum + reference.views.length, 0);

/** Add every file as a reference of its own, or as views of one. */
async function takeFiles(files, reference = null) {
  const faults = [];
  for (const file of files) {
    if (count() >= MOST) {
      faults.push(`A request takes ${MOST} pictures. Remove one to add “${file.name}”.`);
      break;
    }
    try {
      const view = await readPicture(file);
      if (reference) updateReference(reference, { views: [...reference.views, view], mask: null });
      else announce(`Added as @${addReference([view]).name}`);
    } catch (problem) {
      if (!(problem instanceof NoPicture)) throw problem;
      faults.push(problem.message);
    }
  }
  showFaults(faults);
}

function showFaults(faults) {
  const place = $("fault-references");
  place.hidden = !faults.length;
  fill(place, ...faults.map((text) => h("span", {}, text)));
}

function render() {
  const list = $("references");
  for (const [reference, parts] of cards) {
    if (!draft.references.includes(reference)) {
      parts.card.remove();
      cards.delete(reference);
    }
  }
  draft.references.forEach((reference, at) => {
    if (!cards.has(reference)) cards.set(reference, cardOf(reference));
    const { card } = cards.get(reference);
    if (list.children[at] !== card) list.insertBefore(card, list.children[at] || null);
    refresh(reference);
  });
  const total = count();
  $("drop").classList.toggle("compact", total > 0);
  $("drop").hidden = total >= MOST;
  $("reference-count").textContent = total ? `${total} of ${MOST}` : "";
}

function cardOf(reference) {
  const id = reference.id;
  const parts = { pictures: h("div", { class: "ref-pictures" }) };
  parts.name = h("input", {
    id: `${id}-name`,
    value: reference.name,
    maxlength: 64,
    autocapitalize: "none",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-fault ${id}-note`,
    oninput: (event) => updateReference(reference, { name: event.target.value.trim() }),
  });
  parts.text = h("input", {
    id: `${id}-text`,
    value: reference.text,
    maxlength: 500,
    oninput: (event) => updateReference(reference, { text: event.target.value }),
  });
  parts.fault = h("p", { class: "fault", id: `${id}-fault`, hidden: true });
  parts.note = h("p", { class: "note", id: `${id}-note`, hidden: true });
  parts.actions = h("div", { class: "ref-actions" });
  parts.more = h("input", {
    class: "sr-only",
    type: "file",
    multiple: true,
    accept: "image/*",
    id: `${id}-views`,
    tabindex: "-1",
    "aria-label": `More views of ${reference.name}`,
    onchange: async (event) => {
      const files = [...event.target.files];
      event.target.value = "";
      await takeFiles(files, reference);
    },
  });
  parts.card = h(
    "li",
    { class: "reference", "data-hue": reference.hue, id },
    parts.pictures,
    h(
      "div",
      { class: "ref-body" },
      fieldsOf(reference, parts),
      h("div", { class: "ref-notes" }, parts.fault, parts.note),
      parts.actions,
    ),
    parts.more,
  );
  return parts;
}

function fieldsOf(reference, parts) {
  return h(
    "div",
    { class: "ref-fields" },
    h(
      "label",
      { class: "field ref-name" },
      h("span", { class: "label" }, "Name"),
      h("span", { class: "at" }, parts.name),
    ),
    kindsOf(reference, parts),
    h("label", { class: "field ref-words" }, h("span", { class: "label" }, "In words"), parts.text),
    strengthOf(reference, parts),
  );
}

function kindsOf(reference, parts) {
  parts.kinds = KINDS.map(([kind, word]) => {
    const input = h("input", {
      type: "radio",
      name: `${reference.id}-kind`,
      value: kind,
      onchange: () => updateReference(reference, { kind }),
    });
    return [input, h("label", {}, input, h("span", {}, word))];
  });
  return h(
    "fieldset",
    { class: "field segments" },
    h("legend", { class: "label" }, "It is a"),
    h("div", { class: "segment-row" }, ...parts.kinds.map(([, label]) => label)),
  );
}

function strengthOf(reference, parts) {
  const id = newId("strength");
  const take = (text) => {
    const strength = Math.min(MOST_STRENGTH, Math.max(0, Number(text)));
    if (text !== "" && Number.isFinite(strength)) updateReference(reference, { strength });
  };
  parts.slider = h("input", {
    type: "range",
    min: 0,
    max: SLIDER_STRENGTH,
    step: 0.1,
    "aria-labelledby": id,
    "aria-describedby": `${id}-hint`,
    oninput: (event) => take(event.target.value),
  });
  parts.number = h("input", {
    type: "number",
    min: 0,
    max: MOST_STRENGTH,
    step: 0.1,
    inputmode: "decimal",
    "aria-labelledby": id,
    onchange: (event) => take(event.target.value),
  });
  return h(
    "div",
    { class: "field ref-strength" },
    h("span", { class: "label", id }, "Strength"),
    h("div", { class: "slide" }, parts.slider, parts.number),
    h("span", { class: "sr-only", id: `${id}-hint` }, "1 is the model as trained, 0 hides it, at most 100"),
  );
}

function refresh(reference) {
  const parts = cards.get(reference);
  if (!parts) return;
  const fault = nameFault(reference) || reference.fault || reference.trouble;
  if (document.activeElement !== parts.name) parts.name.value = reference.name;
  parts.name.setAttribute("aria-invalid", String(Boolean(nameFault(reference))));
  if (document.activeElement !== parts.text) parts.text.value = reference.text;
  parts.text.placeholder = reference.name.replace(/[_-]/g, " ") || "red fox";
  for (const [input] of parts.kinds) input.checked = input.value === reference.kind;
  parts.slider.value = String(Math.min(SLIDER_STRENGTH, reference.strength));
  parts.slider.setAttribute("aria-valuetext", tidy(reference.strength));
  if (document.activeElement !== parts.number) parts.number.value = tidy(reference.strength);
  parts.fault.hidden = !fault;
  parts.fault.textContent = fault;
  refreshNote(reference, parts);
  refreshPictures(reference, parts);
  refreshActions(reference, parts);
}

function refreshNote(reference, parts) {
  const used = mentions(draft.prompt).some(({ name }) => name === reference.name);
  const missing = reference.name && !nameFault(reference) && !used;
  parts.note.hidden = !missing;
  if (!missing || parts.note.dataset.name === reference.name) return;
  parts.note.dataset.name = reference.name;
  fill(
    parts.note,
    h("span", {}, "Not in the text yet."),
    h(
      "button",
      { class: "link", type: "button", onclick: () => mention(reference.name) },
      `Mention @${reference.name}`,
    ),
  );
}

function refreshPictures(reference, parts) {
  const key = JSON.stringify([reference.views.map((view) => view.id), reference.mask?.shown, reference.name]);
  if (parts.pictures.dataset.key === key) return;
  parts.pictures.dataset.key = key;
  const several = reference.views.length > 1;
  const pictures = reference.views.map((view, at) =>
    h(
      "div",
      { class: "ref-picture" },
      h("img", {
        src: reference.mask?.shown || view.url,
        alt: `${reference.name || "picture"}${several ? `, view ${at + 1}` : ""}`,
        title: view.note || `${view.width} × ${view.height}`,
      }),
      several &&
        h(
          "button",
          {
            class: "corner",
            type: "button",
            "aria-label": `Remove view ${at + 1} of ${reference.name}`,
            onclick: () =>
              updateReference(reference, { views: reference.views.filter((other) => other !== view) }),
          },
          icon("close"),
        ),
    ),
  );
  parts.pictures.classList.toggle("many", several);
  fill(parts.pictures, ...pictures);
}

function refreshActions(reference, parts) {
  const key = JSON.stringify([reference.mask?.url, reference.busy, reference.views.length, count(), reference.name]);
  if (parts.actions.dataset.key === key) return;
  parts.actions.dataset.key = key;
  const focused = parts.actions.contains(document.activeElement) && document.activeElement.dataset.act;
  const name = reference.name || "this picture";
  fill(
    parts.actions,
    backgroundButton(reference, name),
    count() < MOST &&
      h(
        "button",
        { class: "quiet", type: "button", "data-act": "view", onclick: () => parts.more.click() },
        icon("plus"),
        h("span", {}, "Add a view"),
        h("span", { class: "sr-only" }, ` of ${name}`),
      ),
    h(
      "button",
      {
        class: "quiet away",
        type: "button",
        "data-act": "remove",
        "aria-label": `Remove ${name}`,
        onclick: () => removeCard(reference),
      },
      icon("trash"),
      h("span", { class: "wide-only" }, "Remove"),
    ),
  );
  if (focused) parts.actions.querySelector(`[data-act="${focused}"]`)?.focus();
}

function removeCard(reference) {
  const at = draft.references.indexOf(reference);
  removeReference(reference);
  announce(`Removed ${reference.name || "the picture"}`);
  const next = draft.references[Math.min(at, draft.references.length - 1)];
  (next ? cards.get(next).name : $("files")).focus();
}

/** Say what is wrong with one reference, or with none in particular. */
export function showFault(reference, message) {
  for (const other of draft.references) other.fault = other === reference ? message : "";
  draft.references.forEach(refresh);
  if (!reference) showFaults(message ? [message] : []);
}

/** The field that a fault of this reference concerns. */
export const fieldOf = (reference) => cards.get(reference)?.name || $("files");
