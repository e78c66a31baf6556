// The dialog that shows the request as a command line, as Python and as JSON.

import { save, toast } from "./actions.js";
import { $, announce, fill, h } from "./dom.js";
import { draft, model } from "./draft.js";
import { icon } from "./icons.js";
import { cutOut } from "./pictures.js";
import { fieldsOf } from "./request.js";
import { cliNotes, cliText, fileNames, jsonText, pythonText } from "./texts.js";

const WAYS = [
  ["cli", "Command line"],
  ["python", "Python"],
  ["json", "JSON"],
];
let way = "cli";

export function start() {
  fill($("copy"), icon("copy"), h("span", {}, "Copy as…"));
  $("copy").addEventListener("click", open);
}

async function open() {
  const dialog = $("copy-dialog");
  await render();
  dialog.showModal();
}

function references() {
  return draft.references.map((reference) => ({
    ...reference,
    mask: reference.views.length === 1 ? reference.mask : null,
  }));
}

async function textOf(which, whole = false) {
  const given = [references(), fieldsOf(), model().id];
  if (which === "cli") return cliText(...given);
  if (which === "python") return pythonText(...given);
  return jsonText(given[0], given[1], await pictureTexts(given[0], whole));
}

async function pictureTexts(given, whole) {
  const text = (blob) => (whole ? dataUri(blob) : `data:${blob.type};base64,…`);
  return Promise.all(
    given.map(async (reference) => ({
      views: await Promise.all(reference.views.map((view) => text(view.blob))),
      mask: reference.mask ? await text(reference.mask.blob) : null,
    })),
  );
}

function dataUri(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.readAsDataURL(blob);
  });
}

async function render() {
  const text = await textOf(way);
  const notes = way === "cli" ? cliNotes(references(), fieldsOf()) : [];
  if (way === "json") notes.push("Copied whole, with the pictures in it; send it to /v1/videos.");
  else if (draft.references.length) notes.push("The pictures are files beside it.");
  fill(
    $("copy-dialog"),
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "copy-title" }, "This request elsewhere"),
      h("button", { class: "quiet square", type: "button", "aria-label": "Close", onclick: () => $("copy-dialog").close() }, icon("close")),
    ),
    h("div", { class: "chips", role: "group", "aria-label": "Written as" }, ...WAYS.map(choice)),
    h("pre", { class: "code", tabindex: "0", "aria-label": WAYS.find(([id]) => id === way)[1] }, h("code", { id: "copy-text" }, text)),
    h("p", { class: "hint" }, notes.join(" ")),
    h(
      "div",
      { class: "dialog-buttons" },
      draft.references.length && way !== "json" ? h("button", { class: "plain", type: "button", onclick: savePictures }, icon("download"), h("span", {}, "Save the pictures")) : null,
      h("button", { class: "primary", type: "button", id: "copy-now", onclick: copy }, icon("copy"), h("span", {}, "Copy")),
    ),
  );
}

function choice([id, word]) {
  const pick = async () => {
    way = id;
    await render();
    $(`copy-${id}`).focus();
  };
  return h("button", { class: "chip", type: "button", id: `copy-${id}`, "aria-pressed": String(way === id), onclick: pick }, word);
}

async function copy() {
  const text = await textOf(way, true);
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied");
    fill($("copy-now"), icon("check"), h("span", {}, "Copied"));
  } catch {
    // without TLS browsers give other machines no clipboard
    window.getSelection().selectAllChildren($("copy-text"));
    toast("This browser does not let the page copy: the text is selected, press Ctrl+C.");
  }
}

async function savePictures() {
  const given = references();
  const names = fileNames(given);
  for (const [k, reference] of given.entries()) {
    reference.views.forEach((view, n) => save(view.url, names.views[k][n]));
    if (reference.mask) {
      save(reference.mask.url, names.masks[k]);
      save(URL.createObjectURL(await cutOut(reference.views[0], reference.mask.blob)), names.cutOuts[k]);
    }
  }
}
