"""What is served: models by the names that clients use, and what each can make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from anyref.errors import ReferencesError, RequestError, SizeError
from anyref.request import FRAME_CHUNK, PixelShape, Request, ShapeRules
from anyref.service.schemas import FrameRange, LayoutOut, ModelFacts
from anyref.service.settings import Limits, ServiceError

if TYPE_CHECKING:
    from anyref.pipelines.loading import ModelInfo

STUB = "stub"
STUB_RULES = ShapeRules(spatial=8, temporal=4, patch=(1, 2, 2), max_positions=128)
STUB_FPS = 8.0
STUB_STEPS = 8
STUB_SHAPE = PixelShape(num_frames=9, height=96, width=96)
SHOWN_DEFAULTS = (
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "flow_shift",
    "layout",
    "shuffle",
    "reference_offset",
    "reference_size",
    "strength_map",
    "default_negative_prompt",
)
LONGEST = 4  # times a model's usual length: further than that is asked for in numbers


@dataclass(frozen=True)
class Plan:
    """The video that a request would give.

    Args:
        width, height, num_frames: of the finished video. fps: its frames per second.
        steps: denoising steps.
    """

    width: int
    height: int
    num_frames: int
    fps: float
    steps: int


class Card(Protocol):
    """One served model."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def fps(self) -> float: ...

    def plan(self, request: Request) -> Plan:
        """What the request would give; raises RequestError when this model cannot honour it."""

    def frames(self, seconds: float) -> int:
        """The number of frames nearest to a length that the model can make."""

    def facts(self) -> ModelFacts:
        """What clients may choose, and what they get when they do not."""

    def lay_out(self, request: Request) -> LayoutOut:
        """What the model would see of a request whose pictures are in memory."""


@dataclass(frozen=True)
class PipelineCard:
    """A model folder, known by its configuration files."""

    name: str
    info: ModelInfo

    @property
    def description(self) -> str:
        return self.info.description

    @property
    def fps(self) -> float:
        return float(self.info.defaults["fps"])

    def plan(self, request: Request) -> Plan:
        """See `Card`."""
        from anyref.pipelines.generation import check_request
        from anyref.pipelines.speed import with_preset

        request = with_preset(request)
        shape = check_request(self.info, request)
        frames = shape.num_frames - self.info.rules.lead_frames
        steps = request.num_inference_steps or int(self.info.defaults["num_inference_steps"])
        return Plan(shape.width, shape.height, frames, self.fps, steps)

    def frames(self, seconds: float) -> int:
        """See `Card`."""
        defaults = self.info.defaults
        shape = PixelShape(1, int(defaults["height"]), int(defaults["width"]))
        return nearest_frames(self.info.rules, shape, seconds * self.fps)

    def facts(self) -> ModelFacts:
        """See `Card`."""
        rules, defaults = self.info.rules, self.info.defaults
        shown = {n: v for n, v in defaults.items() if n in SHOWN_DEFAULTS and v is not None}
        usual = int(defaults["num_frames"]) - rules.lead_frames
        return ModelFacts(
            fps=self.fps,
            needs_references=_needs_references(self.info),
            options=list(self.info.pipeline.request_options),
            defaults=shown | {"num_frames": usual},
            width_step=rules.spatial * rules.patch[2],
            height_step=rules.spatial * rules.patch[1],
            frames=frame_range(rules, usual),
        )

    def lay_out(self, request: Request) -> LayoutOut:
        """See `Card`."""
        from anyref.service.layouts import lay_out

        return lay_out(self.info, request)


@dataclass(frozen=True)
class StubCard:
    """A model that makes coloured noise: for tests of everything around a model."""

    name: str = STUB
    description: str = "no model: coloured noise, for tests of the service itself"
    fps: float = STUB_FPS

    def plan(self, request: Request) -> Plan:
        """See `Card`."""
        shape = PixelShape(
            request.num_frames or STUB_SHAPE.num_frames,
            request.height or STUB_SHAPE.height,
            request.width or STUB_SHAPE.width,
        )
        STUB_RULES.check(shape)
        steps = request.num_inference_steps or STUB_STEPS
        return Plan(shape.width, shape.height, shape.num_frames, self.fps, steps)

    def frames(self, seconds: float) -> int:
        """See `Card`."""
        return nearest_frames(STUB_RULES, STUB_SHAPE, seconds * self.fps)

    def facts(self) -> ModelFacts:
        """See `Card`."""
        return ModelFacts(
            fps=self.fps,
            needs_references=False,
            options=[],
            defaults={
                "width": STUB_SHAPE.width,
                "height": STUB_SHAPE.height,
                "num_frames": STUB_SHAPE.num_frames,
                "num_inference_steps": STUB_STEPS,
            },
            width_step=STUB_RULES.spatial * STUB_RULES.patch[2],
            height_step=STUB_RULES.spatial * STUB_RULES.patch[1],
            frames=frame_range(STUB_RULES, STUB_SHAPE.num_frames),
        )

    def lay_out(self, request: Request) -> LayoutOut:
        """See `Card`; a stand-in sees nothing."""
        return LayoutOut(valid=True, width=request.width, height=request.height)


def _needs_references(info: ModelInfo) -> bool:
    try:
        info.pipeline.check_references((), info.defaults, info.rules, Request(prompt="-"))
    except ReferencesError:
        return True
    return False


def frame_range(rules: ShapeRules, usual: int) -> FrameRange:
    """The delivered lengths that a model makes, up to a few times its usual one."""
    step = max(FRAME_CHUNK, rules.temporal * rules.patch[0])
    last = min(LONGEST * usual, rules.max_positions * rules.temporal - rules.lead_frames)
    first = -rules.lead_frames % step + 1
    return FrameRange(first=first, step=step, last=first + (last - first) // step * step)


def nearest_frames(rules: ShapeRules, shape: PixelShape, wanted: float) -> int:
    """The delivered number of frames nearest to `wanted` that the rules allow.

    Raises:
        SizeError: when no number near it is allowed.
    """
    start = max(1, round(wanted))
    for distance in range(64):
        for frames in {max(1, start - distance), start + distance}:
            network = rules.network_frames(frames)
            try:
                rules.check(PixelShape(network, shape.height, shape.width))
            except SizeError:
                continue
            return frames
    raise SizeError(f"{start} frames are over what the model makes; ask for fewer seconds")


class Catalog:
    """The served models; the first is the default.

    Args:
        models: names or folders. limits: on one video.

    Raises:
        ServiceError: for none, or two of the same name. ModelError: for an unknown one.
    """

    def __init__(self, models: Sequence[str], limits: Limits) -> None:
        self.cards: dict[str, Card] = {}
        self._limits = limits
        for model in models:
            card = _card(model)
            if card.name in self.cards:
                raise ServiceError(
                    f"two models are called {card.name!r}; clients choose by name, rename a folder"
                )
            self.cards[card.name] = card
        if STUB in self.cards and len(self.cards) > 1:
            raise ServiceError("the stub is served alone; leave it out, or the other models")
        if not self.cards:
            raise ServiceError("no model is given; add --model tiny-magref")

    @property
    def default(self) -> str:
        """The model of a request that names none."""
        return next(iter(self.cards))

    def card(self, name: str | None) -> Card:
        """A served model by name; raises RequestError."""
        card = self.cards.get(name or self.default)
        if card is None:
            raise RequestError(
                f"model {str(name)[:100]!r} is not served here; use one of {', '.join(self.cards)}"
            )
        return card

    def plan(self, request: Request) -> Plan:
        """What the request would give.

        Raises:
            RequestError: when its model cannot honour it, or it is over the service's limits.
        """
        plan = self.card(request.model).plan(request)
        pixels, limit = plan.width * plan.height * plan.num_frames, self._limits.video_pixels
        if pixels > limit:
            raise SizeError(
                f"{plan.num_frames} frames of {plan.width}x{plan.height} are {pixels:,} pixels, "
                f"over this service's {limit:,}; ask for fewer seconds or a smaller size"
            )
        if plan.steps > self._limits.steps:
            raise RequestError(
                f"num_inference_steps {plan.steps} is over this service's {self._limits.steps}; "
                "use fewer"
            )
        return plan


def served_name(model: str) -> str:
    """What clients call a model: its own name, or its folder's."""
    return Path(model).name


def _card(model: str) -> Card:
    if model == STUB:
        return StubCard()
    from anyref.pipelines.loading import describe_model

    return PipelineCard(served_name(model), describe_model(model))
