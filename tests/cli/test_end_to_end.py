"""The command line with whole pipelines of random weights."""

from __future__ import annotations

import pytest

import tiny
from anyref.cli import main
from anyref.media import read_video

FOLDERS = {"magref": tiny.tiny_magref_folder, "kaleido": tiny.tiny_kaleido_folder}


@pytest.fixture(params=FOLDERS)
def model(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.picture().save("fox.png")
    return str(FOLDERS[request.param](tmp_path / request.param))


def test_a_video_is_generated_and_replayed_to_the_byte(model, capfd):
    options = ("--model", model, "--device", "cpu", "--frames", "13", "--save-conditioning", "seen")
    assert main(["generate", "a @fox walks", "-r", "fox=fox.png", *options]) == 0
    assert len(read_video("out.mp4")[0]) == 13
    assert main(["replay", "out.mp4", "--device", "cpu"]) == 0
    captured = capfd.readouterr()
    assert "identical" in captured.out
    assert "Loading" not in captured.err


def test_sizes_that_do_not_fit_are_refused_before_weights_load(model, capfd, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    frames = "76" if "magref" in model else "80"  # 80 for the network: MAGREF makes 4 lead frames
    for wrong in (("--frames", frames), ("--size", "131x130")):
        command = ["generate", "a @fox", "-r", "fox=fox.png", "--model", model, *wrong]
        capfd.readouterr()
        assert main(command) == 2
        assert capfd.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_list_gives_the_videos_that_its_entries_give_alone(model, tmp_path):
    (tmp_path / "list.jsonl").write_text(
        '{"key":"a","prompt":"a","solver":"dpm++"}\n{"key":"b","prompt":"b"}\n'.replace(
            '"prompt"', '"references":[{"images":["fox.png"]}],"prompt"'
        )
    )
    options = ["--model", model, "--device", "cpu"]
    assert main(["generate", "--batch", "list.jsonl", "--out-dir", "videos", *options]) == 0
    assert main(["generate", "b", "-r", "fox.png", "-o", "b.mp4", *options]) == 0
    assert (tmp_path / "videos/b.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def adapter(model, path):
    """A LoRA that changes the model, saved as diffusers does."""
    import torch
    from peft import LoraConfig, get_peft_model_state_dict

    from anyref import load_pipeline

    pipe = load_pipeline(model)
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipe.transformer.add_adapter(config)
    pipe.save_lora_weights(
        path, transformer_lora_layers=get_peft_model_state_dict(pipe.transformer)
    )
    return str(path)


def test_a_lora_acts_by_its_strength_and_is_replayed(model, capfd, tmp_path):
    lora = adapter(model, tmp_path / "lora")
    options = ["--model", model, "--device", "cpu", "--frames", "13"]

    def make(name, *more):
        command = ["generate", "a @fox walks", "-r", "fox=fox.png", "-o", name, *options, *more]
        assert main(command) == 0
        return (tmp_path / name).read_bytes()

    make("with.mp4", "--lora", lora)
    frames = {name: read_video(name)[0].tobytes() for name in ("with.mp4",)}
    make("without.mp4")
    make("half.mp4", "--lora", f"{lora}=0.5")
    make("zero.mp4", "--lora", f"{lora}=0")
    frames |= {
        name: read_video(name)[0].tobytes() for name in ("without.mp4", "half.mp4", "zero.mp4")
    }
    assert frames["zero.mp4"] == frames["without.mp4"]
    assert len(set(frames.values())) == 3
    capfd.readouterr()
    assert main(["replay", "with.mp4", "--device", "cpu"]) == 0
    assert "identical" in capfd.readouterr().out


def test_a_lora_that_is_missing_or_another_model_s_is_refused(model, capfd, tmp_path):
    command = ["generate", "a @fox", "-r", "fox=fox.png", "--model", model, "--device", "cpu"]
    assert main([*command, "--lora", "gone.safetensors"]) == 2
    assert "gone.safetensors" in capfd.readouterr().err
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    assert main([*command, "--lora", "other.safetensors"]) == 2
    assert "does not load" in capfd.readouterr().err
    assert main([*command, "--lora", "x.safetensors=99"]) == 2
    assert "-10 to 10" in capfd.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
