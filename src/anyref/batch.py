"""Lists of requests: our JSONL, the two official prompt files, and the OpenS2V-Eval benchmark.

    jsonl     one `Request` as JSON per line, with an optional "key"
    magref    key@@prompt@@picture@@picture...      (MAGREF generate.py, prompt file)
    kaleido   prompt@@picture@@picture...           (Kaleido sample_video.py, input file)
    opens2v   {"key": {"prompt": ..., "img_paths": [...], ...}}   (OpenS2V-Eval)

A bad entry becomes an item that says what is wrong, so that one typing error does not lose a list.
In the three foreign formats pictures are unnamed references and `@` is an ordinary character: the
prompt is stored escaped (`@@` for `@`), so that the text encoder reads it verbatim. Picture paths
never reach the text encoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from anyref.errors import AnyRefError, RequestError
from anyref.request import MENTION_PATTERN, Request

Format = Literal["auto", "jsonl", "magref", "kaleido", "opens2v"]

MAX_LIST_BYTES = 64 * 2**20
KEY_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
SEPARATOR = "@@"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class BatchItem:
    """One entry of a list: a request, or the reason why there is none.

    Args:
        key: name of the video's file, without suffix; the entry's number when it gives none.
        line: counted from 1; in an OpenS2V-Eval file, the entry's place.
    """

    key: str
    request: Request | None
    error: str | None
    line: int


@dataclass(frozen=True)
class _Entry:
    """What an entry says before it is checked: its key and the fields of its request."""

    key: str | None
    fields: Mapping[str, Any]


Read = Callable[[], _Entry]


def read_batch(
    path: str | Path,
    format: Format = "auto",  # noqa: A002 - the option is called --format
    defaults: Mapping[str, Any] | None = None,
) -> list[BatchItem]:
    """Read a list of requests; relative picture paths start from the list's folder.

    Args:
        format: "auto" goes by the suffix (.jsonl, .json), else by the content: lines that begin
            with `{` are jsonl. Of lines with `@@`, one is kaleido when its second field is a
            picture (it exists, or ends like one) and magref when its first field is a plain key
            and its third a picture; all that can be told must agree.
        defaults: fields of `Request` for entries that do not state them.

    Raises:
        RequestError: when the list itself cannot be read: missing, over 64 MiB, not UTF-8, empty,
            of no known format, or (opens2v) not one JSON object.
    """
    path = Path(path)
    if format not in get_args(Format):
        raise RequestError(
            f"list format {format!r} is not known; use one of {', '.join(get_args(Format))}"
        )
    text = _read_text(path)
    known = format if format != "auto" else _detect(path, text)
    entries = _opens2v_entries(text, path) if known == "opens2v" else _line_entries(text, known)
    items: list[BatchItem] = []
    lines_by_key: dict[str, int] = {}
    for line, read in entries:
        item = _item(line, read, path.parent, defaults or {})
        if item.key in lines_by_key:
            first = lines_by_key[item.key]
            message = f"key {item.key!r} is already used by line {first}; keys are unique"
            item = BatchItem(item.key, None, message, line)
        lines_by_key.setdefault(item.key, line)
        items.append(item)
    if not items:
        raise RequestError(f"list {str(path)!r} holds no requests; write one per line")
    return items


def with_absolute_pictures(request: Request, folder: Path) -> Request:
    """The same request with every relative picture path taken from `folder`."""

    def absolute(picture: Any) -> Any:
        return (folder / picture).resolve() if isinstance(picture, Path) else picture

    references = tuple(
        reference.model_copy(
            update={
                "images": tuple(absolute(image) for image in reference.images),
                "mask": absolute(reference.mask),
            }
        )
        for reference in request.references
    )
    return request.model_copy(update={"references": references})


def verbatim(prompt: str) -> str:
    """The prompt that reaches the text encoder exactly as given, `@` and all."""
    if MENTION_PATTERN.search(prompt) or "@@" in prompt:
        return prompt.replace("@", "@@")
    return prompt


def check_key(key: Any) -> str:
    """The key, when it can name a file.

    Raises:
        RequestError: for anything but 1 to 200 letters, digits, `.`, `_` and `-`, not led by `.`
    """
    if not isinstance(key, str) or not KEY_PATTERN.fullmatch(key):
        raise RequestError(
            f"key {key!r} cannot name a file; use up to 200 letters, digits, '.', '_' and '-', "
            "not starting with '.'"
        )
    return key


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            raise RequestError(f"list {str(path)!r} is over 64 MiB; split it")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise RequestError(
            f"list {str(path)!r} cannot be read ({error.strerror or error}); check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError(f"list {str(path)!r} is not UTF-8 text; save it as UTF-8") from error


def _item(line: int, read: Read, folder: Path, defaults: Mapping[str, Any]) -> BatchItem:
    key = f"{line:04d}"
    try:
        entry = read()
        key = key if entry.key is None else check_key(entry.key)
        request = with_absolute_pictures(Request(**{**defaults, **entry.fields}), folder)
    except (
        AnyRefError,
        TypeError,
        ValueError,
        OSError,
    ) as error:  # TypeError: a field called "self", say
        return BatchItem(key, None, str(error), line)
    return BatchItem(key, request, None, line)


def _line_entries(text: str, known: str) -> Iterator[tuple[int, Read]]:
    parse = {"jsonl": _jsonl_entry, "magref": _magref_entry, "kaleido": _kaleido_entry}[known]
    for line, content in _lines(text):
        yield line, lambda content=content: parse(content)  # type: ignore[misc]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, split at line feeds only."""
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, content.strip()


def _jsonl_entry(content: str) -> _Entry:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"not JSON: {error}; write one request per line") from error
    if not isinstance(fields, dict):
        raise RequestError('not a JSON object; write a request such as {"prompt": "..."}')
    return _Entry(fields.pop("key", None), fields)


def _official_fields(prompt: str, pictures: list[str], shape: str) -> dict[str, Any]:
    if not pictures or not all(pictures):
        raise RequestError(f"no picture where one is expected; write {shape}")
    return {"prompt": verbatim(prompt), "references": [{"images": [p]} for p in pictures]}


def _magref_entry(content: str) -> _Entry:
    key, *rest = (field.strip() for field in content.split(SEPARATOR))
    prompt, pictures = (rest[0], rest[1:]) if rest else ("", [])
    return _Entry(key, _official_fields(prompt, pictures, "key@@prompt@@picture@@picture"))


def _kaleido_entry(content: str) -> _Entry:
    prompt, *pictures = (field.strip() for field in content.split(SEPARATOR))
    return _Entry(None, _official_fields(prompt, pictures, "prompt@@picture@@picture"))


def _opens2v_entries(text: str, path: Path) -> Iterator[tuple[int, Read]]:
    try:
        # objects become tuples of pairs, so that a repeated key is seen; lists stay lists
        samples = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"list {str(path)!r} is not JSON: {error}") from error
    if not isinstance(samples, tuple):
        raise RequestError(f"list {str(path)!r} is not one JSON object of samples by key")
    for place, (key, record) in enumerate(samples, start=1):
        yield place, lambda key=key, record=record: _opens2v_entry(key, record)  # type: ignore[misc]


def _opens2v_entry(key: str, record: Any) -> _Entry:
    fields = dict(record) if isinstance(record, tuple) else {}
    prompt, pictures = fields.get("prompt"), fields.get("img_paths")
    shape = '{"prompt": "...", "img_paths": ["..."]}'
    if not isinstance(prompt, str) or not isinstance(pictures, list):
        raise RequestError(f"sample {key!r} is not of the form {shape}")
    return _Entry(key, _official_fields(prompt, pictures, shape))


def _detect(path: Path, text: str) -> str:
    by_suffix = {".jsonl": "jsonl", ".json": "opens2v"}.get(path.suffix.lower())
    if by_suffix:
        return by_suffix
    votes = {_format_of(content, path.parent) for _, content in _lines(text)} - {None}
    if len(votes) == 1:
        return str(votes.pop())
    found = " and ".join(sorted(str(vote) for vote in votes)) or "none"
    raise RequestError(
        f"the format of list {str(path)!r} is not clear (lines look like: {found}); "
        "say it with --format jsonl, magref, kaleido or opens2v"
    )


def _format_of(content: str, folder: Path) -> str | None:
    if content.startswith("{"):
        return "jsonl"
    first, *rest = (field.strip() for field in content.split(SEPARATOR))
    if rest and _is_picture(rest[0], folder):
        return "kaleido"
    if len(rest) > 1 and KEY_PATTERN.fullmatch(first) and _is_picture(rest[1], folder):
        return "magref"
    return None


def _is_picture(field: str, folder: Path) -> bool:
    if field.lower().endswith(PICTURE_SUFFIXES):
        return True
    try:
        return bool(field) and (folder / field).is_file()
    except (OSError, ValueError):  # a prompt is too long for a file name
        return False
