"""Fewer computations for a video that is nearly the same: presets, and what they consist of.

Every preset is fields of a request; a field that the request gives itself stays. What each costs
of a subject's identity is measured in docs/speed.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anyref.errors import RequestError
from anyref.models.step_cache import StepCache
from anyref.request import Request

Interval = tuple[float, float]
WHOLE_VIDEO: Interval = (0.0, 1.0)
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "exact": {},
    "balanced": {"step_cache": "taylorseer:2"},
    "fast": {"step_cache": "taylorseer:3", "guidance_interval": (0.0, 0.6)},
    # for weights or a LoRA distilled to four steps (lightx2v): its sigmas are 1, 15/16, 5/6, 5/8
    "distilled": {
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
        "solver": "euler",
        "flow_shift": 5.0,
    },
}


def with_preset(request: Request) -> Request:
    """The request with its preset's fields where it gives none of its own."""
    fields = PRESETS[request.speed or "exact"]
    missing = {name: value for name, value in fields.items() if getattr(request, name) is None}
    return request.model_copy(update=missing)


@dataclass(frozen=True)
class Pace:
    """What the denoising loop may leave out.

    Args:
        step_cache: steps that reuse what earlier ones computed.
        guidance_interval: shares of the steps between which guidance acts, from the first on and
            before the second (arXiv 2404.07724); elsewhere there is one pass per step.
    """

    step_cache: StepCache | None = None
    guidance_interval: Interval = WHOLE_VIDEO

    def guides(self, step: int, num_steps: int) -> bool:
        """True when guidance acts in a step, counted from 0."""
        start, stop = self.guidance_interval
        return start <= step / num_steps < stop


EXACT = Pace()


def paced(step_cache: str | None, guidance_interval: Interval) -> Pace:
    """The pace of a request's fields.

    Raises:
        RequestError: for a cache that is not known, or shares that are not 0 <= start < stop <= 1.
    """
    start, stop = guidance_interval
    if not 0.0 <= start < stop <= 1.0:
        raise RequestError(
            f"guidance_interval {start:g},{stop:g} is no interval of the steps; give two shares "
            "with 0 <= start < stop <= 1, as in 0,0.6"
        )
    return Pace(StepCache.parse(step_cache), (start, stop))
