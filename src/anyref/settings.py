"""Settings as they are written: a YAML file, and changes to it as key=value."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from anyref.errors import AnyRefError

MAX_SETTINGS_BYTES = 2**20


def read_mapping(file: Path, fault: type[AnyRefError]) -> dict[str, Any]:
    """The top level of a YAML file.

    Args:
        fault: the class of errors.

    Raises:
        fault: it cannot be read, is over 1 MiB, is not YAML, or not a mapping.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_SETTINGS_BYTES + 1)
    except OSError as error:
        raise fault(f"{file} cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_SETTINGS_BYTES:
        raise fault(f"{file} is over 1 MiB; a recipe holds settings only")
    try:
        values = yaml.safe_load(text.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise fault(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise fault(f"{file} holds no mapping of keys; a recipe is `key: value` lines")
    return values


def override(
    values: dict[str, Any], text: str, fault: type[AnyRefError], example: str = "key=value"
) -> None:
    """Set one dotted key of a mapping from "key.key=value", the value read as YAML.

    Args:
        fault: the class of errors. example: of a change, for their words.

    Raises:
        fault: no "=", a value that is not YAML, or a key below something without keys.
    """
    key, equals, written = text.partition("=")
    parents, _, last = key.strip().rpartition(".")
    if not equals or not last:
        raise fault(f"{text!r} changes nothing; write key=value, e.g. {example}")
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise fault(f"{text!r}: the value is not YAML; quote it") from error
    here = values
    for part in parents.split(".") if parents else ():
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            raise fault(f"{text!r}: {part} holds no keys; give {part}=... as a whole")
    here[last] = value


def shipped(folders: Iterable[Path]) -> dict[str, Path]:
    """The YAML files in the first of the folders that exists, by name."""
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.yaml"))}
