"""Does the video show the things that the prompt names, as far as the small models have words?"""

# Axes: K sampled frames, G words of the namer

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from anyref.data.crops import box_around, crop_of
from anyref.data.labels import HUMAN, PERSON, namer_among
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Outcome, Score, Skipped
from anyref.evaluation.metrics.base import GradeMetric, mean
from anyref.evaluation.metrics.sightings import Scene, scene_of
from anyref.evaluation.metrics.subject import NOTHING
from anyref.perception.contracts import Perceiver
from anyref.perception.small import Grade

PEOPLE = HUMAN | {"men", "women", "boys", "girls", "children", "kid", "kids", "persons", "babies"}
IRREGULAR = {"knives": "knife", "wolves": "wolf", "people": PERSON}
SORTS = {
    "bird": "owl parrot duck goose swan eagle penguin pelican flamingo pigeon gull hen rooster",
    "dog": "puppy retriever husky poodle terrier spaniel dachshund labrador collie",
    "cat": "kitten tabby",
    "horse": "pony foal",
    "sheep": "lamb",
    "cow": "calf",
    "airplane": "aeroplane plane airliner",
    "boat": "ship yacht canoe",
    "bicycle": "bike",
    "motorcycle": "motorbike",
    "truck": "lorry dumper",
    "couch": "sofa",
    "tv": "television",
    "sports ball": "football basketball",
}  # words for what the models have one word for
HOMONYMS = frozenset(
    {"mouse", "orange", "remote"}
)  # models mean the computer's, the fruit, a device
GAP = r"(?<![\w])({})(?![\w])"  # around a word


class TextRelevance(GradeMetric):
    """Mean over the things that the prompt names of how surely they are seen.

    Things are those that the object detector or the namer has a word for (80 and 49), also in the
    plural and by their sorts: an owl is a bird, a man a person. How surely: the largest score of a
    detection, probability of a region, or score of a face for a person in a frame, averaged over
    sampled frames. Verbs, colours, places and all other words are not looked at: a weak stand-in
    for CLIP or GME. (Ours.)
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="text_relevance",
            about="How surely the things that the prompt names are seen, of words models know.",
            direction="higher",
            low=0,
            high=1,
            needs=frozenset({"video", "prompt"}),
            grade=self.grade,
            version=2,
        )

    def uses(self) -> Sequence[Perceiver]:
        """Detector, segmenters, the namer, and the embedder of the regions."""
        grade = self.models
        namer = namer_among(grade.picture_embedders)
        used = (grade.objects, grade.masks, grade.people, grade.picture_embedders[0], grade.faces)
        return used if namer is None else (*used, namer)

    def suits(self, case: Case) -> Skipped | None:
        """Cases whose prompt names something that the models have a word for suit."""
        if case.request is not None and things_in(case.request.text, known_words(self.models)):
            return None
        return Skipped(
            "the prompt names nothing that the small models have a word for", "inapplicable"
        )

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and how surely each thing is seen."""
        assert case.request is not None
        scene = scene_of(footage, self.models)
        if not any(scene.regions) and not any(scene.found):
            return NOTHING
        seen = footage.once("words seen", lambda: words_seen(scene, self.models))
        things = things_in(case.request.text, known_words(self.models))
        values = {thing: seen.get(thing, 0.0) for thing in things}
        shown = {thing: round(value, 6) for thing, value in values.items()}
        return Score(mean(values.values()), {"things": shown})


def known_words(models: Grade) -> frozenset[str]:
    """What the detector and the namer have a word for."""
    namer = namer_among(models.picture_embedders)
    words = models.objects.vocabulary or frozenset()
    named = frozenset() if namer is None else frozenset(namer.words)
    return (words | named) - HOMONYMS


def things_in(prompt: str, words: frozenset[str]) -> tuple[str, ...]:
    """The known words that a prompt names, in the order of the alphabet; longer ones first.

    "hot dog" is no dog: what a longer word covers is not looked at again.
    """
    text = prompt.lower()
    found = set()
    for word in sorted(words, key=lambda word: (-len(word), word)):
        names = {word, *SORTS.get(word, "").split()} | (PEOPLE if word == PERSON else set())
        forms = {name + ending for name in names for ending in ("", "s", "es")}
        forms |= {f"{name[:-1]}ies" for name in names if name.endswith("y")}
        forms |= {a for a, b in IRREGULAR.items() if b == word}
        pattern = GAP.format("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
        text, times = re.subn(pattern, " ", text)
        if times:
            found.add(word)
    return tuple(sorted(found))


def words_seen(scene: Scene, models: Grade) -> Mapping[str, float]:
    """How surely each word is seen, mean over the frames."""
    namer = namer_among(models.picture_embedders)
    best: list[dict[str, float]] = [{} for _ in scene.frames]
    for found, words in zip(scene.found, best, strict=True):
        for thing in found:
            words[thing.label] = max(words.get(thing.label, 0.0), thing.score)
    faces = models.faces.detect(list(scene.frames))
    for some, words in zip(faces, best, strict=True):
        words[PERSON] = max([words.get(PERSON, 0.0), *(face.score for face in some)])
    if namer is not None:
        places = [(k, region) for k, some in enumerate(scene.regions) for region in some]
        crops = [crop_of(scene.frames[k], box_around(region.pixels), 0.1) for k, region in places]
        for (k, _), chances in zip(places, namer.name(crops) if crops else (), strict=True):
            for word, chance in zip(namer.words, chances.tolist(), strict=True):
                best[k][word] = max(best[k].get(word, 0.0), chance)
    return {
        word: float(np.mean([some.get(word, 0.0) for some in best]))
        for word in {word for some in best for word in some}
    }
