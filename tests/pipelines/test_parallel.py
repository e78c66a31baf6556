"""One request gives one video: on every run, and on one, two or four processes."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

import ranks
import tiny
from anyref import Reference, Request, generate
from anyref.errors import RequestError
from anyref.models.sequence import SequencePlace
from anyref.pipelines import parallel
from anyref.pipelines.parallel import ProcessLayout, plan_layout

GUIDED = {"num_inference_steps": 8, "strength": 3.0, "strength_map": "guidance"}
TWO: tuple[ranks.Case, ...] = (
    {"family": "magref"},
    {"family": "magref", "request": {"disentangle": 1.0, "strength": 3.0}},
    {"family": "kaleido", "request": {"strength": 3.0}, "kernels": True},
    {"family": "kaleido", "layout": "cfg=2", "request": {"strength": 3.0}},
    {"family": "magref", "request": GUIDED},
    {"family": "kaleido", "layout": "cfg=2", "strided": True},
    {"family": "kaleido", "layout": "cfg=2", "request": GUIDED | {"speed": "fast"}},
    {"family": "kaleido", "layout": "cfg=2", "request": GUIDED | {"speed": "distilled"}},
    {"family": "magref", "request": {"num_inference_steps": 8, "speed": "balanced"}},
    {"family": "kaleido", "request": {"num_inference_steps": 8, "speed": "fast"}},
    {"family": "kaleido", "request": {"speed": "distilled"}},
    {
        "family": "magref",
        "request": {"num_inference_steps": 8, "step_cache": "first-block:0.3"},
        "times": 2,
    },
    {"family": "kaleido", "request": {"num_frames": 1, "width": 48, "height": 80}},
    {"family": "kaleido", "layout": "ulysses=2,cfg=2"},
)
FOUR: tuple[ranks.Case, ...] = (
    {"family": "kaleido", "layout": "cfg=2", "request": {"strength": 3.0}},
    {
        "family": "magref",
        "layout": "ulysses=2,cfg=2,weights",
        "request": {"num_inference_steps": 8, "step_cache": "first-block:0.3"},
    },
    {"family": "magref", "layout": "videos=2", "request": {"disentangle": 1.0}},
    {"family": "kaleido", "layout": "videos=4", "kernels": True},
    *(
        {
            "family": family,
            "layout": "cfg=2",
            "request": {"num_inference_steps": 8, "strength": 3.0} | fields,
        }
        for family, fields in (
            ("magref", {"speed": "fast"}),
            ("magref", GUIDED | {"step_cache": "first-block:0.3"}),
            ("kaleido", {"speed": "balanced"}),
            ("kaleido", {"step_cache": "first-block:0.3", "guidance_interval": (0.0, 0.6)}),
        )
    ),
    {"family": "kaleido", "layout": "ring=2", "request": {"strength": 3.0}},
    {"family": "magref", "layout": "ring=4"},
)


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_the_same_request_gives_the_same_frames_and_another_seed_others(family):
    pipe = getattr(tiny, family)()
    first, again = (generate(pipe, tiny.request()).frames for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, generate(pipe, tiny.request(seed=1)).frames)


def test_a_solver_of_one_request_does_not_leak_into_the_next():
    pipe = tiny.kaleido()
    first = generate(pipe, tiny.request()).frames
    other = generate(pipe, tiny.request(solver="unipc", flow_shift=2.0)).frames
    assert not np.array_equal(first, other)
    assert np.array_equal(first, generate(pipe, tiny.request()).frames)


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    return ranks.on_many(list(TWO), 2, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("number", range(len(TWO) - 2))
def test_two_processes_make_the_bytes_that_one_makes(number, on_two):
    assert np.array_equal(on_two[number], ranks.on_one(TWO[number]))


def test_a_length_that_does_not_divide_is_refused_with_sizes_that_do(on_two):
    refusal = on_two[-2]
    assert "45 tokens do not divide over 2 processes" in refusal
    assert "--frames 5 or --size 64x80 or --size 48x96" in refusal


def test_a_layout_of_another_number_of_processes_is_refused(on_two):
    assert "torchrun started 2" in on_two[-1]


@pytest.fixture
def split(monkeypatch):
    """A transformer whose sequence is split over two processes, as far as `fit_sequence` sees."""

    def pretend(backend, ulysses, ring):
        monkeypatch.setattr(parallel, "sequence_place", lambda _: SequencePlace(0, 2, "group"))
        monkeypatch.setattr(parallel.dist, "get_backend", lambda _: backend)
        context = SimpleNamespace(
            ulysses_degree=ulysses, ring_degree=ring, mesh_shape=(ring, ulysses),
            ulysses_anything=False, ring_anything=False,
        )  # fmt: skip
        config = SimpleNamespace(context_parallel_config=context)
        return context, SimpleNamespace(_parallel_config=config)

    return pretend


@pytest.mark.parametrize(("ulysses", "ring"), [(2, 1), (1, 2)])
def test_nccl_splits_unevenly_what_does_not_divide_and_only_that(split, ulysses, ring):
    context, transformer = split("nccl", ulysses, ring)
    parallel.fit_sequence(transformer, 45, list)
    assert (context.ulysses_anything, context.ring_anything) == (ulysses > 1, ring > 1)
    parallel.fit_sequence(transformer, 44, list)
    assert not (context.ulysses_anything or context.ring_anything)


@pytest.mark.parametrize(("backend", "ulysses"), [("gloo", 1), ("nccl", 2)])
def test_what_cannot_be_split_unevenly_names_what_fits(split, backend, ulysses):
    _, transformer = split(backend, ulysses, 2)
    with pytest.raises(RequestError, match="use --frames 13, another number"):
        parallel.fit_sequence(transformer, 45, lambda parts: ["--frames 13", ""])


@pytest.mark.slow
def test_four_processes_make_the_video_that_one_makes_in_every_layout(tmp_path):
    for case, made in zip(FOUR, ranks.on_many(list(FOUR), 4, tmp_path), strict=True):
        one = ranks.on_one(case)
        if "ring" in case["layout"]:  # adds up in another order
            assert np.linalg.norm(made - one) < 1e-6 * np.linalg.norm(one), case
        else:
            assert np.array_equal(made, one), case


@pytest.mark.parametrize(
    ("text", "world", "made"),
    [
        (None, 4, ProcessLayout(ulysses=4)),
        ("cfg=2", 8, ProcessLayout(cfg=2, ulysses=4)),
        ("ring=2,ulysses=2,weights", 4, ProcessLayout(ring=2, ulysses=2, weights=True)),
        ("videos=4", 4, ProcessLayout(videos=4)),
    ],
)
def test_what_a_layout_leaves_out_is_ulysses(text, world, made):
    assert plan_layout(text, world, heads=8) == made


def test_a_list_is_spread_as_far_as_its_entries_go():
    assert plan_layout(None, 8, heads=8, videos=3) == ProcessLayout(videos=2, ulysses=4)
    assert plan_layout(None, 8, heads=8, videos=30) == ProcessLayout(videos=8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ulysses=2", "torchrun started 4"),
        ("cfg=4", "cfg=2"),
        ("ulysses=4", "[1, 2, 3, 6]"),
        ("videos=4,weights", "add ulysses=2"),
        ("ring", "'ring' is not"),
        ("ring=0", "'ring=0' is not"),
        ("rings=2", "'rings=2' is not"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_with_what_can(text, says):
    with pytest.raises(RequestError, match=re.escape(says)):
        plan_layout(text, 4, heads=6)


def test_on_step_counts_every_step():
    seen, stages = [], []
    generate(
        tiny.magref(),
        Request(prompt="a @fox", references=(Reference([tiny.picture()], "fox"),)),
        on_step=lambda i, n: seen.append((i, n)),
        on_stage=stages.append,
    )
    assert seen == [(1, 2), (2, 2)]
    assert stages == ["encode", "steps", "decode"]
