// The prompt: names of references as you type, and coloured where they stand.

import { $, announce, fill, h, plural } from "./dom.js";
import { draft, mentions, nameFault, onChange, set } from "./draft.js";

const LONG = 3500;
let options = [];
let active = 0;
let word = null; // {start, end, text} of the mention that is being typed

export function start() {
  const area = $("prompt");
  area.addEventListener("input", () => {
    set({ prompt: area.value });
    suggest();
  });
  area.addEventListener("keydown", onKey);
  area.addEventListener("click", suggest);
  area.addEventListener("keyup", (event) => {
    if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) suggest();
  });
  area.addEventListener("blur", () => window.setTimeout(close, 120));
  area.addEventListener("scroll", () => ($("prompt-mirror").scrollTop = area.scrollTop));
  onChange((what) => {
    if (!["prompt", "references", "all"].some((name) => what.has(name))) return;
    if (area.value !== draft.prompt) area.value = draft.prompt;
    colour();
    const left = 4000 - draft.prompt.length;
    $("prompt-count").textContent = draft.prompt.length > LONG ? `${plural(left, "letter")} left` : "";
  });
}

/** Put a mention where the cursor is, or at the end. */
export function mention(name) {
  const area = $("prompt");
  const at = area.selectionStart ?? area.value.length;
  const place = draft.prompt.length && at === 0 ? area.value.length : at;
  const before = area.value.slice(0, place);
  const gap = before && !/\s$/.test(before) ? " " : "";
  replace(place, place, `${gap}@${name} `);
  area.focus();
}

function replace(start, end, text) {
  const area = $("prompt");
  area.setRangeText(text, start, end, "end");
  set({ prompt: area.value });
}

/** Replace the first mention of a name by other text. */
export function replaceMention(name, text) {
  const found = mentions(draft.prompt).find((one) => one.name === name);
  if (!found) return;
  replace(found.start, found.end, text);
  $("prompt").focus();
}

function colour() {
  const pieces = [];
  let end = 0;
  for (const found of mentions(draft.prompt)) {
    const reference = draft.references.find((one) => one.name === found.name);
    pieces.push(draft.prompt.slice(end, found.start));
    const hue = reference ? reference.hue : "none";
    pieces.push(h("mark", { "data-hue": hue }, draft.prompt.slice(found.start, found.end)));
    end = found.end;
  }
  // a last line without letters still takes its room
  fill($("prompt-mirror"), ...pieces, `${draft.prompt.slice(end)}\u200b`);
  $("prompt-mirror").scrollTop = $("prompt").scrollTop;
}

function typed() {
  const area = $("prompt");
  const at = area.selectionStart;
  if (at !== area.selectionEnd) return null;
  const match = /(?<![\w@])@([A-Za-z0-9_-]*)$/.exec(area.value.slice(0, at));
  if (!match) return null;
  const rest = /^[\w-]*/.exec(area.value.slice(at))[0];
  return { start: at - match[0].length, end: at + rest.length, text: match[1].toLowerCase() };
}

function suggest() {
  word = typed();
  const named = draft.references.filter((reference) => reference.name && !nameFault(reference));
  options = word ? named.filter(({ name }) => name.startsWith(word.text)) : [];
  if (word && options.length === 1 && options[0].name === word.text) options = [];
  if (!options.length) {
    close();
    return;
  }
  active = Math.min(active, options.length - 1);
  show();
}

function show() {
  const list = $("mentions");
  fill(
    list,
    ...options.map((reference, at) =>
      h(
        "li",
        {
          role: "option",
          id: `mention-${at}`,
          "aria-selected": String(at === active),
          "data-hue": reference.hue,
          onmousedown: (event) => {
            event.preventDefault();
            choose(at);
          },
        },
        h("img", { src: reference.views[0].url, alt: "" }),
        h("span", {}, `@${reference.name}`),
        reference.text ? h("span", { class: "hint" }, reference.text) : null,
      ),
    ),
  );
  const first = list.hidden;
  list.hidden = false;
  const area = $("prompt");
  area.setAttribute("role", "combobox"); // a plain textarea again when the list is closed
  area.setAttribute("aria-controls", "mentions");
  area.setAttribute("aria-expanded", "true");
  area.setAttribute("aria-activedescendant", `mention-${active}`);
  list.children[active].scrollIntoView({ block: "nearest" });
  if (first) announce(`${plural(options.length, "name")}; arrow keys choose, Enter takes one`);
}

function close() {
  $("mentions").hidden = true;
  active = 0;
  const area = $("prompt");
  for (const name of ["role", "aria-controls", "aria-expanded", "aria-activedescendant"]) {
    area.removeAttribute(name);
  }
}

function choose(at) {
  const { name } = options[at];
  const after = $("prompt").value.slice(word.end);
  replace(word.start, word.end, `@${name}${/^\s/.test(after) ? "" : " "}`);
  close();
}

function onKey(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    $("form").requestSubmit();
    return;
  }
  if ($("mentions").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves) {
    event.preventDefault();
    active = (active + moves[event.key] + options.length) % options.length;
    show();
  } else if (event.key === "Enter" || (event.key === "Tab" && !event.shiftKey)) {
    event.preventDefault();
    choose(active);
  } else if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    close();
  }
}
