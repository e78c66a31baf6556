"""From YAML and overrides to a checked value, with every fault in the user's words."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from anyref import settings
from anyref.errors import TrainingError

_WITHOUT_VALUE = ("extra_forbidden", "missing", "value_error")  # pydantic's names of faults
Model = TypeVar("Model", bound=BaseModel)
_PACKAGE = Path(__file__).parents[1]
# inside an installed wheel, else at the root of the source tree
SHIPPED_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with anyref, by name."""
    return settings.shipped(SHIPPED_FOLDERS)


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe, given its path or the name of a shipped one.

    Raises:
        TrainingError: neither exists.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    raise TrainingError(
        f"no recipe {str(name)!r}{_nearest(str(name), list(shipped))}; "
        f"give a YAML file or one of {', '.join(shipped) or '(none shipped)'}"
    )


def read_mapping(file: Path) -> dict[str, Any]:
    """The top level of a YAML file.

    Raises:
        TrainingError: it cannot be read, is over 1 MiB, is not YAML, or not a mapping.
    """
    return settings.read_mapping(file, TrainingError)


def override(values: dict[str, Any], text: str) -> None:
    """Set one dotted key of a recipe's mapping from "key.key=value", the value read as YAML.

    Raises:
        TrainingError: no "=", a value that is not YAML, or a key below something without keys.
    """
    settings.override(values, text, TrainingError, "optim.eps=1e-6")


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """The value of a mapping.

    Args:
        where: what the message calls the mapping, e.g. its file.

    Raises:
        TrainingError: every fault at once, each with its key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        known = set(_keys(model))
        faults: dict[str, list[str]] = {}
        given: dict[str, str] = {}
        for fault in error.errors():
            place, message = _fault(fault, known)
            faults.setdefault(place, []).append(message)
            if fault["type"] not in _WITHOUT_VALUE:
                given[place] = f"{fault['input']!r} given, "
        # a list that lost a faulty member is also "too short": only the member is worth saying
        said = [
            f"{place + ': ' if place else ''}{given.get(place, '')}{' or '.join(messages)}"
            for place, messages in faults.items()
            if not any(place and other.startswith(f"{place}.") for other in faults)
        ]
        raise TrainingError(f"{where}: {'; '.join(said)}") from error


def _fault(fault: Mapping[str, Any], known: set[str]) -> tuple[str, str]:
    """Where a fault is, dotted, and what it is."""
    place = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        section = ".".join(part for part in place[:-1] if not part.isdigit())
        return ".".join(place), f"no such key{_nearest_key(section, place[-1], known)}"
    # the members of a union add their own names to the place, which no recipe contains
    while len(place) > 1 and ".".join(p for p in place if not p.isdigit()) not in known:
        place.pop()
    if fault["type"] == "missing":
        return ".".join(place), "missing, add it"
    if fault["type"] == "value_error":
        return ".".join(place), fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "model_type":
        return ".".join(place), "is a section, give it keys"
    return ".".join(place), fault["msg"][0].lower() + fault["msg"][1:]


def _nearest_key(section: str, key: str, known: set[str]) -> str:
    """The same word in another section, else the nearest key of this one, else of any."""
    inside = {path for path in known if path.rpartition(".")[0] == section}
    same = sorted(path for path in known if path.rpartition(".")[2] == key)
    if same:
        return f", did you mean {' or '.join(same)}?"
    for paths in (inside, known):
        by_key = {path.rpartition(".")[2]: path for path in sorted(paths, reverse=True)}
        close = difflib.get_close_matches(key, by_key, 1)
        if close:
            return f", did you mean {by_key[close[0]]}?"
    return f"; known: {', '.join(sorted(inside))}"


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, 1)
    return f", did you mean {close[0]}?" if close else ""


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, those of sections too."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for part in _sections(field.annotation):
            yield from _keys(part, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)
