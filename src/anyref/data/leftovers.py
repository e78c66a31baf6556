"""What a JSON object says beyond another: kept at import, put back at export.

A foreign record becomes one of ours; written back from our fields alone it would be a different
object. `leftovers` keeps the difference, `restore` applies it, so that the round trip is exact and
a field that was edited in between still shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

Json = dict[str, JsonValue]


def leftovers(original: Mapping[str, Any], built: Mapping[str, Any]) -> Json:
    """What turns `built` into `original`: {"set": members, "absent": paths}, each only if needed.

    Objects are compared member by member, everything else as a whole.
    """
    absent: list[JsonValue] = []
    changed = _changed(original, built, [], absent)
    return {k: v for k, v in (("set", changed), ("absent", absent)) if v}


def _changed(
    original: Mapping[str, Any], built: Mapping[str, Any], path: list[str], absent: list[JsonValue]
) -> Json:
    changed: Json = {}
    for key, value in original.items():
        if key not in built:
            changed[key] = value
        elif isinstance(value, dict) and isinstance(built[key], dict):
            if inner := _changed(value, built[key], [*path, key], absent):
                changed[key] = inner
        elif not same(value, built[key]):
            changed[key] = value
    absent += [[*path, key] for key in built if key not in original]
    return changed


def restore(built: Json, kept: Mapping[str, Any]) -> Json:
    """`built` with what `leftovers` kept; `built` is changed in place and returned."""
    for *path, key in kept.get("absent", ()):
        place: Any = built
        for step in path:
            place = place.get(step, {})
        place.pop(key, None)
    _put(built, kept.get("set", {}))
    return built


def _put(built: Any, members: Mapping[str, Any]) -> None:
    for key, value in members.items():
        if isinstance(value, dict) and isinstance(built.get(key), dict):
            _put(built[key], value)
        else:
            built[key] = value


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
