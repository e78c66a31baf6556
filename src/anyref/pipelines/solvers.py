"""The official samplers on diffusers' schedulers, sigma for sigma.

diffusers spaces its default sigmas differently from the official code (up to 1.4e-3 in the final
sample); each solver here says which sigmas it is given. u runs from 1 to 0, and the shift s turns
it into sigma = s u / (1 + (s - 1) u).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from anyref.errors import RequestError

SOLVERS = ("unipc", "dpm++", "euler")


def make_scheduler(name: str, flow_shift: float) -> Any:
    """A diffusers scheduler for `name` with its timestep shift.

    Raises:
        RequestError: for a name that is not one of SOLVERS.
    """
    if name == "unipc":
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
        )
    if name == "dpm++":
        return DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
        )
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=flow_shift)
    raise RequestError(f"solver {name!r} is not known; use one of {', '.join(SOLVERS)}")


def solver_of(scheduler: Any) -> str:
    """The name of a scheduler's solver.

    Raises:
        RequestError: for a scheduler that is not one of ours.
    """
    for name, kind in (
        ("unipc", UniPCMultistepScheduler),
        ("dpm++", DPMSolverMultistepScheduler),
        ("euler", FlowMatchEulerDiscreteScheduler),
    ):
        if isinstance(scheduler, kind):
            return name
    raise RequestError(
        f"{type(scheduler).__name__} has no official sigmas; name a solver: {', '.join(SOLVERS)}"
    )


def set_official_timesteps(scheduler: Any, num_steps: int, device: torch.device) -> None:
    """Set the sigmas of the official implementation for `num_steps` steps.

    UniPC: u from 0.999 (FlowUniPC, fm_solvers_unipc.py). DPM++: u from 1, integer timesteps
    (fm_solvers.py). Euler: u from 1 (Kaleido's "hunyuan" schedule). Other schedulers keep
    their own.
    """
    if isinstance(scheduler, UniPCMultistepScheduler) and scheduler.config.use_flow_sigmas:
        sigmas = np.linspace(0.999, 0.0, num_steps + 1)[:-1]
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    elif isinstance(scheduler, DPMSolverMultistepScheduler) and scheduler.config.use_flow_sigmas:
        scheduler.set_timesteps(num_steps, device=device)
        shift = scheduler.config.flow_shift
        u = np.linspace(1.0, 0.0, num_steps + 1)[:-1]
        sigmas = shift * u / (1 + (shift - 1) * u)
        scheduler.timesteps = torch.from_numpy(1000 * sigmas).to(torch.int64).to(device)
        scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0)).to(torch.float32)
    elif isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        sigmas = np.linspace(1.0, 0.0, num_steps + 1)[:-1]
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    else:
        scheduler.set_timesteps(num_steps, device=device)
