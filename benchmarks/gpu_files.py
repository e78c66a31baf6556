"""What travels to a GPU machine and back: sizes, weights, resume states. Used by gpu_slice.py."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MAX_INPUT, MAX_FILE, MAX_FILES, MAX_OUTPUT = 60e6, 15_000_000, 8, 64_000_000  # bytes
TABLE, REPORT = "gpu.json", "gpu.md"
LEARNED = ("transformer", "text_encoder")
INSIDE_CHECKPOINT = re.compile(r"step-\d{8}/[\w.-]+")


def say(text: str) -> None:
    """One line, at once."""
    print(f"gpu: {text}", flush=True)


def input_sizes(root: Path, data: Path, wheels: Path | None) -> dict[str, int]:
    """Bytes of the working tree without what git ignores, of data and of wheels, each once."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        return {}
    tree = {(root / name).resolve() for name in listed.stdout.split("\0") if name}
    groups = {"data": files_of(data), "wheels": files_of(wheels)}
    groups["working tree"] = {path for path in tree if path.is_file()}
    groups["working tree"] -= groups["data"] | groups["wheels"]
    return {name: sum(p.stat().st_size for p in paths) for name, paths in groups.items()}


def files_of(folder: Path | None) -> set[Path]:
    """Every file below a folder."""
    if folder is None or not folder.is_dir():
        return set()
    return {path.resolve() for path in folder.rglob("*") if path.is_file()}


def check_sizes(root: Path, data: Path, wheels: Path | None) -> bool:
    """Say how large the input is; whether it is under the limit."""
    sizes = input_sizes(root, data, wheels)
    if not sizes:
        say("no git checkout, sizes are not checked")
        return True
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    verdict = "fits" if total <= MAX_INPUT else f"{(total - MAX_INPUT) / 1e6:.1f} MB too much"
    say(f"{parts}: {total / 1e6:.1f} MB of {MAX_INPUT / 1e6:.0f} MB, {verdict}")
    return total <= MAX_INPUT


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step."""
    found = sorted((folder / "checkpoints").glob("step-*/notes.json"))
    return found[-1].parent if found else None


class Outbox:
    """A folder of few and small files; the table's two are always given room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.left_out: list[str] = []

    def room(self, sizes: Sequence[int]) -> bool:
        """Whether so many files of these bytes still fit."""
        there = [p for p in self.folder.iterdir() if p.name not in (TABLE, REPORT)]
        total = sum(p.stat().st_size for p in there) + sum(sizes)
        within = 2 + len(there) + len(sizes) <= MAX_FILES and total <= MAX_OUTPUT
        return within and all(size <= MAX_FILE for size in sizes)

    def add(self, files: Mapping[str, bytes], what: str) -> None:
        """Write all of these files, or none and say so."""
        sizes = [len(content) for content in files.values()]
        if not self.room(sizes):
            self.left_out.append(f"{what}: {sum(sizes) / 1e6:.1f} MB in {len(sizes)} files")
            say(f"left out, no room: {self.left_out[-1]}")
            return
        for name, content in files.items():
            (self.folder / name).write_bytes(content)


def learned_weights(family: str, model: Path) -> Iterator[tuple[str, bytes]]:
    """The learned parts of a pipeline folder as bf16 safetensors files within the limit.

    One file per family where they fit, names as `transformer.blocks.0...`.
    """
    import torch
    from safetensors.torch import load_file, save

    groups: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for part in LEARNED:
        for path in sorted((model / part).glob("*.safetensors")):
            for name, tensor in load_file(path).items():
                half = tensor.to(torch.bfloat16)
                if size + half.nbytes > 0.95 * MAX_FILE:  # the rest is for the header
                    groups.append({})
                    size = 0
                groups[-1][f"{part}.{name}"] = half
                size += half.nbytes
    for number, group in enumerate(groups, start=1):
        of = f"-{number}-of-{len(groups)}" if len(groups) > 1 else ""
        yield f"tiny-{family}{of}.safetensors", save(group)


def open_weights(files: Sequence[Path], base: Path, out: Path) -> None:
    """A pipeline folder of a base and the weights that came back."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out)
    tensors = {name: x for file in files for name, x in load_file(file).items()}
    for part in LEARNED:
        (target,) = (out / part).glob("*.safetensors")
        names = list(load_file(target))  # a tied embedding may have come back under both its names
        if missing := [name for name in names if f"{part}.{name}" not in tensors]:
            raise SystemExit(
                f"gpu: {files[0]} lacks {part}.{missing[0]}; name all files of a model"
            )
        inside = {name: tensors[f"{part}.{name}"] for name in names}
        save_file(inside, target, metadata={"format": "pt"})


def resume_state(name: str, folder: Path) -> dict[str, bytes]:
    """The newest checkpoint as one archive, cut into files within the limit."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        return {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(checkpoint, arcname=checkpoint.name)
    data = buffer.getvalue()
    cuts = range(0, len(data), MAX_FILE)
    return {f"{name}.resume.{n}": data[at : at + MAX_FILE] for n, at in enumerate(cuts)}


def restore(name: str, folder: Path, source: Path | None) -> None:
    """Put a resume state back where the run folder has no checkpoint."""
    parts = sorted(source.glob(f"{name}.resume.*")) if source is not None else []
    if not parts or newest_checkpoint(folder) is not None:
        return
    target = folder / "checkpoints"
    target.mkdir(parents=True, exist_ok=True)
    data = b"".join(part.read_bytes() for part in parts)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None or not INSIDE_CHECKPOINT.fullmatch(member.name):
                continue
            path = target / member.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(stream.read())
    say(f"{name}: resume state of {len(parts)} files from {source}")
