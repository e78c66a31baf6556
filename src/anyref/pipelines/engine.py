"""How a user wants a pipeline to run: attention kernel, compiled blocks, and its processes.

None of it is part of a request: the video is the same but for the last bits (sage excepted).
Importing this module imports no torch; `pipelines.running` does what is asked for here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from anyref.errors import RequestError

AUTO = "auto"


@dataclass(frozen=True)
class Engine:
    """What a user asks for.

    Args:
        attention: "auto" or a name of `models.backends.BACKENDS`.
        compile: compile the transformer's blocks at their first use.
        parallel: `parallel.parse_layout`'s text; by itself where None.
        videos: how many are to be made, which a layout by itself spreads over processes.
    """

    attention: str = AUTO
    compile: bool = False
    parallel: str | None = None
    videos: int = 1

    @property
    def shards_weights(self) -> bool:
        """True when processes keep parts of the weights each."""
        return "weights" in (part.strip() for part in (self.parallel or "").split(","))

    def check(self) -> None:
        """Raise RequestError for what cannot be, before anything is loaded."""
        from anyref.models.backends import BACKENDS
        from anyref.pipelines.parallel import parse_layout

        if self.attention not in (AUTO, *BACKENDS):
            raise RequestError(
                f"attention {self.attention!r} is not known; use {AUTO}, {', '.join(BACKENDS)}"
            )
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if self.parallel is not None and world == 1:
            raise RequestError(
                f"parallel {self.parallel!r} needs several processes; start them with "
                "torchrun --nproc-per-node N -m anyref generate ..."
            )
        if self.parallel is not None:
            parse_layout(self.parallel, world)


AS_IT_IS = Engine()
