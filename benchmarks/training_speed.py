"""How many clips a second the small recipe trains on a CPU, beside a plain loop, in one run.

    python benchmarks/training_speed.py [--out benchmarks/training_speed.md] [--scale 1]

About four minutes on two idle cores. First the shape of an early prototype (256 wide, 8 layers, 4
heads of 64, 320 tokens, 16 clips a step): a plain eager loop with AdamW on tensors that are there
already, before and after; between them the same shape through the Trainer, with data, text encoder
and logging. Then the shipped small shape through its recipe at 1, 5, 9 and 17 frames. Clips are
drawn rectangles, so nothing is fetched; latents come from a filled cache, as in a long run.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens, D width.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

torch.set_flush_denormal(True)  # before any other torch call: threads inherit it only at start

import numpy as np  # noqa: E402
from diffusers import WanTransformer3DModel  # noqa: E402
from PIL import Image  # noqa: E402

from anyref import MagrefPipeline  # noqa: E402
from anyref.data.record import Caption, Sample, SampleReference, Video  # noqa: E402
from anyref.data.shards import PackedSample, ShardWriter  # noqa: E402
from anyref.media import encode_video, write_atomically  # noqa: E402
from anyref.models import presets  # noqa: E402
from anyref.pipelines.solvers import make_scheduler  # noqa: E402
from anyref.training.monitor import METRICS, read_rows  # noqa: E402
from anyref.training.recipe import Recipe, load_recipe  # noqa: E402
from anyref.training.trainer import run  # noqa: E402
from anyref.training.wording import make_tokenizer  # noqa: E402

SIDE, FRAMES, FPS = 96, 17, 8.0
CLIPS = 80  # two of the largest batches, of first frames
PROTOTYPE: dict[str, Any] = {
    "patch_size": (1, 1, 1),
    "num_attention_heads": 4,
    "attention_head_dim": 64,
    "in_channels": 2 * presets.LATENT_CHANNELS + presets.TEMPORAL_FACTOR,
    "out_channels": presets.LATENT_CHANNELS,
    "text_dim": presets.TEXT_WIDTH,
    "freq_dim": 64,
    "ffn_dim": 1024,
    "num_layers": 8,
    "rope_max_seq_len": 256,
}
BATCH, LATENT_FRAMES, CELLS = 16, 5, 8  # 5 x 8 x 8 = 320 tokens
FUSED = "native"  # torch's scaled_dot_product_attention, as it comes
ADAMW = {"name": "adamw", "muon_rate": None, "ema": None}
LENGTHS = (1, 5, 9, 17)
TEXT = "the fox walks right"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one row. outside: share of a step's time that is not the model's; None where nothing is.

    Args:
        checkpoint: seconds of one checkpoint, part of `outside` once per `every` steps.
    """

    clips: int
    tokens: int
    step: float
    outside: float | None = None
    checkpoint: float | None = None

    @property
    def rate(self) -> float:
        """Clips per second."""
        return self.clips / self.step


# --- what is trained


def drawn_sample(index: int) -> PackedSample:
    """A rectangle that moves right over one colour, with one reference."""
    rng = np.random.default_rng(index)
    ground, colour = rng.integers(0, 255, (2, 3))
    frames = np.full((FRAMES, SIDE, SIDE, 3), ground, np.uint8)
    for t in range(FRAMES):
        frames[t, 24:72, 8 + 2 * t : 48 + 2 * t] = colour
    picture = io.BytesIO()
    Image.new("RGB", (48, 48), tuple(map(int, colour))).save(picture, format="PNG")
    record = Sample(
        id=f"clip{index:03d}",
        video=Video(end=FRAMES, fps=FPS, num_frames=FRAMES, width=SIDE, height=SIDE),
        captions=(Caption(text=TEXT),),
        references=(
            SampleReference(
                ref_id="r0",
                kind="object",
                label="fox",
                entity_id="fox",
                caption_span=(4, 7),
                track=tuple((8 + 2 * t, 24, 48 + 2 * t, 72) for t in range(FRAMES)),
            ),
        ),
        split="train",
    )
    video = encode_video(frames, FPS, full_chroma=True)
    return PackedSample(record=record, video=video, references=(picture.getvalue(),))


def write_base(folder: Path, transformer: WanTransformer3DModel) -> None:
    """An untrained small pipeline around this transformer; the codec is the same every time."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(TEXT.split(), presets.TEXT_LENGTH)
    vae, text_encoder = presets.tiny_codec(), presets.tiny_text_encoder(len(tokenizer))
    MagrefPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae.eval(),
        scheduler=make_scheduler("unipc", 3.0),
        transformer=transformer,
        height=SIDE,
        width=SIDE,
        num_frames=FRAMES,
        fps=FPS,
        max_sequence_length=presets.TEXT_LENGTH,
        default_negative_prompt="",
        lead_frames=0,
        layout="grid",
    ).save_pretrained(folder)


def make_recipe(root: Path, base: str, frames: int, steps: int, **changes: Any) -> Recipe:
    """The shipped recipe on the drawn clips, always at one length."""
    values = load_recipe("tiny-magref").model_dump(mode="json")
    log_every = max(1, steps // 4)
    changed: dict[str, Any] = {
        "name": f"{base}-{frames}",
        "model": {"base": str(root / base), "shape": None},
        "data": {"shards": [str(root / "data")], "cache": str(root / "cache"), "variants": 1},
        "stages": [{"frames": frames, "steps": steps}],
        "steps": steps,
        "folder": str(Path(tempfile.mkdtemp(dir=root)) / "run"),
        "checkpoints": {"every": 2 * log_every, "keep": 1},
        "monitor": {"log_every": log_every, "validation_shards": []},
    } | changes
    for name, value in changed.items():
        merged = isinstance(value, Mapping) and isinstance(values[name], dict)
        values[name] = {**values[name], **value} if merged else value
    return Recipe.model_validate(values)


# --- measurements


def plain_loop(steps: int) -> Speed:
    """The prototype's manner: eager, float32 weights, bf16 autocast, AdamW, ready tensors."""
    torch.manual_seed(0)
    network = WanTransformer3DModel(**PROTOTYPE).train()
    network.set_attention_backend(FUSED)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, PROTOTYPE["in_channels"], LATENT_FRAMES, CELLS, CELLS)
    noisy = torch.randn(shape, generator=generator)  # (B, C, F, H, W)
    target = torch.randn(noisy[:, : presets.LATENT_CHANNELS].shape, generator=generator)
    text = torch.randn(
        BATCH, presets.TEXT_LENGTH, presets.TEXT_WIDTH, generator=generator
    )  # (B, L, D)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            velocity = network(noisy, torch.full((BATCH,), 500.0), text, return_dict=False)[0]
        (velocity.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - start)
    measured = seconds[len(seconds) // 4 :]
    return Speed(
        clips=BATCH, tokens=LATENT_FRAMES * CELLS**2 * BATCH, step=statistics.median(measured)
    )


def trained(recipe: Recipe, every: int) -> Speed:
    """A run of the Trainer; the first of its rows, with compilation, does not count.

    Args:
        every: steps between checkpoints that `outside` supposes.
    """
    torch._dynamo.reset()
    run(recipe)
    rows = read_rows(recipe.run_folder / METRICS)[1:]
    between = recipe.monitor.log_every
    spent = [row["seconds"] for row in rows]
    saves = [row["checkpoint"] for row in spent if "checkpoint" in row]
    checkpoint = statistics.median(saves) if saves else 0.0
    steps = [(row["all"] - row.get("checkpoint", 0.0)) / between for row in spent]
    model = statistics.median(row["model"] / between for row in spent)
    step = statistics.median(steps) + checkpoint / every
    frames = recipe.frames_at(0) or FRAMES
    clips = round(
        statistics.median(row["clips_per_second"] * row["seconds"]["all"] for row in rows)
    )
    clips //= between
    return Speed(
        clips=clips,
        tokens=clips * frames * CELLS**2,
        step=step,
        outside=max(0.0, 1 - model / step),
        checkpoint=checkpoint,
    )


def same_shape(root: Path, steps: int, *, compiled: bool) -> dict[str, Speed]:
    """The prototype's shape: the plain loop, and the Trainer."""
    every = load_recipe("tiny-magref").checkpoints.every
    options: dict[str, Any] = {"batch": BATCH, "tokens": None}
    cases: dict[str, dict[str, Any]] = {
        "Trainer, AdamW": {"optim": ADAMW, "engine": {"attention": FUSED}},
        "Trainer, plain attention, AdamW": {"optim": ADAMW},
        "Trainer, plain attention, Muon, averaged weights": {},
    }
    if compiled:
        words = "Trainer, plain attention, Muon, averaged weights, compiled"
        cases[words] = {"engine": {"compile": True}}
    rows = {"plain loop, AdamW, before": plain_loop(steps)}
    for words, changes in cases.items():
        made = make_recipe(root, "prototype", LATENT_FRAMES, steps, **options, **changes)
        rows[words] = trained(made, every)
    rows["plain loop, AdamW, after"] = plain_loop(steps)
    return rows


def shipped_shape(root: Path, steps: int, lengths: Sequence[int]) -> dict[str, Speed]:
    """The small recipe as it is shipped, by frames."""
    every = load_recipe("tiny-magref").checkpoints.every
    return {
        f"{frames} frame{'s' if frames > 1 else ''}": trained(
            make_recipe(root, "shipped", frames, steps), every
        )
        for frames in lengths
    }


# --- the table


def table(rows: Mapping[str, Speed], against: float | None = None) -> list[str]:
    """Markdown rows; `against`: clips per second that count as one."""
    lines = [
        "| | clips a step | tokens a step | s/step | clips/s | against the loop "
        "| outside the model | a checkpoint |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for words, row in rows.items():
        factor = "" if against is None else f"{row.rate / against:.2f}x"
        outside = "" if row.outside is None else f"{row.outside:.1%}"
        checkpoint = "" if row.checkpoint is None else f"{row.checkpoint:.2f} s"
        lines.append(
            f"| {words} | {row.clips} | {row.tokens:,} | {row.step:.3f} | {row.rate:.1f} "
            f"| {factor} | {outside} | {checkpoint} |"
        )
    return lines


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, torch "
        f"{torch.__version__}, Python {platform.python_version()}; load {load:.1f} before the start"
    )


def page(about: str, ours: Mapping[str, Speed], shipped: Mapping[str, Speed], every: int) -> str:
    """The whole file."""
    loops = [row.rate for words, row in ours.items() if words.startswith("plain")]
    against = statistics.mean(loops)
    lines = [
        "# Speed of training on a CPU",
        "",
        f"Made by `benchmarks/training_speed.py` on {about}.",
        "",
        "Same shape, in one run: 256 wide, 8 layers, 4 heads of 64, feed-forward 1024, 320 tokens "
        "a clip, float32 weights under bf16 autocast. The Trainer also trains the text encoder, "
        "reads its batches, draws noise and logs. Plain attention is the backend `_native_math`.",
        "",
        *table(ours, against),
        "",
        "The shipped small shape (`anyref train tiny-magref`), by frames a clip:",
        "",
        *table(shipped),
        "",
        "Outside the model: reading and stacking batches, logging, and a checkpoint every "
        f"{every} steps; from `metrics.jsonl` of the runs, whose latents were in the cache. "
        "Medians, without the first quarter of each run.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make clips and pipelines in a temporary folder, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/training_speed.md"))
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--eager", action="store_true", help="leave the compiled row out")
    options = parser.parse_args()
    about, every = machine(), load_recipe("tiny-magref").checkpoints.every
    with tempfile.TemporaryDirectory(prefix="anyref-speed-") as made:
        root = Path(made)
        with ShardWriter(root / "data") as writer:
            for index in range(CLIPS):
                writer.write(drawn_sample(index))
        write_base(root / "prototype", WanTransformer3DModel(**PROTOTYPE))
        write_base(root / "shipped", presets.tiny_transformer("magref"))
        steps = max(4, round(24 * options.scale))
        # two batches of first frames take every clip: the first of these runs fills the cache
        shipped = shipped_shape(root, steps, options.lengths)
        ours = same_shape(root, max(4, round(12 * options.scale)), compiled=not options.eager)
    text = page(about, ours, shipped, every)
    write_atomically(options.out, lambda file: file.write(text.encode()))
    print(text)


if __name__ == "__main__":
    main()
