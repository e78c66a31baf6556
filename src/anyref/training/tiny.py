"""Making the small models, stage by stage: codec, latents, fit, export.

    python -m anyref.training.tiny codec   RUN
    python -m anyref.training.tiny latents RUN --family magref --part 0 --parts 2
    python -m anyref.training.tiny fit     RUN --family magref
    python -m anyref.training.tiny export  RUN --family magref OUT

Each stage resumes where it was stopped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch

torch.set_flush_denormal(True)  # before any other torch call: threads inherit it only at start

import numpy as np  # noqa: E402
import typer  # noqa: E402
from diffusers import AutoencoderKLWan  # noqa: E402
from PIL import Image  # noqa: E402
from rich.console import Console  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from anyref.lab.catalog import Catalog, Split, load_catalog  # noqa: E402
from anyref.lab.world import Clip, World, compose  # noqa: E402
from anyref.media import frame_sheet, letterbox, open_picture, save_picture  # noqa: E402
from anyref.models import presets  # noqa: E402
from anyref.pipelines.base import AnyRefPipeline  # noqa: E402
from anyref.pipelines.generation import generate  # noqa: E402
from anyref.pipelines.kaleido import KaleidoPipeline  # noqa: E402
from anyref.pipelines.magref import MagrefPipeline, canvas_cells, place  # noqa: E402
from anyref.pipelines.solvers import make_scheduler  # noqa: E402
from anyref.request import Request  # noqa: E402
from anyref.training.codec import (  # noqa: E402
    codec_loss,
    measure_latents,
    reconstruction_psnr,
    start_from_components,
)
from anyref.training.latents import (  # noqa: E402
    Batch,
    LatentDataset,
    encode_clip,
    frames_to_tensor,
    write_shard,
)
from anyref.training.loop import Run, Settings, load_average  # noqa: E402
from anyref.training.objective import flow_matching_loss, sample_sigmas  # noqa: E402
from anyref.training.wording import make_tokenizer, template_words  # noqa: E402

SIDE, FRAMES = 64, 9
WORLD = World(size=SIDE, num_frames=FRAMES)
SHARD = 256
SUBJECT_WEIGHT = 2.0  # extra loss on cells that show a subject
SHORT_CLIPS = 0.75  # share of codec steps on 5 frames: twice as many steps in the same time
TEXT_DROP = 0.1  # Kaleido's released rate; MAGREF's is not published
TRAIN_SHIFT = 3.0  # towards noise, where the picture has to come from the references
FAMILIES = {"magref": MagrefPipeline, "kaleido": KaleidoPipeline}

app = typer.Typer(add_completion=False, help=__doc__)
console = Console()
RunFolder = Annotated[Path, typer.Argument(help="Folder of the run.")]


def clip_at(catalog: Catalog, split: Split, index: int) -> Clip:
    """Clip number `index` of a split; the same on every machine."""
    return compose(random.Random(f"{split}/{index}"), catalog, split, WORLD)


def codec_batch(catalog: Catalog, split: Split, first: int, clips: int) -> list[Tensor]:
    """Clips (B, 3, 9, 64, 64), canvases (B, 3, 1, 64, 64) and references (B, 3, 1, 32, 32)."""
    rng = random.Random(f"codec/{split}/{first}")
    videos, canvases, references = [], [], []
    for index in range(first, first + clips):
        clip = clip_at(catalog, split, index)
        videos.append(frames_to_tensor(clip.frames))
        pictures = [open_picture(p) for r in clip.references for p in r.images]
        cells = canvas_cells("grid", len(pictures), SIDE, SIDE)
        canvases.append(picture_tensor(place(pictures, cells, SIDE, SIDE, rng)[0]))
        references += [picture_tensor(letterbox(p, SIDE // 2, SIDE // 2)[0]) for p in pictures]
    return [torch.cat(videos), torch.cat(canvases), torch.cat(references)]


def picture_tensor(picture: Image.Image) -> Tensor:
    """(1, 3, 1, Y, X) in [-1, 1] of an RGB picture."""
    return frames_to_tensor(np.asarray(picture)[None])


@app.command()
def codec(
    run: RunFolder, steps: int = 250, minutes: float = 100.0, clips: int = 4, rate: float = 3e-4
) -> None:
    """Train the VAE from principal components, measure its latents, and save it to RUN/vae."""
    catalog = load_catalog()
    torch.manual_seed(0)
    vae = presets.tiny_codec()
    videos, canvases, _ = codec_batch(catalog, "train", 10_000_000, 192)
    stills = videos[:, :, ::3].transpose(1, 2).flatten(0, 1)[:, :, None]
    start_from_components(vae, torch.cat([stills, canvases]))
    settings = Settings(
        steps=steps,
        minutes=minutes,
        learning_rate=rate,
        warmup=20,
        weight_decay=0.0,
        cooldown=0.5,
        ema_decay=0.98,
        save_every=125,
    )

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        parts = codec_batch(catalog, "train", step * clips, clips)
        if torch.rand(1, generator=generator) < SHORT_CLIPS:
            first = int(torch.randint(FRAMES - 4, (1,), generator=generator))
            parts[0] = parts[0][:, :, first : first + 5]
        weights = (1.0, 0.4, 0.2)
        losses = [w * codec_loss(vae, x, generator) for w, x in zip(weights, parts, strict=True)]
        return torch.stack(losses).sum()

    held_out = codec_batch(catalog, "validation", 0, 16)

    def on_save(state: Run) -> None:
        vae.eval()
        measure_latents(vae, [codec_batch(catalog, "train", 10_000_000, 64)[0]])
        vae.save_pretrained(run / "vae")
        scores = [reconstruction_psnr(vae, x) for x in held_out]
        console.print(f"step {state.step}: PSNR clips, canvases, references {scores}")
        save_picture(run / "codec.png", reconstruction_sheet(vae, held_out[0]))
        vae.train()

    Run(vae, settings, run / "codec").fit(loss_of, on_save, console.print)


@torch.no_grad()
def reconstruction_sheet(vae: AutoencoderKLWan, frames: Tensor) -> Image.Image:
    """Held-out clips above their reconstructions."""
    decoded = vae.decode(vae.encode(frames[:4]).latent_dist.mode(), return_dict=False)[0]
    rows = [
        frame_sheet(to_frames(x), cell=128)
        for pair in zip(frames[:4], decoded, strict=True)
        for x in pair
    ]
    return stack_rows(rows)


def to_frames(video: Tensor) -> np.ndarray:
    """uint8 (T, Y, X, 3) of a tensor (3, T, Y, X) in [-1, 1]."""
    return ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def stack_rows(rows: list[Image.Image]) -> Image.Image:
    """Pictures under each other."""
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def new_pipeline(family: str, vae: AutoencoderKLWan, catalog: Catalog) -> AnyRefPipeline:
    """An untrained small pipeline around a trained codec."""
    sentences = [clip_at(catalog, "train", 20_000_000 + i).prompt for i in range(3000)]
    words = [w for w in template_words(sentences, least=30) if "@" not in w]
    tokenizer = make_tokenizer(words, presets.TEXT_LENGTH)
    options = {
        "height": SIDE,
        "width": SIDE,
        "num_frames": FRAMES,
        "fps": 8.0,
        "num_inference_steps": 16,
        "guidance_scale": 2.0,
        "flow_shift": TRAIN_SHIFT,
        "max_sequence_length": presets.TEXT_LENGTH,
        "default_negative_prompt": "",
        "lead_frames": 0,
    }
    solver = "unipc" if family == "magref" else "euler"
    if family == "magref":
        options["layout"] = "grid"
    else:
        options |= {"reference_size": "native", "reference_area": 0.25}
    torch.manual_seed(1)
    return FAMILIES[family](
        tokenizer=tokenizer,
        text_encoder=presets.tiny_text_encoder(len(tokenizer)),
        vae=vae,
        scheduler=make_scheduler(solver, TRAIN_SHIFT),
        transformer=presets.tiny_transformer(family),
        **options,
    )


@app.command()
def latents(
    run: RunFolder,
    family: str = "magref",
    clips: int = 12288,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Encode clips and their conditioning into RUN/latents-FAMILY, one shard of 256 at a time."""
    catalog = load_catalog()
    pipe = new_pipeline(family, AutoencoderKLWan.from_pretrained(run / "vae").eval(), catalog)
    folder = run / f"latents-{family}"
    for shard in range(part, clips // SHARD, parts):
        path = folder / f"{shard:05d}.safetensors"
        if path.exists():
            continue
        first = shard * SHARD
        made = [
            encode_clip(pipe, clip_at(catalog, "train", first + i), first + i) for i in range(SHARD)
        ]
        write_shard(path, made)
        console.print(f"{path.name} of {clips // SHARD}")


class Trained(nn.Module):
    """What a fit changes: the transformer and its text encoder."""

    def __init__(self, pipe: AnyRefPipeline) -> None:
        super().__init__()
        self.transformer, self.text_encoder = pipe.transformer, pipe.text_encoder


@app.command()
def fit(
    run: RunFolder,
    family: str = "magref",
    frames: str = "1x2000,5x2000,9x1500",
    tokens: int = 4096,
    minutes: float = 100.0,
    rate: float = 1e-3,
    muon: float = 2e-3,
    save_every: int = 1000,
    bf16: bool = True,
    compiled: bool = True,
) -> None:
    """Train transformer and text encoder.

    FRAMES is the curriculum: latent frames x steps, first frames first, whole clips last. TOKENS
    sets the batch of each stage: about so many tokens of video a step.
    """
    stages = [tuple(int(n) for n in stage.split("x")) for stage in frames.split(",")]
    catalog = load_catalog()
    pipe = new_pipeline(family, AutoencoderKLWan.from_pretrained(run / "vae").eval(), catalog)
    data = LatentDataset(run / f"latents-{family}")
    model = Trained(pipe).train()
    settings = Settings(
        steps=sum(count for _, count in stages),
        minutes=minutes,
        learning_rate=rate,
        muon_rate=muon,
        save_every=save_every,
        warmup=200,
    )
    offset = pipe.config.get("reference_offset", 0)
    if compiled:
        pipe.transformer.compile_repeated_blocks(dynamic=False)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        length = frames_at(step, stages)
        batch = max(1, tokens // (length * (SIDE // presets.PATCH) ** 2))
        made = data.batch(batch, length, offset, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return batch_loss(pipe, made, generator)

    def on_save(state: Run) -> None:
        model.eval()
        length = frames_at(state.step - 1, stages)
        with torch.compiler.set_stance("force_eager"):
            clips = [clip_at(catalog, "validation", i) for i in range(8)]
            rows = [sample_row(pipe, clip, i, length) for i, clip in enumerate(clips)]
        save_picture(run / f"samples-{family}.png", stack_rows(rows))
        model.train()

    console.print(f"{len(data)} clips")
    Run(model, settings, run / f"fit-{family}").fit(loss_of, on_save, console.print)


def batch_loss(pipe: AnyRefPipeline, made: Batch, generator: torch.Generator) -> Tensor:
    """Mean loss of a batch, some of its texts dropped, cells with a subject weighing more."""
    sigmas = sample_sigmas(len(made.texts), TRAIN_SHIFT, generator)
    noise = torch.randn(made.latents.shape, generator=generator)
    kept = torch.rand(len(made.texts), generator=generator) >= TEXT_DROP
    texts = [t if keep else "" for t, keep in zip(made.texts, kept.tolist(), strict=True)]
    text = pipe._get_t5_prompt_embeds(texts, max_sequence_length=presets.TEXT_LENGTH)
    weight = 1 + SUBJECT_WEIGHT * made.subject
    return flow_matching_loss(
        pipe.transformer,
        made.latents,
        made.conditioning,
        text,
        sigmas,
        noise,
        weight / weight.mean(),
    ).mean()


def frames_at(step: int, stages: Sequence[tuple[int, ...]]) -> int:
    """Latent frames of a step under a curriculum of (frames, steps) stages."""
    for length, count in stages:
        if step < count:
            return length
        step -= count
    return stages[-1][0]


def sample_row(pipe: AnyRefPipeline, clip: Clip, seed: int, num_frames: int) -> Image.Image:
    """A held-out clip and what the model makes of its references, side by side."""
    request = Request(
        prompt=clip.prompt, references=clip.references, seed=seed, num_frames=num_frames
    )
    made = generate(pipe, request)
    pictures = [open_picture(p) for r in clip.references for p in r.images]
    truth = frame_sheet(clip.frames, pictures, clip.prompt, num_frames=4, cell=96)
    sample = frame_sheet(made.frames, (), " ", num_frames=6, cell=96)
    row = Image.new("RGB", (truth.width + sample.width, truth.height), "white")
    row.paste(truth, (0, 0))
    row.paste(sample, (truth.width, 0))
    return row


@app.command()
def export(run: RunFolder, out: Path, family: str = "magref") -> None:
    """Write the averaged weights of a run as a pipeline folder in bfloat16."""
    catalog = load_catalog()
    pipe = new_pipeline(family, AutoencoderKLWan.from_pretrained(run / "vae").eval(), catalog)
    step = load_average(Trained(pipe), run / f"fit-{family}")
    pipe.to(torch.bfloat16)
    pipe.save_pretrained(out)
    console.print(f"step {step} written to {out}")


if __name__ == "__main__":
    app()
