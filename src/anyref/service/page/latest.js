// The newest videos beside the form: what is being made now, and what came out.

import { againWithNewSeed, button, cancel, download, again } from "./actions.js";
import { $, announce, fill, h } from "./dom.js";
import { factsOf, promptOf, screenOf, stateOf, statusWords } from "./card.js";
import { icon } from "./icons.js";
import { isActive, list, onVideos } from "./videos.js";

const OTHERS = 4;
let shown = ""; // what the card of the newest shows; a player is not made anew at every word

export function start() {
  onVideos((video, before) => {
    render();
    if (video && before && video.id === list[0]?.id && video.status !== before.status) {
      announce(video.status === "completed" ? "The video is ready" : statusWords(video));
    }
    title();
  });
  render();
}

function title() {
  const running = list.find((video) => video.status === "in_progress");
  document.title = running ? `${running.progress} % · anyref studio` : "anyref studio";
}

function render() {
  const place = $("latest");
  const [video] = list;
  if (!video) {
    shown = "";
    fill($("latest-tools"));
    fill(place, h("div", { class: "empty" }, icon("film"), h("p", {}, "Your videos appear here while they are made.")));
    return;
  }
  const key = `${video.id}:${video.status}`;
  if (key !== shown) {
    shown = key;
    const focused = document.activeElement?.closest("#latest") && document.activeElement.textContent;
    fill(place, newest(video), h("div", { class: "others", id: "others" }));
    fill($("latest-tools"), tools());
    if (focused) (place.querySelector("button") || $("title-latest")).focus();
  }
  refresh(video);
}

function tools() {
  const done = list.filter((video) => video.status === "completed").slice(0, 2);
  if (done.length < 2) return null;
  const ids = done.map((video) => video.id).join(",");
  return h("a", { class: "quiet", href: `#compare/${ids}`, id: "compare-latest" }, icon("compare"), h("span", {}, "Compare the last two"));
}

function newest(video) {
  const done = video.status === "completed";
  return h(
    "article",
    { class: "latest", "data-id": video.id, "data-status": video.status },
    h("div", { id: "latest-screen" }, screenOf(video, { player: done })),
    h("div", { id: "latest-state", class: "latest-state" }),
    h("p", { class: "latest-prompt" }, h("a", { href: `#video/${video.id}` }, ...promptOf(video))),
    h("p", { class: "hint facts" }, factsOf(video).join(" · ")),
    h("div", { class: "row" }, ...buttons(video)),
  );
}

function buttons(video) {
  if (isActive(video)) return [button("stop", "Cancel", () => cancel(video))];
  const more = [
    button("dice", "New seed", () => againWithNewSeed(video)),
    button("again", "Again with changes", () => again(video)),
  ];
  return video.status === "completed" ? [...more, button("download", "Download", () => download(video))] : more.slice(1);
}

function refresh(video) {
  if (isActive(video)) fill($("latest-screen"), screenOf(video));
  fill($("latest-state"), ...stateOf(video));
  const others = list.slice(1, 1 + OTHERS);
  const key = JSON.stringify(others.map((one) => [one.id, one.status, one.progress]));
  const place = $("others");
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  fill(
    place,
    ...others.map((one) =>
      h(
        "a",
        { class: "other", href: `#video/${one.id}`, "aria-label": `${one.prompt}: ${statusWords(one)}` },
        screenOf(one),
        isActive(one) ? h("span", { class: "badge" }, one.status === "queued" ? "waits" : `${one.progress} %`) : null,
      ),
    ),
  );
}
