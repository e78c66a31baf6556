"""Clips become latents once, through the very same `condition` as at inference.

Axes: n clips, C channels, F latent frames, H W latent rows and columns, T frames, Y X pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from anyref.errors import TrainingError
from anyref.lab.world import Clip
from anyref.media import write_atomically
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.conditioning import Conditioning
from anyref.request import PixelShape, resolve_mentions


@dataclass(frozen=True, kw_only=True)
class LatentClip:
    """A clip ready for training.

    Args:
        latents: (C, F, H, W) normalised, half precision.
        subject: (F, H, W) bool, cells that a subject's box touches.
        channels: (C', F, H, W) or None. references: (C, 1, h, w) each.
        text: the prompt as the text encoder reads it.
    """

    latents: Tensor
    subject: Tensor
    channels: Tensor | None
    references: tuple[Tensor, ...]
    text: str

    @property
    def bucket(self) -> tuple[tuple[int, ...], ...]:
        """Clips with equal buckets can share a batch."""
        return tuple(tuple(r.shape) for r in self.references)


def frames_to_tensor(frames: np.ndarray) -> Tensor:
    """(1, 3, T, Y, X) in [-1, 1] of uint8 frames (T, Y, X, 3)."""
    return torch.tensor(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0


def subject_cells(boxes: Iterable[np.ndarray], grid: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Latent cells that any box touches.

    Args:
        boxes: (T, 4) each, pixels left, top, right, bottom. grid: F, H, W. steps: frames per
            latent frame and pixels per cell.

    Returns:
        (F, H, W) bool.
    """
    frames, rows, columns = grid
    temporal, spatial = steps
    cells = torch.zeros(frames, rows, columns, dtype=torch.bool)
    for track in boxes:
        for t, (left, top, right, bottom) in enumerate(np.asarray(track)):
            f = 0 if t == 0 else (t - 1) // temporal + 1
            y0, y1 = int(top // spatial), int(np.ceil(bottom / spatial))
            x0, x1 = int(left // spatial), int(np.ceil(right / spatial))
            cells[f, max(0, y0) : y1, max(0, x0) : x1] = True
    return cells


def encode_clip(pipe: AnyRefPipeline, clip: Clip, seed: int) -> LatentClip:
    """Latents of a clip and of its references, placed by `seed`."""
    frames, height, width, _ = clip.frames.shape
    latents = pipe.encode_video(frames_to_tensor(clip.frames))[0].half()
    made = pipe.condition(clip.references, PixelShape(frames, height, width), seed=seed)
    references = made.transformer_kwargs.get("reference_hidden_states", [])
    return LatentClip(
        latents=latents,
        subject=subject_cells(
            [actor.boxes for actor in clip.actors],
            latents.shape[1:],
            (pipe.rules.temporal, pipe.rules.spatial),
        ),
        channels=None if made.channels is None else made.channels[0].half(),
        references=tuple(r[0].half() for r in references),
        text=resolve_mentions(clip.prompt, clip.references),
    )


def write_shard(path: Path, clips: Sequence[LatentClip]) -> None:
    """Write clips to one safetensors file, atomically."""
    tensors: dict[str, Tensor] = {}
    for i, clip in enumerate(clips):
        tensors[f"{i}.latents"] = clip.latents.contiguous()
        tensors[f"{i}.subject"] = clip.subject
        if clip.channels is not None:
            tensors[f"{i}.channels"] = clip.channels.contiguous()
        for k, reference in enumerate(clip.references):
            tensors[f"{i}.reference.{k}"] = reference.contiguous()
    data = save(tensors, metadata={"texts": json.dumps([clip.text for clip in clips])})
    write_atomically(path, lambda file: file.write(data))


def read_shard(path: Path) -> list[LatentClip]:
    """The clips of `write_shard`."""
    with safe_open(path, framework="pt") as file:
        texts = json.loads(file.metadata()["texts"])
        keys = set(file.keys())
        clips = []
        for i, text in enumerate(texts):
            count = sum(f"{i}.reference.{k}" in keys for k in range(8))
            clips.append(
                LatentClip(
                    latents=file.get_tensor(f"{i}.latents"),
                    subject=file.get_tensor(f"{i}.subject"),
                    channels=file.get_tensor(f"{i}.channels") if f"{i}.channels" in keys else None,
                    references=tuple(file.get_tensor(f"{i}.reference.{k}") for k in range(count)),
                    text=text,
                )
            )
    return clips


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips stacked on a batch axis B."""

    latents: Tensor  # (B, C, F, H, W)
    subject: Tensor  # (B, 1, F, H, W)
    conditioning: Conditioning
    texts: tuple[str, ...]


class LatentDataset:
    """All clips of a folder of shards, in memory, grouped by what can share a batch."""

    def __init__(self, folder: Path) -> None:
        self.buckets: dict[tuple[tuple[int, ...], ...], list[LatentClip]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            for clip in read_shard(path):
                self.buckets.setdefault(clip.bucket, []).append(clip)
        if not self.buckets:
            raise TrainingError(f"no latents in {str(folder)!r}; prepare them first")

    def __len__(self) -> int:
        return sum(len(clips) for clips in self.buckets.values())

    def batch(
        self, size: int, num_frames: int | None, offset: int, generator: torch.Generator
    ) -> Batch:
        """A random batch of one bucket.

        Args:
            num_frames: keep the first latent frames only. offset: a family's reference offset.
        """
        groups = list(self.buckets.values())
        weights = torch.tensor([float(len(group)) for group in groups])
        group = groups[int(torch.multinomial(weights, 1, generator=generator))]
        picks = torch.randint(len(group), (size,), generator=generator).tolist()
        clips = [group[i] for i in picks]

        def stack(read: Callable[[LatentClip], Tensor]) -> Tensor:
            return torch.stack([read(clip) for clip in clips]).float()

        channels = None
        if clips[0].channels is not None:
            channels = stack(lambda clip: clip.channels)[:, :, :num_frames]  # type: ignore[arg-type, return-value]
        kwargs = {}
        if clips[0].references:
            kwargs = {
                "reference_hidden_states": [
                    stack(lambda clip, k=k: clip.references[k])  # type: ignore[misc]
                    for k in range(len(clips[0].references))
                ],
                "reference_offset": offset,
            }
        return Batch(
            latents=stack(lambda clip: clip.latents)[:, :, :num_frames],
            subject=stack(lambda clip: clip.subject)[:, None, :num_frames],
            conditioning=Conditioning(channels=channels, transformer_kwargs=kwargs),
            texts=tuple(clip.text for clip in clips),
        )
