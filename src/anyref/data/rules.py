"""Small exact rules of the OpenS2V-Nexus pipeline: segments, names, frames, references to keep.

Sources are the scripts and the README of its data_process folder, and its evaluation scripts
(github.com/PKU-YuanGroup/OpenS2V-Nexus, v1.1); the step numbers are those of v1.1.
"""

# Axes: N references

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from anyref.data.masks import area, area_fraction, pairwise_iou
from anyref.data.record import ReferenceKind, SampleReference, Span, Tags
from anyref.errors import DataError

MIN_FACE_FRAMES = 81
FACE_GAP = 0.05  # of the frames looked at
MIN_AESTHETIC = 4.5
MIN_AREA = 1 / 32  # of the frame
MAX_OVERLAP = 0.8
MAX_KEPT = 6
MIN_BOX_TO_GENERATE = 0.08  # of the frame
PEOPLE = frozenset({"person", "human head"})  # labels that step 5 looks for in every clip
ANIMAL_WORDS = """
animal ant bat bear bee beetle bird bull butterfly calf camel cat chick chicken cow crab crow
deer dog dolphin donkey dove duck eagle elephant elk fish flamingo fox frog giraffe goat goose
gorilla hamster hawk hedgehog hen horse kangaroo kitten koala lamb leopard lion lizard llama
monkey moose mouse octopus ostrich otter owl ox panda parrot peacock penguin pet pig pigeon
pony puppy rabbit raccoon rat rooster seagull seal shark sheep snail snake spider squirrel
swan tiger tortoise turkey turtle whale wolf zebra
"""
ANIMALS = frozenset(ANIMAL_WORDS.split())


def face_segments(has_face: Sequence[bool], start: int = 0) -> list[tuple[int, int]]:
    """The stretches of a clip that show a face throughout.

    Step 2 (step2_get_pure_person_clip.py): frames without a face are let pass up to 5 % of the
    frames looked at, rounded up, in a row; a stretch begins and ends with a face and lasts 81
    frames or more.

    Args:
        has_face: for every frame of the cut. start: the number of its first frame in the file.

    Returns:
        half-open frame numbers in the file, in order.
    """
    tolerance = math.ceil(FACE_GAP * len(has_face))
    faces = [frame for frame, seen in enumerate(has_face, start) if seen]
    if not faces:
        return []
    gaps = [k for k in range(1, len(faces)) if faces[k] - faces[k - 1] - 1 > tolerance]
    firsts, lasts = [0, *gaps], [*(k - 1 for k in gaps), len(faces) - 1]
    segments = [(faces[a], faces[b] + 1) for a, b in zip(firsts, lasts, strict=True)]
    return [(a, b) for a, b in segments if b - a >= MIN_FACE_FRAMES]


def cluster_name(source_key: str) -> str:
    """What clips of one source video share: the key before "_segment", else before "_part".

    Step 6 (step6-1_get_cluster.py), which calls this a cluster; nothing else is compared.
    """
    before = source_key.split("_segment", maxsplit=1)[0]
    return before if before != source_key else source_key.split("_part", maxsplit=1)[0]


def choose_references(references: Sequence[SampleReference]) -> list[int]:
    """Which references of one frame are worth keeping, by index in `references`, increasing.

    Step 7 (README of the high-quality subset): aesthetic 4.5 or more; 1/32 of the frame or more;
    of masks that overlap by an IoU over 0.8 the larger (the first of equals); then at most 6, the
    highest aesthetic first. A reference without a mask or an aesthetic score is not kept.

    Raises:
        DataError: as `masks.pairwise_iou`.
    """
    good: list[tuple[int, float]] = []
    sizes: dict[int, int] = {}
    for index, reference in enumerate(references):
        mask, aesthetic = reference.mask, reference.scores.aesthetic
        if mask is None or aesthetic is None or aesthetic < MIN_AESTHETIC:
            continue
        if area_fraction(mask) >= MIN_AREA:
            good.append((index, aesthetic))
            sizes[index] = area(mask)
    masks = [mask for index, _ in good if (mask := references[index].mask) is not None]
    overlap = pairwise_iou(masks)  # (N, N)
    kept: list[int] = []
    for row in sorted(range(len(good)), key=lambda row: -sizes[good[row][0]]):
        if all(overlap[row, other] <= MAX_OVERLAP for other in kept):
            kept.append(row)
    best = sorted(kept, key=lambda row: (-good[row][1], row))[:MAX_KEPT]
    return sorted(good[row][0] for row in best)


def overlap_groups(references: Sequence[SampleReference]) -> list[int]:
    """For every reference of one frame, the first that shows the same thing by its mask.

    Masks with an IoU over 0.8 are one thing under several labels ("person", "woman"), and so is
    what such masks share (the overlap of step 7). Without a mask a reference is its own.

    Raises:
        DataError: as `masks.pairwise_iou`.
    """
    groups = list(range(len(references)))
    masked = [(k, reference.mask) for k, reference in enumerate(references) if reference.mask]
    overlap = pairwise_iou([mask for _, mask in masked])  # (N, N)
    for row, column in np.argwhere(np.triu(overlap, 1) > MAX_OVERLAP).tolist():
        old, new = sorted((groups[masked[row][0]], groups[masked[column][0]]), reverse=True)
        groups = [new if group == old else group for group in groups]
    return groups


def generation_tags(references: Sequence[SampleReference], width: int, height: int) -> list[str]:
    """Labels whose picture step 6 (step6-4_get_gpt-frame.py) may have made anew, sorted, once each.

    Their box covers more than 8 % of the frame. Spaces are underscores, as in its file names.

    Args:
        width, height: of the frame that the boxes are in, pixels.
    """
    tags = set()
    for reference in references:
        if reference.bbox_xyxy is not None:
            x0, y0, x1, y1 = reference.bbox_xyxy
            if (x1 - x0) * (y1 - y0) > MIN_BOX_TO_GENERATE * width * height:
                tags.add(reference.label.replace(" ", "_"))
    return sorted(tags)


def detection_prompt(tags: Tags) -> str:
    """What step 5 (step5-2_get_subject_image.py) asks GroundingDINO for: "park. woman. blue top."

    All tags in lower case; background, then subjects, then objects.
    """
    return "".join(
        f"{tag.lower()}. " for tag in (*tags.background, *tags.subject, *tags.object)
    ).strip()


def reference_kind(label: str, tags: Tags) -> ReferenceKind:
    """The kind of what a tag names.

    A subject of the tags, "person" and "human head" are human unless the last word is an animal;
    a background of the tags is background; all else is object. (Our rule: OpenS2V-5M states none.)
    """
    words = label.lower().split()
    if label in tags.subject or label.lower() in PEOPLE:
        return "object" if words and words[-1] in ANIMALS else "human"
    return "background" if label in tags.background else "object"


def label_span(text: str, label: str) -> Span | None:
    """Half-open characters of the first place where a text says a label, None where it does not.

    Whole words, in any case, with any white space between them.
    """
    words = label.split()
    if not words:
        return None
    pattern = r"(?<!\w)" + r"\s+".join(re.escape(word) for word in words) + r"(?!\w)"
    found = re.search(pattern, text, re.IGNORECASE)
    return found.span() if found else None


def uniform_frames(num_frames: int, count: int = 32) -> list[int]:
    """`count` frame numbers spread from the first frame to the last, rounded down.

    How the benchmark's scripts sample (get_aesscore.py, get_nexusscore.py and others, 32 frames);
    with fewer frames than `count` some repeat.

    Raises:
        DataError: for no frames.
    """
    _check_frames(num_frames, count)
    return [int(frame) for frame in np.linspace(0, num_frames - 1, count)]


def strided_frames(num_frames: int, count: int = 16) -> list[int]:
    """Up to `count` frame numbers from 0 on, `num_frames // count` apart (one at least).

    How NaturalScore samples (get_naturalscore.py, 16 frames); the end of the clip is left out.

    Raises:
        DataError: for no frames.
    """
    _check_frames(num_frames, count)
    step = max(num_frames // count, 1)
    return [frame for frame in range(0, count * step, step) if frame < num_frames]


def _check_frames(num_frames: int, count: int) -> None:
    if num_frames < 1 or count < 1:
        raise DataError(f"{count} of {num_frames} frames cannot be drawn; both must be 1 or more")
