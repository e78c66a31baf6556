"""From a stored sample to tensors, through the very same `condition` as at inference.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, T frames, Y X pixels,
S image tokens, D width, K subjects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anyref.data.shards import PackedSample
from anyref.errors import TrainingError
from anyref.models.disentanglement import (
    Disentanglement,
    SubjectRegions,
    pooling_weights,
    stack_subjects,
    token_regions,
)
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.prompts import subject_tokens
from anyref.request import PixelShape, resolve_mentions
from anyref.training.cache import ContentCache, content_key, module_key
from anyref.training.draws import Draw, draw
from anyref.training.engine import at_work
from anyref.training.recipe import DataSection

Track = Sequence[Sequence[float] | None]  # left, top, right, bottom in pixels, per frame
HASHED_PARTS = ("vae", "image_encoder")
CONDITIONING = ("layout", "reference_offset", "reference_size", "reference_area")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample ready for training.

    Args:
        key: the sample's id.
        latents: (C, F, H, W) normalised, half precision.
        subject: (F, H, W) bool, cells that a subject's box touches.
        channels: (C', F, H, W) or None. image_embeds: (S, D) or None.
        references: (C, 1, h, w) each.
        text: the caption as the text encoder reads it.
        options: further arguments of the transformer, such as the references' rotary offset.
        regions: (K, N0), tokens of latent frame 0 that each reference covers, or None.
        words: text tokens that name each of them.
    """

    key: str
    latents: Tensor
    subject: Tensor
    channels: Tensor | None = None
    image_embeds: Tensor | None = None
    references: tuple[Tensor, ...] = ()
    text: str = ""
    options: dict[str, object] = field(default_factory=dict)
    regions: Tensor | None = None
    words: tuple[tuple[int, ...], ...] = ()

    @property
    def shapes(self) -> tuple[object, ...]:
        """Examples with equal shapes can share a batch."""
        return (tuple(self.latents.shape), *(tuple(r.shape) for r in self.references))

    def to_entry(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and texts for a `ContentCache`."""
        tensors = {"latents": self.latents, "subject": self.subject}
        if self.channels is not None:
            tensors["channels"] = self.channels
        if self.image_embeds is not None:
            tensors["image_embeds"] = self.image_embeds
        if self.regions is not None:
            tensors["regions"] = self.regions
        tensors |= {f"reference.{k}": r for k, r in enumerate(self.references)}
        rest = {"options": self.options, "words": self.words}
        texts = {"key": self.key, "text": self.text, "rest": json.dumps(rest)}
        return tensors, texts

    @classmethod
    def from_entry(cls, tensors: dict[str, Tensor], texts: dict[str, str]) -> Example:
        """The inverse of `to_entry`."""
        count = sum(name.startswith("reference.") for name in tensors)
        rest = json.loads(texts["rest"])
        return cls(
            key=texts["key"],
            latents=tensors["latents"],
            subject=tensors["subject"],
            channels=tensors.get("channels"),
            image_embeds=tensors.get("image_embeds"),
            references=tuple(tensors[f"reference.{k}"] for k in range(count)),
            text=texts["text"],
            options=rest["options"],
            regions=tensors.get("regions"),
            words=tuple(map(tuple, rest["words"])),
        )


def sample_key(packed: PackedSample) -> str:
    """Hash of everything in a sample that an example can be made from."""
    record: str = packed.record.to_json()
    return content_key(record, packed.video, *packed.references, *packed.masks.values())


class Preparer:
    """Samples to examples by a pipeline's own encoders, remembered by content.

    Args:
        with_subjects: keep regions and words, for subject disentanglement.
    """

    def __init__(
        self,
        pipe: AnyRefPipeline,
        options: DataSection,
        cache: ContentCache,
        *,
        with_subjects: bool = False,
    ) -> None:
        self.pipe, self.options, self.cache = pipe, options, cache
        self.with_subjects = with_subjects
        chosen = options.model_dump(
            mode="json", exclude={"shards", "cache", "workers"}, exclude_defaults=True
        )
        parts = {name: module_key(getattr(pipe, name, None)) for name in HASHED_PARTS}
        settings = {name: pipe.config.get(name) for name in CONDITIONING}
        places = "shuffle" in pipe.request_options
        self._placement = {"shuffle": options.shuffle} if places else {}
        kind = type(pipe).__name__ + (" with subjects" if with_subjects else "")
        self._context = content_key(chosen, parts, settings, kind)

    def key(self, content: str, seed: str) -> str:
        """The cache key of a sample's content under a draw."""
        return content_key(self._context, content, seed)

    def cached(self, key: str) -> Example | None:
        """The example stored under a key, if any."""
        entry = self.cache.load(key)
        return None if entry is None else Example.from_entry(*entry)

    @torch.no_grad()
    def prepare(self, packed: PackedSample, seed: str, key: str) -> Example:
        """Encode a sample's video and the references drawn from it.

        Raises:
            TrainingError: a record that cannot be read or does not fit.
        """
        drawn = draw(packed, self.options, seed)
        frames, tracks = fit_clip(
            packed.frames(), drawn.tracks, self._shape(packed), packed.record.id
        )
        shape = PixelShape(*frames.shape[:3])
        self.pipe.rules.check(shape)
        device, image_encoder = (
            self.pipe.transformer.device,
            getattr(self.pipe, "image_encoder", None),
        )
        with self.pipe.encoders, at_work(device, self.pipe.vae, image_encoder):
            latents = self.pipe.encode_video(frames_to_tensor(frames).to(device))[0]
            made = self._condition(drawn, shape)
        _, rows, columns = self.pipe.rules.patch
        tokens = latents.shape[2] * latents.shape[3] // (rows * columns)
        regions, words = self._subjects(made, drawn, tokens)
        kwargs = dict(made.transformer_kwargs)
        references = kwargs.pop("reference_hidden_states", [])
        example = Example(
            key=packed.record.id,
            latents=_half(latents),
            subject=subject_cells(
                tracks, latents.shape[1:], (self.pipe.rules.temporal, self.pipe.rules.spatial)
            ),
            channels=None if made.channels is None else _half(made.channels[0]),
            image_embeds=None if made.image_embeds is None else _half(made.image_embeds[0]),
            references=tuple(_half(r[0]) for r in references),
            text=resolve_mentions(drawn.prompt, drawn.references),
            options=kwargs,
            regions=regions,
            words=words,
        )
        self.cache.store(key, *example.to_entry())
        return example

    def _condition(self, drawn: Draw, shape: PixelShape) -> Conditioning:
        if not drawn.references:
            return self.pipe.unconditioned(shape)
        return self.pipe.condition(drawn.references, shape, seed=drawn.seed, **self._placement)

    def _subjects(
        self, made: Conditioning, drawn: Draw, tokens: int
    ) -> tuple[Tensor | None, tuple[tuple[int, ...], ...]]:
        """Where references lie, in tokens of a frame, and which text tokens name them."""
        if not self.with_subjects:
            return None, ()
        if made.regions is None:  # references were dropped: nothing lies anywhere
            return torch.zeros(0, tokens), ()
        length = int(self.pipe.config.max_sequence_length)
        words = subject_tokens(self.pipe.tokenizer, drawn.prompt, drawn.references, length)
        return token_regions(made.regions, self.pipe.rules.patch), words

    def _shape(self, packed: PackedSample) -> PixelShape:
        video = packed.record.video
        return clip_shape(self.options, (video.num_frames, video.height, video.width))


def clip_shape(options: DataSection, stored: tuple[int, int, int]) -> PixelShape:
    """What is trained on of a sample with `stored` frames, height and width."""
    if options.buckets is None:
        wanted = (options.num_frames, options.height, options.width)
        return PixelShape(*(w or s for w, s in zip(wanted, stored, strict=True)))
    height, width, frames = nearest_bucket(options.buckets, stored)
    return PixelShape(frames, height, width)


def nearest_bucket(
    buckets: Iterable[tuple[int, int, int]], stored: tuple[int, int, int]
) -> tuple[int, int, int]:
    """The (height, width, frames) nearest in aspect ratio, then the longest that is filled.

    Args:
        stored: frames, height, width of the sample.
    """
    frames, height, width = stored

    def distance(bucket: tuple[int, int, int]) -> tuple[float, bool, int]:
        ratio = np.log((bucket[1] / bucket[0]) / (width / height))
        return (round(abs(float(ratio)), 6), bucket[2] > frames, -bucket[2])

    return min(buckets, key=distance)


def fit_clip(
    frames: np.ndarray, tracks: Sequence[Track], shape: PixelShape, name: str
) -> tuple[np.ndarray, Sequence[Track]]:
    """The first frames, scaled to cover the shape and cropped in the middle; boxes with them.

    Args:
        frames: uint8 (T, Y, X, 3).

    Raises:
        TrainingError: when there are fewer frames than needed.
    """
    count, height, width = frames.shape[:3]
    if count < shape.num_frames:
        raise TrainingError(
            f"sample {name!r} has {count} frames, {shape.num_frames} are needed; "
            "lower num_frames or leave it out"
        )
    frames = frames[: shape.num_frames]
    tracks = [track[: shape.num_frames] for track in tracks]
    if (height, width) == (shape.height, shape.width):
        return frames, tracks
    scale = max(shape.height / height, shape.width / width)
    size = (max(shape.height, round(height * scale)), max(shape.width, round(width * scale)))
    pixels = torch.tensor(frames).permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    top, left = (size[0] - shape.height) // 2, (size[1] - shape.width) // 2
    pixels = pixels[:, :, top : top + shape.height, left : left + shape.width]
    moved = [[_moved(box, scale, left, top) for box in track] for track in tracks]
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy(), moved


def _moved(
    box: Sequence[float] | None, scale: float, left: int, top: int
) -> tuple[float, ...] | None:
    if box is None:
        return None
    return tuple(v * scale - (left, top)[i % 2] for i, v in enumerate(box))


def frames_to_tensor(frames: np.ndarray) -> Tensor:
    """(1, 3, T, Y, X) in [-1, 1] of uint8 frames (T, Y, X, 3)."""
    return torch.tensor(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0


def subject_cells(tracks: Iterable[Track], grid: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Latent cells that any box touches.

    Args:
        tracks: boxes in pixels per frame. grid: F, H, W. steps: frames per latent frame and pixels
            per cell.

    Returns:
        (F, H, W) bool.
    """
    frames, rows, columns = grid
    temporal, spatial = steps
    cells = torch.zeros(frames, rows, columns, dtype=torch.bool)
    for track in tracks:
        for t, box in enumerate(track):
            if box is None:
                continue
            left, top, right, bottom = (float(v) for v in box)
            f = 0 if t == 0 else (t - 1) // temporal + 1
            y0, y1 = int(top // spatial), int(np.ceil(bottom / spatial))
            x0, x1 = int(left // spatial), int(np.ceil(right / spatial))
            cells[f, max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return cells


def _half(tensor: Tensor) -> Tensor:
    return tensor.detach().half().cpu()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples of equal shapes stacked on a batch axis B."""

    positions: tuple[int, ...]  # of each example in the step's global batch
    latents: Tensor  # (B, C, F, H, W)
    subject: Tensor  # (B, 1, F, H, W)
    conditioning: Conditioning
    texts: tuple[str, ...]
    regions: tuple[Tensor | None, ...]  # (K, N0) each
    words: tuple[tuple[tuple[int, ...], ...], ...]


def collate(examples: Sequence[tuple[int, Example]], num_frames: int | None) -> list[Batch]:
    """Batches of equal shapes, in order of first appearance.

    Args:
        examples: position in the step's global batch, and example.
        num_frames: keep the first latent frames only.
    """
    groups: dict[tuple[object, ...], list[tuple[int, Example]]] = {}
    for position, example in examples:
        groups.setdefault(example.shapes, []).append((position, example))
    return [_stack(group, num_frames) for group in groups.values()]


def _stack(group: Sequence[tuple[int, Example]], num_frames: int | None) -> Batch:
    first = group[0][1]

    def stack(read: Callable[[Example], Tensor | None]) -> Tensor | None:
        values = [read(example) for _, example in group]
        return None if values[0] is None else torch.stack([v.float() for v in values])  # type: ignore[union-attr]

    channels = stack(lambda e: e.channels)
    references = [stack(lambda e, k=k: e.references[k]) for k in range(len(first.references))]  # type: ignore[misc]
    kwargs = dict(first.options)
    if references:
        kwargs["reference_hidden_states"] = references
    latents, subject = stack(lambda e: e.latents), stack(lambda e: e.subject)
    assert latents is not None and subject is not None
    return Batch(
        positions=tuple(position for position, _ in group),
        latents=latents[:, :, :num_frames],
        subject=subject[:, None, :num_frames],
        conditioning=Conditioning(
            channels=None if channels is None else channels[:, :, :num_frames],
            image_embeds=stack(lambda e: e.image_embeds),
            transformer_kwargs=kwargs,
        ),
        texts=tuple(example.text for _, example in group),
        regions=tuple(example.regions for _, example in group),
        words=tuple(example.words for _, example in group),
    )


def subject_regions(
    batch: Batch, words: Sequence[Sequence[Sequence[int]]], length: int, how: Disentanglement
) -> SubjectRegions:
    """What disentanglement needs of a batch.

    Args:
        words: text tokens of each subject of each clip, empty where the caption was dropped.
        length: tokens that the text encoder reads.

    Raises:
        TrainingError: when the batch was encoded without regions.
    """
    samples = []
    for regions, named in zip(batch.regions, words, strict=True):
        if regions is None:
            raise TrainingError("regions are missing from the cache; remove data.cache")
        samples.append((regions, pooling_weights(named, length, how.pooling)))
    return stack_subjects(samples, how)
