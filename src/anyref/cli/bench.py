"""`anyref bench`: how fast, how large, how far from the limit; one way of running or two."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anyref.cli import options, progress
from anyref.errors import RequestError
from anyref.media import write_atomically

if TYPE_CHECKING:
    from anyref.bench.devices import Device
    from anyref.bench.measuring import Made, Measurement
    from anyref.pipelines.memory.plan import Plan
    from anyref.pipelines.memory.predict import Costs, Prediction
    from anyref.request import PixelShape, Request

Model = Annotated[
    str, typer.Option(help="A model, or magref-14b, kaleido-14b, kaleido-1.3b: random weights.")
]
Frames = Annotated[int | None, typer.Option(help="Frames that the network makes.")]
Steps = Annotated[int, typer.Option(help="Denoising steps that are timed.")]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="memory=12GB,speed=fast,...",
        help="A second way, in turn with the first: what of it differs.",
    ),
]
Rounds = Annotated[int, typer.Option(help="Videos of each way; the median counts.")]
RequestFile = Annotated[
    Path | None, typer.Option("--request", help="A request as JSON; its references are looked for.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Where the figures are written.")]
PredictOnly = Annotated[bool, typer.Option("--predict", help="Only predict; reads no weights.")]
GpuName = Annotated[
    str | None, typer.Option("--gpu", help="With --predict: of which GPU, e.g. 4090.")
]


@dataclass(frozen=True)
class Way:
    """One way of running. memory, speed, step_cache: as of `anyref generate`."""

    memory: str = "full"
    speed: str | None = None
    step_cache: str | None = None

    @property
    def name(self) -> str:
        """For a table."""
        return ", ".join(filter(None, (self.memory, self.speed, self.step_cache)))

    def changed(self, text: str) -> Way:
        """This way with `key=value,...` in place; raises RequestError."""
        known = [field.name for field in fields(self)]
        changes = {}
        for part in text.split(","):
            key, equals, value = part.strip().partition("=")
            key = key.replace("-", "_")
            if not equals or key not in known:
                raise RequestError(
                    f"against {part.strip()!r} is no change; write one of "
                    f"{', '.join(f'{name}=...' for name in known)}"
                )
            changes[key] = value
        return replace(self, **changes)


def bench(
    model: Model = "tiny-magref",
    size: options.Size = None,
    frames: Frames = None,
    steps: Steps = 4,
    memory: options.Memory = "full",
    speed: options.Speed = None,
    step_cache: options.StepCacheText = None,
    against: Against = None,
    rounds: Rounds = 1,
    request: RequestFile = None,
    device: options.Device = None,
    predict: PredictOnly = False,
    gpu: GpuName = None,
    output: Json = None,
) -> None:
    """Measure a model on this machine: seconds, memory, share of the device's peak."""
    way = Way(memory or "full", speed, step_cache)
    ways = [way] if against is None else [way, way.changed(against)]
    if steps < 1 or rounds < 1:
        raise RequestError(f"{steps} steps, {rounds} rounds; give 1 or more")
    subject = _Subject.find(model, size, frames, steps, request, device, gpu if predict else None)
    planned = [subject.plan(way) for way in ways]
    record = subject.record()
    rows = [way_record(w, *p, subject) for w, p in zip(ways, planned, strict=True)]
    if not predict:
        made = subject.measure(
            [(w, plan) for w, (plan, _) in zip(ways, planned, strict=True)], rounds
        )
        for row, (measurement, _) in zip(rows, made, strict=True):
            row["measured"] = measurement.record()
        if against is not None:
            record["difference"] = subject.difference(made[0][1], made[1][1])
    record["ways"] = rows
    if output is not None:
        data = (json.dumps(record, indent=1) + "\n").encode()
        write_atomically(output, lambda file: file.write(data))
    show(record)


@dataclass(frozen=True)
class _Subject:
    """What is measured, and where."""

    model: str
    costs: Costs
    shape: PixelShape
    steps: int
    request: Request | None
    place: str
    device: Device

    @classmethod
    def find(
        cls,
        model: str,
        size: str | None,
        frames: int | None,
        steps: int,
        request: Path | None,
        device: str | None,
        gpu: str | None,
    ) -> _Subject:
        import torch

        from anyref.bench.devices import device_here
        from anyref.bench.models import bench_sizes, default_shape
        from anyref.pipelines.memory.predict import Costs, Work
        from anyref.request import PixelShape, Request

        sizes, usual = bench_sizes(model), default_shape(model)
        asked = None if request is None else Request.from_json(request.read_text("utf-8"))
        width, height = (usual.width, usual.height) if size is None else options.parse_size(size)
        if asked is not None:
            height, width = asked.height or height, asked.width or width
        shape = PixelShape(frames or usual.num_frames, height, width)
        sizes.rules.check(shape)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        references = 1 if asked is None else sum(len(r.images) for r in asked.references)
        costs = Costs(sizes, Work(shape, steps, True, references))
        if gpu is not None:
            return cls(model, costs, shape, steps, asked, f"cuda:{gpu}", known_gpu(gpu))
        return cls(model, costs, shape, steps, asked, place, device_here(place))

    def plan(self, way: Way) -> tuple[Plan, Prediction]:
        """What a way's `memory` means here."""
        from anyref.pipelines.memory.choosing import Machine, choose, this_machine
        from anyref.training.plan import GPUS

        if self.place.startswith("cuda:") and self.device.name in GPUS:
            machine = Machine("cuda", GPUS[self.device.name].memory)
        else:
            machine = this_machine(self.place)
        return choose(way.memory, self.costs, machine)

    def record(self) -> dict[str, Any]:
        """What the figures are of."""
        from anyref.cli.production import installed_versions

        shape = self.shape
        return {
            "model": self.costs.sizes.name,
            "shape": [shape.num_frames, shape.height, shape.width],
            "device": self.device.name,
            "peak_flops": self.device.speed.flops,
            "peak_is": "the maker's" if self.device.known else "measured",
            "versions": installed_versions(),
        }

    def measure(self, ways: list[tuple[Way, Plan]], rounds: int) -> list[tuple[Measurement, Made]]:
        """Make the video by every way, in turn."""
        import torch

        from anyref.bench.measuring import alternate, bench_request, measure
        from anyref.bench.models import bench_pipeline

        pipes: dict[Plan, Any] = {}
        for _, plan in ways:
            if plan not in pipes:
                progress.line(f"making {self.costs.sizes.name} as plan {plan.name}", error=True)
                pipes[plan] = bench_pipeline(self.model, plan, self.place)

        def run(way: Way, plan: Plan) -> Made:
            changes: dict[str, Any] = {"speed": way.speed, "step_cache": way.step_cache}
            pipe, given = pipes[plan], {n: v for n, v in changes.items() if v is not None}
            if self.request is not None:
                shape = {"height": self.shape.height, "width": self.shape.width}
                count = self.shape.num_frames - pipe.rules.lead_frames
                shape |= {"num_frames": count, "num_inference_steps": self.steps}
                request = self.request.model_copy(update={**shape, **given})
            else:
                lead = pipe.rules.lead_frames
                request = bench_request(self.shape, lead, self.steps, **given)
            progress.line(f"{way.name} ...", error=True)
            return measure(pipe, request, self.device, torch.device(self.place))

        warm_up = torch.device(self.place).type != "cpu"
        calls = [lambda w=way, p=plan: run(w, p) for way, plan in ways]
        return alternate(calls, rounds, warm_up)

    def difference(self, one: Made, other: Made) -> dict[str, Any]:
        """Of the second way's video to the first's."""
        from anyref.bench.comparing import compare

        found = compare(one, other, () if self.request is None else self.request.references)
        psnr = None if found.psnr == float("inf") else found.psnr
        return {"psnr": psnr, "latents": found.latents, "identity": found.identity}


def known_gpu(name: str) -> Device:
    """A GPU of the table; raises RequestError for another name."""
    from anyref.bench.devices import known_device
    from anyref.training.plan import GPUS

    if name not in GPUS:
        raise RequestError(f"GPU {name!r} is not known; known: {', '.join(GPUS)}")
    return known_device(name)


def way_record(way: Way, plan: Plan, prediction: Prediction, subject: _Subject) -> dict[str, Any]:
    """A way's plan and what is predicted of it."""
    speed = subject.device.speed
    stages = {"encode": prediction.encode, "step": prediction.step, "decode": prediction.decode}
    return {
        "way": way.name,
        "plan": plan.name,
        "keeps": plan.keeps,
        "tiled": plan.tiled,
        "exact": plan.exact and not plan.tiled,
        "predicted": {
            "peak": prediction.peak,
            "host": prediction.host,
            "total": prediction.seconds(speed),
            **{name: stage.seconds(speed) for name, stage in stages.items()},
        },
    }


def show(record: dict[str, Any]) -> None:
    """The figures as a table."""
    if not progress.prints():
        return
    from rich.console import Console
    from rich.table import Table

    ways = record["ways"]
    table = Table("", *(f"{way['way']} (plan {way['plan']})" for way in ways), box=None)
    for words, cell in ROWS.items():
        cells = [cell(way) for way in ways]
        if any(cells):
            table.add_row(words, *(text or "-" for text in cells))
    console = Console(highlight=False)
    frames, height, width = record["shape"]
    teraflops = record["peak_flops"] / 1e12
    console.print(
        f"{record['model']}, {width}x{height}, {frames} frames, on {record['device']} "
        f"({teraflops:.3g} TFLOP/s, {record['peak_is']})",
        table,
        sep="\n",
    )
    if "difference" in record:
        found = record["difference"]
        psnr = "same frames" if found["psnr"] is None else f"{found['psnr']:.1f} dB"
        told = [f"second against first: {psnr}, latents {found['latents']:.1e}"]
        told += [f"{n} {a:.3f} to {b:.3f}" for n, (a, b) in found["identity"].items()]
        console.print("; identity of ".join(told), soft_wrap=True)


def _measured(name: str) -> Any:
    def cell(way: dict[str, Any]) -> str | None:
        return seconds(way["measured"][name]) if "measured" in way else None

    return cell


def _predicted(name: str) -> Any:
    return lambda way: seconds(way["predicted"][name])


def seconds(value: float) -> str:
    """With three digits."""
    return f"{value:.3g} s"


def memory_text(value: float | None) -> str | None:
    """Bytes in words; None for a machine that cannot tell."""
    from anyref.pipelines.memory.telling import amount

    return None if value is None else amount(value)


def _of_measured(make: Any) -> Any:
    return lambda way: make(way["measured"]) if "measured" in way else None


ROWS: dict[str, Any] = {
    "text encoder": _measured("text"),
    "encode": _measured("encode"),
    "step": _measured("step"),
    "decode": _measured("decode"),
    "whole": _measured("total"),
    "peak memory": _of_measured(lambda m: memory_text(m["peak"])),
    "operations a step": _of_measured(lambda m: f"{m['flops'] / 1e12:.3g} TFLOP"),
    "of the peak": _of_measured(lambda m: f"{m['utilisation']:.0%}"),
    "floor of a step": _of_measured(lambda m: seconds(m["floor"])),
    "predicted step": _predicted("step"),
    "predicted whole": _predicted("total"),
    "predicted peak": lambda way: memory_text(way["predicted"]["peak"]),
    "main memory": lambda way: memory_text(way["predicted"]["host"]),
}
