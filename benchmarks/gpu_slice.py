"""Everything that `make gpu` does on a machine with an NVIDIA GPU and no internet.

    python benchmarks/gpu_slice.py [--parts "tests table magref kaleido"] [--data FOLDER]
        [--wheels FOLDER] [--minutes 9] [--resume FOLDER] [KEY=VALUE ...]
    python benchmarks/gpu_slice.py --check

Tests marked `gpu`, the table of benchmarks/gpu.py, and for each family one slice of training, which
goes on where the run folder under --runs stopped. Leaves in --out at most 8 files of 15 MB: the
table, the state of the runs, the averaged bf16 weights, and the resume state where it fits.
--check only tells the size of the working tree. docs/gpu.md has the whole story.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_files import (
    REPORT,
    TABLE,
    Outbox,
    check_sizes,
    learned_weights,
    newest_checkpoint,
    open_weights,
    restore,
    resume_state,
    say,
)

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("magref", "kaleido")
PARTS = ("tests", "table", *FAMILIES)
# the recipes are set for two CPU cores
ON_A_GPU = ("engine.attention=null", "engine.compile=true", "data.workers=8", "checkpoints.keep=1")
SITE = ROOT / "out" / "gpu-site"


def install(wheels: Path | None) -> dict[str, str]:
    """The environment of every command: anyref's source, and wheels unpacked beside it.

    A folder of its own instead of a virtual environment: it also works on top of one, and changes
    nothing outside `out`.
    """
    paths = [str(ROOT / "src")]
    if wheels is not None:
        files = sorted(map(str, wheels.glob("*.whl")))
        if not files:
            raise SystemExit(f"gpu: {wheels} holds 0 wheels (.whl); fill it as docs/gpu.md says")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        pip += ["--find-links", str(wheels), "--upgrade", "--target", str(SITE)]
        subprocess.run([*pip, *files], check=True)
    if SITE.is_dir():
        paths.append(str(SITE))
    before = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*paths, *([before] if before else [])])
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1"}


def missing_packages() -> list[str]:
    """Names in pyproject.toml's dependencies that this Python does not have."""
    text = read(ROOT / "pyproject.toml")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    names = re.findall(r'^\s*"([\w-]+)', block.group(1) if block else "", re.MULTILINE)
    if SITE.is_dir():
        sys.path.insert(0, str(SITE))
    found = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in metadata.distributions()}
    return [name for name in (*names, "pytest") if name.lower().replace("_", "-") not in found]


def machine() -> dict[str, str | None]:
    """What the figures are from."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "torch": torch.__version__, "python": sys.version.split()[0]}


def run_tests(environment: Mapping[str, str]) -> dict[str, Any]:
    """The tests marked gpu; their last line."""
    files = [str(p) for p in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in read(p)]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *files]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    say("tests\n" + done.stdout)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {
        "exit_code": done.returncode,
        "summary": lines[-1] if lines else "",
        "failed": failed,
    }


def read(path: Path) -> str:
    """A text file."""
    return path.read_text(encoding="utf-8")


def run_table(runs: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """benchmarks/gpu.py; its files stay with the runs."""
    command = [sys.executable, "benchmarks/gpu.py", "--out", str(runs)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    return {"exit_code": done.returncode}


def train(
    family: str, options: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, Any]:
    """One slice; what the run folder then says."""
    name, folder = f"tiny-{family}", options.runs / f"tiny-{family}"
    restore(name, folder, options.resume)
    changes = [
        f"folder={json.dumps(str(folder))}",
        f"data.cache={json.dumps(str(options.runs / 'cache' / name))}",
        f"data.shards={json.dumps([str(options.data / 'lab-train')])}",
        f"monitor.validation_shards={held_out(options.data)}",
        f"model.base={json.dumps(str(options.bases / name) if options.bases else name)}",
        *ON_A_GPU,
    ]
    anyref = [sys.executable, "-m", "anyref", "train", name, *changes, *options.changes]
    start = time.monotonic()
    done = subprocess.run(
        [*anyref, f"minutes={options.minutes}"], cwd=ROOT, env=environment, check=False
    )
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None and not is_exported(folder, checkpoint):
        # a run that the clock stopped has not exported; one whose steps are over does nothing else
        step = int(checkpoint.name.removeprefix("step-"))
        subprocess.run([*anyref, f"steps={step}"], cwd=ROOT, env=environment, check=False)
    return {
        "exit_code": done.returncode,
        "minutes": round((time.monotonic() - start) / 60, 2),
        **summary(folder),
    }


def is_exported(folder: Path, checkpoint: Path) -> bool:
    """Whether the weights of a run folder are not older than its checkpoint."""
    made = (folder / "model" / "transformer").glob("*.safetensors")
    written = (checkpoint / "notes.json").stat().st_mtime
    return any(path.stat().st_mtime >= written for path in made)


def held_out(data: Path) -> str:
    """The validation shards as a recipe's list; none where the folder has none."""
    folder = data / "lab-validation"
    return json.dumps([str(folder)] if folder.is_dir() else [])


def summary(folder: Path) -> dict[str, Any]:
    """Step, losses and speed from a run's metrics."""
    file = folder / "metrics.jsonl"
    lines = read(file).splitlines() if file.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    trained = [row for row in rows if "loss" in row]
    if not trained:
        return {"step": 0}
    seconds: dict[str, float] = {}
    for row in trained:
        for part, spent in row["seconds"].items():
            seconds[part] = seconds.get(part, 0.0) + spent
    last = trained[-1]
    return {
        "step": last["step"],
        "loss": last["loss"],
        "clips_per_second": last["clips_per_second"],
        "memory_mb": last["memory_mb"],
        "outside_the_model": 1 - seconds.get("model", 0.0) / seconds["all"],
        "validation": [[r["step"], r["validation"]] for r in rows if "validation" in r],
        "curve": [[row["step"], round(row["loss"], 4)] for row in trained][-400:],
    }


def report(state: Mapping[str, Any], table: str) -> str:
    """The Markdown that comes back."""
    lines = [table.rstrip(), ""] if table else []
    if "tests" in state:
        tests = state["tests"]
        lines += ["# Tests", "", tests["summary"], *(f"- {line}" for line in tests["failed"]), ""]
    trained = {f: state[f] for f in FAMILIES if f in state}
    if trained:
        lines += ["# Training", ""]
        lines += ["| model | step | minutes | clips/s | outside the model | loss | validation |"]
        lines += ["|---|---|---|---|---|---|---|"]
    for family, row in trained.items():
        if "loss" not in row:
            lines.append(f"| tiny-{family} | failed, exit code {row['exit_code']} | | | | | |")
            continue
        validation = f"{row['validation'][-1][1]:.4f}" if row["validation"] else "-"
        lines.append(
            f"| tiny-{family} | {row['step']} | {row['minutes']} | {row['clips_per_second']:.0f} "
            f"| {row['outside_the_model']:.1%} | {row['loss']:.4f} | {validation} |"
        )
    if state.get("left_out"):
        lines += ["", "Left out for want of room:", "", *(f"- {x}" for x in state["left_out"])]
    return "\n".join(lines) + "\n"


def check_ready(options: argparse.Namespace, where: Mapping[str, str | None]) -> None:
    """Stop where packages, the GPU or shards are missing."""
    if where["gpu"] is None and not options.cpu:
        raise SystemExit(f"gpu: torch {where['torch']} sees no NVIDIA GPU; name another PYTHON")
    trains = set(FAMILIES) & set(options.parts.split())
    if trains and not (options.data / "lab-train").is_dir():
        raise SystemExit(f"gpu: no shards in {options.data / 'lab-train'}; docs/gpu.md says how")


def run_all(options: argparse.Namespace) -> int:
    """Every part in turn; the report is written after each. 0 when all of them went well."""
    environment = install(options.wheels)
    if missing := missing_packages():
        raise SystemExit(
            f"gpu: {sys.executable} lacks {', '.join(missing)}; add their wheels to WHEELS, "
            "or name another PYTHON (docs/gpu.md)"
        )
    where = machine()
    check_ready(options, where)
    parts = [part for part in PARTS if part in options.parts.split()]
    families = [part for part in parts if part in FAMILIES]
    for name in (TABLE, REPORT, *(path.name for path in options.out.glob("tiny-*"))):
        (options.out / name).unlink(missing_ok=True)
    outbox = Outbox(options.out)
    state: dict[str, Any] = {**where, "parts": parts, "left_out": outbox.left_out}
    for part in parts:
        say(part)
        if part == "tests":
            state[part] = run_tests(environment)
        elif part == "table":
            state[part] = run_table(options.runs, environment)
        else:
            state[part] = train(part, options, environment)
            model = options.runs / f"tiny-{part}" / "model"
            if model.is_dir():
                outbox.add(dict(learned_weights(part, model)), f"tiny-{part}, weights")
        write_report(options, state)
    for family in families:
        name = f"tiny-{family}"
        if files := resume_state(name, options.runs / name):
            outbox.add(files, f"{name}, resume state (it stays in {options.runs / name})")
    write_report(options, state)
    return int(any(state[part]["exit_code"] for part in parts))


def write_report(options: argparse.Namespace, state: Mapping[str, Any]) -> None:
    """What is known so far, with the table of this or an earlier call."""
    table, text = options.runs / TABLE, options.runs / REPORT
    figures = json.loads(read(table)) if table.is_file() else {}
    words = read(text) if text.is_file() else ""
    (options.out / TABLE).write_text(json.dumps(figures | dict(state), indent=1), encoding="utf-8")
    (options.out / REPORT).write_text(report(state, words), encoding="utf-8")


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=" ".join(PARTS), help="some of them")
    parser.add_argument("--data", type=Path, default=Path("data"), help="has lab-train")
    parser.add_argument("--bases", type=Path, help="folder of tiny-magref and tiny-kaleido")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--resume", type=Path, help="folder of *.resume.* files")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--minutes", type=float, default=9.0, help="per family")
    parser.add_argument("--cpu", action="store_true", help="rehearse without a GPU")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--open", nargs=2, type=Path, metavar=("BASE", "FOLDER"))
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="or files of --open")
    options = parser.parse_intermixed_args()
    for name in ("data", "bases", "wheels", "runs", "resume", "out"):
        path = getattr(options, name)
        setattr(options, name, None if path is None else path.resolve())
    if unknown := set(options.parts.split()) - set(PARTS):
        parser.error(f"--parts {' '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if options.open is not None:
        open_weights(list(map(Path, options.changes)), *options.open)
        return 0
    fits = check_sizes(ROOT, options.data, options.wheels)
    return int(not fits) if options.check else run_all(options)


if __name__ == "__main__":
    sys.exit(main())
