"""Counted without memory, against what the allocator really gave."""

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from anyref.training.dry_run import measure_step
from anyref.training.engine import add_adapter
from anyref.training.recipe import Recipe
from anyref.training.shapes import IMAGE_TOKENS, architecture

LATENT = (4, 8, 8)
BATCH = 2


def small_recipe(engine, shape="tiny-magref", **sections):
    return Recipe.model_validate(
        {
            "model": {"base": "none", "shape": shape, "dtype": "fp32"},
            "data": {"shards": ["none"], "max_references": 2},
            "batch": BATCH,
            "engine": engine,
            **sections,
        }
    )


def real_step(model, recipe, latent, batch, device="cpu"):
    """A transformer and a function that does one step; gradients go as soon as they are whole."""
    config = model.transformer[1]
    transformer = model.build().to(device)
    transformer.requires_grad_(recipe.lora is None)
    if recipe.lora is not None:
        add_adapter(transformer, recipe.lora, seed=0)
    if recipe.engine.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    transformer.train()
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    noisy = torch.randn(batch, config["in_channels"], *latent, device=device)
    text = torch.randn(batch, model.text_length, config["text_dim"], device=device)
    options = {}
    if config["image_dim"] is not None:
        options["encoder_hidden_states_image"] = torch.randn(
            batch, IMAGE_TOKENS, config["image_dim"], device=device
        )
    if model.references_are_tokens:
        rows, columns = model.reference_shape(*latent[1:])
        picture = torch.randn(batch, config["in_channels"], 1, rows, columns, device=device)
        options["reference_hidden_states"] = [picture, picture]
    half = recipe.engine.precision == "bf16"

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=half):
            velocity = transformer(
                noisy,
                torch.full((batch,), 500.0, device=device),
                text,
                return_dict=False,
                **options,
            )[0]
        velocity.float().square().mean().backward()

    return transformer, step


def peak_bytes(step):
    """The most bytes that a step had allocated at once, from the allocator's own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, size in changes:
        live += size
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize(
    ("shape", "engine", "sections"),
    [
        ("tiny-magref", {"precision": "no"}, {}),
        ("tiny-kaleido", {"precision": "bf16"}, {}),
        ("tiny-kaleido", {"precision": "no", "gradient_checkpointing": True}, {}),
        ("tiny-magref", {"precision": "bf16", "gradient_checkpointing": True}, {"lora": {}}),
    ],
)
def test_activations_agree_with_the_allocator(shape, engine, sections):
    model, recipe = architecture("none", shape), small_recipe(engine, shape, **sections)
    told = measure_step(
        model, recipe, batch=BATCH, latent=LATENT, sharded=False, accelerator=False
    ).peak_bytes
    _, step = real_step(model, recipe, LATENT, BATCH)
    assert told == pytest.approx(peak_bytes(step), rel=0.03)


def test_operations_agree_with_torch_own_counter():
    from torch.utils.flop_counter import FlopCounterMode

    model, recipe = architecture("none", "tiny-magref"), small_recipe({"precision": "no"})
    told = measure_step(model, recipe, batch=BATCH, latent=LATENT, sharded=False)
    _, step = real_step(model, recipe, LATENT, BATCH)
    with FlopCounterMode(display=False) as counter:
        step()
    # torch's counter knows no CPU attention: queries x keys x width, twice, then backward
    width, text, tokens = 192, 80, 4 * 8 * 8
    attention = 4 * BATCH * tokens * (tokens + text) * width * model.num_layers
    assert told.flops == pytest.approx(counter.get_total_flops() + 3.5 * attention, rel=0.001)


def test_checkpointing_computes_forward_twice_and_keeps_less():
    model = architecture("none", "tiny-magref")
    plain, saving = (
        measure_step(
            model,
            small_recipe({"gradient_checkpointing": saving}),
            batch=BATCH,
            latent=LATENT,
            sharded=False,
        )
        for saving in (False, True)
    )
    assert saving.flops == pytest.approx(plain.flops + plain.forward_flops, rel=0.03)
    assert saving.peak_bytes < plain.peak_bytes / 2


def test_sharded_weights_need_no_copies_in_half_precision():
    model, recipe = architecture("none", "kaleido-1.3b"), small_recipe({}, "kaleido-1.3b")
    alone, sharded = (
        measure_step(model, recipe, batch=1, latent=(1, 8, 8), sharded=sharded)
        for sharded in (False, True)
    )
    assert alone.forward_bytes - sharded.forward_bytes == pytest.approx(2 * 1.42e9, rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("saving", [False, True])
def test_activations_at_full_width_agree_with_a_gpu(saving):
    full = architecture("none", "magref-14b")
    made, config = full.transformer
    model = replace(full, transformer=(made, {**config, "num_layers": 4}))
    recipe = small_recipe({"gradient_checkpointing": saving}, "magref-14b")
    latent = (5, 60, 104)
    told = measure_step(model, recipe, batch=1, latent=latent, sharded=False).peak_bytes
    _, step = real_step(model, recipe, latent, 1, "cuda")
    step()  # libraries take their workspaces
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    assert told == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.1)
