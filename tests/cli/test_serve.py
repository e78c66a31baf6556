"""`anyref serve`: what it is told reaches the service; what cannot be served is refused."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture
def started(monkeypatch):
    """Settings, host and port of services that would have been started."""
    from anyref.service import server

    calls = []
    monkeypatch.setattr(server, "serve", lambda *given: calls.append(given))
    monkeypatch.setattr(server, "work", lambda *given: calls.append(given))
    return calls


def test_options_reach_the_service(anyref, started, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("ann 0123456789abcdef\n")
    code, out, _ = anyref(
        "serve",
        "--port",
        "9000",
        "--host",
        "0.0.0.0",
        "--model",
        "tiny-kaleido",
        "--device",
        "cpu",
        "--device",
        "cpu",
        "--folder",
        tmp_path / "it",
        "--keys",
        keys,
        "--client-jobs",
        "3",
        "--dtype",
        "bfloat16",
    )
    ((settings, host, port),) = started
    assert (code, host, port) == (0, "0.0.0.0", 9000)
    assert settings.database == f"sqlite:///{tmp_path}/it/queue.sqlite"
    assert settings.store == str(tmp_path / "it" / "store")
    assert (settings.models, settings.devices) == (("tiny-kaleido",), ("cpu", "cpu"))
    assert (settings.limits.client_jobs, settings.dtype) == (3, "bfloat16")
    assert list(settings.keys.values()) == ["ann"]
    assert "http://0.0.0.0:9000 (models: tiny-kaleido; workers: 2 on cpu, cpu)" in out


def test_a_memory_plan_is_told_per_model_and_reaches_the_workers(anyref, started):
    arguments = ("serve", "--model", "tiny-magref", "--model", "tiny-kaleido", "--device", "cpu")
    code, _, told = anyref(*arguments, "--memory", "disk")
    assert (code, started[0][0].memory) == (0, "disk")
    assert told.count("memory plan disk on") == 2
    for memory, said in (("plenty", "use auto"), ("0.1GB", "tiny-magref does not fit")):
        code, _, told = anyref(*arguments, "--memory", memory)
        assert (code, said in told) == (2, True)
    assert anyref("serve", "--no-workers", "--memory", "plenty")[0] == 2
    assert len(started) == 1


def test_no_gpu_is_touched_to_tell_a_plan(anyref, started, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: 1 / 0)
    for memory, told in (("2GB", 1), ("full", 1), ("auto", 0)):
        arguments = ("--model", "tiny-magref", "--device", "cuda:1", "--memory", memory)
        code, _, said = anyref("serve", *arguments)
        assert (code, said.count("on cuda:1")) == (0, told)
    assert anyref("serve", "--model", "stub", "--device", "cpu", "--memory", "full")[0] == 0


def test_a_dtype_that_no_model_runs_in_is_refused(anyref, started):
    code, _, told = anyref("serve", "--dtype", "int3")
    assert (code, "dtype 'int3' is not known" in told, started) == (2, True, [])


def test_workers_and_front_door_can_be_apart(anyref, started):
    assert anyref("serve", "--no-workers", "--queue", "postgresql://h/n")[0] == 0
    assert anyref("serve", "--workers-only", "--device", "cuda:1")[0] == 0
    assert started[0][0].devices == ()
    assert started[0][0].database == "postgresql://h/n"
    assert started[1][0].devices == ("cuda:1",)
    code, _, err = anyref("serve", "--no-workers", "--workers-only")
    assert (code, "leave nothing" in err) == (2, True)


def test_an_open_door_without_keys_is_refused(anyref, tmp_path):
    code, _, err = anyref(
        "serve", "--host", "0.0.0.0", "--model", "stub", "--device", "cpu", "--folder", tmp_path
    )
    assert (code, "no API keys are given; add --keys FILE" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(anyref, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else known(name)
    )
    code, _, err = anyref("serve")
    assert (code, "pip install 'anyref[serve]'" in err) == (2, True)
