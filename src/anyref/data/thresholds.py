"""Limits on measurements: the part of a recipe that can change without a model running again."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anyref.data.dataset import StageEntry
from anyref.data.stages import Rejection
from anyref.errors import DataError

MAX_RECIPE_BYTES = 2**20
Limit = Annotated[float, Field(allow_inf_nan=False)]
RecipeType = TypeVar("RecipeType", bound="Recipe")


class Section(BaseModel):
    """A part of a recipe: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(Section):
    """What a measurement has to be.

    Args:
        measurement: its name; a stage must declare it.
        at_least, at_most: inclusive.
        required: whether a record without the measurement fails; else it passes.
        stop: whether a record that fails goes through no further stage. Without, its later numbers
            are known too, so that a looser limit needs no model.
    """

    measurement: str
    at_least: Limit | None = None
    at_most: Limit | None = None
    required: bool = False
    stop: bool = True

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        low, high = self.at_least, self.at_most
        if low is None and high is None and not self.required:
            raise ValueError(f"no limit on {self.measurement}; give at_least, at_most or required")
        if low is not None and high is not None and low > high:
            raise ValueError(f"at_least {low:g} is over at_most {high:g}; nothing would pass")
        return self

    def judge(self, stage: str, number: float | None) -> Rejection | None:
        """The rejection that a number deserves, None when it passes."""
        if number is None:
            return Rejection(stage, f"no {self.measurement}") if self.required else None
        if self.at_least is not None and number < self.at_least:
            return Rejection(stage, f"low {self.measurement}", number, self.at_least)
        if self.at_most is not None and number > self.at_most:
            return Rejection(stage, f"high {self.measurement}", number, self.at_most)
        return None


class Recipe(Section):
    """Everything that decides what becomes of an input; subclasses add settings of stages."""

    rules: tuple[Rule, ...] = ()


def read_recipe(path: str | Path, kind: type[RecipeType]) -> RecipeType:
    """A recipe from a YAML file.

    Raises:
        DataError: not there, over 1 MiB, not YAML, or as `parse_recipe`.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise DataError(f"recipe {str(path)!r} cannot be read: {error.strerror}") from error
    if len(text) > MAX_RECIPE_BYTES:
        raise DataError(f"recipe {str(path)!r} is over 1 MiB; it holds settings only")
    try:
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"recipe {str(path)!r} is not YAML: {' '.join(str(error).split())}") from (
            error
        )
    return parse_recipe(values, kind, str(path))


def parse_recipe(values: Any, kind: type[RecipeType], where: str) -> RecipeType:
    """A recipe from its values.

    Args:
        where: what messages call it, e.g. its file.

    Raises:
        DataError: every fault with its key; for an unknown key the nearest known one.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        said = "; ".join(_fault(one, kind) for one in error.errors(include_url=False))
        raise DataError(f"{where}: {said}") from error


def _fault(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = sorted(set(_keys(kind)))
        return f"{place}: no such key{nearest(str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return f"{place}: missing, add it"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _keys(annotation: Any) -> Iterator[str]:
    """Names of all fields of the sections inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield name
            yield from _keys(field.annotation)
    for argument in typing.get_args(annotation):
        yield from _keys(argument)


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a message: what may have been meant, or what there is."""
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known) or 'none'}"


class Judge:
    """The rules in the order of the stages that measure.

    The reason of a rejection is the first rule that fails among those whose stage has run: it
    follows from the measurements alone, so judging again gives the same.

    Raises:
        DataError: for a rule whose measurement no stage declares.
    """

    def __init__(self, rules: Sequence[Rule], stages: Sequence[StageEntry]) -> None:
        self._place = {stage.name: place for place, stage in enumerate(stages)}
        owner = {name: stage.name for stage in stages for name in stage.measures}
        for rule in rules:
            if rule.measurement not in owner:
                raise DataError(
                    f"no stage measures {rule.measurement!r}"
                    f"{nearest(rule.measurement, sorted(owner))}"
                )
        owned = [(owner[rule.measurement], rule) for rule in rules]
        self._rules = sorted(owned, key=lambda pair: self._place[pair[0]])  # stable
        self._stopping = {stage for stage, rule in self._rules if rule.stop}

    def after(self, stage: str, numbers: Mapping[str, float]) -> Rejection | None:
        """The rejection that ends a record when a stage has just run; None to go on."""
        if stage not in self._stopping:
            return None
        failed = self._failed(stage, numbers)
        return failed[0][1] if any(rule.stop for rule, _ in failed) else None

    def verdict(self, numbers: Mapping[str, float], stopped: str | None) -> Rejection | None:
        """The rejection of a record of which all is known that will be; None when it passes.

        Args:
            stopped: the last stage that ran; None when all did.
        """
        failed = self._failed(stopped, numbers)
        return failed[0][1] if failed else None

    def _failed(
        self, last: str | None, numbers: Mapping[str, float]
    ) -> list[tuple[Rule, Rejection]]:
        end = len(self._place) if last is None else self._place[last]
        judged = [
            (rule, rule.judge(stage, numbers.get(rule.measurement)))
            for stage, rule in self._rules
            if self._place[stage] <= end
        ]
        return [(rule, rejection) for rule, rejection in judged if rejection is not None]
