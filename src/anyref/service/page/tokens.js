// Reference tokens: how large each picture is read, how many tokens it makes, where they stand.

import { fill, h, plural, s } from "./dom.js";

const number = (count) => count.toLocaleString("en-GB");

/** Show a layout of tokens. */
export function showTokens(place, answer, references) {
  const total = answer.video_tokens + answer.pictures.reduce((sum, picture) => sum + picture.tokens, 0);
  fill(
    place,
    shares(answer, references, total),
    answer.pictures.length ? plane(answer, references) : null,
    h(
      "ul",
      { class: "token-list" },
      ...answer.pictures.map((picture) => row(picture, references[picture.reference])),
    ),
    h("p", { class: "hint" }, summary(answer, total)),
  );
}

function summary(answer, total) {
  const [frames, rows, columns] = answer.video_grid;
  const video = `The video is ${plural(frames, "latent frame")} of ${rows} × ${columns} = ${number(answer.video_tokens)} tokens`;
  if (!answer.pictures.length) return `${video}. Without a picture it is made from the text alone.`;
  return `${video}; with the pictures the model reads ${number(total)}.`;
}

/** One bar: the share of every picture, and of the video. */
function shares(answer, references, total) {
  const part = (tokens, hue, title) => {
    const piece = h("span", { class: "share", "data-hue": hue, title });
    piece.style.flexGrow = String(Math.max(tokens / total, 0.012));
    return piece;
  };
  return h(
    "div",
    { class: "shares", role: "img", "aria-label": `Tokens: ${number(total)}, of the video ${number(answer.video_tokens)}` },
    ...answer.pictures.map((picture) =>
      part(picture.tokens, references[picture.reference]?.hue, `${picture.name || "picture"}: ${picture.tokens}`),
    ),
    part(answer.video_tokens, "video", `video: ${answer.video_tokens}`),
  );
}

/** The plane of rotary positions: the video at its origin, the pictures past it. */
function plane(answer, references) {
  const [, rows, columns] = answer.video_grid;
  const reachX = Math.max(columns, ...answer.pictures.map(({ position, grid }) => position[2] + grid[1]));
  const reachY = Math.max(rows, ...answer.pictures.map(({ position, grid }) => position[1] + grid[0]));
  const gap = Math.max(reachX, reachY) / 26; // between pictures, which differ in time only
  const shift = gap * (answer.pictures.length - 1);
  const [width, height] = [reachX + shift + 2, reachY + shift + 2];
  const box = (x, y, w, t, hue) =>
    s("rect", { x, y, width: Math.max(w, 1), height: Math.max(t, 1), rx: width / 110, class: "plane-box", "data-hue": hue });
  const drawing = s(
    "svg",
    { class: "plane", viewBox: `-1 -1 ${width} ${height}`, role: "img", "aria-label": positions(answer) },
    s("path", { class: "plane-axis", d: `M0 ${height - 1.5}V0H${width - 1.5}` }),
    ...[...answer.pictures]
      .reverse()
      .map(({ position, grid, reference }) =>
        box(position[2] + position[0] * gap, position[1] + position[0] * gap, grid[1], grid[0], references[reference]?.hue),
      ),
    box(0, 0, columns, rows, "video"),
  );
  const video = h("span", { class: "plane-key" }, h("i", { "data-hue": "video" }), "video");
  return h("figure", { class: "plane-figure" }, drawing, h("figcaption", { class: "hint" }, video, " Rotary positions: pictures stand past the video, one behind the other in time."));
}

const positions = (answer) =>
  answer.pictures
    .map(({ name, position }) => `${name || "picture"} at time ${position[0]}, row ${position[1]}, column ${position[2]}`)
    .join("; ");

function row(picture, reference) {
  const [rows, columns] = picture.grid;
  const name = picture.name ? `@${picture.name}` : "picture";
  return h(
    "li",
    { "data-hue": reference?.hue },
    h("img", { src: picture.picture, alt: `${picture.name || "picture"} as the model reads it` }),
    h(
      "div",
      {},
      h("strong", {}, picture.view ? `${name}, view ${picture.view + 1}` : name),
      h("span", { class: "hint" }, `${picture.width} × ${picture.height} pixels, ${rows} × ${columns} = ${number(picture.tokens)} tokens`),
      h("span", { class: "hint" }, `from time ${picture.position[0]}, row ${picture.position[1]}, column ${picture.position[2]}`),
    ),
  );
}
