"""Captions and the phrases of subjects: Qwen2.5-VL and its kin, asked for JSON.

The frames of a clip go in as pictures in order, through the PIL image processor: the library's
video processors need torchvision. A frame's tokens take the place of its one `<|image_pad|>` here.

Axes: B clips, L tokens
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from PIL import Image

from anyref.errors import PerceptionError
from anyref.perception.contracts import Description, Picture, check_pictures
from anyref.perception.large_checkpoints import QWEN_VL, LargeModel, batches

PROMPT = """These pictures are frames of one video clip, in order of time.
Write one caption of two to four sentences in English. Say who and what is seen, how each looks, \
what each does and how the scene and the camera move. Write what is visible, guess nothing.
Then list the subjects: people, animals and distinct things that matter in the clip, at most six, \
the most important first. A subject is named by a short phrase copied letter by letter from the \
caption that fits no other subject, such as "the old man in a blue coat". The scenery is none.
Answer with one JSON object and nothing else:
{"caption": "...", "subjects": ["...", "..."]}"""
AGAIN = """That answer cannot be used. Answer with one JSON object alone, with the text "caption" \
and the list "subjects"; every subject is a phrase copied letter by letter from the caption."""
IMAGE = "<|image_pad|>"
PIXELS = 256 * 28 * 28  # of a frame at most: 256 tokens of Qwen2.5-VL
SHOWN = 200  # letters of an answer that an error quotes


class QwenCaptioner(LargeModel):
    """Qwen2.5-VL (Bai et al. 2025), or another model of transformers that takes its inputs.

    Decodes greedily. An answer that cannot be read is shown to the model, and asked for again.

    Args:
        prompt: what is asked about the frames. max_pixels: of a frame, as the model sees it.
        max_tokens: of an answer. attempts: how often one clip is asked about.
    """

    default = QWEN_VL
    default_dtype = "bfloat16"
    default_batch = 4

    def __init__(
        self,
        *args: Any,
        prompt: str = PROMPT,
        max_pixels: int = PIXELS,
        max_tokens: int = 512,
        attempts: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.prompt = prompt
        self.max_pixels = max_pixels
        self.max_tokens = max_tokens
        self.attempts = attempts

    @cached_property
    def network(self) -> Any:
        """The model that the folder's configuration names."""
        return self._load("AutoModelForImageTextToText")

    @cached_property
    def tokenizer(self) -> Any:
        """With its chat template; pads on the left, as generation needs."""
        tokenizer = self._load_part("AutoTokenizer", padding_side="left")
        if tokenizer.chat_template is None:
            raise PerceptionError(
                f"the tokenizer of {self.checkpoint.source!r} has no chat template; give an "
                "instruction-tuned model"
            )
        return tokenizer

    @cached_property
    def processor(self) -> Any:
        """Cuts pictures into patches."""
        return self._load_image_processor()

    def describe(self, clips: Sequence[Sequence[Picture]]) -> list[Description]:
        """A description per clip.

        Raises:
            PerceptionError: for a clip without frames, frames that are no uint8 RGB arrays, an
                answer that cannot be read `attempts` times, or weights that are missing.
        """
        talks: dict[int, list[dict[str, Any]]] = {}
        for number, frames in enumerate(clips):
            talks[number] = [self._question(frames, number)]
        done: dict[int, Description] = {}
        for attempt in range(1, self.attempts + 1):
            for some in batches(list(talks), self.batch):
                answers = self.answer([talks[n] for n in some], [clips[n] for n in some])
                for number, answer in zip(some, answers, strict=True):
                    try:
                        done[number] = read_description(answer)
                    except PerceptionError as error:
                        if attempt == self.attempts:
                            raise PerceptionError(
                                f"clip {number} of {len(clips)}, attempt {attempt}: {error}"
                            ) from error
                        talks[number] += _asked_again(answer)
            talks = {number: talk for number, talk in talks.items() if number not in done}
        return [done[number] for number in range(len(clips))]

    def answer(
        self, talks: Sequence[Sequence[dict[str, Any]]], clips: Sequence[Sequence[Picture]]
    ) -> list[str]:
        """What the model says next in each talk about a clip.

        Args:
            talks: messages as transformers' chat templates take them, with one entry of type
                `image` for each frame.
        """
        import torch

        inputs = self._inputs(talks, clips)
        with torch.inference_mode():
            tokens = self.network.generate(
                **inputs,
                max_new_tokens=self.max_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id,
            )  # (B, L)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return self.tokenizer.batch_decode(new, skip_special_tokens=True)

    def _question(self, frames: Sequence[Picture], number: int) -> dict[str, Any]:
        check_pictures(frames)
        if len(frames) == 0:
            raise PerceptionError(f"clip {number} has no frames; give at least one")
        pictures = [{"type": "image"} for _ in frames]
        return {"role": "user", "content": [*pictures, {"type": "text", "text": self.prompt}]}

    def _inputs(
        self, talks: Sequence[Sequence[dict[str, Any]]], clips: Sequence[Sequence[Picture]]
    ) -> dict[str, Any]:
        """Arguments of `generate` on the network's device."""
        images = [Image.fromarray(frame) for frames in clips for frame in frames]
        limits = {
            "shortest_edge": min(self.max_pixels, self.processor.size["shortest_edge"]),
            "longest_edge": self.max_pixels,
        }
        seen = self.processor(images=images, size=limits, return_tensors="pt")
        merged = self.processor.merge_size**2
        lengths = iter((seen["image_grid_thw"].prod(-1) // merged).tolist())
        texts = [
            self._text(talk, len(frames), lengths)
            for talk, frames in zip(talks, clips, strict=True)
        ]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        image = self.tokenizer.convert_tokens_to_ids(IMAGE)
        device = self.network.device
        return {
            "input_ids": tokens["input_ids"].to(device),
            "attention_mask": tokens["attention_mask"].to(device),
            "mm_token_type_ids": (tokens["input_ids"] == image).int().to(device),
            "pixel_values": seen["pixel_values"].to(device, self.network.dtype),
            "image_grid_thw": seen["image_grid_thw"].to(device),
        }

    def _text(self, talk: Sequence[dict[str, Any]], frames: int, lengths: Any) -> str:
        """A talk as text in which every frame has as many image tokens as the network makes."""
        text = self.tokenizer.apply_chat_template(
            list(talk), tokenize=False, add_generation_prompt=True
        )
        before, *after = text.split(IMAGE)
        if len(after) != frames:
            raise PerceptionError(
                f"the chat template of {self.checkpoint.source!r} makes {len(after)} places for "
                f"{frames} frames; give a model of the Qwen2-VL family"
            )
        return before + "".join(IMAGE * next(lengths) + part for part in after)


def read_description(answer: str) -> Description:
    """The description in a model's answer: one JSON object, alone or in a fenced block.

    Phrases that differ from the caption in letter case only get the caption's; repeated ones count
    once. They come back in the order of their first mention.

    Raises:
        PerceptionError: for anything but an object with exactly the text `caption` and the list of
            texts `subjects`, none empty, or a subject that is not in the caption.
    """
    text = answer.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") : -3]
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _unreadable(answer, f"it is not JSON ({error})") from error
    if not isinstance(value, dict) or set(value) != {"caption", "subjects"}:
        raise _unreadable(answer, "it is not one object with the keys caption and subjects")
    caption, subjects = value["caption"], value["subjects"]
    if not isinstance(caption, str) or not caption.strip():
        raise _unreadable(answer, "the caption is not a text")
    if not isinstance(subjects, list) or not all(
        isinstance(s, str) and s.strip() for s in subjects
    ):
        raise _unreadable(answer, "subjects is not a list of texts")
    caption = " ".join(caption.split())
    places: dict[str, int] = {}
    for subject in subjects:
        phrase = " ".join(subject.split())
        start = caption.lower().find(phrase.lower())
        if start < 0:
            raise _unreadable(answer, f"the subject {phrase!r} is not in the caption")
        places.setdefault(caption[start : start + len(phrase)], start)
    return Description(text=caption, subjects=tuple(sorted(places, key=lambda p: places[p])))


def _asked_again(answer: str) -> list[dict[str, Any]]:
    """The turns of a talk after an answer that cannot be read."""
    return [
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        {"role": "user", "content": [{"type": "text", "text": AGAIN}]},
    ]


def _unreadable(answer: str, problem: str) -> PerceptionError:
    return PerceptionError(
        f"{problem}; the model answered {answer[:SHOWN]!r}; ask again, allow more tokens or give a "
        "larger model"
    )
