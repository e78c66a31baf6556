"""Peak memory of `convert_magref` at full width, for two depths: it must not grow with depth.

Usage: python benchmarks/convert_memory.py [--layers 2 4] [--shard-mb 512]
Writes a few GB under the temporary folder and deletes them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from anyref.models.weights import convert_magref
from anyref.models.weights.mapping import Piece
from anyref.models.weights.transformer import magref_component
from anyref.models.weights.writer import write_shards

WIDTH, HEADS, FFN, TEXT, IMAGE = 5120, 40, 13824, 4096, 1280


def write_random_checkpoint(folder: Path, layers: int, shard_bytes: int) -> int:
    """Write a full-width bf16 MAGREF transformer of this depth; returns its size in bytes."""
    config = {
        "num_attention_heads": HEADS,
        "attention_head_dim": WIDTH // HEADS,
        "in_channels": 36,
        "text_dim": TEXT,
        "ffn_dim": FFN,
        "num_layers": layers,
        "image_dim": IMAGE,
        "added_kv_proj_dim": WIDTH,
    }
    component = magref_component(config)
    generator = torch.Generator().manual_seed(layers)

    def random_piece(name: str, shape: tuple[int, ...]) -> Piece:
        def make() -> dict[str, torch.Tensor]:
            return {name: torch.empty(shape, dtype=torch.bfloat16).normal_(generator=generator)}

        return Piece((name,), torch.Size(shape).numel() * 2, make)

    pieces = [
        random_piece(link.official, component.official_shape(link)) for link in component.links
    ]
    write_shards(folder, "diffusion_pytorch_model", pieces, max_shard_bytes=shard_bytes)
    published = {"model_type": "i2v", "dim": WIDTH, "ffn_dim": FFN, "num_heads": HEADS}
    (folder / "config.json").write_text(json.dumps({**published, "num_layers": layers}))
    return sum(piece.num_bytes for piece in pieces)


def convert_and_report(source: Path, out: Path, shard_bytes: int) -> None:
    """Run in a process of its own: prints resident memory before and its peak, in bytes.

    From /proc, because `getrusage` counts what the parent held when it started the child.
    """
    from diffusers import WanTransformer3DModel  # noqa: F401 - imports are not the conversion's

    before = read_status("VmRSS")
    everything_else = frozenset({"text_encoder", "image_encoder", "vae"})
    convert_magref(source, out, allow_missing=everything_else, max_shard_bytes=shard_bytes)
    print(before, read_status("VmHWM"))


def read_status(name: str) -> int:
    """One memory figure of this process from Linux's /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def measure(layers: int, shard_bytes: int) -> None:
    """Make, convert and delete one checkpoint; prints one line."""
    root = Path(tempfile.mkdtemp(prefix="anyref-convert-"))
    try:
        size = write_random_checkpoint(root / "official", layers, shard_bytes)
        command = [sys.executable, __file__, "--convert", root / "official", root / "out"]
        command += ["--shard-mb", str(shard_bytes // 2**20)]
        printed = subprocess.run(
            list(map(str, command)), check=True, capture_output=True, text=True
        )
        before, peak = map(int, printed.stdout.split())
        mb = 2**20
        print(
            f"{layers} layers: {size // mb} MB of weights, peak {peak // mb} MB, "
            f"{(peak - before) // mb} MB above the imports ({before // mb} MB)"
        )
    finally:
        shutil.rmtree(root)


def main() -> None:
    """Parse the command line and measure each depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--shard-mb", type=int, default=512)
    parser.add_argument("--convert", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shard_bytes = options.shard_mb * 2**20
    if options.convert:
        convert_and_report(*options.convert, shard_bytes)
        return
    for layers in options.layers:
        measure(layers, shard_bytes)


if __name__ == "__main__":
    main()
