"""Objects by phrase: Grounding DINO.

Axes: B pictures, Q queries, L tokens, P phrases
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box, Detection, Picture, check_pairs, check_pictures
from anyref.perception.large_checkpoints import GROUNDING_DINO, LargeModel, batches

if TYPE_CHECKING:
    import torch

STOPS = str.maketrans(".?", "  ")  # end a phrase to the model, so no phrase may hold them


@dataclass(frozen=True)
class _Question:
    """Some phrases about one picture, as the model reads them.

    Args:
        picture: its number. phrases: as they were given. tokens: of the whole text.
        spans: half-open tokens of each phrase.
    """

    picture: int
    phrases: tuple[str, ...]
    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class GroundingDino(LargeModel):
    """Grounding DINO (Liu et al. 2023): the boxes of any phrase, labelled with the phrase given.

    A box belongs to the phrase whose tokens it answers to best on average, as the paper scores
    classes of several tokens, and its score is that of the phrase's best token.

    Args:
        min_score: boxes below are left out (the paper's demonstration uses .25 to .35).
        max_overlap: of two boxes of one phrase that overlap more, the better stays.
    """

    default = GROUNDING_DINO
    vocabulary: frozenset[str] | None = None

    def __init__(
        self, *args: Any, min_score: float = 0.3, max_overlap: float = 0.8, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.min_score = min_score
        self.max_overlap = max_overlap

    @cached_property
    def network(self) -> Any:
        """transformers.GroundingDinoForObjectDetection."""
        return self._load("GroundingDinoForObjectDetection")

    @cached_property
    def tokenizer(self) -> Any:
        """BERT's."""
        return self._load_part("AutoTokenizer")

    @cached_property
    def processor(self) -> Any:
        """Scales to a short side of 800, the long one at most 1333, and normalises."""
        return self._load_image_processor()

    def detect(
        self, pictures: Sequence[Picture], words: Sequence[Sequence[str]] | None = None
    ) -> list[tuple[Detection, ...]]:
        """The objects of each picture, best score first; the label is the phrase as given.

        Pictures of one size go through together, those of other sizes apart, so that no padding
        changes a result.

        Args:
            words: per picture, the phrases to look for; an empty list finds nothing.

        Raises:
            PerceptionError: without words, for a phrase without letters, for pictures of another
                form, lengths that differ, or weights that are missing.
        """
        check_pictures(pictures)
        if words is None:
            raise PerceptionError(
                "Grounding DINO has no vocabulary; give the phrases to look for, such as "
                "words=[['a dog', 'the red car']] for one picture"
            )
        check_pairs(pictures, words, "lists of words")
        questions: dict[tuple[int, ...], list[_Question]] = {}
        for number, phrases in enumerate(words):
            size = pictures[number].shape
            questions.setdefault(size, []).extend(self._questions(number, phrases))
        found: list[list[Detection]] = [[] for _ in pictures]
        for same_size in questions.values():
            for asked in batches(same_size, self.batch):
                answers = self._ask([pictures[question.picture] for question in asked], asked)
                for question, answer in zip(asked, answers, strict=True):
                    found[question.picture] += answer
        return [tuple(_distinct(some, self.max_overlap)) for some in found]

    def _questions(self, picture: int, phrases: Sequence[str]) -> list[_Question]:
        """The phrases in as few texts as the model's length allows."""
        first, stop, last = self.tokenizer.convert_tokens_to_ids(["[CLS]", ".", "[SEP]"])
        room = self.network.config.max_text_len - 1
        questions: list[_Question] = []
        texts: list[tuple[list[str], list[int], list[tuple[int, int]]]] = []
        for phrase in dict.fromkeys(phrases):
            tokens = self.tokenizer(phrase.translate(STOPS).lower(), add_special_tokens=False)
            ids = list(tokens["input_ids"])
            if not 0 < len(ids) <= room - 2:
                raise PerceptionError(
                    f"phrase {phrase!r} has {len(ids)} tokens, not 1 to {room - 2}; name the "
                    "object in a few words"
                )
            if not texts or len(texts[-1][1]) + len(ids) + 1 > room:
                texts.append(([], [first], []))
            names, text, spans = texts[-1]
            names.append(phrase)
            spans.append((len(text), len(text) + len(ids)))
            text += [*ids, stop]
        for names, text, spans in texts:
            questions.append(_Question(picture, tuple(names), (*text, last), tuple(spans)))
        return questions

    def _ask(
        self, pictures: Sequence[Picture], questions: Sequence[_Question]
    ) -> list[list[Detection]]:
        import torch

        images = [Image.fromarray(picture) for picture in pictures]
        values = self.processor(images=images, return_tensors="pt")["pixel_values"]
        length = max(len(question.tokens) for question in questions)
        pad = self.tokenizer.pad_token_id
        rows = [[*q.tokens, *[pad] * (length - len(q.tokens))] for q in questions]
        seen = [[1] * len(q.tokens) + [0] * (length - len(q.tokens)) for q in questions]
        with torch.inference_mode():
            output = self.network(
                pixel_values=values.to(self.network.device, self.network.dtype),
                input_ids=torch.tensor(rows, device=self.network.device),
                attention_mask=torch.tensor(seen, device=self.network.device),
                token_type_ids=torch.zeros_like(torch.tensor(rows), device=self.network.device),
            )
        scores = output.logits.float().sigmoid().cpu()  # (B, Q, L)
        boxes = output.pred_boxes.float().cpu()  # (B, Q, 4), centre and size of 0 to 1
        height, width = pictures[0].shape[:2]
        return [
            self._read(question, scores[row], boxes[row], height, width)
            for row, question in enumerate(questions)
        ]

    def _read(
        self,
        question: _Question,
        scores: torch.Tensor,
        boxes: torch.Tensor,
        height: int,
        width: int,
    ) -> list[Detection]:
        """Detections of the queries' token scores (Q, L) and boxes (Q, 4)."""
        import torch

        parts = [scores[:, start:end] for start, end in question.spans]
        means = torch.stack([part.mean(1) for part in parts], 1)  # (Q, P)
        peaks = torch.stack([part.amax(1) for part in parts], 1)  # (Q, P)
        best = means.argmax(1)  # (Q,)
        found = []
        for query, phrase in enumerate(best.tolist()):
            score = float(peaks[query, phrase])
            if score >= self.min_score:
                box = _corners(boxes[query].tolist(), height, width)
                found.append(Detection(box=box, label=question.phrases[phrase], score=score))
        return found


def _corners(box: Sequence[float], height: int, width: int) -> Box:
    """A box of centre and size, 0 to 1, in pixels and inside the picture."""
    x, y, across, down = box
    edges = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return Box(left * width, top * height, right * width, bottom * height)


def _distinct(detections: Iterable[Detection], max_overlap: float) -> list[Detection]:
    """Best first, without boxes that lie over a better one of the same label."""
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda detection: -detection.score):
        if all(o.label != one.label or o.box.overlap(one.box) <= max_overlap for o in kept):
            kept.append(one)
    return kept
