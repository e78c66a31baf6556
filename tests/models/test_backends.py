"""The best exact attention kernel is chosen; another one is taken by name, or refused."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

import tiny
from anyref.errors import RequestError
from anyref.models import backends

CPU, GPU = torch.device("cpu"), torch.device("cuda")
CHECK = "_check_attention_backend_requirements"


@pytest.fixture
def installed(monkeypatch):
    """Pretends a GPU of a generation, and that only these packages' kernels are there."""

    def pretend(major, *names):
        there = {backends.BACKENDS[name] for name in names}

        def check(backend):
            if backend.value in ("flash", "_flash_3", "sage") and backend.value not in there:
                raise RuntimeError(f"{backend.value} is not installed")

        monkeypatch.setattr(backends, CHECK, check)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, 0))
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: "cudnn" in names)

    return pretend


@pytest.mark.parametrize(
    ("major", "there", "chosen"),
    [
        (9, ("flash3", "cudnn", "flash", "sage"), "flash3"),
        (9, ("cudnn", "flash", "sage"), "cudnn"),
        (10, ("cudnn", "flash"), "cudnn"),
        (8, ("cudnn", "flash", "sage"), "flash"),
        (8, ("cudnn", "sage"), "native"),
        (7, (), "native"),
    ],
)
def test_the_best_exact_kernel_that_is_there_is_chosen(installed, major, there, chosen):
    installed(major, *there)
    assert backends.choose(GPU, torch.bfloat16, split=False, ring=False) == chosen


def test_a_kernel_that_cannot_share_a_sequence_is_passed_over(installed):
    installed(9, "flash3", "cudnn", "flash")
    assert backends.choose(GPU, torch.bfloat16, split=True, ring=False) == "cudnn"


def test_a_ring_gets_a_kernel_that_gives_its_sums(installed):
    installed(8)
    assert backends.choose(GPU, torch.bfloat16, split=True, ring=True) == "torch-flash"


@pytest.mark.parametrize(
    ("device", "dtype"),
    [(CPU, torch.bfloat16), (GPU, torch.float32), (torch.device("mps"), torch.float16)],
)
def test_elsewhere_pytorch_chooses(installed, device, dtype):
    installed(9, "flash3", "cudnn", "flash")
    assert backends.choose(device, dtype, split=False, ring=False) == "native"


@pytest.mark.parametrize(
    ("name", "device", "says"),
    [
        ("flash", CPU, "not on 'cpu'"),
        ("sage", CPU, "not on 'cpu'"),
        ("cudnn", GPU, "bfloat16 or float16"),
        ("flash", GPU, "bfloat16 or float16"),
    ],
)
def test_a_kernel_that_cannot_be_used_is_refused(installed, name, device, says):
    installed(9, "flash3", "cudnn", "flash")
    with pytest.raises(RequestError, match=says):
        backends.use(tiny.kaleido().transformer, name, device)


def test_a_kernel_that_is_not_installed_is_refused(installed):
    installed(9)
    transformer = tiny.kaleido().transformer.to(torch.bfloat16)
    with pytest.raises(RequestError, match="sage is not installed"):
        backends.use(transformer, "sage", GPU)


def test_the_kernel_reaches_every_attention_layer():
    transformer = tiny.magref().transformer
    backends.use(transformer, "math", CPU)
    kinds = {attention.processor._attention_backend for block in transformer.blocks
             for attention in (block.attn1, block.attn2)}  # fmt: skip
    assert kinds == {"_native_math"}


def test_a_kernel_is_one_models_and_no_others():
    before = _AttentionBackendRegistry.get_active_backend()
    backends.use(tiny.kaleido().transformer, "math", CPU)
    assert _AttentionBackendRegistry.get_active_backend() == before
