"""Benchmarks: cases to make videos for, from plain files.

    OpenS2V-Eval   {"singleface_1": {"img_paths": [...], "prompt": ..., "synthesis_flag": ...,
                    "class_label": [...]}, ...}                      (Open, Human, Single domain)
    ours           {"name": ..., "cases": [CASE, ...]}, or [CASE, ...], or one CASE per line
                   (.jsonl): the fields of `Request`, and "id", "category", "labels". Beside
                   "cases" there may be "pictures": {PATH: {"credit", "licence", "package"}}
    VBench         [{"prompt_en": ..., "dimension": [...]}, ...]: a case per prompt, no pictures

What is wrong with a case is said in its `fault`; it never costs the other cases. Pictures lie in
the benchmark's root folder: a path out of it is a fault, so that a benchmark from elsewhere can
neither read nor, in a report, show anything else. (Links inside the root are followed.)
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anyref.batch import MAX_LIST_BYTES, check_key, verbatim, with_absolute_pictures
from anyref.errors import AnyRefError, EvaluationError
from anyref.request import Kind, Request

OPENS2V_DOMAINS = ("Open-Domain", "Human-Domain", "Single-Domain")
PEOPLE_FOLDERS = ("/man/", "/woman/", "/crop_man/", "/crop_woman/")  # get_facesim.py
PLACE_FOLDERS = ("/environment/", "/scene/")
PEOPLE_LABELS = ("man", "woman", "person")
CASE_FIELDS = {"id", "category", "labels"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One video to make and to score.

    Args:
        id: names the video's file; unique in the benchmark.
        request: None where the case is not one; `fault` then says why.
        category: OpenS2V-Eval's is the id before its last underscore.
        labels: what each reference shows, parallel to the references.
        pictures: the pictures' paths as the benchmark writes them: OpenS2V's scores go by them.
        synthesis_flag: OpenS2V's, as written: "wrong", "Wrong" or "True" (generated pictures).
        fault: why the case cannot be made or scored as it is.
    """

    id: str
    request: Request | None
    category: str = ""
    labels: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    synthesis_flag: str | None = None
    fault: str | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each reference."""
        return tuple(r.kind for r in self.request.references) if self.request else ()

    @property
    def is_synthetic(self) -> bool:
        """Whether the benchmark calls the reference pictures generated."""
        return (self.synthesis_flag or "").lower() == "true"


@dataclass(frozen=True)
class Benchmark:
    """Cases in the order of the file.

    Args:
        name: of the benchmark. root: the folder that pictures' paths start from.
        domain: OpenS2V-Eval's, one of `OPENS2V_DOMAINS`, by the file's name; None elsewhere.
        by_prompt: the id of the case with a prompt, of prompts that just one case has.
        credits: who made a picture and under which licence, by its path, where the file says.
    """

    name: str
    cases: tuple[Case, ...]
    root: Path
    domain: str | None = None
    credits: Mapping[str, str] = field(default_factory=dict)
    _by_id: Mapping[str, Case] = field(init=False, repr=False, compare=False)
    by_prompt: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first = {case.id: case for case in reversed(self.cases)}
        object.__setattr__(self, "_by_id", first)
        prompts = [(case.request.text, case.id) for case in self.cases if case.request]
        count = Counter(prompt for prompt, _ in prompts)
        alone = {prompt: case_id for prompt, case_id in prompts if count[prompt] == 1}
        object.__setattr__(self, "by_prompt", alone)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, case_id: str) -> Case:
        """The case of that id; KeyError for none."""
        return self._by_id[case_id]

    def __contains__(self, case_id: object) -> bool:
        return case_id in self._by_id

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong, by case id."""
        return {case.id: case.fault for case in self.cases if case.fault}


def load_benchmark(
    name_or_file: str | Path,
    *,
    root: str | Path | None = None,
    folders: Sequence[Path] = (),
    check_pictures: bool = True,
) -> Benchmark:
    """Read a benchmark.

    Args:
        name_or_file: a file, or the name of one in `folders`: NAME.json, NAME.jsonl,
            NAME/cases.jsonl or NAME/cases.json.
        root: where pictures' paths start; the file's folder when None.
        folders: searched for names, first one first.
        check_pictures: whether a picture that is not there is a fault.

    Raises:
        EvaluationError: no such file; over 64 MiB; not JSON in UTF-8; without cases.
    """
    path = _find(name_or_file, folders)
    entries, name, credited = _entries(_read(path), path)
    if not entries:
        raise EvaluationError(f"benchmark {str(path)!r} holds no cases; write one or more")
    root = path.parent if root is None else Path(root)
    cases = []
    used: Counter[str] = Counter()
    for place, (key, said) in enumerate(entries, start=1):
        case = _case(f"{place:04d}", key, said, root, check_pictures)
        used[case.id] += 1
        if used[case.id] > 1:
            case = replace(case, request=None, fault=f"id {case.id!r} is used before; ids differ")
        cases.append(case)
    domain = next((d for d in OPENS2V_DOMAINS if path.stem.startswith(d)), None)
    return Benchmark(name, tuple(cases), root, domain, credited)


def _find(name: str | Path, folders: Sequence[Path]) -> Path:
    places = [Path(name)]
    for folder in folders:
        parts = (f"{name}.json", f"{name}.jsonl", f"{name}/cases.jsonl", f"{name}/cases.json")
        places += [folder / part for part in parts]
    found = next((place for place in places if _is_file(place)), None)
    if found is None:
        known = sorted({p.stem for f in folders if f.is_dir() for p in f.iterdir()})
        raise EvaluationError(
            f"benchmark {str(name)!r} is neither a file nor a name "
            f"({', '.join(known) or 'no names here'}); check the path"
        )
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, a NUL
        return False


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            raise EvaluationError(f"benchmark {str(path)!r} is over 64 MiB; split it")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise EvaluationError(
            f"benchmark {str(path)!r} cannot be read ({error.strerror or error}); check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"benchmark {str(path)!r} is not UTF-8 text; save it so") from error


Entries = list[tuple[str | None, Any]]  # OpenS2V's key or None, and what the file says


def _entries(text: str, path: Path) -> tuple[Entries, str, dict[str, str]]:
    """The entries of a file, the benchmark's name, and the pictures' credits."""
    if path.suffix.lower() == ".jsonl":
        lines = [line for line in text.split("\n") if line.strip()]
        return [(None, _json_line(line)) for line in lines], _stem(path), {}
    try:
        # objects become tuples of pairs, so that a repeated key is seen; lists stay lists
        return _told(json.loads(text, object_pairs_hook=tuple), path)
    except (ValueError, RecursionError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"benchmark {str(path)!r} is not JSON: {error}") from error


def _told(said: Any, path: Path) -> tuple[Entries, str, dict[str, str]]:
    if isinstance(said, list):
        return _once([_plain(entry) for entry in said]), _stem(path), {}
    if not isinstance(said, tuple):
        raise EvaluationError(f"benchmark {str(path)!r} is no JSON object or list of cases")
    top = dict(said)
    if isinstance(top.get("cases"), list):
        name = top.get("name")
        named = name if isinstance(name, str) and name else _stem(path)
        cases: Entries = [(None, _plain(entry)) for entry in top["cases"]]
        return cases, named, _credits(_plain(top.get("pictures")))
    return [(key, _plain(record)) for key, record in said], _stem(path), {}


def _once(entries: list[Any]) -> Entries:
    """Entries of a list; VBench's prompts, which it may repeat for other dimensions, once each."""
    seen: set[str] = set()
    kept: Entries = []
    for entry in entries:
        prompt = entry.get("prompt_en") if isinstance(entry, dict) else None
        if not isinstance(prompt, str):
            kept.append((None, entry))
        elif prompt not in seen:
            seen.add(prompt)
            kept.append((None, {"prompt": verbatim(prompt)}))
    return kept


def _credits(said: Any) -> dict[str, str]:
    """One line per picture, of what is said in words; nothing for another form."""
    found = {}
    for path, about in said.items() if isinstance(said, dict) else ():
        if isinstance(about, dict):
            words = [about.get(name) for name in ("credit", "licence", "package")]
            found[path] = "; ".join(word for word in words if isinstance(word, str) and word)
    return found


def _stem(path: Path) -> str:
    return path.parent.name if path.stem == "cases" else path.stem


def _json_line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"


def _plain(said: Any) -> Any:
    """Tuples of pairs as the dicts they stand for."""
    if isinstance(said, tuple):
        return {key: _plain(value) for key, value in said}
    return [_plain(value) for value in said] if isinstance(said, list) else said


def _case(place: str, key: str | None, said: Any, root: Path, check_pictures: bool) -> Case:
    case_id = place
    try:
        if not isinstance(said, dict):
            shown = said if isinstance(said, str) else f"a {type(said).__name__}"
            raise EvaluationError(f"not a JSON object of a case: {shown:.200}")
        given = said.get("id") if key is None else key
        case_id = place if given is None else check_key(given)
        made = _own(case_id, said) if key is None else _opens2v(case_id, said)
        request = made.request
        assert request is not None  # both readers made one
        pictures = [p for r in request.references for p in (*r.images, r.mask)]
        fault = next(
            (f for p in pictures if isinstance(p, Path) and (f := _fault(p, root, check_pictures))),
            None,
        )
        return replace(made, request=with_absolute_pictures(request, root), fault=fault)
    except (AnyRefError, TypeError, ValueError, OSError) as error:  # TypeError: a field "self", say
        return Case(id=case_id, request=None, fault=str(error))


def _fault(picture: Path, root: Path, check_pictures: bool) -> str | None:
    shown = repr(str(picture))[:200]
    inside = Path(os.path.abspath(root / picture))  # noqa: PTH100 - resolve would follow links
    if picture.is_absolute() or Path(os.path.abspath(root)) not in inside.parents:  # noqa: PTH100
        return f"picture {shown} is not below the benchmark's folder; copy it there"
    if check_pictures and not _is_file(root / picture):
        return f"picture {shown} is not a file in the benchmark's folder; check the path"
    return None


def _opens2v(case_id: str, said: dict[str, Any]) -> Case:
    paths: Any = said.get("img_paths")
    labels: Any = said.get("class_label", [])
    flag, prompt = said.get("synthesis_flag"), said.get("prompt")
    texts = isinstance(prompt, str) and (flag is None or isinstance(flag, str))
    lists = isinstance(paths, list) and isinstance(labels, list)
    if not texts or not lists or not all(isinstance(t, str) for t in (*paths, *labels)):
        raise EvaluationError(
            'the sample is not of the form {"prompt": "...", "img_paths": ["..."], '
            '"class_label": ["..."], "synthesis_flag": "..."}'
        )
    if labels and len(labels) != len(paths):
        raise EvaluationError(f"{len(labels)} class labels for {len(paths)} pictures; one each")
    named = [*labels] or [""] * len(paths)
    references = [
        {"images": [path], "kind": _kind(path, label)}
        for path, label in zip(paths, named, strict=True)
    ]
    return Case(
        id=case_id,
        request=Request(prompt=verbatim(str(prompt)), references=references),
        category=case_id.rsplit("_", 1)[0],
        labels=tuple(labels),
        pictures=tuple(paths),
        synthesis_flag=flag,
    )


def _kind(path: str, label: str) -> Kind:
    """What a picture of OpenS2V-Eval shows, by its folder; our rule, the benchmark states none."""
    if any(folder in path for folder in PEOPLE_FOLDERS) or label.lower() in PEOPLE_LABELS:
        return "human"
    return "background" if any(folder in path for folder in PLACE_FOLDERS) else "object"


def _own(case_id: str, said: dict[str, Any]) -> Case:
    request = Request(**{name: value for name, value in said.items() if name not in CASE_FIELDS})
    category = said.get("category", "")
    labels: Any = said.get("labels")
    if labels is None:
        labels = [reference.words for reference in request.references]
    if not isinstance(category, str) or not isinstance(labels, list):
        raise EvaluationError("category is a word and labels a list of words, one per reference")
    if not all(isinstance(t, str) for t in labels) or len(labels) != len(request.references):
        raise EvaluationError(
            f"{len(labels)} labels for {len(request.references)} references; write a word for each"
        )
    paths = [str(p) for r in request.references for p in r.images if isinstance(p, Path)]
    return Case(
        id=case_id,
        request=request,
        category=category,
        labels=tuple(labels),
        pictures=tuple(paths),
    )
