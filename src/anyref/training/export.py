"""What a run leaves for others: a pipeline folder, or a LoRA file that opens elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from peft import get_peft_model_state_dict
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states

from anyref.media import write_atomically
from anyref.models.weights.keys import BARE, WAN, WAN_IMAGE, link_rows
from anyref.pipelines import parallel
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.loading import find_model, stored_dtype
from anyref.training.recipe import Recipe

MODEL, LORA, COMFYUI_FILE = "model", "lora", "comfyui.safetensors"


def write(pipe: AnyRefPipeline, recipe: Recipe) -> Path:
    """Write the learned weights, all processes together; where they are.

    A full run gives a pipeline folder in the base's own dtype, a LoRA run
    `lora/pytorch_lora_weights.safetensors` under diffusers' names and `lora/comfyui.safetensors`
    under Wan's own.
    """
    if recipe.lora is not None:
        return _write_lora(pipe, recipe)
    options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
    learned: dict[str, Any] = {}
    for name in recipe.model.train:
        part = getattr(pipe, name)
        state = states.get_model_state_dict(part, options=options)
        tied = getattr(part, "_tied_weights_keys", None) or ()  # transformers: names of copies
        learned[name] = {key: tensor for key, tensor in state.items() if key not in tied}
    target = recipe.run_folder / MODEL

    def save() -> Path:
        partial = target.with_name(f"partial-{MODEL}")
        shutil.rmtree(partial, ignore_errors=True)
        base = find_model(recipe.model.base)
        shutil.copytree(base, partial, ignore=shutil.ignore_patterns("README.md"))
        for name, state in learned.items():
            _save_part(state, partial / name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        return target

    return parallel.from_main(save)


def _save_part(state: dict[str, Tensor], folder: Path) -> None:
    """Replace a component's weights, under the same file name and in the same dtype."""
    dtype = stored_dtype(folder)
    stem = next(iter(sorted(folder.glob("*.safetensors")))).name.split(".")[0].split("-0000")[0]
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    save_torch_state_dict(
        {name: tensor.to(dtype, copy=True).contiguous() for name, tensor in state.items()},
        folder,
        filename_pattern=f"{stem}{{suffix}}.safetensors",
    )


def _write_lora(pipe: AnyRefPipeline, recipe: Recipe) -> Path:
    options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = states.get_model_state_dict(pipe.transformer, options=options)
    assert recipe.lora is not None
    scale = (recipe.lora.alpha or recipe.lora.rank) / recipe.lora.rank
    adapter = {  # scaled here, for readers disagree on where a file says its alpha
        name: tensor.float() * (scale if ".lora_B." in name else 1.0)
        for name, tensor in get_peft_model_state_dict(pipe.transformer, state_dict=state).items()
    }
    target = recipe.run_folder / LORA

    def save() -> Path:
        pipe.save_lora_weights(target, transformer_lora_layers=adapter)
        renamed = save_tensors(official_adapter(adapter))
        write_atomically(target / COMFYUI_FILE, lambda file: file.write(renamed))
        return target

    return parallel.from_main(save)


def official_adapter(adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's tensors under Wan's own module names, as ComfyUI looks them up.

    DoRA's magnitudes (out,) become `dora_scale` (out, 1).

    Args:
        adapter: by diffusers module, as `blocks.0.attn1.to_q.lora_A.weight`.
    """
    depth = 1 + max(
        (int(name.split(".")[1]) for name in adapter if name[:7] == "blocks."), default=0
    )
    rows = [(official, ours, BARE) for official, ours, _ in (*WAN, *WAN_IMAGE)]
    names = {link.ours[0]: link.official for link in link_rows(rows, depth)}
    renamed = {}
    for name, tensor in adapter.items():
        module, mark, rest = name.partition(".lora_")
        target = f"diffusion_model.{names[module]}"
        if rest.startswith("magnitude_vector"):
            renamed[f"{target}.dora_scale"] = tensor[:, None].contiguous()
        else:
            renamed[f"{target}{mark}{rest}"] = tensor.contiguous()
    return renamed
