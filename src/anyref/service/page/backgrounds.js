// Taking a picture's background away, and putting it back.

import * as api from "./api.js";
import { announce, h } from "./dom.js";
import { known, updateReference } from "./draft.js";
import { icon } from "./icons.js";
import { shownWithMask } from "./pictures.js";

/** The button of a reference's card; where it cannot, it says why. */
export function backgroundButton(reference, name) {
  const { available, reason } = known.abilities?.background_removal || {};
  if (reference.mask) {
    return button("undo", "Put the background back", name, () => {
      updateReference(reference, { mask: null, trouble: "" });
      announce(`The background of ${name} is back`);
    });
  }
  const why = reference.views.length > 1 ? "a cut-out belongs to one picture" : available ? "" : reason;
  const label = reference.busy ? "Finding the subject…" : "Remove background";
  const element = button("cut", label, name, () => {
    if (why) announceWhy(reference, why);
    else if (!reference.busy) removeBackground(reference, name);
  });
  if (why || reference.busy) element.setAttribute("aria-disabled", "true");
  if (why) element.title = `Not available: ${why}`;
  return element;
}

function announceWhy(reference, why) {
  updateReference(reference, { trouble: `The background cannot be removed: ${why}.` });
  announce(reference.trouble);
}

function button(drawing, label, name, onclick) {
  return h(
    "button",
    { class: "quiet", type: "button", "data-act": "background", onclick },
    icon(drawing),
    h("span", {}, label),
    h("span", { class: "sr-only" }, ` of ${name}`),
  );
}

async function removeBackground(reference, name) {
  updateReference(reference, { busy: true, trouble: "" });
  announce(`Finding the subject of ${name}`);
  try {
    const [view] = reference.views;
    const blob = await api.mask(view.blob);
    const mask = { blob, url: URL.createObjectURL(blob), shown: await shownWithMask(view, blob) };
    updateReference(reference, { mask, busy: false });
    announce(`The background of ${name} is removed`);
  } catch (problem) {
    updateReference(reference, { busy: false, trouble: problem.message });
  }
}
