"""A dataset as one page: what was kept and why not, and how it looks.

The page needs nothing else: styles are in it, pictures are data URIs, and it may load nothing.
"""

from __future__ import annotations

import base64
import io
import json
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from PIL import Image

from anyref.data import stills
from anyref.data.dataset import Dataset
from anyref.data.histograms import histogram
from anyref.data.markup import Child, Markup, joined, plain, table, tag
from anyref.data.record import Sample, SampleReference
from anyref.data.rows import Row
from anyref.data.tally import Tally, tally
from anyref.data.thresholds import Rule
from anyref.errors import AnyRefError
from anyref.media import write_atomically

TEMPLATE = Path(__file__).with_name("report.html")
PICTURE_BYTES = 12 * 2**20  # of all pictures of a page, as text
MAX_RECIPE = 20_000  # letters
FRAME, THUMB = 220, 96  # heights in pixels
QUALITY, PLAYED_QUALITY = 78, 60


class Album:
    """Pictures as elements, up to a number of bytes; beyond it words stand in their place."""

    def __init__(self, limit: int = PICTURE_BYTES) -> None:
        self.left = limit

    def show(
        self, make: Callable[[], Image.Image], about: str, height: int | None = None
    ) -> Markup:
        """A picture, or why there is none.

        Args:
            height: to scale it to, pixels.
        """
        if self.left <= 0:
            return tag("p", f"({about}: left out, the page is full)", class_="soft")
        try:
            picture = make()
        except AnyRefError as error:
            return tag("p", f"({about}: {error})", class_="soft")
        if height is not None:
            picture = stills.letterboxed(picture, height)
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="JPEG", quality=QUALITY)
        return self._image("jpeg", buffer.getvalue(), about, picture.size)

    def play(
        self,
        make: Callable[[], tuple[list[Image.Image], float]],
        about: str,
        height: int,
    ) -> Markup:
        """Pictures one after the other in an endless loop, or why there are none.

        Args:
            make: pictures of one size, at least one, and how many milliseconds each is shown.
            height: to scale them to, pixels.
        """
        if self.left <= 0:
            return tag("p", f"({about}: left out, the page is full)", class_="soft")
        try:
            pictures, duration = make()
        except AnyRefError as error:
            return tag("p", f"({about}: {error})", class_="soft")
        first, *rest = (stills.letterboxed(p.convert("RGB"), height) for p in pictures)
        buffer = io.BytesIO()
        shown = {"duration": max(20, round(duration)), "loop": 0, "quality": PLAYED_QUALITY}
        first.save(buffer, format="WEBP", save_all=True, append_images=rest, **shown)
        return self._image("webp", buffer.getvalue(), about, first.size)

    def _image(self, kind: str, data: bytes, about: str, size: tuple[int, int]) -> Markup:
        text = base64.b64encode(data).decode("ascii")
        self.left -= len(text)
        return tag("img", src=f"data:image/{kind};base64,{text}", alt=plain(about, 120),
                   width=size[0], height=size[1], loading="lazy")  # fmt: skip


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    samples: int = 12,
    picture_bytes: int = PICTURE_BYTES,
) -> Path:
    """Write the page of a dataset; where.

    Args:
        out: the file; `report.html` in the dataset's folder when None.
        seed: draws which records are shown; the same page for the same dataset and seed.
        samples: accepted records and pairs that are shown; of every reason a third of it.
        picture_bytes: bound on all pictures, as text in the page.

    Raises:
        DataError: no dataset there, or a damaged one. MediaError: the page cannot be written.
    """
    dataset = Dataset.open(folder)
    counted = tally(dataset, seed=seed, samples=samples)
    album = Album(picture_bytes)
    parts = (
        _heading(dataset, counted),
        _funnel(dataset, counted),
        _references(counted),
        section("Pairs across clips", "wide", _pairs(dataset, counted, album)),
        section("Some of the records in use", "wide", _accepted(dataset, counted, album)),
        section("Some of the rejected records", "wide", _refused(dataset, counted, album)),
        section("Measurements and their limits", "", _histograms(dataset, counted)),
        _recipe(dataset),
    )
    target = Path(folder) / "report.html" if out is None else Path(out)
    write_page(target, f"Dataset {dataset.folder.name}", parts)
    return target


def write_page(target: Path, title: str, parts: Iterable[Markup]) -> None:
    """Write a page of parts, with the styles that all reports share.

    Raises:
        MediaError: the page cannot be written.
    """
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    page = template.substitute(title=joined(title), body="\n".join(parts))
    data = page.encode("utf-8", errors="backslashreplace")
    write_atomically(target, lambda file: file.write(data))


def tiles(numbers: Mapping[str, Child]) -> Markup:
    """Numbers in large print above their words."""
    shown = (tag("div", tag("b", n), words, class_="tile") for words, n in numbers.items())
    return tag("div", *shown, class_="tiles")


def section(title: str, kind: str, figures: Iterable[Markup]) -> Markup:
    """A heading and figures in a grid; kind "wide" for larger ones."""
    shown = list(figures) or [tag("p", "None.", class_="soft")]
    return tag("section", tag("h2", title), tag("div", *shown, class_=f"grid {kind}".strip()))


def _heading(dataset: Dataset, counted: Tally) -> Markup:
    made = dataset.manifest
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    numbers = {
        "records": counted.total,
        "in use": counted.in_use,
        "rejected": counted.total - counted.in_use,
        "references": counted.references.total(),
        "subjects": counted.entities,
        "pairs across clips": sum(
            n for (_, kind), n in counted.references.items() if kind == "cross_clip"
        ),
    }
    said = f"{dataset.folder} — recipe {made.recipe_sha256[:12]}, {versions}"
    return joined(
        tag("h1", dataset.folder.name),
        tag("p", said, class_="soft"),
        tiles({words: f"{n:,}" for words, n in numbers.items()}),
    )


def _funnel(dataset: Dataset, counted: Tally) -> Markup:
    rows: list[tuple[Child, ...]] = []
    for step in counted.funnel(dataset):
        share = step.left / max(1, counted.total)
        bar = tag("div", tag("div", class_="left", style=f"width:{share:.1%}"), class_="bars")
        reasons: list[Child] = []
        for reason, count in step.rejected.most_common():
            reasons += [f"{count:,} {reason}", tag("br")]
        gone = step.rejected.total()
        rows.append((step.stage, step.tool, f"{gone:,}", f"{step.left:,}", bar, joined(*reasons)))
    headings = ("stage", "made by", "rejected", "left", "", "why")
    heading = tag("h2", "What was rejected, stage by stage")
    return tag("section", heading, table(headings, rows), class_="funnel")


def _references(counted: Tally) -> Markup:
    types = sorted({pair_type for _, pair_type in counted.references})
    kinds = sorted({kind for kind, _ in counted.references})
    rows: list[tuple[Child, ...]] = [
        (kind, *(f"{counted.references[kind, pair_type]:,}" for pair_type in types))
        for kind in kinds
    ]
    clips = ", ".join(f"{clips:,} with {n}" for n, clips in sorted(counted.subjects.items()))
    return tag(
        "section",
        tag("h2", "References"),
        table(("kind", *(words.replace("_", " ") for words in types)), rows),
        tag("p", f"Clips by their number of subjects: {clips or 'none'}.", class_="soft"),
    )


def _histograms(dataset: Dataset, counted: Tally) -> Iterator[Markup]:
    rules: dict[str, list[Rule]] = {}
    for said in dataset.manifest.recipe.get("rules", ()):
        rule = Rule.model_validate(said)
        rules.setdefault(rule.measurement, []).append(rule)
    order = [name for stage in dataset.manifest.stages for name in stage.measures]
    for name in dict.fromkeys((*order, *sorted(counted.numbers))):
        if name in counted.numbers:
            yield histogram(name, counted.measured(name), tuple(rules.get(name, ())))


def _accepted(dataset: Dataset, counted: Tally, album: Album) -> Iterator[Markup]:
    for name in counted.accepted:
        row = dataset.row(name)
        yield tag("figure", *_record(dataset, row, album))


def _record(dataset: Dataset, row: Row, album: Album) -> Iterator[Markup]:
    """A row in pictures and words."""
    yield tag("figcaption", tag("b", row.id), tag("span", f" {row.uri}"))
    yield album.show(lambda: stills.clip_sheet(dataset, row), "frames of the clip")
    if row.record is None:
        return
    sample = row.sample()
    number, own = stills.main_frame(sample)

    def frame() -> Image.Image:
        shown = stills.clip_frame(dataset, sample, number)
        return stills.annotated(shown, own, sample.video)

    if sample.references:
        yield album.show(frame, f"frame {number} with masks", FRAME)
    yield tag("p", *_caption(sample, own))
    thumbs = [_thumb(dataset, reference, album) for reference in sample.references]
    yield tag("div", *thumbs, class_="row")


def _caption(sample: Sample, own: list[SampleReference]) -> Iterator[Child]:
    """The first caption, what names a reference in its colour."""
    text, end = sample.captions[0].text[:2000], 0
    spans = {r.caption_span: place for place, r in reversed(list(enumerate(own)))}
    for span in sorted(s for s in spans if s is not None and s[1] <= len(text)):
        if span[0] < end:
            continue  # inside another's words
        yield text[end : span[0]]
        yield joined(_key(spans[span]), tag("b", text[slice(*span)]))
        end = span[1]
    yield text[end:]


def _key(place: int) -> Markup:
    colour = "rgb({},{},{})".format(*stills.COLOURS[place % len(stills.COLOURS)])
    return tag("span", class_="key", style=f"background:{colour}")


def _thumb(dataset: Dataset, reference: SampleReference, album: Album) -> Markup:
    def make() -> Image.Image:
        return stills.reference_picture(dataset, reference)

    words = f"{reference.label}, {reference.pair_type.replace('_', ' ')}"
    return tag("div", album.show(make, words, THUMB), tag("span", plain(words, 60), class_="soft"))


def _refused(dataset: Dataset, counted: Tally, album: Album) -> Iterator[Markup]:
    for (stage, reason), names in counted.refused.items():
        for name in names:
            row = dataset.row(name)
            said = _words_of(row)
            why = tag("p", tag("b", f"{stage}: {reason}"), said, class_="why")
            yield tag("figure", why, *_refused_record(dataset, row, album))


def _words_of(row: Row) -> str:
    number = "" if row.number is None else f" {row.number:.4g}"
    limit = "" if row.limit is None else f", the limit is {row.limit:.4g}"
    detail = "" if row.detail is None else f" ({row.detail})"
    return f"{number}{limit}{detail}"


def _refused_record(dataset: Dataset, row: Row, album: Album) -> Iterator[Markup]:
    if row.record is not None or "clip" in row.assets:
        yield from _record(dataset, row, album)
    else:
        yield tag("figcaption", tag("b", row.id), tag("span", f" {row.uri}"))


def _pairs(dataset: Dataset, counted: Tally, album: Album) -> Iterator[Markup]:
    for drawn in counted.pairs:
        name, _, ref_id = drawn.partition(" ")
        sample = dataset.row(name).sample()
        reference = next(r for r in sample.references if r.ref_id == ref_id)
        yield tag("figure", *_pair(dataset, sample, reference, album))


def _pair(
    dataset: Dataset, sample: Sample, reference: SampleReference, album: Album
) -> Iterator[Markup]:
    """The clip that a picture comes from, the picture, and the clip that it conditions."""
    origin = reference.origin
    number, own = stills.main_frame(sample)
    shown = [r for r in own if r.entity_id == reference.entity_id]

    def source() -> Image.Image:
        other = dataset.row(origin.sample_id or "").sample()
        same = [r for r in other.references if r.image.uri == reference.image.uri]
        frame = stills.clip_frame(dataset, other, origin.frame or 0)
        return stills.annotated(frame, same[:1], other.video)

    def target() -> Image.Image:
        return stills.annotated(stills.clip_frame(dataset, sample, number), shown, sample.video)

    words = f" {reference.label}, entity {reference.entity_id}{_likeness(reference)}"
    yield tag("figcaption", tag("b", sample.id), tag("span", words))
    parts = (
        (source, f"from {origin.sample_id}"),
        (lambda: stills.reference_picture(dataset, reference), "the reference"),
        (target, "conditions this clip"),
    )
    trio = (
        tag("div", album.show(make, about, 150), tag("span", about, class_="soft"))
        for make, about in parts
    )
    yield tag("div", *trio, class_="trio")
    yield tag("p", sample.captions[0].text, class_="soft")


def _likeness(reference: SampleReference) -> str:
    scores = {
        "picture": reference.scores.gme_image_to_target,
        "face": None if reference.scores.face is None else reference.scores.face.id_sim,
    }
    return "".join(f", {name} {value:.3f}" for name, value in scores.items() if value is not None)


def _recipe(dataset: Dataset) -> Markup:
    recipe = json.loads(json.dumps(dataset.manifest.recipe))
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)[:MAX_RECIPE]
    lines = (joined(line, Markup("\n")) for line in text.splitlines())
    return tag("details", tag("summary", "The recipe"), tag("pre", *lines))
