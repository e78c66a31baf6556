"""A plan and its prediction in a few lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from anyref.pipelines.memory.plan import Plan
from anyref.pipelines.memory.predict import GIB, Prediction, Speed
from anyref.pipelines.memory.sizes import ModelSizes

WHERE = {
    "device": "on the device",
    "parts": "on the device while it works",
    "blocks": "on the device block by block, from main memory",
    "disk": "on the device block by block, from files",
}


def lines(
    sizes: ModelSizes, plan: Plan, prediction: Prediction, device: str, speed: Speed | None = None
) -> Iterator[str]:
    """What is where, the predicted peak, and the time where the machine's speed is known.

    Args:
        device: its name.
    """
    yield f"memory plan {plan.name} on {device}: {'exact' if plan.exact else 'not exact'}"
    for name, part in sizes.parts.items():
        form = plan.form(name)
        kept = "int8" if form.eight_bit else str(form.dtype or part.dtype).removeprefix("torch.")
        where = WHERE["device" if name == "vae" and plan.placement != "parts" else plan.placement]
        tiles = ", in tiles of 256 pixels" if name == "vae" and plan.tiled else ""
        yield f"{name}: {amount(part.num_bytes(form))} ({kept}), {where}{tiles}"
    if not plan.keeps:
        yield "keys and values of text and image: computed in every pass, not kept"
    stages = {"encode": prediction.encode, "steps": prediction.step, "decode": prediction.decode}
    each = ", ".join(
        f"{name} {amount(stage.weights)} + {amount(stage.activations)}"
        for name, stage in stages.items()
    )
    yield (
        f"predicted peak {amount(prediction.peak)} (weights + the rest: {each}; reserve "
        f"{amount(prediction.reserve)}), {amount(prediction.host)} of main memory"
    )
    if speed is not None:
        encode, step, decode = (stage.seconds(speed) for stage in stages.values())
        yield (
            f"predicted time {duration(prediction.seconds(speed))} (encode {duration(encode)}, "
            f"{prediction.steps} steps of {duration(step)}, decode {duration(decode)})"
        )


def amount(num_bytes: float) -> str:
    """Bytes as people say them: GB of 2^30, MB of 2^20 below one."""
    return f"{num_bytes / GIB:.1f} GB" if num_bytes >= GIB else f"{num_bytes / 2**20:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
