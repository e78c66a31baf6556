"""Results of `data_truth.py` as numbers with 95 % intervals, JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from truth_films import CLEAN, DEFECTS
from truth_scores import OWN

from anyref.lab.statistics import Estimate, estimate
from anyref.media import write_atomically

NEEDED, ALLOWED = 0.95, 0.05  # share of planted defects caught; of clean clips rejected
FILTERS = {**OWN, "cut": {"cut_inside"}}
JUDGES = {
    "blur": "width of edges, variance of the Laplacian, BRISQUE",
    "darkness": "mean brightness",
    "watermark": "PP-OCR, edges that stay",
    "static": "change of thumbs, Farneback's flow",
    "cut": "PySceneDetect's adaptive detector, Farneback's flow",
    "duplicate": "EfficientNet-Lite0 and where the middle frame is light and dark",
    "face": "YuNet, IS-Net, IoU over 0.25",
}
Outcome = Mapping[str, Any]
Result = Mapping[str, Any]
Numbers = dict[str, Estimate | None]


def _share(values: Iterable[bool | float | None]) -> Estimate | None:
    return estimate(None if value is None else float(value) for value in values)


def clean_of(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Clips without a defect."""
    return [one for one in outcomes if one["kind"] in CLEAN]


def detection(outcomes: Iterable[Outcome]) -> Numbers:
    """Subjects of the clean clips that reached the subjects' stage, and what captions say."""
    seen = [one for one in outcomes if one["kind"] == "clean" and one["found"] is not None]
    ious = [value for one in seen for value in one["found"]]
    right = [value for value in ious if value]
    moves = [(word, true) for one in seen for word, true in one["moves"]]
    names = [fits for one in seen for *_, fits in one["names"]]
    return {
        "subjects found (recall)": _share([1] * len(right) + [0] * sum(o["missed"] for o in seen)),
        "found that are subjects (precision)": _share(value > 0 for value in ious),
        "mask IoU of those": _share(right),
        "caption spans right": _share(ok for one in seen for ok in one["spans"]),
        "ways said that are true": _share(word == true for word, true in moves if word),
        "subjects with a name": _share(fits is not None for fits in names),
        "names with a word of the true one": _share(fits for fits in names if fits is not None),
    }


def shots(results: Iterable[Result]) -> Numbers:
    """Cuts between the clips of a film."""
    results = list(results)
    crossed = sum(r["crossed"] for r in results)
    outcomes = [one for r in results for one in r["outcomes"] if one["kind"] != "cut"]
    return {
        "cuts found": _share([1] * (sum(r["joints"] for r in results) - crossed) + [0] * crossed),
        "clips that are one whole shot": _share(one["whole"] for one in outcomes),
    }


def pairing(results: Iterable[Result], key: str | None = None) -> Numbers:
    """Pictures from other clips. key: None for the shipped limits, else of the other run."""
    runs = [result[key] if key else result for result in results]
    pairs = [(own, other) for run in runs for own, other, _ in run["pairs"]]
    wanted = [(found, got) for run in runs for found, got in run["wanted"]]
    return {
        "pairs right (precision)": _share(own is not None and own == b for own, b in pairs),
        "subjects with a pair, of those found in two clips": _share(got for f, got in wanted if f),
        "subjects with a pair, of all that come again": _share(got for _, got in wanted),
    }


def filters(outcomes: Sequence[Outcome]) -> dict[str, Numbers]:
    """By defect: caught by its own filter, by any; and by variant where there are some."""
    table: dict[str, Numbers] = {}
    for kind in DEFECTS:
        mine = [one for one in outcomes if one["kind"] == kind]
        table[kind] = {
            "own": _share(one["own"] for one in mine),
            "any": _share(one["caught"] for one in mine),
            "alarms": _share(false_alarm(one, kind) for one in clean_of(outcomes)),
        }
        for variant in sorted({one["variant"] for one in mine} - {""}):
            table[kind][variant] = _share(o["own"] for o in mine if o["variant"] == variant)
    return table


def false_alarm(one: Outcome, kind: str) -> bool | None:
    """Whether the filter of a defect rejects a clean clip; None where it did not see it."""
    if kind == "duplicate":
        judged = one["stage"] in (None, "duplicates") and not one["copied"]
        return one["stage"] == "duplicates" if judged else None
    if kind == "face":
        dropped = one["numbers"].get("dropped_over_face")
        return None if dropped is None else dropped > 0
    return bool(FILTERS[kind] & set(one["faults"])) if one["rows"] else None


def rejected(outcomes: Sequence[Outcome]) -> Numbers:
    """Clean clips that are not used; originals that stand back for their copy do not count."""
    lost = [
        (one, not one["accepted"] and not (one["copied"] and one["stage"] == "duplicates"))
        for one in clean_of(outcomes)
    ]
    return {kind: _share(is_lost for one, is_lost in lost if one["kind"] == kind) for kind in CLEAN}


def reasons(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Why clean clips were rejected, how often."""
    lost = [one for one in clean_of(outcomes) if not one["accepted"]]
    told = [one["faults"] or [one["stage"] or "not cut out"] for one in lost]
    return dict(Counter(reason for some in told for reason in some).most_common())


def ranges(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[float]]]:
    """Least, median and largest of what each filter measures, on clean and on planted clips."""
    table = {}
    for kind, measures in FILTERS.items():
        for name in sorted(measures):
            told = {}
            for column, kinds in (("clean", CLEAN), (kind, (kind,))):
                values = [o["numbers"][name] for o in outcomes
                          if o["kind"] in kinds and name in o["numbers"]]  # fmt: skip
                if values:
                    told[column] = [float(v) for v in np.percentile(values, (0, 50, 100)).round(4)]
            table[f"{kind}: {name}"] = told
    return table


def likeness(results: Sequence[Result]) -> dict[str, list[float]]:
    """Least, median and largest cosine of copies with originals, and of the nearest strangers."""
    found = {}
    for name in ("copies", "strangers"):
        values = [value for result in results for value in result[name]]
        if values:
            found[name] = [float(v) for v in np.percentile(values, (0, 50, 100)).round(4)]
    return found


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """All numbers of some collections."""
    outcomes = [one for result in results for one in result["outcomes"]]
    return {
        "clips": len(outcomes),
        "collections": len(results),
        "shots": shots(results),
        "detection": detection(outcomes),
        "filters": filters(outcomes),
        "clean clips rejected": rejected(outcomes),
        "reasons": reasons(outcomes),
        "ranges": {
            **ranges(outcomes),
            "duplicate: cosine of the features alone": likeness(results),
        },
        "pairs": pairing(results),
        "pairs without the upper limit": pairing(results, "also_alike"),
        "seconds per clip": round(
            sum(r["seconds"]["stages"] + r["seconds"]["completion"] for r in results)
            / max(1, len(outcomes)),
            2,
        ),
    }


def verdict(filtered: Mapping[str, Numbers]) -> dict[str, str]:
    """The defects that are not caught often enough or alarmed falsely, and who judges them."""
    short = {}
    for kind, numbers in filtered.items():
        own, alarms = numbers["own"], numbers["alarms"]
        if own is None or alarms is None:
            short[kind] = "not measured"
        elif own.value < NEEDED or alarms.value >= ALLOWED:
            short[kind] = JUDGES[kind]
    return short


def machine() -> str:
    """Cores and processor."""
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", known.read_text()) if known.is_file() else None
    return f"{os.cpu_count()} cores, {found[1] if found else platform.processor()}"


def report(files: Sequence[Path], out: Path) -> str:
    """Write data_truth.json and data_truth.md of these results; returns the Markdown."""
    results = [json.loads(file.read_text()) for file in files]
    sizes = sorted({result["size"] for result in results})
    columns = {f"{s} x {s}": summary([r for r in results if r["size"] == s]) for s in sizes}
    columns["both"] = summary(results)
    short = verdict(columns["both"]["filters"])
    whole = {"machine": machine(), "short": short, "columns": columns}
    data = json.dumps(whole, indent=1, default=asdict) + "\n"
    text = markdown(columns, short)
    for name, words in (("data_truth.json", data), ("data_truth.md", text)):
        write_atomically(out / name, lambda file, words=words: file.write(words.encode()))
    return text


def cell(value: Any) -> str:
    """An estimate as "97.5 % [87.1, 99.6] of 40", in percent."""
    if not isinstance(value, Estimate):
        return "-" if value is None else str(value)
    low, middle, high = (100 * number for number in (value.low, value.value, value.high))
    return f"{middle:.1f} % [{low:.1f}, {high:.1f}] of {value.count}"


def _table(head: str, rows: Mapping[str, Sequence[Any]], columns: Iterable[str]) -> list[str]:
    names = list(columns)
    lines = [f"| {head} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| {name} | {' | '.join(map(cell, values))} |" for name, values in rows.items()]
    return [*lines, ""]


def _rows(columns: Mapping[str, Any], part: str) -> dict[str, list[Any]]:
    names = list(next(iter(columns.values()))[part])
    return {name: [column[part].get(name) for column in columns.values()] for name in names}


def markdown(columns: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """The tables."""
    whole = columns["both"]
    lines = [
        "# The data engine against clips whose truth is known",
        "",
        f"Machine: {machine()}. {whole['clips']} clips in {whole['collections']} collections, made "
        "by `benchmarks/data_truth.py` (how: at its top), small models, shipped limits. Intervals "
        "are Wilson's at 95 %, for mask IoU bootstrapped. The clips are drawn subjects over still "
        "photographs: what holds for them need not hold for all films. Measures and limits were "
        "chosen on other collections of the kind (90 and up) and on real films; those for cuts, "
        "text and duplicates were settled when some of these had been seen.",
        "",
        "## Planted defects",
        "",
        "*Own*: rejected by the filter meant for the defect. *Any*: not used in the end. *Alarms*: "
        "clean clips that the filter rejects.",
        "",
    ]
    names = ("own", "any", "alarms")
    by_kind = {kind: [some[name] for name in names] for kind, some in whole["filters"].items()}
    lines += _table("defect (both sizes)", by_kind, names)
    for name in names:
        lines += _table(name, {k: [c["filters"][k][name] for c in columns.values()]
                               for k in DEFECTS}, columns)  # fmt: skip
    variants = {
        f"{kind}, {name}": [c["filters"][kind].get(name) for c in columns.values()]
        for kind in DEFECTS
        for name in whole["filters"][kind]
        if name not in names
    }
    lines += _table("own, by variant", variants, columns)
    lines += _table("clean clips rejected", _rows(columns, "clean clips rejected"), columns)
    told = ", ".join(f"{name} {count}" for name, count in whole["reasons"].items()) or "none"
    lines += [f"Reasons, some clips having several: {told}.", ""]
    held = f"caught at {NEEDED:.0%} or better with under {ALLOWED:.0%} false alarms"
    lines += [f"Not {held}:" if short else f"All are {held}.", ""]
    lines += [*(f"- {kind}, limited by {model}" for kind, model in short.items()), ""]
    lines += ["Least, median and largest of what the filters measure, clean and planted:", ""]
    told_ranges = {
        name: [" / ".join(f"{value:g}" for value in values) for values in some.values()]
        for name, some in whole["ranges"].items()
        if len(some) == 2
    }
    lines += _table("both sizes", told_ranges, ("clean (copies)", "planted (strangers)"))
    for part in ("shots", "detection", "pairs", "pairs without the upper limit"):
        lines += [f"## {part[0].upper()}{part[1:]}", ""]
        lines += _table("clean clips" if part == "detection" else "", _rows(columns, part), columns)
    times = {
        "stages and completion, wall clock, beside other work": [
            c["seconds per clip"] for c in columns.values()
        ]
    }
    return "\n".join([*lines, *_table("seconds per clip", times, columns)])
