"""Captions as embeddings: on the fly where the text encoder learns, remembered where it does not.

Axes: B batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anyref.pipelines.base import AnyRefPipeline
from anyref.training.cache import ContentCache, content_key, module_key
from anyref.training.engine import at_work


class Texts:
    """The pipeline's text encoder with a memory.

    Args:
        learning: the encoder is trained; nothing is remembered and gradients flow.
    """

    def __init__(self, pipe: AnyRefPipeline, cache: ContentCache, learning: bool) -> None:
        self.pipe, self.cache, self.learning = pipe, cache, learning
        self.length = int(pipe.config.max_sequence_length)
        self.truncated = 0  # captions longer than the encoder reads, so far
        if not learning:
            self._context = content_key(module_key(pipe.text_encoder), str(self.length))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(B, L, D), rows past each text's end zero; counts texts that are cut."""
        lengths = self.pipe.tokenizer(list(texts), verbose=False).input_ids
        self.truncated += sum(len(ids) > self.length for ids in lengths)
        if self.learning:
            return self._embed(list(texts))
        return torch.stack([self._remembered(text) for text in texts])

    def _embed(self, texts: list[str]) -> Tensor:
        device = self.pipe.transformer.device
        return self.pipe._get_t5_prompt_embeds(
            texts, max_sequence_length=self.length, device=device
        )

    @torch.no_grad()
    def _remembered(self, text: str) -> Tensor:
        key = content_key(self._context, text)
        found = self.cache.load(key)
        if found is None:
            device = self.pipe.transformer.device
            # what is remembered must not depend on the precision of the step that asked first
            with (
                torch.autocast(device.type, enabled=False),
                at_work(device, self.pipe.text_encoder),
            ):
                made = self._embed([text])[0]
            self.cache.store(key, {"text": made.cpu()}, {})
            return made
        return found[0]["text"].to(self.pipe.transformer.device)
