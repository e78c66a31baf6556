"""What only the whole dataset can say: near-duplicates, identities, pairs, made references.

`complete` goes over a finished dataset. What an earlier call did is undone first, so that a call
after other calls, after new thresholds or after new inputs gives what one call gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyref import __version__
from anyref.data.dataset import Dataset, hash_of, rewrite
from anyref.data.duplicates import Duplicate, find_duplicates
from anyref.data.gallery import COLOURS, SUBJECTS, Gallery, origin_of
from anyref.data.identities import Identity, IdentitySettings, find_identities
from anyref.data.judging import judged, rejected
from anyref.data.pairing import Pair, PairSettings, find_pairs
from anyref.data.record import (
    MAX_REFERENCES,
    Flags,
    Provenance,
    Sample,
    SampleReference,
)
from anyref.data.rows import Row
from anyref.data.stages import Rejection
from anyref.data.synthesis import ImageModel, Synthesis, SynthesisSettings
from anyref.data.thresholds import Judge, Limit, Recipe, Section, parse_recipe
from anyref.perception.contracts import Metric
from anyref.perception.small import Grade

STAGE = "completion"
DUPLICATES = "duplicates"
MARK = "anyref.completion"  # what `foreign` says of a record: what completion changed in it


class CompletionSettings(Section):
    """What is done to a finished dataset; None for what is not.

    Args:
        duplicates: cosine of the fingerprints of two clips (what their middle frames show, and
            where they are light and dark) from which the later one is rejected.
    """

    duplicates: Limit | None = 0.95
    identities: IdentitySettings | None = IdentitySettings()
    pairs: PairSettings | None = PairSettings()
    synthesis: SynthesisSettings | None = SynthesisSettings()


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What was done.

    Args:
        clips: in use now. duplicates: rejected as such. identities: subjects that several clips
            show. paired: clips that got a picture from another clip. pairs, generated: references
            added.
    """

    clips: int
    duplicates: int
    identities: int
    paired: int
    pairs: int
    generated: int


def complete(
    folder: str | Path,
    settings: CompletionSettings | None = None,
    *,
    load_grade: Callable[[], Grade] | None = None,
    image_model: ImageModel | None = None,
) -> Completed:
    """Reject near-duplicates, find identities, add cross-clip pairs and made references.

    What it gives depends on the records alone, not on the order of rows. Time grows with the square
    of the clips (near-duplicates) and of the identities (across sources), in blocks.

    Args:
        load_grade: says how face features are compared; without it they are Euclidean.
        image_model: makes references; without it cut-outs are put on other backgrounds.

    Raises:
        DataError: no dataset there, or assets that are missing or damaged.
    """
    settings = settings or CompletionSettings()
    dataset = Dataset.open(folder)
    recipe = {"rules": dataset.manifest.recipe.get("rules", ())}
    judge = Judge(parse_recipe(recipe, Recipe, "the dataset").rules, dataset.manifest.stages)
    identities = settings.identities or IdentitySettings()
    colours = settings.identities is not None and identities.colour_share > 0
    metric: Metric = "euclidean" if load_grade is None else _metric(load_grade())
    with Gallery(dataset.folder, identities.trusted_label, colours) as gallery:
        for row in dataset.rows():
            clean = undone(row, judge)
            if clean.status == "accepted" and clean.record is not None:
                gallery.add(clean, clean.sample())
        gallery.arrange(identities.colour_share)
        plan = _plan(gallery, settings, metric)
        change = _Change(plan, gallery, judge, settings, dataset.folder, image_model)
        rewrite(folder, change)
        change.finish()
    return Completed(
        clips=change.counts["clips"],
        duplicates=len(plan.duplicates),
        identities=sum(len(one.clips) > 1 for one in plan.identities),
        paired=change.counts["paired"],
        pairs=change.counts["pairs"],
        generated=change.counts["generated"],
    )


def _metric(grade: Grade) -> Metric:
    return grade.face_embedders[0].metric


def undone(row: Row, judge: Judge) -> Row:
    """The row as it was before `complete`, judged by the dataset's rules as they are now."""
    if row.stage == DUPLICATES and not row.judged:
        row = judged(replace(row, judged=True), judge)
    if row.record is None or MARK not in row.record:
        return row
    sample = row.sample()
    foreign = dict(sample.foreign or {})
    mark = foreign.pop(MARK, None)
    if not isinstance(mark, dict):
        return row
    return replace(row, record=_unmarked(sample, mark, foreign).to_json())


def _unmarked(sample: Sample, mark: Mapping[str, Any], foreign: dict[str, Any]) -> Sample:
    added, entities = set(mark.get("added", ())), mark.get("entities", {})
    references = tuple(
        reference.model_copy(
            update={"entity_id": entities.get(reference.ref_id, reference.entity_id)}
        )
        for reference in sample.references
        if reference.ref_id not in added
    )
    return sample.model_copy(
        update={
            "references": references,
            "foreign": foreign or None,
            "provenance": tuple(step for step in sample.provenance if step.stage != STAGE),
        }
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What becomes of the clips, by their place in the gallery.

    Args:
        entities: what the subjects that several clips show are called from now on.
    """

    places: Mapping[str, int]
    duplicates: Mapping[int, Duplicate]
    identities: Sequence[Identity]
    entities: Mapping[int, Mapping[str, str]]
    pairs: Mapping[int, Sequence[Pair]]


def _plan(gallery: Gallery, settings: CompletionSettings, metric: Metric) -> _Plan:
    clips = gallery.clips
    duplicates: dict[int, Duplicate] = {}
    if settings.duplicates is not None:
        middles = [clip.middle for clip in clips]
        duplicates = find_duplicates(gallery.clip_features, middles, settings.duplicates)
    identities: list[Identity] = []
    pairs: dict[int, list[Pair]] = {}
    if settings.identities is not None:
        identities = find_identities(gallery, duplicates, settings.identities, metric)
        if settings.pairs is not None:
            pairs = find_pairs(gallery, identities, settings.pairs, settings.identities.views)
    entities: dict[int, dict[str, str]] = {}
    for identity in identities:
        first, number = identity.members[0]
        name = clips[first].subjects[number].entity_id
        for place, number in identity.members[1:]:
            entities.setdefault(place, {})[clips[place].subjects[number].entity_id] = name
    return _Plan(
        places={clip.id: place for place, clip in enumerate(clips)},
        duplicates=duplicates,
        identities=identities,
        entities=entities,
        pairs=pairs,
    )


class _Change:
    """What `rewrite` calls with each row."""

    def __init__(
        self,
        plan: _Plan,
        gallery: Gallery,
        judge: Judge,
        settings: CompletionSettings,
        folder: Path,
        image_model: ImageModel | None,
    ) -> None:
        self._plan, self._gallery, self._judge, self._settings = plan, gallery, judge, settings
        self.counts: Counter[str] = Counter()
        self._mark = Provenance(
            stage=STAGE,
            tool="anyref",
            version=__version__,
            config_hash=hash_of(settings.model_dump(mode="json"))[:16],
        )
        self._synthesis: Synthesis | None = None
        if settings.synthesis is not None:
            grounds = [
                (clip.id, ground)
                for place, clip in enumerate(gallery.clips)
                if place not in plan.duplicates
                for ground in clip.backgrounds
            ]
            self._synthesis = Synthesis(folder, settings.synthesis, image_model, grounds)

    def finish(self) -> None:
        """After the last row."""
        if self._synthesis is not None:
            self._synthesis.finish()

    def __call__(self, row: Row) -> Row:
        """The row as it will be."""
        row = self._with_colours(undone(row, self._judge))
        if row.status != "accepted":
            return row
        place = self._plan.places.get(row.id)
        duplicate = None if place is None else self._plan.duplicates.get(place)
        self.counts["clips"] += duplicate is None
        if place is None:
            return row
        if duplicate is not None:
            return self._dropped(row, duplicate)
        return replace(row, record=self._completed(place, row.sample()).to_json())

    def _with_colours(self, row: Row) -> Row:
        """With the asset that saves a later call the counting, where it was counted now."""
        assets = {name: uri for name, uri in row.assets.items() if name != COLOURS}
        uri = self._gallery.colours.get(row.id)
        return replace(row, assets=assets if uri is None else {**assets, COLOURS: uri})

    def _dropped(self, row: Row, duplicate: Duplicate) -> Row:
        earlier = self._gallery.clips[duplicate.of].id
        why = Rejection(
            DUPLICATES,
            "near-duplicate",
            number=duplicate.similarity,
            limit=self._settings.duplicates,
            detail=f"like {earlier}",
        )
        sample = self._marked(row.sample(), (), {})
        sample = sample.model_copy(update={"flags": Flags(filtered_by=DUPLICATES)})
        return replace(rejected(row, why), judged=False, record=sample.to_json())

    def _completed(self, place: int, sample: Sample) -> Sample:
        names = self._plan.entities.get(place, {})
        before = {reference.ref_id: reference.entity_id for reference in sample.references}
        references = tuple(
            reference.model_copy(
                update={"entity_id": names.get(reference.entity_id, reference.entity_id)}
            )
            for reference in sample.references
        )
        own = {reference.ref_id: reference for reference in references}
        room = max(0, MAX_REFERENCES - len(references))
        pairs = [self._paired(own[p.own], p) for p in self._plan.pairs.get(place, ())][:room]
        generated: list[SampleReference] = []
        if self._synthesis is not None:
            mains = [r for r in references if r.kind in SUBJECTS and r.pair_type == "regular"]
            stored = [reference for reference in mains if reference.image.uri is not None]
            generated = self._synthesis.made(sample.id, stored)[: room - len(pairs)]
        self.counts["paired"] += bool(pairs)
        self.counts["pairs"] += len(pairs)
        self.counts["generated"] += len(generated)
        added = (*pairs, *generated)
        changed = {name: entity for name, entity in before.items() if own[name].entity_id != entity}
        sample = sample.model_copy(update={"references": (*references, *added)})
        return self._marked(sample, [reference.ref_id for reference in added], changed)

    def _marked(self, sample: Sample, added: Sequence[str], entities: Mapping[str, str]) -> Sample:
        """With what `undone` needs: the references added, and entities as they were."""
        mark = {"added": list(added), "entities": dict(entities)}
        return sample.model_copy(
            update={
                "foreign": {**(sample.foreign or {}), MARK: mark},
                "provenance": (*sample.provenance, self._mark),
            }
        )

    def _paired(self, own: SampleReference, pair: Pair) -> SampleReference:
        """The other clip's picture as a reference of this one; its mask stays with its clip."""
        other = self._gallery.clips[pair.clip]
        shown = self._gallery.reference(pair.view)
        scores = shown.scores.model_copy(update={"gme_image_to_target": round(pair.similarity, 4)})
        return shown.model_copy(
            update={
                "ref_id": f"pair-{own.ref_id}-{other.id}-{shown.ref_id}",
                "kind": own.kind,
                "label": own.label,
                "entity_id": own.entity_id,
                "pair_type": "cross_clip",
                "origin": origin_of(other, shown),
                "caption_span": own.caption_span,
                "scores": scores,
                "foreign": None,
            }
        )
