"""The small text encoder learns to read: which subject of a sentence does what.

Wan's text encoder comes trained on text. The small one starts from nothing, and the loss of a video
says too little about words: trained only through it, two layers never told which of two subjects a
phrase belongs to (docs/log.md). So the encoder reads captions first. A head of one cross-attention,
thrown away afterwards, answers for each subject how it moves.

Axes: B captions, K subjects, L tokens, D width, M motions.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from anyref.lab.captions import Motion, caption
from anyref.lab.catalog import Catalog, Split
from anyref.lab.world import LANE_MOTIONS

MENTION = re.compile(r"@([\w-]+)")
MOTIONS = tuple(Motion)
MOST_SUBJECTS = 3
WITHOUT_PLACE = 0.1  # share of captions that name no background


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How long and how fast: steps of `batch` captions; AdamW's rate falls to 0 as a cosine."""

    steps: int = 3000
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0


class Reader(nn.Module):
    """One question per (number of subjects, subject): how does it move?"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.questions = nn.Parameter(torch.randn(MOST_SUBJECTS, MOST_SUBJECTS, width) * 0.5)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.answer = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(MOTIONS))
        )

    def forward(self, embeddings: Tensor, mask: Tensor, subjects: int) -> Tensor:
        """(B, K, M) logits. embeddings: (B, L, D). mask: (B, L) bool, True at tokens."""
        asked = self.questions[subjects - 1, :subjects].expand(len(embeddings), -1, -1)
        read, _ = self.attention(asked, embeddings, embeddings, key_padding_mask=~mask)
        logits: Tensor = self.answer(read + asked)
        return logits


def draw_sentences(
    rng: random.Random, catalog: Catalog, split: Split, count: int, subjects: int
) -> tuple[list[str], Tensor]:
    """Captions with names in words, and (count, subjects) int64 numbers of the motions."""
    names = [subject.name for subject in catalog.subjects(split)]
    places = [background.name for background in catalog.backgrounds(split)]
    possible = LANE_MOTIONS if subjects > 1 else MOTIONS
    texts, motions = [], []
    for _ in range(count):
        cast = [(rng.choice(names), rng.choice(possible)) for _ in range(subjects)]
        place = None if rng.random() < WITHOUT_PLACE else rng.choice(places)
        sentence = caption(rng, cast, place)
        texts.append(MENTION.sub(lambda m: re.sub("[_-]", " ", m[1]), sentence))
        motions.append([MOTIONS.index(motion) for _, motion in cast])
    return texts, torch.tensor(motions)


def learn_to_read(
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerBase,
    catalog: Catalog,
    how: Reading,
    on_step: Callable[[int, float], None],
) -> Reader:
    """Train the encoder in place on captions of the train split; the head that asked it.

    Args:
        on_step: told of each step's number and loss.
    """
    torch.manual_seed(how.seed)
    reader = Reader(encoder.config.d_model)
    parameters = [*encoder.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(parameters, how.rate)
    rng = random.Random(how.seed)
    for step in range(how.steps):
        for group in optimiser.param_groups:
            group["lr"] = how.rate * 0.5 * (1 + math.cos(math.pi * step / how.steps))
        subjects = 1 + step % MOST_SUBJECTS
        texts, motions = draw_sentences(rng, catalog, "train", how.batch, subjects)
        logits = _read(encoder, reader, tokenizer, texts, subjects)
        loss = F.cross_entropy(logits.flatten(0, 1), motions.flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        on_step(step, loss.item())
    return reader


@torch.no_grad()
def understood(
    encoder: UMT5EncoderModel,
    reader: Reader,
    tokenizer: PreTrainedTokenizerBase,
    catalog: Catalog,
    split: Split,
    count: int = 300,
) -> tuple[float, ...]:
    """Share of subjects whose motion is read right, in sentences of one, two and three."""
    shares = []
    for subjects in range(1, MOST_SUBJECTS + 1):
        rng = random.Random(f"understood/{subjects}")
        texts, motions = draw_sentences(rng, catalog, split, count, subjects)
        answers = _read(encoder, reader, tokenizer, texts, subjects).argmax(dim=-1)
        shares.append(float((answers == motions).float().mean()))
    return tuple(shares)


def _read(
    encoder: UMT5EncoderModel,
    reader: Reader,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    subjects: int,
) -> Tensor:
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    embeddings = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    logits: Tensor = reader(embeddings, tokens.attention_mask.bool(), subjects)
    return logits
