"""Evaluation lists from records, and training clips from a folder.

Three list formats are written, all of which `anyref.batch.read_batch` reads back:

    OpenS2V-Eval   {"key": {"img_paths": [...], "prompt": ..., "class_label": [...], ...}}
    MAGREF         key@@prompt@@picture@@picture...
    Kaleido        prompt@@picture@@picture...

A folder of clips becomes the list that `anyref.data.pack.pack_clips` packs:

    NAME.mp4 (.mov, .mkv, .webm)         the clip
    NAME.txt                             what it shows, UTF-8
    NAME.REF.png  or  NAME/REF.png       a picture of REF (.jpg, .jpeg, .webp); REF is a name such
                                         as red_car
    NAME.REF.2.png  or  NAME/REF.2.png   another picture of it

The text may say @red_car; where it does not, the words "red car" in it are taken for the reference.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from anyref.batch import SEPARATOR, check_key
from anyref.data.json_stream import stream_members
from anyref.data.pack import PICTURES, TOLD
from anyref.data.record import Sample, SampleReference
from anyref.data.rules import label_span
from anyref.data.shards import PackedSample, open_png
from anyref.errors import AnyRefError, DataError
from anyref.media import write_atomically
from anyref.request import MAX_REFERENCE_IMAGES, MENTION_PATTERN, NAME_PATTERN

VIDEOS = (".mp4", ".mov", ".mkv", ".webm")
EVAL_FIELDS = {"img_paths", "prompt", "synthesis_flag", "class_label"}


@dataclass(frozen=True, kw_only=True)
class ListEntry:
    """One video to make for an evaluation.

    Args:
        key: name of the video's file. OpenS2V-Eval's metrics read the category from it
            ("singleface_3": the part before the last underscore) and from the pictures' folders.
        pictures: 1 to 8 paths from the list's folder. labels: what each shows, parallel.
        synthesis_flag: "True" where pictures were generated, as found otherwise ("wrong", "Wrong").

    Raises:
        DataError: no picture or over 8, or labels that are not as many.
        RequestError: for a key that cannot name a file.
    """

    key: str
    prompt: str
    pictures: tuple[str, ...]
    labels: tuple[str, ...]
    synthesis_flag: str = "wrong"

    def __post_init__(self) -> None:
        check_key(self.key)
        if not 1 <= len(self.pictures) <= MAX_REFERENCE_IMAGES:
            raise DataError(
                f"entry {self.key!r} has {len(self.pictures)} pictures, 1 to "
                f"{MAX_REFERENCE_IMAGES} are possible; choose among them"
            )
        if len(self.labels) != len(self.pictures):
            raise DataError(
                f"entry {self.key!r} has {len(self.labels)} labels for {len(self.pictures)} "
                "pictures; give one each"
            )

    @property
    def is_synthetic(self) -> bool:
        """Whether the benchmark calls the pictures generated."""
        return self.synthesis_flag.lower() == "true"


def list_entry(sample: Sample) -> ListEntry:
    """A record as an entry: the first caption, and of every subject its first picture.

    Raises:
        DataError: for a subject without a picture file; as `ListEntry`.
    """
    chosen: dict[str, SampleReference] = {}
    for reference in sample.references:
        if reference.entity_id not in chosen or chosen[reference.entity_id].image.uri is None:
            chosen[reference.entity_id] = reference
    for reference in chosen.values():
        if reference.image.uri is None:
            raise DataError(
                f"sample {sample.id!r} has no picture of {reference.label!r}; pack it, which cuts "
                "the pictures, and list it with save_entry"
            )
    return ListEntry(
        key=sample.id,
        prompt=sample.captions[0].text,
        pictures=tuple(str(reference.image.uri) for reference in chosen.values()),
        labels=tuple(reference.label for reference in chosen.values()),
        synthesis_flag="True"
        if any(reference.pair_type == "generated" for reference in chosen.values())
        else "wrong",
    )


def save_entry(packed: PackedSample, folder: str | Path, pictures: str = "pictures") -> ListEntry:
    """Write a packed sample's pictures beside a list, and its entry.

    Args:
        folder: of the list. pictures: the folder in it for <id>.ref0.png and so on.

    Raises:
        DataError: as `list_entry`. TrainingError: for a picture that is no PNG.
        MediaError: when the folder cannot be written.
    """
    record = packed.record
    paths = [f"{pictures}/{record.id}.ref{k}.png" for k in range(len(packed.references))]
    references = tuple(
        reference.model_copy(
            update={"image": reference.image.model_copy(update={"uri": path, "sha256": None})}
        )
        for reference, path in zip(record.references, paths, strict=True)
    )
    entry = list_entry(record.model_copy(update={"references": references}))
    for path, data in zip(paths, packed.references, strict=True):
        if path in entry.pictures:
            open_png(data, path)
            _write(Path(folder) / path, data)
    return entry


def read_opens2v_eval(path: str | Path) -> list[ListEntry]:
    """The samples of an OpenS2V-Eval JSON, in order.

    Raises:
        DataError: when the file is not one JSON object, or a sample is not of the benchmark's
            four fields; as `ListEntry`.
    """
    return [_eval_entry(key, said, str(path)) for key, said in stream_members(path)]


def _eval_entry(key: str, said: Any, name: str) -> ListEntry:
    if not isinstance(said, dict) or set(said) != EVAL_FIELDS:
        raise DataError(
            f"{name!r}, sample {key!r} is not an object of {', '.join(sorted(EVAL_FIELDS))}; "
            "give exactly these"
        )
    texts = [said["prompt"], said["synthesis_flag"]]
    lists = [said["img_paths"], said["class_label"]]
    if not all(isinstance(v, list) for v in lists) or not all(
        isinstance(v, str) for v in (*texts, *lists[0], *lists[1])
    ):
        raise DataError(
            f"{name!r}, sample {key!r}: img_paths and class_label are lists of strings, prompt and "
            "synthesis_flag are strings"
        )
    return ListEntry(
        key=key,
        prompt=texts[0],
        pictures=tuple(lists[0]),
        labels=tuple(lists[1]),
        synthesis_flag=texts[1],
    )


def write_opens2v_eval(path: str | Path, entries: Iterable[ListEntry]) -> int:
    """Write entries as an OpenS2V-Eval JSON; how many.

    Raises:
        DataError: for a repeated key. MediaError: when the folder cannot be written.
    """
    samples = {
        entry.key: {
            "img_paths": list(entry.pictures),
            "prompt": entry.prompt,
            "synthesis_flag": entry.synthesis_flag,
            "class_label": list(entry.labels),
        }
        for entry in _unique(entries)
    }
    _write(path, (json.dumps(samples, indent=4, ensure_ascii=False) + "\n").encode())
    return len(samples)


def write_magref_list(path: str | Path, entries: Iterable[ListEntry]) -> int:
    """Write entries as MAGREF's prompt file (generate.py), a line each; how many.

    White space in a prompt becomes single spaces, as the text encoder's cleaning makes it anyway.

    Raises:
        DataError: for a repeated key, an empty field, or one that the format cannot hold: with
            `@@` in it, `@` at either end, or (pictures) a line break or a space at either end.
        MediaError: when the folder cannot be written.
    """
    return _write_lines(path, [(e, (e.key, e.prompt, *e.pictures)) for e in _unique(entries)])


def write_kaleido_list(path: str | Path, entries: Iterable[ListEntry]) -> int:
    """Write entries as Kaleido's input file (sample_video.py), a line each; how many.

    The format has no keys: the order is all that tells entries apart. Otherwise as
    `write_magref_list`.
    """
    return _write_lines(path, [(e, (e.prompt, *e.pictures)) for e in _unique(entries)])


def _unique(entries: Iterable[ListEntry]) -> Iterator[ListEntry]:
    seen: set[str] = set()
    for entry in entries:
        if entry.key in seen:
            raise DataError(f"key {entry.key!r} is given twice; keys are unique")
        seen.add(entry.key)
        yield entry


def _write_lines(path: str | Path, rows: list[tuple[ListEntry, tuple[str, ...]]]) -> int:
    lines = []
    for entry, fields in rows:
        cells = [" ".join(f.split()) if f is entry.prompt else f for f in fields]
        for cell in cells:
            _check_cell(cell, entry.key)
        lines.append(SEPARATOR.join(cells) + "\n")
    _write(path, "".join(lines).encode())
    return len(lines)


def _check_cell(cell: str, key: str) -> None:
    remedy = "change it, or write an OpenS2V-Eval JSON"
    if not cell or cell != cell.strip() or "\n" in cell or "\r" in cell:
        raise DataError(
            f"entry {key!r} has the field {cell!r:.80}; a field of a line has text, no line breaks "
            f"and no space at its ends; {remedy}"
        )
    if SEPARATOR in cell or cell.startswith("@") or cell.endswith("@"):
        place = max(0, cell.find(SEPARATOR) - 20)
        raise DataError(
            f"entry {key!r} has {cell[place : place + 60]!r} in a field; fields are parted by "
            f"{SEPARATOR!r} and can neither hold it nor begin or end with '@'; {remedy}"
        )


def _write(path: str | Path, data: bytes) -> None:
    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomically(path, write)


def write_clip_list(folder: str | Path, path: str | Path | None = None) -> int:
    """Write the list of a folder's clips (see the module) for `pack_clips`; how many.

    Args:
        path: the list; `clips.jsonl` in the folder when None. Its paths start from its own folder.

    Raises:
        DataError: as `clip_lines`. MediaError: when the list cannot be written.
    """
    folder = Path(folder)
    path = folder / "clips.jsonl" if path is None else Path(path)
    lines = clip_lines(folder)
    to_folder = Path(os.path.relpath(folder, path.parent))
    for line in lines:
        line["video"] = str(to_folder / line["video"])
        for reference in line["references"]:
            reference["images"] = [str(to_folder / image) for image in reference["images"]]
    _write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return len(lines)


def clip_lines(folder: str | Path) -> list[dict[str, Any]]:
    """The clips of a folder (see the module) as `pack_clips` takes them, by name; paths from it.

    Raises:
        DataError: for a folder without clips, or naming up to 5 of the clips without text,
            pictures and texts without a clip, and names of references that are none.
    """
    folder = Path(folder)
    try:
        files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        files += sorted(p for f in files if f.is_dir() for p in f.iterdir())
        texts = {p.stem: p.read_text("utf-8-sig") for p in files if _is_text(p, folder)}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"folder {str(folder)!r} cannot be read: {error}") from error
    videos = [p for p in files if p.parent == folder and p.suffix.lower() in VIDEOS]
    names = {p.stem for p in videos}
    pictures, faults = _pictures(files, folder, names)
    faults += [f"{name}.txt belongs to no clip" for name in sorted(set(texts) - names)]
    faults += [f"clip {n!r} is there twice" for n in names if sum(p.stem == n for p in videos) > 1]
    faults += [f"{p.name} has no text; write {p.stem}.txt" for p in videos if p.stem not in texts]
    if faults or not videos:
        more = f" (and {len(faults) - TOLD} more)" if len(faults) > TOLD else ""
        told = "; ".join(faults[:TOLD]) or f"0 clips ({', '.join(VIDEOS)}); add NAME.mp4, NAME.txt"
        raise DataError(f"folder {str(folder)!r}: {told}{more}")
    return [
        {"video": video.name, **_prompt(texts[video.stem], pictures[video.stem])}
        for video in videos
    ]


Pictures = dict[str, dict[str, list[str]]]  # by clip, by reference: paths from the folder


def _is_text(path: Path, folder: Path) -> bool:
    return path.parent == folder and path.suffix.lower() == ".txt"


def _pictures(files: Iterable[Path], folder: Path, names: set[str]) -> tuple[Pictures, list[str]]:
    pictures: Pictures = defaultdict(lambda: defaultdict(list))
    faults = []
    for path in files:
        if path.suffix.lower() not in PICTURES or path.name.startswith("."):
            continue
        place = path.relative_to(folder).as_posix()
        try:
            clip, reference = _owner(path, folder, names)
            pictures[clip][reference].append(place)
        except AnyRefError as error:
            faults.append(f"{place} {error}")
    return pictures, faults


def _owner(path: Path, folder: Path, names: set[str]) -> tuple[str, str]:
    """The clip and the reference that a picture's name says: the longest clip that fits."""
    parts = path.stem.split(".")
    known = range(len(parts) - 1, 0, -1)
    cuts = [0] if path.parent != folder else [k for k in known if ".".join(parts[:k]) in names]
    clip = path.parent.name if path.parent != folder else ".".join(parts[: cuts[0]] if cuts else [])
    if clip not in names:
        raise DataError("belongs to no clip; call it NAME.REF.png after NAME.mp4")
    rest = parts[cuts[0] :]
    if len(rest) > 2 or not NAME_PATTERN.fullmatch(rest[0]):
        raise DataError(
            f"names the reference {'.'.join(rest)!r}; use lower-case letters, digits, - and _, as "
            "in red_car or, for another picture, red_car.2"
        )
    return clip, rest[0]


def _prompt(text: str, pictures: dict[str, list[str]]) -> dict[str, Any]:
    """The prompt and references of one clip; resolved, the prompt is the text."""
    text = text.strip()
    words = {name: name.replace("_", " ").replace("-", " ") for name in pictures}
    mentioned = {match[1] for match in MENTION_PATTERN.finditer(text)} & set(pictures)
    found: dict[str, tuple[int, int]] = {}
    free = text
    for name in sorted(words, key=lambda n: (-len(words[n]), n)) if not mentioned else ():
        span = label_span(free, words[name])
        if span and text[span[1] : span[1] + 1] != "-" and text[: span[0]][-1:] != "@":
            found[name] = span
            free = free[: span[0]] + "\0" * (span[1] - span[0]) + free[span[1] :]
    references = []
    for name, images in pictures.items():
        named = name in mentioned or name in found
        said = {"text": text[slice(*found[name])] if name in found else words[name]}
        references.append({**({"name": name} if named else {}), **said, "images": sorted(images)})
    prompt, end = "", 0
    for name, (start, stop) in sorted(found.items(), key=lambda item: item[1]):
        prompt += text[end:start].replace("@", "@@") + f"@{name}"
        end = stop
    rest = text if mentioned else prompt + text[end:].replace("@", "@@")
    return {"prompt": rest, "references": references}
