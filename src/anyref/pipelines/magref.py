"""MAGREF: all references on one canvas, joined with a region mask on the channel axis.

The canvas is encoded as the first frame of an otherwise empty video, as Wan-I2V encodes its first
frame; the mask that marks the pictures' rectangles takes the place of Wan's all-ones mask
(MAGREF paper sec. 3.1, subject2video.py).

Axes: B batch, C channels, F latent frames, H W latent rows and columns, Y X pixels.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModel, PreTrainedTokenizerBase, UMT5EncoderModel

from anyref.errors import ReferencesError, RequestError
from anyref.media import WHITE, open_mask, open_reference_pictures
from anyref.models.disentanglement import Disentanglement
from anyref.models.strength import ReferenceStrength, StrengthMap, strength_of_regions
from anyref.pipelines.base import AnyRefPipeline, ReferenceInput, as_references
from anyref.pipelines.canvas import arrange, canvas_cells, default_layout, rectangles, silhouette
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.encodings import picture_key
from anyref.pipelines.still_tail import encode_before_zeros
from anyref.pipelines.wording import MAGREF_NEGATIVE_PROMPT
from anyref.request import Layout, PixelShape, Reference, Request, ShapeRules

STRENGTH_DEPTH = (
    0.4  # where attention tells best which token is whose: tiny model, docs/strength.md
)
CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
NO_REFERENCES = "no references given; MAGREF needs at least one (or a canvas of your own)"
NO_IMAGE_ENCODER = (
    "this model has an image branch but its folder has no image encoder; convert it with one, "
    "or pass image_embeds"
)


class MagrefPipeline(AnyRefPipeline):
    """Any-reference video from a Wan-I2V transformer (MAGREF).

    Stock components: `WanTransformer3DModel` with 2C + 4 input channels, `AutoencoderKLWan`,
    `UMT5EncoderModel`, `CLIPVisionModel` (None for models without an image branch). The released
    constants are the defaults: 480x832, 81 frames of which 4 lead frames are cut, 40 steps,
    guidance 5, shift 3, 15 frames per second.
    """

    request_options: ClassVar[tuple[str, ...]] = (
        "layout",
        "shuffle",
        "disentangle",
        "strength_map",
    )

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: UMT5EncoderModel,
        vae: AutoencoderKLWan,
        scheduler: Any,
        transformer: WanTransformer3DModel,
        image_encoder: CLIPVisionModel | None = None,
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        num_inference_steps: int = 40,
        guidance_scale: float = 5.0,
        flow_shift: float = 3.0,
        fps: float = 15.0,
        lead_frames: int = 4,
        max_sequence_length: int = 512,
        layout: str | None = None,
        shuffle: bool = True,
        strength_map: str = "attention",
        default_negative_prompt: str = MAGREF_NEGATIVE_PROMPT,
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
            layout=layout,
            shuffle=shuffle,
            strength_map=strength_map,
            default_negative_prompt=default_negative_prompt,
        )
        self._finish_init(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            scheduler=scheduler,
            transformer=transformer,
            image_encoder=image_encoder,
        )

    @classmethod
    def check_references(
        cls,
        references: Sequence[Reference],
        defaults: Mapping[str, Any],
        rules: ShapeRules,  # noqa: ARG003 - the other family needs it
        request: Request,
    ) -> None:
        """Refuse references that the canvas cannot hold.

        Raises:
            ReferencesError: none at all, more than the layout's cells, a box out of bounds, or
                disentanglement without a named reference.
        """
        count = sum(len(reference.images) for reference in references)
        if count == 0:
            raise ReferencesError(NO_REFERENCES)
        layout: Layout = request.layout or defaults["layout"] or default_layout(count)
        height, width = request.height or defaults["height"], request.width or defaults["width"]
        canvas_cells(layout, count, height, width)
        if request.disentangle:
            check_named(references)

    def make_canvas(
        self,
        references: Sequence[ReferenceInput],
        height: int | None = None,
        width: int | None = None,
        layout: Layout | None = None,
        shuffle: bool | None = None,
        seed: int = 0,
    ) -> tuple[Image.Image, Tensor]:
        """The composite canvas and its latent mask (paper Eq. 1 and 2).

        Args:
            layout: see `canvas_cells`; the configured one, else `default_layout`, when None.
            shuffle: draw order and cells from `seed`; as configured when None. Boxes of your own
                are never shuffled.

        Returns:
            an RGB picture of width x height, and a bool (H, W) mask: a latent cell is true when
            any of its pixels lies on a picture (max-pool of the pixel mask).

        Raises:
            ReferencesError: for no picture at all, or more than the layout holds.
        """
        height, width = height or self.config.height, width or self.config.width
        values = as_references(references)
        canvas, mask, _ = self._compose(values, height, width, layout, shuffle, seed)
        return canvas, mask

    def _compose(
        self,
        references: Sequence[Reference],
        height: int,
        width: int,
        layout: Layout | None,
        shuffle: bool | None,
        seed: int,
    ) -> tuple[Image.Image, Tensor, Tensor]:
        """Canvas, its latent mask (H, W), and the region (K, H, W) of each reference.

        The mask has whole rectangles, as the checkpoint was trained; a region is the silhouette of
        a reference that has a mask. Pictures of one reference share a region.
        """
        pictures = [open_reference_pictures(reference) for reference in references]
        flat = [picture for views in pictures for picture in views]
        if not flat:
            raise ReferencesError(NO_REFERENCES)
        chosen: Layout = layout or self.config.layout or default_layout(len(flat))
        cells = canvas_cells(chosen, len(flat), height, width)
        drawn = self.config.shuffle if shuffle is None else shuffle
        rng = random.Random(seed) if drawn and isinstance(chosen, str) else None
        canvas, boxes = arrange(flat, cells, height, width, rng)
        regions, first = [], 0
        for reference, views in zip(references, pictures, strict=True):
            own = boxes[first : first + len(views)]
            first += len(views)
            if reference.mask is None:
                regions.append(rectangles(own, height, width))
            else:
                mask = open_mask(reference, views[0].size)
                regions.append(silhouette(mask, own[0], height, width))
        masks = torch.stack([rectangles(boxes, height, width), *regions])  # (1 + K, Y, X)
        masks = F.max_pool2d(masks[:, None].float(), self.rules.spatial)[:, 0].bool()
        return canvas, masks[0], masks[1:]

    def condition(
        self,
        references: Sequence[Reference],
        shape: PixelShape,
        *,
        seed: int = 0,
        layout: Layout | None = None,
        shuffle: bool | None = None,
        disentangle: float | Disentanglement | None = None,
        strength_map: StrengthMap | None = None,
        image_embeds: Tensor | None = None,
        canvas: Image.Image | None = None,
        latent_mask: Tensor | None = None,
    ) -> Conditioning:
        """Region mask and canvas latents as channels, CLIP tokens of the canvas.

        Args:
            layout, shuffle: see `make_canvas`.
            disentangle: strength of subject disentanglement, or all its choices; a named
                reference's words then act on its region (`models.disentanglement`).
            strength_map: how references of a strength other than 1 act (`models.strength`).
            image_embeds: (1, 257, D) in place of CLIP's.
            canvas: your own first frame in place of references, of exactly this size.
            latent_mask: bool (H, W) for it; all ones (plain Wan-I2V) when absent.

        Returns:
            channels (1, temporal + C, F, H, W): mask first, then canvas latents; regions
            (K, H, W) of the references.
        """
        regions, strength = None, None
        if isinstance(disentangle, (int, float)):
            disentangle = Disentanglement(float(disentangle))
        if disentangle is not None and disentangle.alpha > 0:
            check_named(references)
        if canvas is None:
            canvas, latent_mask, regions = self._compose(
                references, shape.height, shape.width, layout, shuffle, seed
            )
            strength = self._strength(references, regions, strength_map)
        elif references:
            raise RequestError("give either references or a canvas of your own, not both")
        elif canvas.size != (shape.width, shape.height):
            raise RequestError(f"canvas is {canvas.size}, must be {(shape.width, shape.height)}")
        cells = self.rules.latent(shape)
        if latent_mask is None:
            latent_mask = torch.ones(cells.height, cells.width, dtype=torch.bool)
        if self.vae is None:
            raise RequestError("this model folder has no VAE, which MAGREF needs for the canvas")
        latents = self._encode_canvas(canvas, shape)  # (1, C, F, H, W)
        mask = torch.zeros(1, self.rules.temporal, *latents.shape[2:]).to(latents)
        mask[:, :, 0] = latent_mask.to(latents)
        if image_embeds is None and self.image_encoder is not None:
            key = ("clip", picture_key(canvas), self._execution_device)
            image_embeds = self.encodings.get(
                self.image_encoder, key, lambda: self.encode_image(canvas)
            )
        self._check_image_branch(image_embeds)
        return Conditioning(
            channels=torch.cat([mask, latents], dim=1),
            image_embeds=image_embeds,
            regions=regions,
            disentangle=disentangle,
            strength=strength,
            pictures={"canvas": canvas, "mask": _mask_picture(latent_mask, canvas.size)},
        )

    def _strength(
        self, references: Sequence[Reference], regions: Tensor, how: StrengthMap | None
    ) -> ReferenceStrength | None:
        strengths = [reference.strength for reference in references]
        how = how or self.config.strength_map
        return strength_of_regions(regions, self.rules.patch, strengths, how, STRENGTH_DEPTH)

    def unconditioned(self, shape: PixelShape) -> Conditioning:
        """An empty white canvas without a region."""
        cells = self.rules.latent(shape)
        return self.condition(
            (),
            shape,
            canvas=Image.new("RGB", (shape.width, shape.height), WHITE),
            latent_mask=torch.zeros(cells.height, cells.width, dtype=torch.bool),
        )

    def _check_image_branch(self, image_embeds: Tensor | None) -> None:
        width = self.transformer.config.image_dim
        if width is not None and image_embeds is None:
            raise RequestError(NO_IMAGE_ENCODER)
        if width is None and image_embeds is not None:
            raise RequestError("image_embeds given to a model without an image branch; drop them")
        if image_embeds is not None and (image_embeds.ndim != 3 or image_embeds.shape[2] != width):
            raise RequestError(
                f"image_embeds are {tuple(image_embeds.shape)}, must be (batch, tokens, {width})"
            )

    def _encode_canvas(self, canvas: Image.Image, shape: PixelShape) -> Tensor:
        key = ("canvas", picture_key(canvas), shape, self._execution_device)
        return self.encodings.get(self.vae, key, lambda: self._encoded_canvas(canvas, shape))

    def _encoded_canvas(self, canvas: Image.Image, shape: PixelShape) -> Tensor:
        frame = self.video_processor.preprocess(canvas, height=shape.height, width=shape.width)
        frame = frame[:, :, None].to(self._execution_device, self.vae.dtype)  # (1, 3, 1, Y, X)
        return self.normalise(encode_before_zeros(self.vae, frame, shape.num_frames))

    @torch.no_grad()
    def encode_image(self, canvas: Image.Image) -> Tensor:
        """CLIP tokens (1, 257, D) of the whole canvas, squashed to 224x224 without cropping.

        Bicubic without antialiasing, all blocks but the last (MAGREF clip.py, subject2video.py).
        """
        encoder = self.image_encoder
        pixels = self.video_processor.preprocess(canvas)  # (1, 3, Y, X) in [-1, 1]
        pixels = F.interpolate(pixels, (CLIP_SIZE, CLIP_SIZE), mode="bicubic", align_corners=False)
        mean = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
        std = torch.tensor(CLIP_STD).view(1, 3, 1, 1)
        pixels = ((pixels * 0.5 + 0.5) - mean) / std
        pixels = pixels.to(self._execution_device, encoder.dtype)
        return encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]


def check_named(references: Sequence[Reference]) -> None:
    """Raise ReferencesError when no reference has words that disentanglement could act with."""
    if not any(reference.name for reference in references):
        raise ReferencesError(
            "disentanglement adds a reference's words to its region, and no reference has a name; "
            "name one and mention it in the prompt as @name, or leave disentangle out"
        )


def _mask_picture(latent_mask: Tensor, size: tuple[int, int]) -> Image.Image:
    cells = Image.fromarray(latent_mask.to(torch.uint8).mul(255).cpu().numpy())
    return cells.resize(size, Image.Resampling.NEAREST)


# DiffusionPipeline.from_pretrained looks the class of a model_index.json up by name in diffusers
diffusers.MagrefPipeline = MagrefPipeline
