"""Cases of an evaluation to look at: videos that play, their references, scores and reasons."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from anyref.data.markup import Child, Markup, plain, table, tag
from anyref.data.report import Album
from anyref.data.stills import length_of, letterboxed, spread, stills
from anyref.errors import MediaError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Outcome, Score
from anyref.evaluation.run import Evaluation, Scored
from anyref.evaluation.videos import Sample
from anyref.media import open_picture

SHOWN = 4  # best cases, and worst ones: two rows of two
PLAYED_FRAMES, STRIP_FRAMES = 24, 5
PLAYER, STRIP, REFERENCE = 180, 72, 84  # heights in pixels
MAX_BYTES = 256 * 2**20  # of a video that a page shows
USUAL_FPS = 8.0  # where a file does not say
STRIPS_OF_A_CASE = 4  # takes
MAX_PROMPT = 4_000  # letters that are shown


@dataclass(frozen=True)
class CaseBook:
    """The cases of an evaluation as elements of a page, their pictures from an album."""

    evaluation: Evaluation
    album: Album

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each id is in the benchmark first."""
        cases = self.evaluation.benchmark.cases
        return {case.id: place for place, case in reversed(list(enumerate(cases)))}

    @cached_property
    def _videos(self) -> dict[str, dict[Sample, Path]]:
        """Of the model, by case."""
        return _by_case(self.evaluation.model)

    @cached_property
    def _others(self) -> dict[str, dict[Sample, Path]]:
        """Of the model that it is compared with."""
        return _by_case(self.evaluation.other)

    @cached_property
    def _outcomes(self) -> dict[str, dict[tuple[str, int], Outcome]]:
        """By case, then by metric and take."""
        found: dict[str, dict[tuple[str, int], Outcome]] = {}
        for column in self.evaluation.profile.columns:
            for (case, take), outcome in self.evaluation.model.table.outcomes(column.name).items():
                found.setdefault(case, {})[column.name, take] = outcome
        return found

    def extremes(self) -> tuple[list[Markup], list[Markup]]:
        """The best and the worst cases whose video was measured, as figures; none is in both."""
        scores = self.evaluation.case_scores
        measured = [
            case
            for case in self._videos
            if any(isinstance(o, Score) for o in self._outcomes.get(case, {}).values())
        ]
        order = sorted(measured, key=lambda case: (-scores[case], case))
        count = min(SHOWN, len(order) // 2) if len(order) > 1 else len(order)
        best, worst = order[:count], order[count:][::-1][:count]
        return [self._player(case) for case in best], [self._player(case) for case in worst]

    def _player(self, name: str) -> Markup:
        case = self.evaluation.benchmark[name]
        link = tag("a", tag("b", name), href=f"#case-{self._places[name]}")
        words = f" {self.evaluation.case_scores[name]:.3f} {case.category}"
        videos = [self._playing(self._videos, self.evaluation.model, name)]
        if self.evaluation.other is not None:
            videos.append(self._playing(self._others, self.evaluation.other, name))
        return tag(
            "figure",
            tag("figcaption", link, tag("span", words)),
            tag("div", *videos, *self._references(case), class_="row"),
            tag("p", _prompt(case), class_="soft"),
        )

    def _playing(
        self, videos: Mapping[str, Mapping[Sample, Path]], scored: Scored, name: str
    ) -> Markup | None:
        """The first take, with the model's name below it."""
        path = next(iter(videos.get(name, {}).values()), None)
        if path is None:
            return None
        video = self.album.play(lambda: _played(path), f"video of {name}", PLAYER)
        return tag("div", video, tag("span", plain(scored.name, 40), class_="soft"))

    def every(self) -> Iterator[Markup]:
        """All cases in the order of the benchmark, folded up."""
        for place, case in enumerate(self.evaluation.benchmark.cases):
            if self._places[case.id] == place:  # a later one of the same id is a fault, told above
                yield tag("details", *self._case(case), id=f"case-{place}")

    def _case(self, case: Case) -> Iterator[Markup]:
        value = self.evaluation.case_scores.get(case.id)
        words = f" {'no score' if value is None else f'{value:.3f}'} {case.category}"
        yield tag("summary", tag("b", case.id), tag("span", words, class_="soft"))
        if case.fault:
            yield tag("p", f"faulty: {case.fault}", class_="why")
        yield tag("p", _prompt(case))
        yield tag("div", *self._references(case), class_="row")
        for sample, path in list(self._videos.get(case.id, {}).items())[:STRIPS_OF_A_CASE]:
            about = f"frames of {case.id}, take {sample[1]}"
            yield self.album.show(partial(_strip, path), about)
        rows: list[tuple[Child, ...]] = [
            (name, take, *_said(outcome))
            for (name, take), outcome in self._outcomes.get(case.id, {}).items()
        ]
        if rows:
            headings = ("metric", "take", "value", "why not")
            yield tag("div", table(headings, rows), class_="plain")

    def _references(self, case: Case) -> Iterator[Markup]:
        references = case.request.references if case.request else ()
        if case.fault:
            return  # its pictures may lie anywhere
        for place, reference in enumerate(references):
            words = case.labels[place] if place < len(case.labels) else ""
            about = plain(words or reference.words or reference.kind, 60)
            for image in reference.images:
                shown = self.album.show(partial(open_picture, image), about, REFERENCE)
                yield tag("div", shown, tag("span", about, class_="soft"))


def _prompt(case: Case) -> Markup | None:
    """The whole prompt: those of OpenS2V-Eval have up to 246 words."""
    if case.request is None:
        return None
    return Markup(html.escape(plain(case.request.text, MAX_PROMPT)))


def _by_case(scored: Scored | None) -> dict[str, dict[Sample, Path]]:
    found: dict[str, dict[Sample, Path]] = {}
    if scored is not None and scored.results is not None:
        for sample, path in scored.results.found.items():
            found.setdefault(sample[0], {})[sample] = path
    return found


def _said(outcome: Outcome) -> tuple[Child, Child]:
    if isinstance(outcome, Score):
        return f"{outcome.value:.4f}", None
    return None, f"{outcome.reason} ({outcome.cause})"


def _stills(path: Path, count: int) -> tuple[list[Image.Image], float, int]:
    """Frames from the first to the last, frames per second, and every which frame they are."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MediaError(f"{path.name} is over 256 MiB and is not shown; encode it smaller")
        data = path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read: {error.strerror or error}") from error
    length, fps = length_of(data)
    numbers = spread(length, count)
    found = stills(data, numbers)
    if not found:
        raise MediaError(f"{path.name} has no frames")
    return list(found.values()), fps or USUAL_FPS, max(1, round(length / len(numbers)))


def _played(path: Path) -> tuple[list[Image.Image], float]:
    pictures, fps, every = _stills(path, PLAYED_FRAMES)
    return pictures, 1000 * every / fps


def _strip(path: Path) -> Image.Image:
    tiles = [letterboxed(p, STRIP) for p in _stills(path, STRIP_FRAMES)[0]]
    strip = Image.new("RGB", (sum(t.width + 3 for t in tiles) - 3, STRIP), "white")
    left = 0
    for tile in tiles:
        strip.paste(tile, (left, 0))
        left += tile.width + 3
    return strip
