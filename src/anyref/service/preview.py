"""What a video looks like before it is done: one frame of the clean video that a step points to.

Flow matching's noisy sample is x_t = (1 - s) x_0 + s noise and the network predicts noise - x_0, so
x_0 = x_t - s v at every step, with s = t / 1000 (diffusers' flow-match schedulers). A hook on the
transformer sees x_t and v of the pass of each step that has the prompt.

Axes: B batch, C channels, F latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anyref.models.reuse import install

if TYPE_CHECKING:
    from anyref.pipelines.base import AnyRefPipeline

NUM_TRAIN_TIMESTEPS = 1000.0


class Preview:
    """While open, remembers the last step of a pipeline; costs nothing until it is asked.

    Args:
        pipe: whose transformer is watched.
    """

    def __init__(self, pipe: AnyRefPipeline) -> None:
        self._pipe = pipe
        self._noise_level = -1.0
        self._sample: Tensor | None = None  # (B, C, F, H, W)
        self._velocity: Tensor | None = None  # (B, C, F, H, W)
        self._hook: Any = None

    def __enter__(self) -> Preview:
        watched: Any = self._pipe.transformer
        self._hook = watched.register_forward_hook(self._remember, with_kwargs=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hook.remove()
        self._sample = self._velocity = None

    @torch.no_grad()
    def picture(self) -> np.ndarray | None:
        """A frame from the middle of the video, uint8 (Y, X, 3); None before the first step."""
        if self._sample is None or self._velocity is None:
            return None
        clean = self._sample.float() - self._noise_level * self._velocity.float()  # (B, C, F, H, W)
        middle = clean.shape[2] // 2
        pixels = self._pipe.decode_latents(clean[:1, :, middle : middle + 1])  # (1, 3, T, Y, X)
        frame = pixels[0, :, 0].float().clamp(-1, 1).add(1).mul(127.5)
        return frame.permute(1, 2, 0).round().to(torch.uint8).cpu().numpy()

    def _remember(self, _: Any, __: Any, given: dict[str, Any], output: Any) -> None:
        run = install(self._pipe.transformer).run
        if run is None or run.branch != "cond" or run.without is not None:
            return
        velocity = output[0] if isinstance(output, tuple) else output
        self._noise_level = float(given["timestep"].flatten()[0]) / NUM_TRAIN_TIMESTEPS
        self._velocity = velocity
        self._sample = given["hidden_states"][:, : velocity.shape[1]]
