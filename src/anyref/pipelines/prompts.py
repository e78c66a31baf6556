"""From a prompt to text embeddings, and to the tokens that name each reference.

Axes: B batch, L text tokens, D width.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import ftfy
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor

from anyref.errors import ModelError, PromptError, RequestError
from anyref.pipelines.encodings import Encodings
from anyref.request import MENTION_PATTERN, Reference, resolve_mentions, split_mentions

IMAGE_TEXT_TOKENS = 512  # Wan's image branch takes this many trailing tokens as text
Span = tuple[int, int]  # characters [start, end)


def subject_tokens(
    tokenizer: Any, prompt: str, references: Sequence[Reference], max_length: int
) -> tuple[tuple[int, ...], ...]:
    """Which text tokens name each reference.

    Args:
        tokenizer: a fast one, as it knows the characters of each token.
        prompt: with its mentions. All mentions of a reference count.
        max_length: tokens that the text encoder reads; later ones are left out.

    Returns:
        for each reference, ascending indices into the text's embeddings; none for one without a
        name. A token that holds any character of the words counts.

    Raises:
        ModelError: for a tokenizer without offsets.
        PromptError, ReferencesError: as `resolve_mentions` and `subject_spans`.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell the characters of its tokens, which "
            "disentanglement needs; save the model with a fast tokenizer (tokenizer.json)"
        )
    text, spans = subject_spans(prompt, references)
    encoded = tokenizer(
        text,
        max_length=max_length,
        truncation=True,
        add_special_tokens=True,
        return_offsets_mapping=True,
    )
    offsets = encoded["offset_mapping"]
    return tuple(
        tuple(
            i
            for i, (start, end) in enumerate(offsets)
            if any(start < stop and end > begin for begin, stop in own)
        )
        for own in spans
    )


def subject_spans(
    prompt: str, references: Sequence[Reference]
) -> tuple[str, tuple[tuple[Span, ...], ...]]:
    """The text that reaches the tokenizer, and where in it each reference is named.

    The stock pipeline repairs encodings, decodes HTML entities and collapses white space before it
    tokenizes; the pieces between mentions are cleaned one by one here, so that the places are
    known, and the result must be the same.

    Raises:
        PromptError: when it is not: a mention grows together with the characters beside it.
        PromptError, ReferencesError: as `resolve_mentions`.
    """
    pieces = [(_repaired(text), index) for text, index in split_mentions(prompt, references)]
    spans: list[list[Span]] = [[] for _ in references]
    text = ""
    for piece, index in pieces:
        start = _collapsed_length(text, piece)
        text = re.sub(r"\s+", " ", text + piece).lstrip()
        end = len(text.rstrip())
        if index is not None and start < end:
            spans[index].append((start, end))
    text = text.rstrip()
    if text != prompt_clean(resolve_mentions(prompt, references)):
        raise PromptError(
            "a mention grows together with the characters beside it (an accent, an HTML entity); "
            "put a space between them, or write the words out without @"
        )
    return text, tuple(tuple(own) for own in spans)


def _repaired(text: str) -> str:
    """The stock cleaning (`basic_clean`) without its stripping."""
    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _collapsed_length(text: str, piece: str) -> int:
    """Where the first visible character of `piece` lands behind the collapsed `text`."""
    blank = piece[:1].isspace() and bool(text) and not text.endswith(" ")
    return len(text) + int(blank)


class PromptEncoding:
    """The text path of both families: UMT5, padding rows zeroed, no attention mask."""

    encode_prompt = WanPipeline.encode_prompt

    def _get_t5_prompt_embeds(
        self,
        prompt: str | list[str] | None = None,
        num_videos_per_prompt: int = 1,
        max_sequence_length: int = 226,
        device: Any = None,
        dtype: Any = None,
    ) -> Tensor:
        texts = (prompt,) if isinstance(prompt, str) else tuple(prompt or ())
        rest = (num_videos_per_prompt, max_sequence_length, device, dtype)
        known = self.encodings.get(
            self.text_encoder,
            ("text", texts, *rest),
            lambda: WanPipeline._get_t5_prompt_embeds(self, prompt, *rest),
        )
        return known.clone()  # callbacks may write to it

    tokenizer: Any
    text_encoder: Any
    transformer: Any
    config: Any
    _execution_device: Any
    encodings: Encodings

    def _encode_text(
        self,
        prompt: str | list[str] | None,
        references: Sequence[Reference],
        negative_prompt: str | list[str] | None,
        guided: bool,
        embeds: tuple[Tensor | None, Tensor | None],
        max_sequence_length: int | None,
    ) -> tuple[Tensor, Tensor | None]:
        length = max_sequence_length or self.config.max_sequence_length
        if self.transformer.config.image_dim is not None and length != IMAGE_TEXT_TOKENS:
            raise RequestError(
                f"max_sequence_length {length} does not work with an image encoder: the "
                "transformer takes the last 512 tokens as text; use 512"
            )
        self._check_embeds(embeds, negative_prompt)
        if isinstance(prompt, str):
            prompt = resolve_mentions(prompt, references)
        elif prompt is not None:
            prompt = [resolve_mentions(p, references) for p in prompt]
        if negative_prompt is None and embeds[1] is None:
            negative_prompt = self.config.default_negative_prompt
        if isinstance(prompt, list) and isinstance(negative_prompt, str):
            negative_prompt = [negative_prompt] * len(prompt)
        self._check_text(prompt, negative_prompt, guided, embeds, length)
        positive, negative = self.encode_prompt(
            prompt=prompt,
            negative_prompt=negative_prompt,
            do_classifier_free_guidance=guided,
            prompt_embeds=embeds[0],
            negative_prompt_embeds=embeds[1],
            max_sequence_length=length,
            device=self._execution_device,
        )
        dtype = self.transformer.dtype
        return positive.to(dtype), None if negative is None else negative.to(dtype)

    def _check_embeds(
        self, embeds: tuple[Tensor | None, Tensor | None], negative_prompt: str | list[str] | None
    ) -> None:
        if negative_prompt is not None and embeds[1] is not None:
            raise PromptError("give either negative_prompt or negative_prompt_embeds, not both")
        texts = [negative_prompt] if isinstance(negative_prompt, str) else negative_prompt or []
        if any(name for text in texts for name in MENTION_PATTERN.findall(text)):
            raise PromptError("the negative prompt mentions a reference; describe it in words")
        if self.transformer.config.image_dim is None:
            return
        for tensor in embeds:
            if tensor is not None and tensor.shape[1] != IMAGE_TEXT_TOKENS:
                raise PromptError(
                    f"prompt embeddings of {tensor.shape[1]} tokens do not work with an image "
                    f"branch: the transformer takes the last 512 tokens as text; pad to 512"
                )

    def _check_text(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None,
        guided: bool,
        embeds: tuple[Tensor | None, Tensor | None],
        length: int,
    ) -> None:
        if (prompt is None) == (embeds[0] is None):
            raise PromptError("give either prompt or prompt_embeds, not both and not neither")
        needed = [prompt] if embeds[0] is None else []
        if guided and embeds[1] is None:
            needed.append(negative_prompt)
        if needed and (self.text_encoder is None or self.tokenizer is None):
            raise PromptError(
                "this model folder has no text encoder or tokenizer; pass prompt_embeds, and "
                "negative_prompt_embeds or guidance_scale=1"
            )
        for text in needed:
            for line in [text] if isinstance(text, str) else text or []:
                count = len(self.tokenizer(line).input_ids)
                if count > length:
                    raise PromptError(
                        f"a prompt is {count} tokens long, the text encoder reads {length}; "
                        "shorten it"
                    )
