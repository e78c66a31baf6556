"""Any-reference video generation: MAGREF and Kaleido as diffusers pipelines.

The names below are the public API. Importing them loads torch; importing `anyref` does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyref.errors import AnyRefError
    from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
    from anyref.pipelines.generation import Generation, generate
    from anyref.pipelines.kaleido import KaleidoPipeline
    from anyref.pipelines.loading import load_pipeline
    from anyref.pipelines.magref import MagrefPipeline
    from anyref.request import Reference, Request

__version__ = "0.1.0"

_HOMES = {
    "AnyRefError": "anyref.errors",
    "Generation": "anyref.pipelines.generation",
    "KaleidoPipeline": "anyref.pipelines.kaleido",
    "KaleidoTransformer3DModel": "anyref.models.kaleido_transformer",
    "MagrefPipeline": "anyref.pipelines.magref",
    "Reference": "anyref.request",
    "Request": "anyref.request",
    "generate": "anyref.pipelines.generation",
    "load_pipeline": "anyref.pipelines.loading",
}

__all__ = [
    "AnyRefError",
    "Generation",
    "KaleidoPipeline",
    "KaleidoTransformer3DModel",
    "MagrefPipeline",
    "Reference",
    "Request",
    "generate",
    "load_pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anyref' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
