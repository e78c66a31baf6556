// Building elements without markup in strings, and speaking to screen readers.

const SVG = "http://www.w3.org/2000/svg";

/** An element: properties starting with "on" are listeners, the rest attributes; null leaves one out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  setAll(element, properties);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for a drawing. */
export function s(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  setAll(element, properties);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function setAll(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "muted") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

export const $ = (id) => document.getElementById(id);

/** Put children in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Say something to a screen reader when it has time. */
export function announce(text) {
  const live = $("live");
  live.textContent = "";
  window.setTimeout(() => (live.textContent = text), 60);
}

/** Call a function once its calls have paused. */
export function debounce(call, milliseconds) {
  let timer = 0;
  const later = (...given) => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => call(...given), milliseconds);
  };
  later.cancel = () => window.clearTimeout(timer);
  return later;
}

let numbers = 0;
/** An id that no other element has. */
export const newId = (start) => `${start}-${++numbers}`;

export const prefersCalm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Seconds in words: "8 s", "2 min 5 s", "1 h 10 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A number without a tail of digits. */
export const tidy = (value, digits = 2) => String(Number(Number(value).toFixed(digits)));

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** "3rd" of 3. */
export function ordinal(count) {
  const tail = count % 100 > 10 && count % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][count % 10] || "th";
  return `${count}${tail}`;
}

/** When something was, in the reader's own words. */
export function when(seconds) {
  const then = new Date(seconds * 1000);
  const today = new Date().toDateString() === then.toDateString();
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? `today, ${time}` : `${then.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** Ask before something that cannot be undone; true when the answer is yes. */
export function confirmed(title, text, action) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = action;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}
