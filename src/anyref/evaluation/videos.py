"""Which file of a results folder is the video of which case.

    ID.mp4 (.mov, .mkv, .webm)       the case's only video, take 0 (OpenS2V-Eval)
    ID-0.mp4, ID-1.mp4, ...          several takes of a case, other seeds
    PROMPT-0.mp4, ...                the same by a prompt that one case has (VBench)

Every case and every file of the folder is accounted for: found, missing, refused or extra.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anyref.data.lists import VIDEOS
from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark

MAX_FILES = 200_000
TAKE = re.compile(r"(.+)-(\d{1,4})", re.ASCII)

Sample = tuple[str, int]  # case id, take


@dataclass(frozen=True)
class Results:
    """The videos of a results folder.

    Args:
        found: by case id and take, in the order of the benchmark.
        refused: files that a case's video should be in but is not, with the reason.
        missing: cases and takes without a file: a take that one case has, all should have.
        extra: names of videos that belong to no case, escaped for printing.
    """

    folder: Path
    found: Mapping[Sample, Path]
    refused: Mapping[Sample, str]
    missing: tuple[Sample, ...]
    extra: tuple[str, ...]

    @property
    def rare(self) -> dict[int, int]:
        """Takes beside others that fewer than half of the cases have, and how many do."""
        have = Counter(take for _, take in (*self.found, *self.refused))
        cases = len({case for case, _ in self.samples})
        return {t: have[t] for t in sorted(have) if len(have) > 1 and 2 * have[t] < cases}

    @property
    def todo(self) -> tuple[tuple[Sample, Path | None, str], ...]:
        """All that is expected: its file or None, and why it was refused, if it was."""
        return tuple((s, self.found.get(s), self.refused.get(s, "")) for s in self.samples)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All that is expected: found, refused or missing; sorted."""
        return tuple(sorted({*self.found, *self.refused, *self.missing}))


def find_videos(benchmark: Benchmark, folder: str | Path) -> Results:
    """Look for the videos of a benchmark's cases; folders inside are not entered.

    Raises:
        EvaluationError: no such folder, one that cannot be read, or over 200,000 files.
    """
    folder = Path(folder)
    files: dict[Sample, list[str]] = defaultdict(list)
    extra = []
    for name in _names(folder):
        stem, suffix = Path(name).stem, Path(name).suffix
        if suffix.lower() not in VIDEOS or name.startswith("."):
            continue
        sample = sample_of(stem, benchmark)
        if sample is None:
            extra.append(ascii(name)[1:-1])
        else:
            files[sample].append(name)
    found: dict[Sample, Path] = {}
    refused: dict[Sample, str] = {}
    for sample, names in files.items():
        reason = _refusal(folder, names)
        if reason is None:
            found[sample] = folder / names[0]
        else:
            refused[sample] = reason
    takes = sorted({take for _, take in files} or {0})
    order = [(case.id, take) for case in benchmark.cases for take in takes]
    return Results(
        folder=folder,
        found={sample: found[sample] for sample in order if sample in found},
        refused={sample: refused[sample] for sample in order if sample in refused},
        missing=tuple(dict.fromkeys(sample for sample in order if sample not in files)),
        extra=tuple(extra),
    )


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                names.append(entry.name)
                if len(names) > MAX_FILES:
                    raise EvaluationError(
                        f"results folder {str(folder)!r} has over {MAX_FILES:,} files; give the "
                        "folder of one model's videos"
                    )
    except (OSError, ValueError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(
            f"results folder {str(folder)!r} cannot be read: {error}; check the path"
        ) from error
    return sorted(names)


def sample_of(stem: str, benchmark: Benchmark) -> Sample | None:
    """The case and take that a file name without suffix says, by id or by prompt; None for none."""
    match = TAKE.fullmatch(stem)
    for name, take in ((stem, 0), (match[1], int(match[2])) if match else (stem, 0)):
        if name in benchmark:
            return name, take
        if name in benchmark.by_prompt:
            return benchmark.by_prompt[name], take
    return None


def _refusal(folder: Path, names: list[str]) -> str | None:
    """Why none of the names is the video: two files, no plain file, an empty one."""
    if len(names) > 1:
        return f"{' and '.join(names)} are both this case's video; keep one"
    path = folder / names[0]
    try:
        if path.is_symlink() and folder.resolve() not in path.resolve().parents:
            return f"{names[0]} is a link out of the folder; copy the video into it"
        if not path.is_file():
            return f"{names[0]} is not a file"
        return None if path.stat().st_size else f"{names[0]} is empty"
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        return f"{names[0]} cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}"
