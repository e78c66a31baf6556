"""What the small models start from: their codec, and untrained pipelines around it.

python -m anyref.training.tiny codec RUN
python -m anyref.training.tiny start RUN RUN/tiny-magref --family magref
anyref train tiny-magref
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any

import torch

torch.set_flush_denormal(True)  # before any other torch call: threads inherit it only at start

import numpy as np  # noqa: E402
import typer  # noqa: E402
from diffusers import AutoencoderKLWan  # noqa: E402
from PIL import Image  # noqa: E402
from rich.console import Console  # noqa: E402
from torch import Tensor  # noqa: E402

from anyref.lab.catalog import Catalog, Split, load_catalog  # noqa: E402
from anyref.lab.world import Clip, World, compose  # noqa: E402
from anyref.media import frame_sheet, letterbox, open_picture, save_picture  # noqa: E402
from anyref.models import presets  # noqa: E402
from anyref.pipelines.base import AnyRefPipeline  # noqa: E402
from anyref.pipelines.canvas import canvas_cells, place  # noqa: E402
from anyref.pipelines.kaleido import KaleidoPipeline  # noqa: E402
from anyref.pipelines.magref import MagrefPipeline  # noqa: E402
from anyref.pipelines.solvers import make_scheduler  # noqa: E402
from anyref.training.codec import (  # noqa: E402
    codec_loss,
    measure_latents,
    reconstruction_psnr,
    start_from_components,
)
from anyref.training.examples import frames_to_tensor  # noqa: E402
from anyref.training.optimisers import Schedule, WeightAverage, make_optimisers  # noqa: E402
from anyref.training.reading import Reading, learn_to_read, understood  # noqa: E402
from anyref.training.recipe import OptimSection  # noqa: E402
from anyref.training.wording import make_tokenizer, template_words  # noqa: E402

SIDE, FRAMES = 96, 17
SUBJECTS = {1: 0.55, 2: 0.35, 3: 0.1}  # share of clips with so many subjects
SHORT_CLIPS = 0.75  # share of codec steps on 5 frames: twice as many steps in the same time
FLOW_SHIFT = 3.0  # towards noise, where the picture has to come from the references
FAMILIES = {"magref": MagrefPipeline, "kaleido": KaleidoPipeline}

app = typer.Typer(add_completion=False, help=__doc__)
console = Console()
RunFolder = Annotated[Path, typer.Argument(help="Folder of the run.")]


def clip_at(catalog: Catalog, split: Split, index: int) -> Clip:
    """Clip number `index` of a split; the same on every machine."""
    rng = random.Random(f"{split}/{index}")
    (count,) = rng.choices(list(SUBJECTS), list(SUBJECTS.values()))
    world = World(size=SIDE, num_frames=FRAMES, num_subjects=count)
    return compose(rng, catalog, split, world)


def codec_batch(catalog: Catalog, split: Split, first: int, clips: int) -> list[Tensor]:
    """Clips (B, 3, 17, 96, 96), canvases (B, 3, 1, 96, 96), references (B, 3, 1, 48, 48)."""
    rng = random.Random(f"codec/{split}/{first}")
    videos, canvases, references = [], [], []
    for index in range(first, first + clips):
        clip = clip_at(catalog, split, index)
        videos.append(frames_to_tensor(clip.frames))
        pictures = [open_picture(p) for r in clip.references for p in r.images]
        cells = canvas_cells("quarters", len(pictures), SIDE, SIDE)
        canvases.append(picture_tensor(place(pictures, cells, SIDE, SIDE, rng)[0]))
        references += [picture_tensor(letterbox(p, SIDE // 2, SIDE // 2)[0]) for p in pictures]
    return [torch.cat(videos), torch.cat(canvases), torch.cat(references)]


def picture_tensor(picture: Image.Image) -> Tensor:
    """(1, 3, 1, Y, X) in [-1, 1] of an RGB picture."""
    return frames_to_tensor(np.asarray(picture)[None])


@app.command()
def codec(run: RunFolder, steps: int = 400, clips: int = 4, rate: float = 3e-4) -> None:
    """Train the VAE from principal components, measure its latents, and save it to RUN/vae.

    Five minutes on two cores; not resumable.
    """
    catalog = load_catalog()
    torch.manual_seed(0)
    vae = presets.tiny_codec()
    videos, canvases, _ = codec_batch(catalog, "train", 10_000_000, 192)
    stills = videos[:, :, ::4].transpose(1, 2).flatten(0, 1)[:, :, None]
    start_from_components(vae, torch.cat([stills, canvases]))
    options = OptimSection(learning_rate=rate, betas=(0.9, 0.98), warmup=20, cooldown=0.5)
    named = dict(vae.named_parameters())
    optimisers = make_optimisers(named.items(), options)
    schedule = Schedule(optimisers, steps, options)
    average = WeightAverage(named, decay=0.98)
    for step in range(steps):
        schedule.set(step)
        loss = _codec_step(vae, catalog, step, clips)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        average.update(step + 1)
        if step % 25 == 0:
            console.print(f"step {step} loss {loss:.3f}")
    average.swap()
    vae.eval()
    measure_latents(vae, [codec_batch(catalog, "train", 10_000_000, 64)[0]])
    vae.save_pretrained(run / "vae")
    held_out = codec_batch(catalog, "validation", 0, 16)
    scores = [round(reconstruction_psnr(vae, x), 2) for x in held_out]
    console.print(f"PSNR in dB of held-out clips, canvases, references: {scores}")
    save_picture(run / "codec.png", reconstruction_sheet(vae, held_out[0]))


def _codec_step(vae: AutoencoderKLWan, catalog: Catalog, step: int, clips: int) -> float:
    generator = torch.Generator().manual_seed(step)
    parts = codec_batch(catalog, "train", step * clips, clips)
    if torch.rand(1, generator=generator) < SHORT_CLIPS:
        first = int(torch.randint(FRAMES - 4, (1,), generator=generator))
        parts[0] = parts[0][:, :, first : first + 5]
    weights = (1.0, 0.4, 0.2)
    losses = [w * codec_loss(vae, x, generator) for w, x in zip(weights, parts, strict=True)]
    total = torch.stack(losses).sum()
    total.backward()
    return total.item()


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
    options: dict[str, Any] = {
        "height": SIDE,
        "width": SIDE,
        "num_frames": FRAMES,
        "fps": 8.0,
        "num_inference_steps": 16,
        "guidance_scale": 4.0,
        "flow_shift": FLOW_SHIFT,
        "max_sequence_length": presets.TEXT_LENGTH,
        "default_negative_prompt": "",
        "lead_frames": 0,
    }
    solver = "unipc" if family == "magref" else "euler"
    if family == "magref":
        options |= {"layout": "quarters", "shuffle": False}
    else:
        options |= {"reference_size": "native", "reference_area": 0.25}
    torch.manual_seed(1)
    return FAMILIES[family](
        tokenizer=tokenizer,
        text_encoder=presets.tiny_text_encoder(len(tokenizer)),
        vae=vae,
        scheduler=make_scheduler(solver, FLOW_SHIFT),
        transformer=presets.tiny_transformer(family),
        **options,
    )


def _say_loss(step: int, loss: float) -> None:
    if step % 100 == 0:
        console.print(f"step {step} loss {loss:.3f}")


@app.command()
def start(run: RunFolder, out: Path, family: str = "magref") -> None:
    """Write a pipeline folder for `anyref train`: trained codec, text encoder that can read."""
    catalog = load_catalog()
    vae = AutoencoderKLWan.from_pretrained(run / "vae")
    pipe = new_pipeline(family, vae.eval(), catalog)
    reader = learn_to_read(pipe.text_encoder, pipe.tokenizer, catalog, Reading(), _say_loss)
    shares = understood(pipe.text_encoder, reader, pipe.tokenizer, catalog, "validation")
    console.print(f"motions read right, one to three subjects: {[f'{s:.1%}' for s in shares]}")
    pipe.to(torch.bfloat16).save_pretrained(out)
    console.print(f"untrained {family} pipeline in {out}")


if __name__ == "__main__":
    app()
