"""Every memory plan of a model in one table, by `anyref bench`.

    python benchmarks/plan_table.py                          # on a GPU: predicted and measured
    python benchmarks/plan_table.py --predict --gpu 4090     # anywhere: predicted

Random weights of the published 14B shapes, 832x480, 81 frames; a process per plan. Writes
benchmarks/plan_table.json and .md after each, so that a stopped run leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from anyref.cli import main as main_of_anyref
from anyref.media import write_atomically

HERE = Path(__file__).parent
MODELS = ("magref-14b", "kaleido-14b")
PLANS = ("full", "parts", "24GB", "12GB", "8GB", "full-int8", "parts-int8", "disk")
RELEASED_STEPS = {"magref-14b": 40, "kaleido-14b": 50}
SIZE = ("--size", "832x480", "--frames", "81")
GIB = 2**30


def bench(model: str, plan: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row: a plan's predicted and measured figures, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "made.json"
        steps = RELEASED_STEPS[model] if given.predict else given.steps
        words = ["bench", "--model", model, "--memory", plan, "--steps", str(steps)]
        words += [*SIZE, "--json", str(out)]
        row: dict[str, Any] = {"model": model, "asked": plan}
        if given.predict:
            if main_of_anyref([*words, "--predict", "--gpu", given.gpu]):
                return {**row, "failed": "does not fit"}
        else:
            command = [sys.executable, "-m", "anyref", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return {**row, "failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
        made = json.loads(out.read_text())
        return {**row, "device": made["device"], "shape": made["shape"], **made["ways"][0]}


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    first = [row["model"], f"`{row['asked']}`"]
    if "failed" in row:
        return [*first, row["failed"], *["-"] * 6]
    told, found = row["predicted"], row.get("measured")
    form = "" if row["keeps"] else ", nothing kept"
    form += ", VAE in tiles" if row["tiled"] else ""
    measured = [f"{found['peak'] / GIB:.1f} GB", f"{found['step']:.3g} s"] if found else ["-", "-"]
    return [
        *first,
        row["plan"] + form,
        "yes" if row["exact"] else "no",
        f"{told['peak'] / GIB:.1f} GB",
        f"{told['host'] / GIB:.0f} GB",
        f"{told['step']:.3g} s",
        *measured,
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    device = next((row["device"] for row in rows if "device" in row), "no device")
    head = [
        "model",
        "asked",
        "plan",
        "exact",
        "peak, predicted",
        "main memory",
        "step, predicted",
        "peak",
        "step",
    ]
    title = f"Memory plans, {device}, 832x480, 81 frames, guidance."
    lines = [title, "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Bench every plan; write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--gpu", default="4090")
    parser.add_argument("--steps", type=int, default=3, help="measured; the first does not count")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--plans", nargs="+", default=PLANS)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model in given.models:
        for plan in given.plans:
            rows.append(bench(model, plan, given))
            print(" | ".join(cells(rows[-1])), flush=True)
            for suffix, text in ((".json", json.dumps(rows, indent=1)), (".md", markdown(rows))):
                data = text.encode()
                write_atomically(HERE / f"plan_table{suffix}", lambda f, d=data: f.write(d))


if __name__ == "__main__":
    main()
