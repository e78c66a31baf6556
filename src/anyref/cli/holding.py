"""How a run holds its model: `--memory` and `--transformer`, and the plan told before it loads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyref.cli import progress
from anyref.errors import ModelError, RequestError
from anyref.packages import sha256_of
from anyref.request import PixelShape

if TYPE_CHECKING:
    import torch

    from anyref.request import Request


@dataclass(frozen=True)
class Holding:
    """What a user asks for; nothing of it changes how a request is read.

    Args:
        memory: "auto", a budget, a plan's name. transformer: path of weights in place of the
            model's.
    """

    memory: str | None = None
    transformer: str | None = None

    def check(self) -> None:
        """Raise RequestError or ModelError for what cannot be, before anything is loaded."""
        if self.transformer is not None and not Path(self.transformer).is_file():
            raise ModelError(f"transformer {self.transformer!r} is not a file; check the path")
        if self.memory is None:
            return
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RequestError(
                f"memory {self.memory!r} plans for one process; on several use --parallel weights"
            )
        from anyref.pipelines.memory.choosing import check_asked

        check_asked(self.memory)

    @property
    def record(self) -> dict[str, Any]:
        """Beside the model's name and hash: what may change a video's bytes."""
        made: dict[str, Any] = {}
        if self.memory is not None:
            made["memory"] = self.memory
        if self.transformer is not None:
            found = sha256_of(Path(self.transformer))
            made["transformer"] = {"path": self.transformer, "hash": found}
        return made

    def arguments(
        self, model: str, asked: Sequence[Asked], device: str, dtype: torch.dtype | None
    ) -> dict[str, Any]:
        """Arguments of `load_pipeline`; tells the plan for the largest request.

        Args:
            asked: every request that will be made, as the network makes it.

        Raises:
            ModelError: nothing fits.
        """
        file = None if self.transformer is None else Path(self.transformer)
        made: dict[str, Any] = {} if file is None else {"transformer": file}
        if self.memory is None:
            return made
        from anyref.bench.devices import device_here
        from anyref.pipelines.loading import describe_model, plan_memory
        from anyref.pipelines.memory.dry_run import Strengths
        from anyref.pipelines.memory.predict import Work
        from anyref.pipelines.memory.sizes import sizes_of
        from anyref.pipelines.memory.telling import lines

        largest = max(asked, key=lambda one: one.pixels)
        acting = (Strengths(one.strengths, one.strength_map) for one in asked)
        strengths = max(acting, key=lambda one: (one.contrasts, len(one.acting)))
        work = Work(largest.shape, largest.steps, largest.guided, largest.pictures, strengths)
        plan, prediction = plan_memory(model, self.memory, device, dtype, file, work)
        found, sizes = device_here(device), sizes_of(describe_model(model), file)
        for line in lines(sizes, plan, prediction, found.name, found.speed):
            progress.line(line, error=True)
        return {**made, "memory": plan}


WHOLE = Holding()


@dataclass(frozen=True)
class Asked:
    """What a plan has to know of a request.

    Args:
        shape: of the network. pictures: of references. strengths: of references, and how they
            act.
    """

    shape: PixelShape
    steps: int
    guided: bool
    pictures: int
    strengths: tuple[float, ...] = ()
    strength_map: str = "attention"

    @property
    def pixels(self) -> int:
        """Of all frames and pictures."""
        shape = self.shape
        return (shape.num_frames + self.pictures) * shape.height * shape.width

    @classmethod
    def of(cls, request: Request, shape: PixelShape, defaults: Mapping[str, Any]) -> Asked:
        """A request, absent values taken from the model's defaults."""
        from anyref.pipelines.speed import with_preset

        request = with_preset(request)
        scale = request.guidance_scale
        guidance = defaults.get("guidance_scale", 5.0) if scale is None else scale
        return cls(
            shape,
            request.num_inference_steps or defaults["num_inference_steps"],
            guidance > 1.0,
            sum(len(reference.images) for reference in request.references),
            tuple(reference.strength for reference in request.references),
            request.strength_map or defaults.get("strength_map", "attention"),
        )


def recorded(record: Mapping[str, Any]) -> Holding:
    """How a recorded video's model was held: its plan by name, which any machine understands."""
    model, engine = record.get("model"), record.get("engine")
    model = model if isinstance(model, dict) else {}
    engine = engine if isinstance(engine, dict) else {}
    memory, file = engine.get("memory", model.get("memory")), model.get("transformer")
    path = file.get("path") if isinstance(file, dict) else None
    return Holding(
        memory if isinstance(memory, str) else None, path if isinstance(path, str) else None
    )
