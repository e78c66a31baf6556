"""Peak memory of opening a sharded transformer: never two copies, in whatever form it is opened.

    python benchmarks/open_memory.py [--width 1024] [--layers 8] [--shard-mb 32] [--full-width]

Writes MAGREF-shaped shards of random weights, by diffusers' names and by the official ones, and
opens each in a process of its own: as stored, and as int8 made while opening. Printed are peaks of
resident memory above the imports (Linux), in copies of the weights as they were stored.
`--full-width` is the 14B shape with two blocks (2.5 GB on disk).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from anyref.models.weights.mapping import Component, Piece
from anyref.models.weights.transformer import magref_component
from anyref.models.weights.writer import write_shards

MIB = 2**20
STEM = "diffusion_pytorch_model"
WAYS = ("diffusers", "official", "int8")
# freed blocks go back to the system at once, so that what is resident is what is held
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def shape(width: int, layers: int) -> dict[str, Any]:
    """The configuration of a MAGREF transformer of this width, 128 channels a head."""
    return {
        "num_attention_heads": width // 128,
        "attention_head_dim": 128,
        "in_channels": 36,
        "text_dim": 4096 if width == 5120 else width,
        "ffn_dim": width * 27 // 10,
        "num_layers": layers,
        "image_dim": 1280,
        "added_kv_proj_dim": width,
    }


def random_piece(name: str, size: tuple[int, ...], generator: torch.Generator) -> Piece:
    """One bf16 tensor that is drawn when it is written."""

    def make() -> dict[str, torch.Tensor]:
        return {name: torch.empty(size, dtype=torch.bfloat16).uniform_(generator=generator)}

    return Piece((name,), torch.Size(size).numel() * 2, make)


def write(root: Path, component: Component, shard_bytes: int) -> int:
    """Both spellings of a checkpoint; bytes of one."""
    generator = torch.Generator().manual_seed(0)
    ours = [random_piece(n, s, generator) for n, s in component.shapes.items()]
    official = [
        random_piece(link.official, component.official_shape(link), generator)
        for link in component.links
    ]
    for name, pieces in (("diffusers", ours), ("official", official)):
        write_shards(root / name, STEM, pieces, max_shard_bytes=shard_bytes)
        component.save_config(root / name)
    return sum(piece.num_bytes for piece in ours)


def open_and_report(folder: Path, way: str) -> None:
    """In a process of its own: prints the bytes that opening added at its peak."""
    from diffusers import WanTransformer3DModel

    from anyref.models.weights.opening import find_transformer, open_transformer

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    if way == "diffusers":
        model = WanTransformer3DModel.from_pretrained(folder, dtype=torch.bfloat16)
    else:
        narrow = torch.int8 if way == "int8" else None
        model = open_transformer(
            find_transformer(folder), WanTransformer3DModel, folder, eight_bit=narrow
        )
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    print(json.dumps({"peak": status("VmHWM") - before, "held": held}))


def status(name: str) -> int:
    """One memory figure of this process from /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def main() -> None:
    """Write, open by every way, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--shard-mb", type=int, default=32)
    parser.add_argument("--full-width", action="store_true")
    parser.add_argument("--open", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        open_and_report(Path(given.open[0]), given.open[1])
        return
    width, layers = (5120, 2) if given.full_width else (given.width, given.layers)
    root = Path(tempfile.mkdtemp(prefix="anyref-open-"))
    try:
        size = write(root, magref_component(shape(width, layers)), given.shard_mb * MIB)
        for way in WAYS:
            folder = root / ("official" if way == "official" else "diffusers")
            command = [sys.executable, __file__, "--open", str(folder), way]
            done = subprocess.run(
                command, env={**os.environ, **MALLOC}, check=True, capture_output=True, text=True
            )
            made = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{way}: {size // MIB} MB stored, {made['held'] // MIB} MB held, "
                f"peak {made['peak'] // MIB} MB, {made['peak'] / size:.2f} copies",
                flush=True,
            )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
