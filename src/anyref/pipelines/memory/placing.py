"""A loaded pipeline held as its plan says, by diffusers' own offloading."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from anyref.pipelines.memory.plan import Plan

ENCODERS = ("text_encoder", "image_encoder")


def place(pipe: Any, plan: Plan, device: str | torch.device) -> Any:
    """Move a pipeline's parts to where they wait, and give them what fetches them.

    On a CPU blocks and parts have no other memory to wait in and stay; files work there too.

    Args:
        pipe: with its weights on the CPU and its LoRAs on them.

    Returns:
        the pipeline.
    """
    device = torch.device(device)
    pipe.keeps_between_steps = plan.keeps
    if plan.tiled and pipe.vae is not None:
        pipe.vae.enable_tiling()
    if plan.placement == "parts" and device.type != "cpu":
        pipe.enable_model_cpu_offload(device=device)
    elif plan.placement in ("blocks", "disk"):
        _stream(pipe, device, _temporary_folder(pipe) if plan.placement == "disk" else None)
    else:
        pipe.to(device)
    return pipe


def _stream(pipe: Any, device: torch.device, folder: str | None) -> None:
    """Blocks of the transformer and layers of the encoders come one by one; the VAE stays."""
    streams = device.type == "cuda"
    how = {
        "onload_device": device,
        "offload_device": torch.device("cpu"),
        "use_stream": streams,
        # with record_stream nothing waits for a block's end before the ones after it are fetched,
        # until all of them are there
        "record_stream": False,
        "low_cpu_mem_usage": streams,
    }
    for name in ("transformer", *ENCODERS):
        part = getattr(pipe, name, None)
        if part is None:
            continue
        if streams and folder is None:
            _pin(part)
        level: dict[str, Any] = {"offload_type": "leaf_level"}
        if name == "text_encoder":
            # one module for tied embeddings: two would be written to files one after the other,
            # the second when its numbers are gone
            part.set_input_embeddings(part.get_input_embeddings())
        if name == "transformer":
            level = {"offload_type": "block_level", "num_blocks_per_group": 1}
        where = None if folder is None else f"{folder}/{name}"
        apply_group_offloading(part, **how, **level, offload_to_disk_path=where)
    if pipe.vae is not None:
        pipe.vae.to(device)


def _pin(part: nn.Module) -> None:
    """Lock weights into memory one at a time; diffusers would copy all of them before it lets go.

    With `low_cpu_mem_usage` it uses tensors that are locked already as they are.
    """
    for tensor in (*part.parameters(), *part.buffers()):
        tensor.data = tensor.data.pin_memory()


def _temporary_folder(pipe: Any) -> str:
    """A new folder, gone with the pipeline: diffusers takes files that it finds for its own."""
    folder = tempfile.mkdtemp(prefix="anyref-offload-")
    weakref.finalize(pipe, shutil.rmtree, folder, ignore_errors=True)
    return folder
