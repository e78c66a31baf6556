// All videos of this client, newest first, and a choice of them to compare.

import { button, remove } from "./actions.js";
import { $, announce, fill, h, plural } from "./dom.js";
import { factsOf, promptOf, screenOf, stateOf } from "./card.js";
import { icon } from "./icons.js";
import { hasMore, isActive, list, loadMore, onVideos } from "./videos.js";

const MOST = 6;
const chosen = new Set();
const cards = new Map(); // id: {card, key}

export function start() {
  onVideos(() => {
    for (const id of chosen) if (!list.some((video) => video.id === id)) chosen.delete(id);
    const count = $("gallery-count");
    count.textContent = list.length ? `${list.length}${hasMore() ? "+" : ""}` : "";
    if (!$("view-gallery").hidden) render();
  });
}

export const show = () => render();

function render() {
  const place = $("gallery");
  refreshTools();
  if (!list.length) {
    cards.clear();
    fill(
      place,
      h(
        "div",
        { class: "empty tall" },
        icon("film"),
        h("p", {}, "No videos yet."),
        h("a", { class: "primary", href: "#create" }, "Make the first one"),
      ),
    );
    return;
  }
  let grid = place.querySelector(".grid");
  if (!grid) {
    cards.clear();
    grid = h("ul", { class: "grid" });
    fill(place, grid, h("div", { class: "row centre", id: "gallery-more" }));
  }
  list.forEach((video, at) => placeCard(grid, video, at));
  for (const [id, { card }] of cards) {
    if (!list.some((video) => video.id === id)) {
      card.remove();
      cards.delete(id);
    }
  }
  fill($("gallery-more"), hasMore() ? button("plus", "Show older ones", loadMore, { kind: "plain" }) : null);
}

function placeCard(grid, video, at) {
  const key = JSON.stringify([video.status, video.progress, video.queue_position, video.seconds_left, chosen.has(video.id)]);
  const known = cards.get(video.id);
  if (!known || known.key !== key) {
    const card = cardOf(video);
    if (known) {
      const focused = known.card.contains(document.activeElement) && document.activeElement.dataset.act;
      known.card.replaceWith(card);
      if (focused) card.querySelector(`[data-act="${focused}"]`)?.focus();
    }
    cards.set(video.id, { card, key });
  }
  const { card } = cards.get(video.id);
  if (grid.children[at] !== card) grid.insertBefore(card, grid.children[at] || null);
}

function cardOf(video) {
  const done = video.status === "completed";
  return h(
    "li",
    { class: `tile${chosen.has(video.id) ? " chosen" : ""}` },
    h("a", { class: "tile-link", href: `#video/${video.id}`, "data-act": "open", "aria-label": `Open: ${video.prompt}` }, screenOf(video)),
    done ? tick(video) : null,
    h(
      "div",
      { class: "tile-text" },
      h("p", { class: "tile-prompt" }, ...promptOf(video)),
      ...(done ? [] : stateOf(video)),
      h("p", { class: "hint facts" }, factsOf(video).join(" · ")),
    ),
    isActive(video) ? null : h("div", { class: "tile-away" }, deleteButton(video)),
  );
}

function deleteButton(video) {
  return button("trash", `Delete: ${video.prompt}`, () => remove(video).then((gone) => gone && $("title-gallery").focus()), {
    kind: "plain square",
    bare: true,
  });
}

function tick(video) {
  return h(
    "label",
    { class: "tick" },
    h("input", {
      type: "checkbox",
      "data-act": "choose",
      checked: chosen.has(video.id),
      "aria-label": `Compare: ${video.prompt}, seed ${video.seed}`,
      onchange: (event) => choose(video, event.target),
    }),
    h("span", { "aria-hidden": "true" }, icon("check")),
  );
}

function choose(video, input) {
  if (input.checked && chosen.size >= MOST) {
    input.checked = false;
    announce(`At most ${MOST} are compared`);
    return;
  }
  if (input.checked) chosen.add(video.id);
  else chosen.delete(video.id);
  announce(`${plural(chosen.size, "video")} chosen`);
  render();
}

function refreshTools() {
  const tools = $("gallery-tools");
  if (!chosen.size) {
    fill(tools, list.length > 1 ? h("p", { class: "hint" }, "Tick two or more to compare them.") : null);
    return;
  }
  const order = list.filter((video) => chosen.has(video.id)).map((video) => video.id);
  const ready = chosen.size > 1;
  fill(
    tools,
    h("p", { class: "hint" }, `${chosen.size} chosen`),
    button("close", "None", () => {
      chosen.clear();
      render();
      $("title-gallery").focus();
    }),
    h(
      "a",
      { class: "primary", id: "compare-chosen", href: ready ? `#compare/${order.reverse().join(",")}` : null, "aria-disabled": ready ? null : "true", role: ready ? null : "link" },
      icon("compare"),
      h("span", {}, ready ? "Compare" : "Tick one more"),
    ),
  );
}
