"""A loaded pipeline made ready to run as `pipelines.engine` says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from anyref.errors import RequestError
from anyref.models import backends
from anyref.packages import default_cache
from anyref.pipelines import parallel
from anyref.pipelines.engine import AUTO, Engine


def prepare(pipe: Any, engine: Engine, device: torch.device) -> dict[str, Any]:
    """Make a pipeline ready; what it runs by, for the record.

    Args:
        device: where it shall be; with weights in parts it is on the CPU before.

    Raises:
        RequestError: for what cannot be used here or together.
    """
    engine.check()
    heads = pipe.transformer.config.num_attention_heads
    layout = parallel.plan_layout(engine.parallel, parallel.processes(), heads, engine.videos)
    if engine.compile and layout.weights:
        raise RequestError("compile and weights do not go together; leave one out")
    split, ring = layout.ring * layout.ulysses > 1, layout.ring > 1
    name = engine.attention
    if name == AUTO:
        name = backends.choose(device, pipe.transformer.dtype, split=split, ring=ring)
    if engine.attention != AUTO or name != "native":  # native is what a transformer comes with
        backends.use(pipe.transformer, name, device, split=split, ring=ring)
    if engine.compile:
        compile_blocks(pipe.transformer)
    parallel.shard(pipe, layout)
    for part in pipe.components.values():
        if layout.weights and isinstance(part, torch.nn.Module) and part is not pipe.transformer:
            part.to(device)
    return {"attention": name, **({"compile": True} if engine.compile else {})}


def compile_blocks(transformer: Any, **options: Any) -> None:
    """Compile the transformer's block, once for all of them, at its first use.

    What the compiler makes is kept in anyref's cache, so that the next process only reads it;
    TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR say otherwise where they are set.

    Args:
        options: of torch.compile.
    """
    folder = default_cache("compiled")
    for variable, part in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        place = Path(os.environ.setdefault(variable, str(folder / part)))
        place.mkdir(parents=True, exist_ok=True)
    transformer.compile_repeated_blocks(**options)
