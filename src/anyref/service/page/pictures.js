// From files to pictures that the service takes: PNG, JPEG or WebP, not larger than it needs.

const LONGEST_SIDE = 2560;
const SENT_AS_THEY_ARE = ["image/png", "image/jpeg", "image/webp"];
const OTHERS = [
  [[0x25, 0x50, 0x44, 0x46], "a PDF"],
  [[0x50, 0x4b, 0x03, 0x04], "a ZIP archive or an office document"],
  [[0x1a, 0x45, 0xdf, 0xa3], "a video"],
  [[0x4f, 0x67, 0x67, 0x53], "a video"],
  [[0x49, 0x44, 0x33], "a sound"],
];

let ids = 0;

/** A file that is no picture: its message says what it is and what to use. */
export class NoPicture extends Error {}

/** A picture of a reference: {id, blob, url, width, height, fileName, note, box}. */
export async function readPicture(file) {
  const fileName = file.name || "pasted.png";
  const bitmap = await decode(file, fileName);
  const { width, height } = bitmap;
  const longest = Math.max(width, height);
  const keep = SENT_AS_THEY_ARE.includes(file.type) && longest <= LONGEST_SIDE;
  const scale = Math.min(1, LONGEST_SIDE / longest);
  const blob = keep ? file : await drawn(bitmap, scale, file.type);
  bitmap.close();
  const sent = { width: Math.round(width * scale), height: Math.round(height * scale) };
  const note = scale < 1 ? `${width} × ${height}, sent as ${sent.width} × ${sent.height}` : "";
  return viewOf(blob, { ...sent, fileName: safeName(fileName, blob.type), note });
}

/** A picture that the service itself has sent. */
export async function viewFromService(blob, fileName) {
  const bitmap = await createImageBitmap(blob);
  const { width, height } = bitmap;
  bitmap.close();
  return viewOf(blob, { width, height, fileName, note: "" });
}

function viewOf(blob, fields) {
  return { id: `view-${++ids}`, blob, url: URL.createObjectURL(blob), box: null, ...fields };
}

async function decode(file, fileName) {
  const what = await kindOf(file);
  if (what) throw new NoPicture(`“${fileName}” is ${what}, not a picture. Use a PNG, JPEG or WebP file.`);
  try {
    return await createImageBitmap(file);
  } catch {
    throw new NoPicture(
      `“${fileName}” is not a picture that this browser can read. Save it as PNG, JPEG or WebP, and add that.`,
    );
  }
}

async function kindOf(file) {
  const bytes = new Uint8Array(await file.slice(0, 512).arrayBuffer());
  for (const [magic, what] of OTHERS) if (magic.every((byte, at) => bytes[at] === byte)) return what;
  const text = new TextDecoder("latin1").decode(bytes);
  if (text.slice(4, 8) === "ftyp" && !["avif", "heic", "mif1"].includes(text.slice(8, 12))) return "a video";
  if (/<svg|<!doctype svg/i.test(text)) return "an SVG drawing";
  if (/^\s*<(!doctype )?html/i.test(text)) return "a web page";
  if (file.type.startsWith("text/")) return "a text";
  return file.size ? "" : "empty";
}

async function drawn(bitmap, scale, type) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const kind = type === "image/jpeg" ? "image/jpeg" : "image/png";
  return new Promise((resolve) => canvas.toBlob(resolve, kind, 0.95));
}

/** A file name that every shell and the request's texts can hold. */
function safeName(fileName, type) {
  const ending = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" }[type] || "png";
  const stem = fileName.replace(/\.[^.]*$/, "").normalize("NFKD").replace(/[^A-Za-z0-9_-]+/g, "-");
  return `${stem.replace(/^-+|-+$/g, "").slice(0, 60) || "picture"}.${ending}`;
}

/** A picture with what its mask leaves out shown faintly. */
export async function shownWithMask(view, mask) {
  const [picture, cover] = await Promise.all([createImageBitmap(view.blob), createImageBitmap(mask)]);
  const canvas = await masked(picture, cover, 0.14);
  return URL.createObjectURL(await new Promise((resolve) => canvas.toBlob(resolve)));
}

/** A picture cut out: transparent where its mask is not over half. */
export async function cutOut(view, mask) {
  const [picture, cover] = await Promise.all([createImageBitmap(view.blob), createImageBitmap(mask)]);
  const canvas = await masked(picture, cover, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function masked(picture, cover, rest) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(cover, 0, 0, canvas.width, canvas.height);
  const mask = context.getImageData(0, 0, canvas.width, canvas.height);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < mask.data.length; at += 4) {
    if (mask.data[at] <= 127) pixels.data[at + 3] *= rest;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
