from __future__ import annotations

import pytest

import scored
from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import load_benchmark
from anyref.evaluation.results import Scorer
from anyref.evaluation.run import score_in_processes
from anyref.evaluation.videos import find_videos

# Ray warns of itself, and leaves files to the garbage collector
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture
def cases(tmp_path):
    pytest.importorskip("ray")
    for place, name in enumerate(("one", "two", "three")):
        scored.write_clip(tmp_path / "videos" / f"{name}.mp4", 60 + 60 * place)
    return load_benchmark(scored.write_benchmark(tmp_path / "cases"))


def test_a_cluster_gives_the_table_of_one_process(cases, tmp_path):
    found, scorer = find_videos(cases, tmp_path / "videos"), Scorer(scored.metrics())
    seen = []
    on_ray = score_in_processes(
        cases, found, scorer, 2, lambda sample, _: seen.append(sample), "local"
    )
    assert on_ray.to_json() == score_in_processes(cases, found, scorer, 1).to_json()
    assert sorted(seen) == sorted(found.samples)


def test_what_stops_a_worker_stops_the_run_with_its_words(cases, tmp_path):
    found = find_videos(cases, tmp_path / "videos")
    with pytest.raises(EvaluationError, match="weights are broken"):
        score_in_processes(cases, found, Scorer([scored.Broken()]), 1, None, "local")
