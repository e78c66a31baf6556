"""Transformers opened from the files people share, tensor by tensor, whatever the format.

A file may hold diffusers' names, the official ones (with ComfyUI's prefix or without) or Kaleido's
SAT names, and plain weights or 8-bit ones:

    float8, plain        weights of dtype float8 that stand for themselves
    float8, scaled       ComfyUI: `X.weight` with a scalar `X.scale_weight`, marker `scaled_fp8`;
                         newer files `X.weight_scale`
    int8, scaled         `X.weight` with `X.weight_scale` by row; quanto's `X.weight._data` and
                         `X.weight._scale`
    GGUF                 by diffusers and the package `gguf`

Weights of linear layers inside the blocks stay 8-bit (`ScaledLinear`), or become so; those outside,
which are few and lie before everything else, are widened. Scales of activations
(`X.scale_input` and the like) belong to 8-bit products and are not used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from anyref.errors import ConvertError
from anyref.models.weights import keys
from anyref.models.weights.eight_bit import EIGHT_BIT, quantise, store, widen
from anyref.models.weights.keys import Link
from anyref.models.weights.mapping import meta_shapes
from anyref.models.weights.reader import Stored, Weights, find_weights, open_weights
from anyref.models.weights.transformer import COMFYUI_PREFIXES, has_affine_norm

STEM = "diffusion_pytorch_model"
_SCALES = (".scale_weight", ".weight_scale", ".weight._scale")
_UNUSED = (".scale_input", ".input_scale", ".output_scale", ".comfy_quant")
_MARKER = "scaled_fp8"


def find_transformer(path: Path) -> Path:
    """The file to open: itself, or a folder's weights: safetensors, an index of shards, one GGUF.

    Raises:
        ConvertError: when a folder has none of them.
    """
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.gguf"))
    return files[0] if len(files) == 1 else find_weights(path, STEM)


def is_eight_bit(file: Path) -> bool:
    """True when the file's weights need `open_transformer`: GGUF, or 8-bit numbers in it."""
    if file.suffix == ".gguf":
        return True
    return any(stored.dtype in EIGHT_BIT for stored in open_weights(file).values())


def open_transformer(
    file: Path,
    model_class: Any,
    config_folder: Path,
    *,
    dtype: torch.dtype | None = None,
    eight_bit: torch.dtype | None = None,
) -> Any:
    """The transformer with a file's weights, on the CPU; one tensor at a time is held twice.

    Args:
        file: safetensors, the index of its shards, a torch file, or GGUF.
        model_class: `WanTransformer3DModel` or a subclass. config_folder: with its config.json.
        dtype: of floating weights that are not 8-bit, and of GGUF's products; as stored when None
            (bfloat16 beside 8-bit weights and GGUF).
        eight_bit: what linear layers of the blocks become; as stored when None.

    Raises:
        ConvertError: a file that cannot be read; keys or shapes that are not the transformer's,
            naming keys of both sides.
    """
    with init_empty_weights(include_buffers=False):
        model = model_class.from_config(model_class.load_config(config_folder))
    if file.suffix == ".gguf":
        return _open_gguf(file, model, config_folder, dtype or torch.bfloat16)
    weights, scales = _tidied(open_weights(file))
    links, shapes = _spelling(weights, model.config), meta_shapes(model)
    expected = {link.official: _joined([shapes[name] for name in link.ours]) for link in links}
    _check_keys(file, {name: at.shape for name, at in weights.items()}, expected)
    narrow = any(at.dtype in EIGHT_BIT for at in weights.values())
    base = dtype or (torch.bfloat16 if narrow else None)
    for link in links:
        scale = scales.tensor(link.official) if link.official in scales else None
        heights = [shapes[name][0] for name in link.ours]
        parts = weights.tensor(link.official).split(heights)
        for name, part, own in zip(link.ours, parts, _split_scale(scale, heights), strict=True):
            whole = part if len(parts) == 1 else part.clone()
            _put(model, name, whole, own, base, eight_bit, inside="blocks.")
        del parts
    _fill_plain_norms(model, base or _largest(weights))
    return model.eval()


def open_text_encoder(folder: Path, eight_bit: torch.dtype) -> Any:
    """A UMT5 encoder with 8-bit linear layers, the rest as stored.

    Args:
        folder: config.json and model.safetensors or its shards.

    Raises:
        ConvertError: as `open_transformer`.
    """
    from transformers import UMT5Config, UMT5EncoderModel

    with init_empty_weights(include_buffers=False):
        model = UMT5EncoderModel(UMT5Config.from_pretrained(folder))
    weights = open_weights(find_weights(folder, "model"))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    tied = "encoder.embed_tokens.weight"
    same = {tied: "shared.weight", "shared.weight": tied}
    names = {n: n if n in weights else same.get(n, n) for n in shapes}
    found = {n: weights[n].shape for n in weights if n not in same or n in names.values()}
    _check_keys(folder, found, {names[n]: shape for n, shape in shapes.items()})
    for name, stored in names.items():
        _put(model, name, weights.tensor(stored), None, None, eight_bit, inside="encoder.block.")
    model.tie_weights()
    return model.eval()


def _tidied(weights: Weights) -> tuple[Weights, Weights]:
    """Weights by plain names, and their scales by the names of the weights."""
    weights = weights.without(COMFYUI_PREFIXES)
    plain: dict[str, Stored] = {}
    scales: dict[str, Stored] = {}
    for name, stored in weights.items():
        suffix = next((s for s in _SCALES if name.endswith(s)), None)
        if suffix is not None:
            scales[name.removesuffix(suffix) + ".weight"] = stored
        elif name != _MARKER and not name.endswith(_UNUSED):
            plain[name.removesuffix("._data")] = stored
    stray = sorted(name for name in scales if name not in plain)
    if stray:
        raise ConvertError(f"scale {scales[stray[0]].key!r} has no weight {stray[0]!r} beside it")
    return Weights(plain, prefix=weights.prefix), Weights(scales, prefix=weights.prefix)


def _spelling(weights: Collection[str], config: Mapping[str, Any]) -> list[Link]:
    """The table of names, ours, official or SAT, that most of a file's names are in."""
    depth = config["num_layers"]
    rows = keys.WAN + (keys.WAN_IMAGE if config["image_dim"] else ())
    official = keys.link_rows(rows, depth)
    tables = [official, [Link(name, (name,)) for link in official for name in link.ours]]
    if not config["image_dim"]:
        affine = isinstance(weights, Weights) and has_affine_norm(weights)
        tables.append(keys.link_rows(keys.SAT + (keys.SAT_AFFINE_NORM if affine else ()), depth))
    held = set(weights)
    return max(tables, key=lambda links: sum(link.official in held for link in links))


def _check_keys(
    source: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    extra = sorted(set(found) - set(expected))
    missing = sorted(set(expected) - set(found))
    wrong = [n for n in expected if n in found and found[n] != expected[n]]
    faults = []
    if extra:
        faults.append(f"the file has {_some(extra)}, which the transformer has not")
    if missing:
        faults.append(f"the transformer has {_some(missing)}, which the file has not")
    if wrong:
        name = wrong[0]
        faults.append(f"{name!r} is {found[name]} in the file, {expected[name]} in the transformer")
    if faults:
        raise ConvertError(f"{str(source)!r}: {'; '.join(faults)}; give the file of this model")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(map(repr, names[:2])) + more


def _joined(parts: list[tuple[int, ...]]) -> tuple[int, ...]:
    return parts[0] if len(parts) == 1 else (sum(part[0] for part in parts), *parts[0][1:])


def _split_scale(scale: Tensor | None, heights: list[int]) -> Iterable[Tensor | None]:
    """The scale (1, 1) or (O, 1) of every part of a joined weight."""
    if scale is None:
        return [None] * len(heights)
    rows = scale.reshape(-1, 1)
    if len(rows) == 1:
        return [rows] * len(heights)
    if len(rows) != sum(heights):
        raise ConvertError(
            f"a scale has {len(rows)} values for a weight of {sum(heights)} rows; one, or one per "
            "row, can be read"
        )
    return rows.split(heights)


def _put(
    model: nn.Module,
    name: str,
    tensor: Tensor,
    scale: Tensor | None,
    base: torch.dtype | None,
    eight_bit: torch.dtype | None,
    *,
    inside: str,
) -> None:
    """Give a parameter on the meta device its numbers."""
    path, _, leaf = name.rpartition(".")
    layer = model.get_submodule(path)
    linear = name.startswith(inside) and isinstance(layer, nn.Linear) and leaf == "weight"
    narrow = tensor.dtype in EIGHT_BIT
    if linear and narrow and eight_bit in (None, tensor.dtype):
        store(layer, tensor, torch.ones(1, 1) if scale is None else scale)
        return
    if linear and eight_bit is not None:
        store(layer, *quantise(widen(tensor, scale, torch.float32), eight_bit))
        return
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ()) & set(name.split("."))
    dtype = torch.float32 if kept and base is not None else base or tensor.dtype
    if not tensor.is_floating_point() and not narrow:
        raise ConvertError(f"{name!r} is stored as {tensor.dtype}, which is no format known here")
    layer._parameters[leaf] = nn.Parameter(widen(tensor, scale, dtype))


def _fill_plain_norms(model: nn.Module, dtype: torch.dtype) -> None:
    """Ones and zeros in the norms that a SAT file without affine norms leaves out."""
    for path, layer in model.named_modules():
        for leaf, parameter in layer.named_parameters(recurse=False):
            if parameter.is_meta:
                kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
                wanted = torch.float32 if kept & set(path.split(".")) else dtype
                value = torch.full(parameter.shape, float(leaf == "weight"), dtype=wanted)
                layer._parameters[leaf] = nn.Parameter(value)


def _largest(weights: Weights) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for at in weights.values():
        sizes[at.dtype] = sizes.get(at.dtype, 0) + prod(at.shape)
    return max(sizes, key=lambda dtype: sizes[dtype])


def _open_gguf(file: Path, model: Any, config_folder: Path, dtype: torch.dtype) -> Any:
    """By diffusers, after a look at the names: it would leave out what does not fit."""
    try:
        from diffusers import GGUFQuantizationConfig
        from gguf import GGUFReader
    except ImportError as error:
        raise ConvertError(
            f"{str(file)!r} needs the package gguf, which is not installed; "
            "pip install 'anyref[quantized]'"
        ) from error
    try:
        found = {t.name: tuple(int(n) for n in t.shape[::-1]) for t in GGUFReader(file).tensors}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ConvertError(f"cannot read {str(file)!r}: {error}") from error
    prefix = next((p for p in COMFYUI_PREFIXES if any(n.startswith(p) for n in found)), "")
    found = {name.removeprefix(prefix): shape for name, shape in found.items()}
    shapes = meta_shapes(model)
    links = _spelling(found, model.config)
    expected = {link.official: _joined([shapes[name] for name in link.ours]) for link in links}
    _check_keys(file, _flat(found), _flat(expected))
    opened = type(model).from_single_file(
        str(file),
        config=str(config_folder),
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
        dtype=dtype,
        local_files_only=True,
    )
    _widen_outside_linear(opened, dtype)
    return opened.eval()


def _flat(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Matrices as they are, all else as one axis: writers of GGUF add and drop axes of length 1."""
    return {n: shape if len(shape) == 2 else (prod(shape),) for n, shape in shapes.items()}


def _widen_outside_linear(model: nn.Module, dtype: torch.dtype) -> None:
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor

    for layer in model.modules():
        if isinstance(layer, GGUFLinear):
            continue
        for leaf, parameter in list(layer.named_parameters(recurse=False)):
            if isinstance(parameter, GGUFParameter):
                plain = dequantize_gguf_tensor(parameter).to(dtype)
                layer._parameters[leaf] = nn.Parameter(plain, requires_grad=False)
