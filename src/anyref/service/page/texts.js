// The request as a command line, as Python and as JSON. Pure: the same draft gives the same texts.

const UNQUOTED = /^[A-Za-z0-9_./:=,@%+-]+$/;
const OPTIONS = [
  ["num_inference_steps", "--steps"],
  ["guidance_scale", "--guidance"],
  ["negative_prompt", "--negative"],
  ["solver", "--solver"],
  ["flow_shift", "--shift"],
  ["disentangle", "--disentangle"],
  ["reference_offset", "--reference-offset"],
  ["reference_size", "--reference-size"],
  ["strength_map", "--strength-map"],
  ["speed", "--speed"],
  ["step_cache", "--step-cache"],
  ["guidance_interval", "--guidance-interval"],
];

/** A word as a POSIX shell reads it. */
const quoted = (text) => (UNQUOTED.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** File names of every picture, all different: {views: [[name]], masks: [name or null]}. */
export function fileNames(references) {
  const taken = new Set();
  const free = (name) => {
    const [stem, ending] = [name.replace(/\.[^.]*$/, ""), name.slice(name.lastIndexOf("."))];
    let now = name;
    for (let number = 2; taken.has(now); number += 1) now = `${stem}-${number}${ending}`;
    taken.add(now);
    return now;
  };
  const views = references.map((reference) => reference.views.map((view) => free(view.fileName)));
  const masks = references.map((reference, k) =>
    reference.mask ? free(views[k][0].replace(/\.[^.]*$/, "-mask.png")) : null,
  );
  const cutOuts = references.map((reference, k) =>
    reference.mask ? free(views[k][0].replace(/\.[^.]*$/, "-cut-out.png")) : null,
  );
  return { views, masks, cutOuts };
}

/** `anyref generate ...`; its words, for a program that starts it. */
export function cliWords(references, fields, model) {
  const names = fileNames(references);
  const words = ["anyref", "generate"];
  const late = fields.prompt.startsWith("-"); // would be taken for an option
  if (!late) words.push(fields.prompt);
  references.forEach((reference, k) => {
    const files = names.cutOuts[k] ? [names.cutOuts[k]] : names.views[k];
    const name = reference.name ? `${reference.name}=` : "";
    const kind = reference.kind === "object" ? "" : `:${reference.kind}`;
    words.push("-r", `${name}${files.join(",")}${kind}`);
  });
  for (const reference of references.filter((one) => one.name)) {
    if (reference.text.trim()) words.push("--text", `${reference.name}=${reference.text.trim()}`);
    if (reference.strength !== 1) words.push("--strength", `${reference.name}=${reference.strength}`);
  }
  words.push("--model", model, ...optionWords(fields), "-o", "out.mp4");
  if (late) words.push("--", fields.prompt);
  return words;
}

function optionWords(fields) {
  const words = [];
  if ("seed" in fields) words.push("--seed", String(fields.seed));
  if (fields.size) words.push("--size", fields.size);
  if (fields.num_frames) words.push("--frames", String(fields.num_frames));
  for (const [name, option] of OPTIONS) if (name in fields) words.push(option, String(fields[name]));
  if (fields.layout) words.push("--layout", Array.isArray(fields.layout) ? fields.layout.map((box) => box.join(",")).join(";") : fields.layout);
  if (fields.shuffle === false) words.push("--no-shuffle");
  return words;
}

/** The command line as it is typed, one option a line. */
export function cliText(references, fields, model) {
  const lines = [];
  for (const word of cliWords(references, fields, model)) {
    const option = /^-{1,2}[a-z]/.test(word) || word === "--";
    if (option || !lines.length) lines.push(quoted(word));
    else lines[lines.length - 1] += ` ${quoted(word)}`;
  }
  return lines.join(" \\\n  ");
}

/** What the command line cannot say. */
export function cliNotes(references, fields) {
  const notes = [];
  if (references.some((reference) => reference.mask)) {
    notes.push("The command line takes the cut-out picture; “Save the pictures” writes it.");
  }
  if (references.some((one) => !one.name && (one.strength !== 1 || one.text.trim()))) {
    notes.push("Words and strength go by name there: name the picture to keep them.");
  }
  if (fields.shuffle === true) notes.push("The order is drawn as the model is set up.");
  return notes;
}

/** Python: a request, and its video. */
export function pythonText(references, fields, model) {
  const names = fileNames(references);
  const lines = ["import anyref", "from anyref.media import write_video", "", "request = anyref.Request("];
  lines.push(`    prompt=${python(fields.prompt)},`);
  if (references.length) {
    lines.push("    references=(");
    references.forEach((reference, k) => lines.push(`        anyref.Reference(${pythonReference(reference, names, k)}),`));
    lines.push("    ),");
  }
  for (const [name, value] of pythonFields(fields)) lines.push(`    ${name}=${python(value)},`);
  lines.push(")", `pipe = anyref.load_pipeline(${python(model)})`, "video = anyref.generate(pipe, request)");
  lines.push('write_video("out.mp4", video.frames, video.fps)');
  return `${lines.join("\n")}\n`;
}

function pythonReference(reference, names, k) {
  const given = [names.views[k].length > 1 ? `(${names.views[k].map(python).join(", ")})` : python(names.views[k][0])];
  if (reference.name) given.push(`name=${python(reference.name)}`);
  if (reference.kind !== "object") given.push(`kind=${python(reference.kind)}`);
  if (reference.text.trim()) given.push(`text=${python(reference.text.trim())}`);
  if (reference.strength !== 1) given.push(`strength=${reference.strength}`);
  if (names.masks[k]) given.push(`mask=${python(names.masks[k])}`);
  return given.join(", ");
}

function pythonFields(fields) {
  const { prompt, model, size, ...rest } = fields;
  const sides = size ? size.split("x").map(Number) : [];
  const own = size ? [["width", sides[0]], ["height", sides[1]]] : [];
  return [...own, ...Object.entries(rest)];
}

function python(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  return JSON.stringify(value); // JSON's strings and numbers are Python's too
}

/** The body of POST /v1/videos; pictures are data URIs, or shortened for people to read. */
export function jsonText(references, fields, pictures) {
  const body = { ...fields };
  if (references.length) {
    body.references = references.map((reference, k) => {
      const one = { images: pictures[k].views };
      if (reference.name) one.name = reference.name;
      if (reference.kind !== "object") one.kind = reference.kind;
      if (reference.text.trim()) one.text = reference.text.trim();
      if (reference.strength !== 1) one.strength = reference.strength;
      if (pictures[k].mask) one.mask = pictures[k].mask;
      return one;
    });
  }
  return JSON.stringify(body, null, 2);
}
