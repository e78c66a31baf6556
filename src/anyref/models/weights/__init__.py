"""Official weights in and out: published MAGREF and Kaleido checkpoints, diffusers folders."""

from anyref.models.weights.convert import convert_kaleido, convert_magref
from anyref.models.weights.official import to_official

__all__ = ["convert_kaleido", "convert_magref", "to_official"]
