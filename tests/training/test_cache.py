from __future__ import annotations

import torch

from anyref.training.cache import ContentCache, content_key, module_key


def test_what_was_stored_is_found_and_a_damaged_entry_is_not(tmp_path):
    cache = ContentCache(tmp_path)
    key = content_key("a")
    assert cache.load(key) is None
    cache.store(key, {"x": torch.arange(4.0)}, {"text": "fox"})
    tensors, texts = cache.load(key)
    assert tensors["x"].tolist() == [0, 1, 2, 3]
    assert texts == {"text": "fox"}
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    assert cache.load(key) is None


def test_a_cache_without_a_folder_keeps_nothing():
    cache = ContentCache(None)
    cache.store("k", {"x": torch.zeros(1)}, {})
    assert cache.load("k") is None


def test_keys_tell_parts_apart():
    keys = {
        content_key("ab", "c"),
        content_key("a", "bc"),
        content_key(b"abc"),
        content_key({"a": 1}),
        content_key({"a": 2}),
    }
    assert len(keys) == 5
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})


def test_a_module_s_key_follows_its_weights_and_its_configuration():
    import tiny

    torch.manual_seed(0)
    one = tiny.vae()
    torch.manual_seed(0)
    same = tiny.vae()
    assert module_key(one) == module_key(same)
    with torch.no_grad():
        same.quant_conv.bias[0] += 1e-3
    assert module_key(one) != module_key(same)
    torch.manual_seed(0)
    other = tiny.vae()
    other.register_to_config(latents_mean=[1.0] * 16)
    assert module_key(one) != module_key(other)


def test_a_module_s_key_does_not_depend_on_its_folder(tmp_path):
    from diffusers import AutoencoderKLWan

    import tiny

    vae = tiny.vae()
    vae.save_pretrained(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert module_key(AutoencoderKLWan.from_pretrained(tmp_path / "there")) == module_key(vae)
