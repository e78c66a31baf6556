"""Kaleido: each reference as a clean latent frame, its tokens before the video's.

Every reference is encoded by itself as a one-frame clip (never several as one clip: the VAE would
see only the first), and set apart from the video by shifted rotary positions (`models.positions`).

Axes: B batch, C channels, H W latent rows and columns of the video, h w of a reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal

import diffusers
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from anyref.errors import ReferencesError, RequestError, SizeError
from anyref.media import fit, letterbox, open_reference_pictures
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.models.positions import ReferenceOffset
from anyref.models.strength import StrengthMap, strength_of_counts
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.encodings import picture_key
from anyref.pipelines.wording import KALEIDO_NEGATIVE_PROMPT
from anyref.request import PixelShape, Reference, Request, ShapeRules

STRENGTH_DEPTH = (
    0.8  # where attention tells best which token is whose: tiny model, docs/strength.md
)
LANCZOS = Image.Resampling.LANCZOS
ReferenceSize = Literal["letterbox", "native"]


def reference_shape(
    picture: Image.Image, shape: PixelShape, size: str, area: float, step: int
) -> tuple[int, int]:
    """Height and width in pixels at which a picture is encoded.

    Args:
        size: "letterbox": the video's own size (released weights); "native": the picture's aspect
            ratio up to whole tokens, as large as fits the video's frame, its area at most `area` of
            the frame's, without white borders.
        step: pixels per token; native sizes are multiples of it, at least one.

    Raises:
        RequestError: for another `size`.
    """
    if size == "letterbox":
        return shape.height, shape.width
    if size != "native":
        raise RequestError(f"reference_size {size!r} is not known; use 'letterbox' or 'native'")
    width, height = fit(picture.width, picture.height, shape.width, shape.height)
    scale = min(1.0, math.sqrt(area * shape.height * shape.width / (height * width)))
    return (
        max(step, round(height * scale / step) * step),
        max(step, round(width * scale / step) * step),
    )


class KaleidoPipeline(AnyRefPipeline):
    """Any-reference video from a Wan-T2V transformer with reference tokens (Kaleido).

    The released constants are the defaults: 512x896, 81 frames, 50 Euler steps, guidance 6,
    shift 7, 16 frames per second, references letterboxed on white to the video's size, rotary
    offset 80. Without references it is plain Wan-T2V.
    """

    request_options: ClassVar[tuple[str, ...]] = (
        "reference_offset",
        "reference_size",
        "strength_map",
    )

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: UMT5EncoderModel,
        vae: AutoencoderKLWan,
        scheduler: Any,
        transformer: KaleidoTransformer3DModel,
        height: int = 512,
        width: int = 896,
        num_frames: int = 81,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        flow_shift: float = 7.0,
        fps: float = 16.0,
        lead_frames: int = 0,
        max_sequence_length: int = 512,
        reference_offset: int | str = 80,
        reference_size: str = "letterbox",
        reference_area: float = 1.0,
        strength_map: str = "attention",
        default_negative_prompt: str = KALEIDO_NEGATIVE_PROMPT,
    ) -> None:
        super().__init__()
        self.register_to_config(
            height=height,
            width=width,
            num_frames=num_frames,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            flow_shift=flow_shift,
            fps=fps,
            lead_frames=lead_frames,
            max_sequence_length=max_sequence_length,
            reference_offset=reference_offset,
            reference_size=reference_size,
            reference_area=reference_area,
            strength_map=strength_map,
            default_negative_prompt=default_negative_prompt,
        )
        self._finish_init(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            scheduler=scheduler,
            transformer=transformer,
        )

    @classmethod
    def check_references(
        cls,
        references: Sequence[Reference],
        defaults: Mapping[str, Any],
        rules: ShapeRules,
        request: Request,
    ) -> None:
        """Refuse, before weights load, positions past the rotary table.

        Raises:
            SizeError: naming the position and the table's length.
        """
        if not references:
            return
        rows = (request.height or defaults["height"]) // (rules.spatial * rules.patch[1])
        columns = (request.width or defaults["width"]) // (rules.spatial * rules.patch[2])
        offset = request.reference_offset
        offset = defaults["reference_offset"] if offset is None else offset
        reach = max(2 * n if offset == "video" else offset + n for n in (rows, columns))
        if reach > rules.max_positions:
            raise SizeError(
                f"references reach rotary position {reach}, the model's table holds "
                f"{rules.max_positions}; use a smaller reference_offset or a smaller video"
            )

    def condition(
        self,
        references: Sequence[Reference],
        shape: PixelShape,
        *,
        seed: int = 0,  # noqa: ARG002 - references keep their order, nothing is drawn
        reference_offset: ReferenceOffset | None = None,
        reference_size: ReferenceSize | None = None,
        reference_latents: Sequence[Tensor] | None = None,
        strength_map: StrengthMap | None = None,
    ) -> Conditioning:
        """Clean latents of every reference picture, in order.

        Args:
            reference_offset: patches past the video's origin (80 in the released weights), or
                "video" for the video's own size (the paper's figure).
            reference_size: see `reference_shape`.
            reference_latents: (1, C, 1, h, w) each, already normalised, in place of pictures.
            strength_map: how references of a strength other than 1 act (`models.strength`).

        Raises:
            ReferencesError: for both pictures and latents, or latents of another shape.
            SizeError: for an offset that is not a whole number of patches or "video".
        """
        offset = self.config.reference_offset if reference_offset is None else reference_offset
        if offset != "video" and not (isinstance(offset, int) and offset >= 0):
            raise SizeError(f"reference_offset {offset!r} must be a whole number >= 0 or 'video'")
        pictures = self._letterboxed(references, shape, reference_size)
        if reference_latents is None:
            latents = [self._encode_picture(picture) for picture in pictures]
        elif pictures:
            raise ReferencesError("give either references or reference_latents, not both")
        else:
            latents = [self._checked(x) for x in reference_latents]
        tokens = (math.prod(x.shape[2:]) // math.prod(self.rules.patch) for x in latents)
        counts = [sum(islice(tokens, len(reference.images))) for reference in references]
        strengths = [reference.strength for reference in references]
        how = strength_map or self.config.strength_map
        return Conditioning(
            strength=strength_of_counts(counts, strengths, how, STRENGTH_DEPTH),
            transformer_kwargs={"reference_hidden_states": latents, "reference_offset": offset},
            pictures={f"reference_{k}": picture for k, picture in enumerate(pictures)},
        )

    def _letterboxed(
        self, references: Sequence[Reference], shape: PixelShape, size: str | None
    ) -> list[Image.Image]:
        step = self.rules.spatial * max(self.rules.patch[1:])
        chosen = size or self.config.reference_size
        native = chosen == "native"
        boxed = []
        for picture in (p for reference in references for p in open_reference_pictures(reference)):
            height, width = reference_shape(
                picture,
                shape,
                chosen,
                self.config.reference_area,
                step,
            )
            boxed.append(
                picture.resize((width, height), LANCZOS)
                if native
                else letterbox(picture, width, height)[0]
            )
        return boxed

    def _encode_picture(self, picture: Image.Image) -> Tensor:
        if self.vae is None:
            raise RequestError("this model folder has no VAE; pass reference_latents")
        key = ("reference", picture_key(picture), self._execution_device)
        return self.encodings.get(self.vae, key, lambda: self._encoded_picture(picture))

    def _encoded_picture(self, picture: Image.Image) -> Tensor:
        frame = self.video_processor.preprocess(picture)[:, :, None]  # (1, 3, 1, Y, X)
        return self.encode_video(frame.to(self._execution_device))

    def _checked(self, latents: Tensor) -> Tensor:
        channels, (_, rows, columns) = self.latent_channels, self.rules.patch
        good = latents.ndim == 5 and tuple(latents.shape[:3]) == (1, channels, 1)
        if not good or latents.shape[3] % rows or latents.shape[4] % columns:
            raise ReferencesError(
                f"reference latents are {tuple(latents.shape)}, must be (1, {channels}, 1, h, w) "
                f"with h a multiple of {rows} and w of {columns}"
            )
        return torch.as_tensor(latents)


# DiffusionPipeline.from_pretrained looks the class of a model_index.json up by name in diffusers
diffusers.KaleidoPipeline = KaleidoPipeline
