// Boxes on the canvas: moved and resized by mouse, finger or keys, and as numbers.

import { announce, h } from "./dom.js";
import { allViews, changed, draft } from "./draft.js";

const STEP = 0.02;
const FINE = 0.005;
const LEAST = 0.04; // of a side
const CORNERS = ["nw", "ne", "sw", "se"];

/** Draw a box over every picture of the stage; the first move makes the boxes your own. */
export function showBoxes(stage, answer, takeBoxes) {
  const views = allViews();
  answer.pictures.forEach((picture, at) => {
    if (!views[at]) return;
    const { reference, view } = views[at];
    const own = draft.layout === "boxes" && view.box;
    const box = boxOf(stage, reference, view, at, takeBoxes);
    box.append(...CORNERS.map((corner) => h("span", { class: `grip ${corner}`, "data-corner": corner })));
    place(box, own ? view.box : picture.box);
    label(box, reference, own ? view.box : picture.box);
    stage.append(box);
  });
}

function boxOf(stage, reference, view, at, takeBoxes) {
  const box = h(
    "button",
    {
      class: "box",
      type: "button",
      "data-hue": reference.hue,
      "data-box": at + 1,
      "aria-describedby": "box-help",
    },
    h("img", { class: "box-picture", src: view.url, alt: "" }),
    h("span", { class: "box-name" }, reference.name ? `@${reference.name}` : `picture ${at + 1}`),
  );
  box.addEventListener("pointerdown", (event) => drag(event, stage, box, reference, view, takeBoxes));
  box.addEventListener("keydown", (event) => press(event, box, reference, view, takeBoxes));
  return box;
}

function own(takeBoxes) {
  if (draft.layout === "boxes") return;
  takeBoxes();
  draft.layout = "boxes";
}

function drag(event, stage, box, reference, view, takeBoxes) {
  if (event.button !== 0) return;
  event.preventDefault();
  box.focus({ preventScroll: true });
  const corner = event.target.dataset.corner || "";
  const { width, height } = stage.getBoundingClientRect();
  const [x, y] = [event.clientX, event.clientY];
  let from = null;
  const move = (now) => {
    const [dx, dy] = [(now.clientX - x) / width, (now.clientY - y) / height];
    if (!from) {
      if (Math.hypot(now.clientX - x, now.clientY - y) < 3) return;
      own(takeBoxes);
      from = view.box.slice();
      box.classList.add("moving");
      stage.classList.add("arranging");
    }
    view.box = corner ? resized(from, corner, dx, dy) : moved(from, dx, dy);
    place(box, view.box);
  };
  const end = () => {
    box.removeEventListener("pointermove", move);
    box.classList.remove("moving");
    stage.classList.remove("arranging");
    if (from) settle(box, reference, view);
  };
  box.setPointerCapture(event.pointerId);
  box.addEventListener("pointermove", move);
  box.addEventListener("pointerup", end, { once: true });
  box.addEventListener("pointercancel", end, { once: true });
}

function press(event, box, reference, view, takeBoxes) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const way = ways[event.key];
  if (!way || event.metaKey) return;
  event.preventDefault();
  own(takeBoxes);
  const step = event.altKey || event.ctrlKey ? FINE : STEP;
  const [dx, dy] = [way[0] * step, way[1] * step];
  view.box = event.shiftKey ? resized(view.box, "se", dx, dy) : moved(view.box, dx, dy);
  place(box, view.box);
  settle(box, reference, view);
}

function settle(box, reference, view) {
  view.box = view.box.map((value) => Math.round(value * 1e4) / 1e4);
  label(box, reference, view.box);
  announce(words(view.box));
  changed("layout", "boxes");
}

function moved([left, top, right, bottom], dx, dy) {
  const x = Math.min(1 - right, Math.max(-left, dx));
  const y = Math.min(1 - bottom, Math.max(-top, dy));
  return [left + x, top + y, right + x, bottom + y];
}

function resized([left, top, right, bottom], corner, dx, dy) {
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  return [
    corner.endsWith("w") ? within(left + dx, 0, right - LEAST) : left,
    corner.startsWith("n") ? within(top + dy, 0, bottom - LEAST) : top,
    corner.endsWith("e") ? within(right + dx, left + LEAST, 1) : right,
    corner.startsWith("s") ? within(bottom + dy, top + LEAST, 1) : bottom,
  ];
}

function place(box, [left, top, right, bottom]) {
  box.style.left = `${left * 100}%`;
  box.style.top = `${top * 100}%`;
  box.style.width = `${(right - left) * 100}%`;
  box.style.height = `${(bottom - top) * 100}%`;
}

function label(box, reference, edges) {
  box.setAttribute("aria-label", `Box of ${reference.name || "a picture"}: ${words(edges)}`);
}

function words([left, top, right, bottom]) {
  const share = (value) => Math.round(value * 100);
  return `${share(left)} % from the left, ${share(top)} % from the top, ${share(right - left)} % wide, ${share(bottom - top)} % high`;
}
