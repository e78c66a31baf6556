"""`anyref generate`: one video, or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import typer

from anyref.batch import Format, with_absolute_pictures
from anyref.cli import listing, options, production
from anyref.cli.holding import Holding
from anyref.errors import RequestError
from anyref.pipelines.engine import AUTO, Engine
from anyref.request import Request


def generate(
    prompt: options.Prompt = None,
    reference: options.ReferenceTexts = None,
    text: options.WordTexts = None,
    strength: options.StrengthTexts = None,
    output: options.Output = None,
    model: options.Model = None,
    lora: options.LoraTexts = None,
    seed: options.Seed = None,
    size: options.Size = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    negative: options.Negative = None,
    solver: options.Solver = None,
    shift: options.Shift = None,
    layout: options.LayoutText = None,
    no_shuffle: options.NoShuffle = False,
    disentangle: options.Disentangle = None,
    reference_offset: options.OffsetText = None,
    reference_size: options.ReferenceSize = None,
    strength_map: options.StrengthMapText = None,
    speed: options.Speed = None,
    step_cache: options.StepCacheText = None,
    guidance_interval: options.GuidanceInterval = None,
    batch: options.Batch = None,
    out_dir: options.OutDir = None,
    list_format: options.FormatText = "auto",
    save_conditioning: options.SaveConditioning = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    attention: options.Attention = None,
    compile_blocks: options.Compile = False,
    parallel: options.Parallel = None,
    memory: options.Memory = None,
    transformer: options.Transformer = None,
) -> None:
    """Make a video of your references from a prompt, or one for every entry of a list."""
    fields = options.request_fields(
        size=size,
        layout=layout,
        offset=reference_offset,
        no_shuffle=no_shuffle,
        seed=seed,
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative,
        solver=solver,
        flow_shift=shift,
        disentangle=disentangle,
        reference_size=reference_size,
        strength_map=strength_map,
        interval=guidance_interval,
        speed=speed,
        step_cache=step_cache,
    )
    options.check_dtype(dtype)
    run = production.Run(
        model,
        dtype,
        device,
        save_conditioning,
        options.parse_loras(lora or ()),
        Engine(attention or AUTO, compile_blocks, parallel),
        Holding(memory, None if transformer is None else str(transformer.resolve())),
    )
    if batch is None:
        _refuse_list_options(prompt, out_dir, list_format)
        request = _request(prompt or "", reference or (), text or (), strength or (), fields)
        production.make_one(request, output or Path("out.mp4"), run)
        return
    if prompt is not None or reference or text or strength or output is not None:
        raise RequestError(
            "--batch takes prompts and references from its list; leave out PROMPT, -r, --text, "
            "--strength, -o"
        )
    if out_dir is None:
        raise RequestError("--batch needs a folder for its videos; add --out-dir DIR")
    if listing.run_list(batch, cast(Format, list_format), fields, out_dir, run):
        raise typer.Exit(1)


def _refuse_list_options(prompt: str | None, out_dir: Path | None, list_format: str) -> None:
    if prompt is None:
        raise RequestError("no prompt is given; write one, or a list with --batch FILE")
    if out_dir is not None or list_format != "auto":
        raise RequestError("--out-dir and --format go with --batch; use -o out.mp4 for one video")


def _request(
    prompt: str,
    references: Sequence[str],
    texts: Sequence[str],
    strengths: Sequence[str],
    fields: dict[str, Any],
) -> Request:
    parsed = options.parse_references(references, texts, strengths)
    request = Request(prompt=prompt, references=tuple(parsed), **fields)
    return with_absolute_pictures(request, Path.cwd())
