"""From a model's name or folder to a pipeline, without the network."""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from anyref.errors import ModelError
from anyref.lora import Lora
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.models.lora_keys import read_deltas
from anyref.models.weights.eight_bit import FORMATS
from anyref.models.weights.opening import (
    find_transformer,
    is_eight_bit,
    open_text_encoder,
    open_transformer,
)
from anyref.models.weights.reader import open_weights
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.kaleido import KaleidoPipeline
from anyref.pipelines.magref import MagrefPipeline
from anyref.pipelines.memory.choosing import choose, this_machine
from anyref.pipelines.memory.placing import place
from anyref.pipelines.memory.plan import Plan
from anyref.pipelines.memory.predict import Costs, Prediction, Work
from anyref.pipelines.memory.sizes import sizes_of
from anyref.request import PixelShape, ShapeRules

PIPELINES: Mapping[str, type[AnyRefPipeline]] = {
    "MagrefPipeline": MagrefPipeline,
    "KaleidoPipeline": KaleidoPipeline,
}
TRANSFORMERS: Mapping[str, Any] = {
    "MagrefPipeline": WanTransformer3DModel,
    "KaleidoPipeline": KaleidoTransformer3DModel,
}
SHIPPED: Mapping[str, str] = {
    "tiny-magref": "MAGREF at toy size: 96x96, 17 frames, trained here on cut-outs",
    "tiny-kaleido": "Kaleido at toy size: 96x96, 17 frames, trained here on cut-outs",
}
SHIPPED_FOLDER = Path(__file__).parent.parent / "models" / "shipped"
WEIGHTED_COMPONENTS = ("transformer", "vae", "text_encoder", "image_encoder")


@dataclass(frozen=True)
class ModelInfo:
    """What a model folder says of itself before any weight is read.

    Args:
        pipeline: its class. family: "magref" or "kaleido". rules: the sizes it makes.
        components: parts that the folder holds. image_branch: its weights read image tokens.
        defaults: the pipeline's configuration (height, width, num_frames of the network, steps...).
    """

    name: str
    folder: Path
    pipeline: type[AnyRefPipeline]
    family: str
    rules: ShapeRules
    components: frozenset[str]
    image_branch: bool
    defaults: Mapping[str, Any]
    description: str


def find_model(name_or_folder: str | Path) -> Path:
    """The folder of a shipped name, or the folder itself.

    Raises:
        ModelError: for an unknown name, or a folder without model_index.json.
    """
    name = str(name_or_folder)
    folder = SHIPPED_FOLDER / name if name in SHIPPED else Path(name)
    if (folder / "model_index.json").is_file():
        return folder
    if name not in SHIPPED and folder.is_dir():
        raise ModelError(f"model folder {name!r} has no model_index.json; run anyref convert on it")
    raise ModelError(
        f"model {name!r} is not known; use one of {', '.join(SHIPPED)}, "
        "or a folder that anyref convert wrote"
    )


def describe_model(name_or_folder: str | Path) -> ModelInfo:
    """Read a model's configuration files only.

    Raises:
        ModelError: for an unknown model or a pipeline class that is not anyref's.
    """
    folder = find_model(name_or_folder)
    index = _read_json(folder / "model_index.json")
    pipeline = _pipeline_class(index, folder)
    parameters = inspect.signature(pipeline.__init__).parameters.values()
    defaults = {
        p.name: index.get(p.name, p.default)
        for p in parameters
        if p.default is not inspect.Parameter.empty and p.name not in WEIGHTED_COMPONENTS
    }
    transformer = _read_json(folder / "transformer" / "config.json")
    vae_config = folder / "vae" / "config.json"
    vae = _read_json(vae_config) if vae_config.is_file() else {}
    rules = ShapeRules(
        spatial=vae.get("scale_factor_spatial", 8),
        temporal=vae.get("scale_factor_temporal", 4),
        patch=tuple(transformer.get("patch_size", (1, 2, 2))),
        max_positions=transformer.get("rope_max_seq_len", 1024),
        lead_frames=defaults["lead_frames"],
    )
    name = folder.name
    return ModelInfo(
        name=name,
        folder=folder,
        pipeline=pipeline,
        family=pipeline.__name__.removesuffix("Pipeline").lower(),
        rules=rules,
        components=frozenset(n for n, v in index.items() if isinstance(v, list) and v[0]),
        image_branch=transformer.get("image_dim") is not None,
        defaults=defaults,
        description=SHIPPED.get(str(name_or_folder), "a folder of your own"),
    )


def load_pipeline(
    name_or_folder: str | Path,
    *,
    dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
    device: str | torch.device | None = None,
    quantization: Any = None,
    loras: Sequence[Lora] = (),
    memory: str | Plan | None = None,
    transformer: str | Path | None = None,
) -> AnyRefPipeline:
    """A ready pipeline of the class that the folder's model_index.json names.

    Args:
        name_or_folder: "tiny-magref", "tiny-kaleido", or a diffusers folder.
        dtype: of every part, or of parts by name; the stored dtype of each part that has none.
        device: where to put it; when None it stays on the CPU, with `memory` it goes to a GPU if
            there is one.
        quantization: a diffusers `PipelineQuantizationConfig`.
        loras: adapters that act together, each with its strength.
        memory: how to hold it: "auto", a budget such as "12GB" (for the model's default size), a
            plan's name, or a plan (`pipelines.memory`).
        transformer: a file of weights in place of the folder's, of any format that
            `models.weights.opening` reads.

    Raises:
        ModelError: for an unknown model, one whose files do not load, or one that does not fit.
    """
    folder = find_model(name_or_folder)
    file = None if transformer is None else Path(transformer)
    given: dict[str, torch.dtype | None]
    given = dict(dtype) if isinstance(dtype, Mapping) else dict.fromkeys(WEIGHTED_COMPONENTS, dtype)
    if memory is not None and device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(memory, str):
        memory = plan_memory(folder, memory, str(device), given.get("transformer"), file)[0]
    plan = memory
    if plan is not None and plan.dtype is not None:
        given["transformer"] = plan.dtype
    pipe = _opened(folder, given, plan, file, quantization)
    add_loras(pipe, loras)
    if plan is not None and device is not None:
        place(pipe, plan, device)
        return pipe
    return pipe if device is None else pipe.to(device)


def _opened(
    folder: Path,
    given: Mapping[str, torch.dtype | None],
    plan: Plan | None,
    file: Path | None,
    quantization: Any,
) -> AnyRefPipeline:
    """The pipeline on the CPU.

    Args:
        given: dtypes by part. file: the transformer's weights, where they are not the folder's.
    """
    index = _read_json(folder / "model_index.json")
    pipeline = _pipeline_class(index, folder)
    parts = [name for name in WEIGHTED_COMPONENTS if index.get(name, [None])[0]]
    made = _eight_bit_parts(folder, index, plan, given.get("transformer"), file)
    dtypes = {
        name: given.get(name) or stored_dtype(folder / name) for name in parts if name not in made
    }
    try:
        pipe = pipeline.from_pretrained(
            folder,
            dtype={**dtypes, "default": torch.float32},
            local_files_only=True,
            quantization_config=quantization,
            **made,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first_line = " ".join(str(error).split())[:300]
        raise ModelError(f"model folder {str(folder)!r} does not load: {first_line}") from error
    for name in ("transformer", "vae"):
        if name in parts and name not in made:
            _check_complete(folder / name, getattr(pipe, name))
    return pipe


def plan_memory(
    name_or_folder: str | Path,
    asked: str,
    device: str,
    dtype: torch.dtype | None = None,
    transformer: Path | None = None,
    work: Work | None = None,
) -> tuple[Plan, Prediction]:
    """Which plan `memory=asked` means on this machine, and what it will take; reads headers only.

    Args:
        dtype: of the transformer, when it is asked for. work: the model's defaults when None.

    Raises:
        ModelError: a word that is unknown, or nothing fits.
    """
    info = describe_model(name_or_folder)
    costs = Costs(sizes_of(info, transformer), work or usual_work(info))
    return choose(asked, costs, this_machine(device), dtype)


def usual_work(info: ModelInfo) -> Work:
    """A video of the model's defaults, with one picture."""
    defaults = info.defaults
    return Work(
        shape=PixelShape(defaults["num_frames"], defaults["height"], defaults["width"]),
        steps=defaults["num_inference_steps"],
        guided=defaults["guidance_scale"] > 1.0,
    )


def _eight_bit_parts(
    folder: Path,
    index: Mapping[str, Any],
    plan: Plan | None,
    dtype: torch.dtype | None,
    transformer: Path | None,
) -> dict[str, Any]:
    """The parts that diffusers would not open as they are, or not make what the plan says."""
    narrow = FORMATS["int8"] if plan is not None and plan.eight_bit else None
    made: dict[str, Any] = {}
    file = find_transformer(folder / "transformer" if transformer is None else transformer)
    if transformer is not None or narrow is not None or is_eight_bit(file):
        model_class = TRANSFORMERS[index["_class_name"]]
        kept = None if file.suffix == ".gguf" else narrow
        made["transformer"] = open_transformer(
            file, model_class, folder / "transformer", dtype=dtype, eight_bit=kept
        )
    if narrow is not None and index.get("text_encoder", [None])[0]:
        made["text_encoder"] = open_text_encoder(folder / "text_encoder", narrow)
    return made


def add_loras(pipe: AnyRefPipeline, loras: Sequence[Lora]) -> None:
    """Load LoRA files, of any key style in `models.lora_keys`, onto a pipeline's transformer.

    All act at once. Pairs of low rank become adapters, whole tensors are added to the weights.

    Raises:
        ModelError: for a file that is missing, is no safetensors file, or has a key that fits no
            layer.
    """
    adapters: dict[str, float] = {}
    for i, lora in enumerate(loras):
        file, name = lora.file, f"lora{i}"
        try:
            deltas = read_deltas(load_file(file), pipe.transformer)
            _add_whole(pipe.transformer, deltas.added, lora.scale)
            if deltas.low_rank:
                with warnings.catch_warnings():  # several adapters are meant
                    warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                    pipe.load_lora_weights(deltas.low_rank, adapter_name=name)
                adapters[name] = lora.scale
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            first_line = " ".join(str(error).split())[:400]
            raise ModelError(f"LoRA {str(file)!r} does not load: {first_line}") from error
    if adapters:
        if set(adapters) - set(pipe.get_list_adapters().get("transformer", [])):
            raise ModelError("a LoRA has no layer of this transformer; it is another model's")
        pipe.set_adapters(list(adapters), list(adapters.values()))


@torch.no_grad()
def _add_whole(
    transformer: torch.nn.Module, added: Mapping[str, torch.Tensor], scale: float
) -> None:
    for name, parameter in transformer.named_parameters():
        delta = added.get(name.replace(".base_layer.", "."))
        if delta is None:
            continue
        if not parameter.is_floating_point() or parameter.element_size() == 1:
            raise ModelError(
                f"it adds to {name!r}, which is stored as {parameter.dtype}; load the model "
                "without quantization"
            )
        parameter.add_((scale * delta.float()).to(parameter))


def _check_complete(folder: Path, model: torch.nn.Module) -> None:
    """Raise ModelError when a weight is missing: diffusers would make one up and only warn."""
    stored: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    missing = sorted(set(model.state_dict()) - stored)
    if missing:
        raise ModelError(
            f"{str(folder)!r} lacks {len(missing)} weights, {missing[0]!r} first; copy it again"
        )


def model_hash(folder: str | Path) -> str:
    """SHA-256 over the names and bytes of a model folder's weights and configurations."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix in (".safetensors", ".json", ".model") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def _pipeline_class(index: Mapping[str, Any], folder: Path) -> type[AnyRefPipeline]:
    name = index.get("_class_name", "")
    if name not in PIPELINES:
        raise ModelError(
            f"{str(folder)!r} holds a {name!r}; anyref runs {' and '.join(PIPELINES)}, "
            "convert official weights with anyref convert"
        )
    return PIPELINES[name]


def stored_dtype(folder: Path) -> torch.dtype:
    """Dtype of most numbers in the folder's first weight file; reads its header only."""
    path = next(iter(sorted(folder.glob("*.safetensors"))), None)
    if path is None:
        raise ModelError(f"{str(folder)!r} has no .safetensors file; convert the model again")
    sizes: dict[torch.dtype, int] = {}
    for tensor in open_weights(path).values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + prod(tensor.shape)
    return max(sizes, key=lambda dtype: sizes[dtype])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{str(path)!r} does not hold a JSON object")
    return value
