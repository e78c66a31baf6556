"""The data engine: raw videos in, a dataset of clips, captions, references and pairs out.

A recipe holds everything that decides what becomes of an input. `build` runs the stages and then
completes the dataset (duplicates, identities, pairs across clips); `rescore` does only the last,
after judging by the recipe's rules again.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, model_validator

from anyref import settings
from anyref.data import rescore as rescoring
from anyref.data.clips import CLIP_RULES, ClipSettings, clip_stages
from anyref.data.completion import Completed, CompletionSettings, complete
from anyref.data.dataset import Dataset, rewrite
from anyref.data.grades import (
    GradeSettings,
    check_models,
    grade_loader,
    with_gpus,
    written_grade,
)
from anyref.data.quality import QUALITY_RULES, QualitySettings, quality_stages
from anyref.data.ray_runner import RaySettings
from anyref.data.runners import Progress, Runner, run
from anyref.data.sources import VIDEO_SUFFIXES, Source, read_sources
from anyref.data.stages import Stage
from anyref.data.subjects import SUBJECT_RULES, SubjectSettings, subject_stages
from anyref.data.thresholds import Judge, Recipe, Rule, nearest, parse_recipe
from anyref.errors import DataError

_PACKAGE = Path(__file__).parents[1]
# inside an installed wheel, else at the root of the source tree
SHIPPED_FOLDERS = (_PACKAGE / "recipes/data", _PACKAGE.parents[1] / "recipes/data")
EXAMPLE = "rules.sharpness.at_least=20"
RESCORABLE = frozenset({"rules", "completion"})  # what a finished dataset can be given anew
ABOUT = {
    "grade": "Which models look at the clips: small on the CPU, large on a GPU.",
    "rules": "Limits on measurements, inclusive; null in place of a rule removes it.",
    "clips": "How films are cut into clips.",
    "quality": "How many frames of a clip are seen by the models that measure it.",
    "subjects": "How people and things are found, followed, cut out and named.",
    "completion": "Near-duplicates, identities, pairs across clips, made references.",
}
MODULES = {  # what the stages import, by the extra that has it
    "data": ("pyarrow", "pycocotools"),
    "perception": ("onnxruntime", "cv2", "ai_edge_litert", "dlib", "scenedetect"),
}


class EngineRecipe(Recipe):
    """Everything that decides what becomes of the inputs.

    Args:
        grade: which models look at the clips; the name alone will do.
        rules: limits on measurements, those of the parts by default.
        clips: how films are cut. quality: how clips are measured. subjects: how people and things
            are found, followed, cut out and named. completion: duplicates, identities and pairs.
    """

    grade: Annotated[GradeSettings, BeforeValidator(written_grade)] = GradeSettings()
    rules: tuple[Rule, ...] = (*CLIP_RULES, *QUALITY_RULES, *SUBJECT_RULES)
    clips: ClipSettings = ClipSettings()
    quality: QualitySettings = QualitySettings()
    subjects: SubjectSettings = SubjectSettings()
    completion: CompletionSettings = CompletionSettings()

    @model_validator(mode="after")
    def _limits_fit_the_models(self) -> EngineRecipe:
        limit = {rule.measurement: rule.at_most for rule in self.rules}.get("naturalness")
        if self.grade.scores_looks and limit is not None:
            raise ValueError(
                f"rules.naturalness.at_most {limit:g} is for the small model; grade.aesthetics "
                "is about 1 to 10, best high: give rules.naturalness={at_least: 5, at_most: null}"
            )
        return self

    def to_yaml(self) -> str:
        """The recipe as a file that `load_recipe` reads, every setting in it."""
        values = self.model_dump(mode="json")
        parts = []
        for name, about in ABOUT.items():
            said = _told(self.rules) if name == "rules" else values[name]
            flat = None if name == "rules" else False  # a rule per line
            text = yaml.safe_dump({name: said}, sort_keys=False, default_flow_style=flat, width=200)
            parts.append(f"# {about}\n{text}")
        return "".join(parts)


def shipped_recipes() -> dict[str, Path]:
    """The data recipes that come with anyref, by name."""
    return settings.shipped(SHIPPED_FOLDERS)


def load_recipe(name: str | Path | None = None, changes: Sequence[str] = ()) -> EngineRecipe:
    """A recipe from a YAML file or the name of a shipped one; the defaults when None.

    What the file does not say is as by default. Its `rules` are a mapping by measurement, of which
    each changes the default rule, null removes it:

        rules:
          sharpness: {at_least: 20}
          text_area: null

    A list of rules replaces them all.

    Args:
        changes: "section.key=value", for rules "rules.measurement.at_least=value".

    Raises:
        DataError: neither a file nor a name, not YAML, or every fault in it with its key.
    """
    values = {} if name is None else settings.read_mapping(_path_of(name), DataError)
    said = values.get("rules")
    values["rules"] = _merged(_written(EngineRecipe().rules), {} if said is None else said)
    return changed_recipe(values, changes, "the recipe" if name is None else str(name))


def changed_recipe(values: Mapping[str, Any], changes: Sequence[str], where: str) -> EngineRecipe:
    """A recipe from the values of another one and changes to it, see `load_recipe`.

    Args:
        values: with all rules, as `model_dump` gives them. where: what messages call it.

    Raises:
        DataError: every fault with its key.
    """
    new = deepcopy(dict(values))
    new["rules"] = _by_measurement(new.get("rules", []))
    for change in changes:
        new["grade"] = written_grade(new.get("grade", {}))
        settings.override(new, change, DataError, EXAMPLE)
    new["rules"] = _listed(new["rules"])
    return parse_recipe(new, EngineRecipe, where)


def _path_of(name: str | Path) -> Path:
    path, known = Path(name), shipped_recipes()
    if path.is_file():
        return path
    if str(name) in known:
        return known[str(name)]
    raise DataError(
        f"no recipe {str(name)!r}{nearest(str(name), list(known))}; give a YAML file or a name"
    )


def _written(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    return [rule.model_dump(mode="json", exclude_defaults=True) for rule in rules]


def _told(rules: Sequence[Rule]) -> Any:
    """Rules as `_merged` takes them: all that differs from the default ones, and these."""
    known, said = _by_measurement(_written(EngineRecipe().rules)), _by_measurement(_written(rules))
    if not isinstance(said, dict):
        return said
    whole = {rule.measurement: rule.model_dump(mode="json") for rule in rules}
    for name, limits in known.items():
        if name in said:
            said[name] = {key: whole[name][key] for key in {**limits, **said[name]}}
        else:
            said[name] = None
    return said


def _merged(known: list[dict[str, Any]], said: Any) -> Any:
    """The default rules with what a recipe says of them."""
    rules = _by_measurement(known)
    if not isinstance(said, dict) or not isinstance(rules, dict):
        return said
    for name, limits in said.items():
        if isinstance(limits, dict):
            rules[name] = {**(rules.get(name) or {}), **limits}
        else:
            rules[name] = limits
    return _listed(rules)


def _by_measurement(rules: Any) -> Any:
    """A list of rules as a mapping; as it is where several are of one measurement."""
    if not isinstance(rules, (list, tuple)) or not all(isinstance(rule, dict) for rule in rules):
        return rules
    named = {str(rule.get("measurement")): dict(rule) for rule in rules}
    for rule in named.values():
        rule.pop("measurement", None)
    return named if len(named) == len(rules) else list(rules)


def _listed(rules: Any) -> Any:
    if not isinstance(rules, dict):
        return rules
    return [
        {"measurement": name, **limits} if isinstance(limits, dict) else limits
        for name, limits in rules.items()
        if limits is not None
    ]


def engine_stages(recipe: EngineRecipe, cache: Path | None = None) -> list[Stage]:
    """The stages of a recipe, in order: clips, quality, subjects.

    Raises:
        PerceptionError: for models that are not fetched or cannot be used here.
    """
    load_grade = grade_loader(cache, recipe.grade)
    stages = [
        *clip_stages(recipe.clips, load_grade),
        *quality_stages(recipe.quality, load_grade),
        *subject_stages(recipe.subjects, load_grade),
    ]
    return with_gpus(stages, recipe.grade)


def check_ready(
    cache: Path | None = None,
    runner: Runner = "local",
    grade: GradeSettings | None = None,
    *,
    here: bool = True,
) -> None:
    """Raise DataError unless all libraries and weights that a grade needs are here.

    The message names the command that brings them.

    Args:
        here: whether the stages run on this machine, whose GPU is looked for then.
    """
    wanted = {**MODULES, "data": (*MODULES["data"], *(("ray",) if runner == "ray" else ()))}
    for extra, modules in wanted.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            other = ", or use --runner local" if missing == ["ray"] else ""
            raise DataError(
                f"{', '.join(missing)} is not installed; run `pip install 'anyref[{extra}]'`{other}"
            )
    check_models(grade or GradeSettings(), cache, device=here)


def count_sources(inputs: Iterable[str | Path | Source]) -> int:
    """How many videos the inputs name; none of them is opened.

    Raises:
        DataError: none, or an input that does not exist.
    """
    inputs = list(inputs)
    found = sum(1 for _ in read_sources(inputs))
    if not found:
        named = ", ".join(repr(str(one)) for one in inputs[:3])
        raise DataError(f"0 videos in {named}; their names end in {' '.join(VIDEO_SUFFIXES)}")
    return found


@dataclass(frozen=True, kw_only=True)
class Built:
    """What `build` made: the run's last report, what completion did, rows of the dataset."""

    progress: Progress
    completed: Completed
    accepted: int
    rejected: int


def _ignore(progress: Progress) -> None:
    """Report to nobody."""


def build(
    inputs: Iterable[str | Path | Source],
    out: str | Path,
    recipe: EngineRecipe | None = None,
    runner: Runner = "local",
    on_progress: Callable[[Progress], None] = _ignore,
    *,
    ray: RaySettings | None = None,
    cache: Path | None = None,
) -> Built:
    """Make a dataset of videos, or finish or extend the one in `out`.

    The same call after a kill goes on where it was. A call with more inputs adds them.

    Args:
        inputs: as `anyref.data.sources.read_sources` takes them.
        cache: folder of the small models' weights; None is the default one.

    Raises:
        DataError: libraries or weights that are missing, before anything is done; a folder made
            with another recipe; as `anyref.data.runners.run`.
    """
    recipe = recipe or EngineRecipe()
    here = ray is None or ray.address is None
    check_ready(cache, runner, recipe.grade, here=here)
    _check_folder(Path(out), recipe)
    progress = run(
        inputs,
        engine_stages(recipe, cache),
        out,
        recipe=recipe,
        runner=runner,
        ray=ray,
        on_progress=on_progress,
    )
    completed = complete(out, recipe.completion, load_grade=grade_loader(cache, recipe.grade))
    made = Dataset.open(out).manifest
    return Built(
        progress=progress, completed=completed, accepted=made.accepted, rejected=made.rejected
    )


def _check_folder(out: Path, recipe: EngineRecipe) -> None:
    """Raise DataError for a dataset that another recipe made, with what to do about it."""
    if not (out / "manifest.json").exists():
        return
    old, new = Dataset.open(out).manifest.recipe, recipe.model_dump(mode="json")
    differing = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
    if differing and RESCORABLE.issuperset(differing):
        raise DataError(
            f"{str(out)!r} was made with other {' and '.join(differing)}; apply these with "
            "`anyref data rescore`, or choose another folder"
        )
    if differing:
        raise DataError(
            f"{str(out)!r} was made with other settings of {', '.join(differing)}; choose another "
            "folder, or give the recipe that it was made with"
        )


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """What `rescore` changed.

    Args:
        gained, lost: records in use now that were not before, and the reverse.
        unfinished: records that would pass, but that older rules stopped before all stages had
            run; `build` with the new recipe finishes them.
    """

    accepted: int
    rejected: Mapping[tuple[str, str], int]
    gained: int
    lost: int
    unfinished: int
    completed: Completed


def dataset_recipe(folder: str | Path, changes: Sequence[str] = ()) -> EngineRecipe:
    """The recipe that a dataset was made with, and changes to it.

    Raises:
        DataError: no dataset there, one that this engine did not make, or faulty changes.
    """
    recipe = Dataset.open(folder).manifest.recipe
    return changed_recipe(recipe, changes, f"the recipe of {str(folder)!r}")


def rescore(folder: str | Path, recipe: EngineRecipe, cache: Path | None = None) -> Rescored:
    """Judge a dataset by a recipe's rules and complete it by its settings anew. No stage runs.

    Only `rules` and `completion` of the recipe are used. A kill leaves a whole dataset that is
    not complete; the same call completes it.

    Raises:
        DataError: no dataset there, or a rule on something that its stages do not measure.
    """
    dataset = Dataset.open(folder)
    manifest = dataset.manifest
    Judge(recipe.rules, manifest.stages)  # a rule on nothing is told before anything is written
    before = {row.id for row in dataset.rows("accepted")}
    completion = recipe.model_dump(mode="json")["completion"]
    if manifest.recipe.get("completion") != completion:
        rewrite(folder, lambda row: row, {**manifest.recipe, "completion": completion})
    told = rescoring.rescore(folder, recipe)
    completed = complete(folder, recipe.completion, load_grade=grade_loader(cache))
    after, rejected = set(), Counter[tuple[str, str]]()
    for row in Dataset.open(folder).rows():
        if row.status == "accepted":
            after.add(row.id)
        else:
            rejected[row.stage or "", row.reason or ""] += 1
    return Rescored(
        accepted=len(after),
        rejected=dict(sorted(rejected.items())),
        gained=len(after - before),
        lost=len(before - after),
        unfinished=told.unfinished,
        completed=completed,
    )
