"""Files that people share, opened: every format within its error, every wrong key named."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from anyref.errors import ConvertError
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.models.weights import keys
from anyref.models.weights.eight_bit import ScaledLinear, quantise, widen
from anyref.models.weights.opening import find_transformer, is_eight_bit, open_transformer

SIZE = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
IMAGE = {"in_channels": 36, "image_dim": 32, "added_kv_proj_dim": 32}
E4M3 = torch.float8_e4m3fn


@pytest.fixture(scope="module", params=["magref", "kaleido"])
def model(request, tmp_path_factory):
    """A transformer of either family, and its folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "magref":
        made = WanTransformer3DModel(**SIZE, **IMAGE)
    else:
        made = KaleidoTransformer3DModel(**SIZE)
    made.eval().save_pretrained(folder)
    return made, folder


def official(model) -> dict[str, torch.Tensor]:
    """The weights by their names in Wan's own files."""
    rows = keys.WAN + (keys.WAN_IMAGE if model.config.image_dim else ())
    state = model.state_dict()
    links = keys.link_rows(rows, model.config.num_layers)
    return {link.official: state[link.ours[0]].contiguous() for link in links}


def output(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    config = model.config
    image = None
    if config.image_dim:
        image = torch.randn(1, 257, config.image_dim, generator=generator)
    with torch.no_grad():
        return model(
            hidden_states=torch.randn(1, config.in_channels, 2, 4, 4, generator=generator),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 512, config.text_dim, generator=generator),
            encoder_hidden_states_image=image,
            return_dict=False,
        )[0]


def error(opened, model) -> float:
    found, expected = output(opened), output(model)
    return float((found - expected).norm() / expected.norm())


def opened(file, model, folder, **options):
    return open_transformer(file, type(model), folder, dtype=torch.float32, **options)


def is_matrix(name: str, tensor: torch.Tensor) -> bool:
    return tensor.ndim == 2 and name.endswith(".weight")


def write_scaled(model, path, *, suffix: str, prefix: str = "", rows: bool = False):
    """ComfyUI's scaled float8: all matrices, also those outside the blocks."""
    weights = {f"{prefix}scaled_fp8": torch.zeros(2, dtype=E4M3)}
    for name, tensor in official(model).items():
        if is_matrix(name, tensor):
            amount = tensor.abs().amax(1, keepdim=True) if rows else tensor.abs().max()
            scale = amount / 448
            weights[prefix + name] = (tensor / scale).to(E4M3)
            weights[prefix + name.removesuffix(".weight") + suffix] = scale.float()
            weights[prefix + name.removesuffix(".weight") + ".scale_input"] = torch.ones(())
        else:
            weights[prefix + name] = tensor.bfloat16()
    save_file(weights, path)
    return path


def test_plain_weights_of_any_spelling_are_the_models_own(model, tmp_path):
    made, folder = model
    save_file(official(made), tmp_path / "wan.safetensors")
    comfy = {f"model.diffusion_model.{n}": t for n, t in official(made).items()}
    save_file(comfy, tmp_path / "comfy.safetensors")
    files = [find_transformer(folder), tmp_path / "wan.safetensors", tmp_path / "comfy.safetensors"]
    for file in files:
        found = opened(file, made, folder)
        assert type(found) is type(made)
        assert error(found, made) == 0.0
        assert not is_eight_bit(file)


def test_sat_weights_keep_their_joined_rows(tmp_path):
    torch.manual_seed(0)
    made = KaleidoTransformer3DModel(**SIZE).eval()
    made.save_pretrained(tmp_path / "k")
    state = made.state_dict()
    links = keys.link_rows(keys.SAT, made.config.num_layers)
    sat = {k.official: torch.cat([state[n] for n in k.ours]).contiguous() for k in links}
    save_file(
        {f"model.diffusion_model.{n}": t for n, t in sat.items()}, tmp_path / "sat.safetensors"
    )
    assert error(opened(tmp_path / "sat.safetensors", made, tmp_path / "k"), made) == 0.0
    joined = "transformer.layers.0.attention.query_key_value"
    numbers, scale = quantise(sat[f"{joined}.weight"], torch.int8)
    narrow = {**sat, f"{joined}.weight": numbers, f"{joined}.weight_scale": scale}
    save_file(narrow, tmp_path / "narrow.safetensors")
    found = opened(tmp_path / "narrow.safetensors", made, tmp_path / "k")
    layer = found.blocks[0].attn1.to_k
    expected = widen(numbers, scale, torch.float32).split(32)[1]
    assert isinstance(layer, ScaledLinear)
    assert torch.equal(widen(layer.weight, layer.weight_scale, torch.float32), expected)


@pytest.mark.parametrize(
    "how",
    [
        {"suffix": ".scale_weight"},
        {"suffix": ".scale_weight", "prefix": "model.diffusion_model."},
        {"suffix": ".weight_scale", "rows": True},
    ],
)
def test_scaled_float8_stays_in_8_bits_and_within_its_error(model, tmp_path, how):
    made, folder = model
    file = write_scaled(made, tmp_path / "scaled.safetensors", **how)
    found = opened(file, made, folder)
    layer = found.blocks[0].attn1.to_q
    assert isinstance(layer, ScaledLinear)
    assert layer.weight.dtype == E4M3
    assert found.dtype == torch.float32
    assert error(found, made) < 0.05
    assert is_eight_bit(file)


def test_plain_float8_stands_for_itself(model, tmp_path):
    made, folder = model
    weights = {n: t.to(E4M3) if is_matrix(n, t) else t for n, t in official(made).items()}
    save_file(weights, tmp_path / "fp8.safetensors")
    found = opened(tmp_path / "fp8.safetensors", made, folder)
    stored = weights["blocks.1.ffn.0.weight"].float()
    assert torch.equal(found.blocks[1].ffn.net[0].proj.weight.float(), stored)
    assert error(found, made) < 0.05


def test_int8_by_row_and_as_quanto_writes_it(model, tmp_path):
    made, folder = model
    for data, scale_name in (("weight", "weight_scale"), ("weight._data", "weight._scale")):
        weights = {}
        for name, tensor in official(made).items():
            if name.startswith("blocks.") and is_matrix(name, tensor):
                layer = name.removesuffix("weight")
                weights[layer + data], weights[layer + scale_name] = quantise(tensor, torch.int8)
            else:
                weights[name] = tensor
        save_file(weights, tmp_path / f"{data}.safetensors")
        found = opened(tmp_path / f"{data}.safetensors", made, folder)
        assert found.blocks[0].ffn.net[2].weight.dtype == torch.int8
        assert error(found, made) < 0.01


def test_weights_become_8_bits_while_they_are_opened(model):
    made, folder = model
    found = opened(find_transformer(folder), made, folder, eight_bit=torch.int8)
    kinds = {n: type(m) for n, m in found.named_modules() if isinstance(m, torch.nn.Linear)}
    assert all(kind is ScaledLinear for n, kind in kinds.items() if n.startswith("blocks."))
    assert all(k is torch.nn.Linear for n, k in kinds.items() if not n.startswith("blocks."))
    assert error(found, made) < 0.01


@pytest.mark.parametrize("quant", ["Q8_0", "F16", "BF16"])
def test_gguf_files_open_within_their_error(model, tmp_path, quant):
    gguf = pytest.importorskip("gguf")
    made, folder = model
    file = write_gguf(gguf, official(made), tmp_path / "model.gguf", quant)
    found = opened(file, made, folder)
    assert error(found, made) < {"Q8_0": 0.01, "F16": 0.002, "BF16": 0.01}[quant]
    if quant == "Q8_0":
        assert found.blocks[0].attn1.to_q.weight.dtype == torch.uint8
    assert is_eight_bit(file)


def write_gguf(gguf, weights, path, quant: str):
    """As city96's converter: matrices quantised, the rest in float32."""
    kind = gguf.GGMLQuantizationType[quant]
    writer = gguf.GGUFWriter(str(path), arch="wan")
    for name, tensor in weights.items():
        array = tensor.float().numpy()
        if is_matrix(name, tensor):
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_of_another_model_names_keys_of_both_sides(model, tmp_path):
    gguf = pytest.importorskip("gguf")
    made, folder = model
    weights = official(made)
    weights["blocks.0.self_attn.extra.weight"] = weights.pop("blocks.0.self_attn.q.weight")
    file = write_gguf(gguf, weights, tmp_path / "model.gguf", "Q8_0")
    with pytest.raises(ConvertError, match=r"extra\.weight.*self_attn\.q\.weight"):
        opened(file, made, folder)


def test_wrong_and_missing_keys_are_named_on_both_sides(model, tmp_path):
    made, folder = model
    weights = official(made)
    weights["blocks.7.stranger.weight"] = weights.pop("head.head.weight")
    save_file(weights, tmp_path / "wrong.safetensors")
    with pytest.raises(ConvertError, match=r"file has 'blocks\.7\.stranger.*has 'head\.head"):
        opened(tmp_path / "wrong.safetensors", made, folder)


def test_a_misshapen_weight_and_a_scale_without_one_are_refused(model, tmp_path):
    made, folder = model
    weights = load_file(find_transformer(folder))
    bad = {**weights, "proj_out.weight": torch.zeros(3, 32)}
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(ConvertError, match=re.escape("(3, 32) in the file")):
        opened(tmp_path / "bad.safetensors", made, folder)
    save_file({**weights, "ghost.weight_scale": torch.ones(1)}, tmp_path / "ghost.safetensors")
    with pytest.raises(ConvertError, match=r"'ghost\.weight_scale' has no weight"):
        opened(tmp_path / "ghost.safetensors", made, folder)


def test_a_file_of_the_other_family_is_refused(tmp_path):
    torch.manual_seed(0)
    WanTransformer3DModel(**SIZE, **IMAGE).save_pretrained(tmp_path / "magref")
    kaleido = KaleidoTransformer3DModel(**SIZE)
    kaleido.save_pretrained(tmp_path / "kaleido")
    with pytest.raises(ConvertError, match=r"add_k_proj.*transformer has not"):
        opened(find_transformer(tmp_path / "magref"), kaleido, tmp_path / "kaleido")


def test_damaged_gguf_is_an_error_of_ours(model, tmp_path):
    pytest.importorskip("gguf")
    made, folder = model
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    with pytest.raises(ConvertError, match="cannot read"):
        opened(tmp_path / "bad.gguf", made, folder)
