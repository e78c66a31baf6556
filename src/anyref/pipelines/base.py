"""The one denoising loop, shared by both families.

    references --condition--> Conditioning --denoise(transformer, scheduler)--> latents
        --decode--> frames

A family is a subclass that says what references become (`condition`) and carries its constants in
its configuration. Everything else, encoders, loop, guidance, decoding, is here, once.

Axes: B batch, C channels, L text tokens, F latent frames, H W latent rows and columns,
T frames, Y X pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import WanLoraLoaderMixin
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor

from anyref.errors import PromptError, RequestError
from anyref.models import cpu_kernels
from anyref.models.disentanglement import pooling_weights, stack_subjects, token_regions
from anyref.pipelines import parallel
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.decoding import decoded_chunks, without_lead
from anyref.pipelines.encodings import Encodings
from anyref.pipelines.lengths import count_tokens, counted_at, shapes_that_fit
from anyref.pipelines.prompts import PromptEncoding, subject_tokens
from anyref.pipelines.sampling import StepCallback, denoise
from anyref.pipelines.solvers import make_scheduler, set_official_timesteps
from anyref.pipelines.speed import WHOLE_VIDEO, Interval, paced
from anyref.request import PixelShape, Reference, Request, ShapeRules, check_references

OUTPUT_TYPES = ("np", "pt", "pil", "latent")

ReferenceInput = Reference | Image.Image | str | Path


def as_references(references: Sequence[ReferenceInput] | None) -> tuple[Reference, ...]:
    """Pictures and paths become unnamed references; all are checked.

    Raises:
        RequestError: what `check_references` refuses.
    """
    values = tuple(
        r if isinstance(r, Reference) else Reference(images=(r,)) for r in references or ()
    )
    check_references(values)
    return values


class AnyRefPipeline(PromptEncoding, DiffusionPipeline, WanLoraLoaderMixin):
    """Base of `MagrefPipeline` and `KaleidoPipeline`; not used by itself."""

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    request_options: ClassVar[tuple[str, ...]] = ()  # fields of Request that `condition` takes
    _optional_components = ["tokenizer", "text_encoder", "image_encoder", "vae"]

    # what references become at a size: (references, shape, *, seed, **family options)
    condition: Callable[..., Conditioning]

    def _finish_init(self, **components: Any) -> None:
        self.register_modules(**components)
        self.video_processor = VideoProcessor(vae_scale_factor=self.rules.spatial)
        self.stage_seconds: dict[str, float] = {}
        self.on_stage: Callable[[str], None] | None = None
        self.cpu_kernels = cpu_kernels.has_faster_kernels()
        self.keeps_between_steps = True
        self.encodings = Encodings()
        self.encoders = Lock()  # for threads: the VAE keeps its causal features in itself

    @classmethod
    def check_references(
        cls,
        references: Sequence[Reference],
        defaults: Mapping[str, Any],
        rules: ShapeRules,
        request: Request,
    ) -> None:
        """Refuse, before weights load, references that the family cannot place."""

    def unconditioned(self, shape: PixelShape) -> Conditioning:
        """What the network is given without any reference; training drops references to it."""
        return self.condition((), shape)

    @property
    def rules(self) -> ShapeRules:
        """What sizes this model can make."""
        vae = self.vae.config if self.vae is not None else None
        return ShapeRules(
            spatial=vae.scale_factor_spatial if vae else 8,
            temporal=vae.scale_factor_temporal if vae else 4,
            patch=tuple(self.transformer.config.patch_size),
            max_positions=self.transformer.config.rope_max_seq_len,
            lead_frames=self.config.lead_frames,
        )

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that are denoised."""
        return int(self.transformer.config.out_channels)

    def set_solver(self, name: str, flow_shift: float | None = None) -> None:
        """Swap the scheduler for "unipc", "dpm++" or "euler" with the official sigmas.

        Args:
            flow_shift: timestep shift; the pipeline's own default when absent.

        Raises:
            RequestError: for an unknown name.
        """
        self.scheduler = make_scheduler(name, flow_shift or self.config.flow_shift)

    @torch.no_grad()
    def encode_video(self, frames: Tensor) -> Tensor:
        """Normalised latents of pixels.

        Args:
            frames: (B, 3, T, Y, X) in [-1, 1].

        Returns:
            (B, C, F, H, W), the mode of the VAE's posterior, in the VAE's dtype.
        """
        return self.normalise(self.vae.encode(frames.to(self.vae.dtype)).latent_dist.mode())

    def normalise(self, latents: Tensor) -> Tensor:
        """The VAE's latents (B, C, F, H, W) with mean 0 and spread 1 by its statistics."""
        mean, std_inverse = self._latent_statistics(latents.device)
        return (latents - mean.to(latents.dtype)) * std_inverse.to(latents.dtype)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, T, Y, X) in [-1, 1] of normalised latents, lead frames included."""
        return self.vae.decode(self._plain_latents(latents), return_dict=False)[0]

    def _plain_latents(self, latents: Tensor) -> Tensor:
        latents = latents.to(self.vae.dtype)
        mean, std_inverse = self._latent_statistics(latents.device)
        return latents / std_inverse.to(latents.dtype) + mean.to(latents.dtype)

    def _latent_statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean = torch.tensor(config.latents_mean).view(1, config.z_dim, 1, 1, 1)
        std_inverse = 1.0 / torch.tensor(config.latents_std).view(1, config.z_dim, 1, 1, 1)
        return mean.to(device), std_inverse.to(device)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        if self.on_stage is not None:
            self.on_stage(name)
        start = time.perf_counter()
        yield
        self.stage_seconds[name] = time.perf_counter() - start

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        references: Sequence[ReferenceInput] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        attention_kwargs: dict[str, Any] | None = None,
        max_sequence_length: int | None = None,
        on_frames: Callable[[np.ndarray], None] | None = None,
        step_cache: str | None = None,
        guidance_interval: Interval = WHOLE_VIDEO,
        **options: Any,
    ) -> WanPipelineOutput | tuple[Any]:
        """Make a video; absent arguments take the defaults of the pipeline's configuration.

        Args:
            prompt: text; `@name` stands for the reference of that name.
            references: pictures, paths or `Reference` values, at most 8 pictures.
            height, width, num_frames: pixels and frames that the network makes.
            generator: draws the noise; its initial seed also draws order and placement.
            latents: (B, C, F, H, W) noise to use instead.
            prompt_embeds, negative_prompt_embeds: (B, L, D) in place of the texts.
            output_type: "np", "pt", "pil", or "latent" (lead frames are cut from decoded output
                only).
            callback_on_step_end: a function `f(pipeline, step, timestep, tensors) -> dict`.
            on_frames: called with uint8 (B, t, Y, X, 3), lead frames cut, as they are decoded;
                none are returned then.
            step_cache, guidance_interval: what may be left out, see `pipelines.speed`.
            options: the family's own, see `condition` of the class.

        Returns:
            `WanPipelineOutput` with `frames`: (B, T, Y, X, 3) in [0, 1] for "np".

        Raises:
            RequestError: or a subclass, naming the value, the limit and the remedy.
        """
        values, pace = as_references(references), paced(step_cache, guidance_interval)
        shape = self._shape(num_frames, height, width)
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        steps = (
            self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        )
        self._check_output(output_type, steps)
        callback = self._step_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        embeds = (prompt_embeds, negative_prompt_embeds)
        with self._stage("encode"):
            text = self._shared_text(
                prompt, values, negative_prompt, guidance > 1.0, embeds, max_sequence_length
            )
            noise = self._noise(text[0].shape[0], shape, generator, latents)
            conditioning = self._shared_conditioning(values, shape, generator, len(noise), options)
            conditioning = self._with_subjects(conditioning, prompt, values, text[0])
        tokens = self._fitted_tokens(shape, conditioning)
        set_official_timesteps(self.scheduler, steps, noise.device)
        with self._stage("steps"), self.progress_bar(total=steps) as progress:
            latents = denoise(
                self.transformer,
                self.scheduler,
                noise,
                conditioning,
                text,
                guidance_scale=guidance,
                attention_kwargs=attention_kwargs,
                callback=self._after_step(progress, callback),
                kernels=self.cpu_kernels and cpu_kernels.pays(tokens, self._width),
                remember=self.keeps_between_steps,
                pace=pace,
                sharing=parallel.guidance_place(),
            )
        frames = latents
        if output_type != "latent":
            frames = self._decode(latents, output_type, on_frames)
        self.conditioning_pictures = conditioning.pictures
        self.maybe_free_model_hooks()
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)

    def _check_output(self, output_type: str, steps: int) -> None:
        if output_type not in OUTPUT_TYPES:
            raise RequestError(f"output_type {output_type!r} is not one of {OUTPUT_TYPES}")
        if output_type != "latent" and self.vae is None:
            raise RequestError("this model folder has no VAE; use output_type='latent'")
        if steps < 1:
            raise RequestError(f"num_inference_steps {steps} is below 1; use 1 or more")

    def _shape(self, num_frames: int | None, height: int | None, width: int | None) -> PixelShape:
        shape = PixelShape(
            self.config.num_frames if num_frames is None else num_frames,
            self.config.height if height is None else height,
            self.config.width if width is None else width,
        )
        self.rules.check(shape)
        return shape

    def _shared_text(self, *request: Any) -> tuple[Tensor, Tensor | None]:
        made = parallel.from_main(
            lambda: [None if x is None else x.cpu() for x in self._encode_text(*request)]
        )
        positive, negative = (None if x is None else x.to(self._execution_device) for x in made)
        assert positive is not None
        return positive, negative

    def _shared_conditioning(
        self,
        references: Sequence[Reference],
        shape: PixelShape,
        generator: torch.Generator | list[torch.Generator] | None,
        batch: int,
        options: dict[str, Any],
    ) -> Conditioning:
        first = generator[0] if isinstance(generator, list) else generator
        seed = torch.initial_seed() if first is None else first.initial_seed()
        device, dtype = self._execution_device, self.transformer.dtype
        made = parallel.from_main(
            lambda: self.condition(references, shape, seed=seed, **options).map(Tensor.cpu)
        )
        return made.map(lambda x: x.to(device, dtype).expand(batch, *x.shape[1:]))

    def _with_subjects(
        self,
        conditioning: Conditioning,
        prompt: str | list[str] | None,
        references: Sequence[Reference],
        text: Tensor,
    ) -> Conditioning:
        """Regions joined with the prompt's words, where disentanglement is asked for."""
        how, regions = conditioning.disentangle, conditioning.regions
        if how is None or how.alpha == 0.0:
            return conditioning
        if prompt is None or regions is None:
            raise PromptError(
                "disentanglement finds the subjects' words in the prompt and their regions on the "
                "canvas; give prompt and references themselves, not embeddings or a canvas"
            )
        weights, length = token_regions(regions, self.rules.patch), text.shape[1]
        samples = [
            (weights, pooling_weights(tokens, length, how.pooling))
            for tokens in (
                subject_tokens(self.tokenizer, line, references, length)
                for line in ([prompt] if isinstance(prompt, str) else prompt)
            )
        ]
        subjects = stack_subjects(samples, how).map(lambda x: x.to(text))
        return replace(conditioning, subjects=subjects)

    @property
    def _width(self) -> int:
        config = self.transformer.config
        return int(config.num_attention_heads * config.attention_head_dim)

    def _fitted_tokens(self, shape: PixelShape, conditioning: Conditioning) -> int:
        """Tokens of the sequence, which the transformer is made ready for."""
        references = conditioning.transformer_kwargs.get("reference_hidden_states", [])
        rules, tokens = self.rules, count_tokens(self.rules, shape, references)
        count = counted_at(rules, shape, references)
        parallel.fit_sequence(
            self.transformer, tokens, lambda parts: shapes_that_fit(rules, shape, count, parts)
        )
        return tokens

    def _noise(
        self,
        batch: int,
        shape: PixelShape,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: Tensor | None,
    ) -> Tensor:
        device, cells = self._execution_device, self.rules.latent(shape)
        size = (batch, self.latent_channels, cells.num_frames, cells.height, cells.width)
        if latents is None:
            draw = randn_tensor(size, generator=generator, device=device, dtype=torch.float32)
            return parallel.from_main(draw.cpu).to(device)
        if tuple(latents.shape) != size:
            raise RequestError(f"latents are {tuple(latents.shape)}, this request needs {size}")
        return latents.to(device, torch.float32)

    def _decode(
        self, latents: Tensor, output_type: str, on_frames: Callable[[np.ndarray], None] | None
    ) -> Any:
        with self._stage("decode"):
            chunks = decoded_chunks(self.vae, self._plain_latents(latents))
            chunks = without_lead(chunks, self.config.lead_frames)
            if on_frames is None:
                video = torch.cat(list(chunks), dim=2)
                return self.video_processor.postprocess_video(video, output_type=output_type)
            for chunk in chunks:
                frames = self.video_processor.postprocess_video(chunk, output_type="np")
                on_frames((frames * 255.0).round().astype(np.uint8))
        return None

    def _step_callback(
        self, user_callback: Callable[..., dict[str, Any]] | None, names: Sequence[str]
    ) -> StepCallback | None:
        unknown = [name for name in names if name not in self._callback_tensor_inputs]
        if unknown:
            raise RequestError(
                f"callback_on_step_end_tensor_inputs {unknown} are not among "
                f"{self._callback_tensor_inputs}"
            )
        if user_callback is None:
            return None

        def call(i: int, t: Tensor, tensors: dict[str, Tensor | None]) -> dict[str, Any]:
            return user_callback(self, i, t, {n: tensors[n] for n in names}) or {}

        return call

    @staticmethod
    def _after_step(progress: Any, callback: StepCallback | None) -> StepCallback:
        def call(i: int, t: Tensor, tensors: dict[str, Tensor | None]) -> dict[str, Any]:
            progress.update()
            return {} if callback is None else callback(i, t, tensors)

        return call
