"""LoRA files as the ecosystem writes them, to one form: which layer, and what is added to it.

    diffusers    transformer.blocks.0.attn1.to_q.lora_A.weight
    ComfyUI      diffusion_model.blocks.0.self_attn.q.lora_down.weight, .alpha
    lightx2v     diffusion_model.blocks.0.self_attn.q.lora_A.weight, .diff_b, .diff
    musubi       lora_unet_blocks_0_self_attn_q.lora_down.weight, .alpha

No style is guessed: every layer is known by each of its names, a file may hold any of its layers,
and a key that names none is an error. A layer changes by

    W + strength * (alpha / rank) * up down + strength * diff,        b + strength * diff_b

with alpha = rank where a file has no alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from anyref.errors import ModelError
from anyref.models.weights.keys import WAN, WAN_IMAGE

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "base_model.model.",
            "lora_unet_")  # fmt: skip
SUFFIXES = {
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora_down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora_up.weight": "up",
    ".alpha": "alpha",
    ".lora_B.bias": "bias",
    ".diff_b": "bias",
    ".diff": "diff",
}
SHOWN = 3  # keys of each side in a message


@dataclass(frozen=True, eq=False)
class LoraDeltas:
    """What a LoRA adds to a transformer at strength 1.

    Args:
        low_rank: `transformer.LAYER.lora_A.weight` (rank, in) and `lora_B.weight` (out, rank), as
            diffusers loads them; alpha is in the former.
        added: whole tensors by the parameter that they are added to.
    """

    low_rank: dict[str, Tensor]
    added: dict[str, Tensor]


def layer_names(transformer: nn.Module) -> dict[str, str]:
    """Every name of every layer, in any style without its prefix, to the layer's own."""
    own = {
        name.removesuffix(".base_layer")  # of a layer that has an adapter already
        for name, module in transformer.named_modules()
        if ".lora_" not in name and next(module.parameters(recurse=False), None) is not None
    }
    official = {}
    for theirs, ours, _ in (*WAN, *WAN_IMAGE):
        assert isinstance(ours, str)  # no joined tensors in these tables
        for block in range(len(transformer.blocks) if "{i}" in ours else 1):  # type: ignore[arg-type]
            official[ours.replace("{i}", str(block))] = theirs.replace("{i}", str(block))
    names = {}
    for layer in own:
        for name in (layer, official.get(layer, layer)):
            names[name] = names[name.replace(".", "_")] = layer
    return names


def read_deltas(tensors: Mapping[str, Tensor], transformer: nn.Module) -> LoraDeltas:
    """What a file's tensors add to a transformer.

    Raises:
        ModelError: for a key that names no layer, a tensor of a shape that does not fit its layer,
            or half of a pair.
    """
    layers = _by_layer(tensors, layer_names(transformer))
    parameters = {
        name.replace(".base_layer.", "."): value for name, value in transformer.named_parameters()
    }
    low_rank, added = {}, {}
    for layer, parts in layers.items():
        weight = parameters[f"{layer}.weight"]
        if ("down" in parts) != ("up" in parts) or ("alpha" in parts and "down" not in parts):
            raise ModelError(f"it has {', '.join(sorted(parts))} of {layer!r} only; copy it again")
        if "down" in parts:
            down, up = parts["down"], parts["up"]
            product = (up.shape[0], *down.shape[1:])
            if up.shape[1:] != down.shape[:1] or product != tuple(weight.shape):
                raise _misfit(layer, product, weight)
            alpha = float(parts["alpha"]) if "alpha" in parts else float(len(down))
            low_rank[f"transformer.{layer}.lora_A.weight"] = down * (alpha / len(down))
            low_rank[f"transformer.{layer}.lora_B.weight"] = up
        for part, name in (("diff", f"{layer}.weight"), ("bias", f"{layer}.bias")):
            if part in parts:
                known = parameters.get(name)
                if known is None or parts[part].shape != known.shape:
                    raise _misfit(name, tuple(parts[part].shape), known)
                added[name] = parts[part]
    return LoraDeltas(low_rank, added)


def _by_layer(
    tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        prefix = next((p for p in PREFIXES if key.startswith(p)), "")
        suffix = next((s for s in SUFFIXES if key.endswith(s)), "")
        layer = names.get(key[len(prefix) : len(key) - len(suffix)]) if suffix else None
        if layer is None:
            unknown.append(key)
        else:
            layers.setdefault(layer, {})[SUFFIXES[suffix]] = tensor
    if unknown or not layers:
        theirs = ", ".join(unknown[:SHOWN]) or "none"
        ours = ", ".join(f"{name}.lora_down.weight" for name in list(names)[:SHOWN])
        raise ModelError(
            f"{len(unknown)} of its {len(tensors)} keys name no layer of this transformer "
            f"({theirs}), whose layers have keys such as {ours}; it is another model's"
        )
    return layers


def _misfit(name: str, shape: tuple[int, ...], known: Tensor | None) -> ModelError:
    fits = "there is none" if known is None else f"here it is {tuple(known.shape)}"
    return ModelError(f"{name!r} is {shape} in it, {fits}; it is another model's")
