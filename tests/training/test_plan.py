import time

import pytest
import torch

from anyref.errors import TrainingError
from anyref.models import presets
from anyref.training.plan import ADAMW8BIT_BYTES, make_plan
from anyref.training.recipe import Recipe, load_recipe

SMALL = ("data.height=64", "data.width=64", "data.num_frames=5")


def small_recipe(**sections):
    return Recipe.model_validate(
        {
            "model": {"base": "none", "shape": "tiny-magref", "dtype": "fp32"},
            "data": {"shards": ["none"], "height": 48, "width": 48, "num_frames": 5},
            "engine": {"precision": "no"},
            "batch": 2,
            **sections,
        }
    )


def wan_parameters(d, f, layers, channels, image_width=0):
    """Wan2.1's count from its published widths, layer by layer."""

    def linear(n, m):
        return n * m + m

    attention = 4 * linear(d, d) + 2 * d
    image_keys = (2 * linear(d, d) + d) if image_width else 0
    block = 2 * attention + image_keys + linear(d, f) + linear(f, d) + 2 * d + 6 * d
    text = linear(4096, d) + linear(d, d)
    times = linear(256, d) + linear(d, d) + linear(d, 6 * d)
    w = image_width
    image = (2 * w + linear(w, w) + linear(w, d) + 2 * d) if w else 0
    return layers * block + text + times + image + linear(channels * 4, d) + linear(d, 64) + 2 * d


@pytest.mark.parametrize(
    ("name", "count", "billions"),
    [
        ("magref-14b", wan_parameters(5120, 13824, 40, 36, 1280), 16.39),
        ("kaleido-14b", wan_parameters(5120, 13824, 40, 16), 14.29),
        ("kaleido-1.3b", wan_parameters(1536, 8960, 30, 16), 1.42),
    ],
)
def test_parameters_are_those_of_the_published_models(name, count, billions):
    plan = make_plan(load_recipe(name, [*SMALL, "engine.sharding=none"]))
    assert not (plan.fits and plan.parameters > 14e9)  # 14B and its optimiser on one GPU
    assert plan.parameters == plan.trainable == count
    assert round(plan.parameters / 1e9, 2) == billions


def test_magref_at_full_size_is_planned_in_seconds_without_weights():
    start = time.monotonic()
    plan = make_plan(load_recipe("magref-14b"), "h200", world=8)
    assert time.monotonic() - start < 20
    (phase,) = plan.phases
    assert phase.latent == (21, 60, 104)
    assert (phase.video_tokens, phase.reference_tokens) == (32_760, 0)
    assert phase.tokens == 64 * 32_760
    assert plan.memory.gradients == plan.parameters * 4 / 8
    assert plan.memory.optimizer == plan.parameters * 8 / 8
    assert plan.fits


def test_references_are_tokens_of_kaleido():
    changes = ["data.height=512", "data.width=896", "data.max_references=2"]
    (phase,) = make_plan(load_recipe("kaleido-14b", changes), world=8).phases
    assert (phase.video_tokens, phase.reference_tokens) == (37_632, 2 * 1_792)


@pytest.mark.parametrize("name", ["magref-14b-lora-24gb", "kaleido-14b-lora-24gb"])
def test_the_small_card_recipes_fit_a_card_of_24_gb(name):
    plan = make_plan(load_recipe(name), "4090")
    assert plan.fits
    assert plan.trainable < 0.01 * plan.parameters
    # bytes; two per weight in bfloat16
    assert plan.memory.weights < 0.6 * plan.parameters


def test_weights_gradients_and_adam_agree_with_real_ones():
    recipe = small_recipe()
    plan = make_plan(recipe)
    transformer = presets.tiny_transformer("magref")
    optimiser = torch.optim.AdamW(transformer.parameters())
    velocity = transformer(
        torch.randn(1, 97, 5, 4, 4), torch.ones(1), torch.randn(1, 64, 128), return_dict=False
    )[0]
    velocity.square().mean().backward()
    optimiser.step()
    states = [x for state in optimiser.state.values() for x in state.values()]
    for told, real in (
        (plan.memory.weights, transformer.parameters()),
        (plan.memory.gradients, (p.grad for p in transformer.parameters())),
        (plan.memory.optimizer, states),
    ):
        assert told == pytest.approx(sum(x.nbytes for x in real), rel=0.001)


def test_a_text_encoder_that_learns_counts_and_is_no_frozen_encoder():
    frozen = make_plan(small_recipe())
    model = {"base": "none", "shape": "tiny-magref", "train": ["transformer", "text_encoder"]}
    learning = make_plan(small_recipe(model=model))
    extra = learning.trainable - frozen.trainable
    assert extra > 100_000
    assert learning.memory.encoders == pytest.approx(frozen.memory.encoders - 4 * extra)


def test_a_lora_leaves_gradients_and_optimiser_small():
    full, lora = make_plan(small_recipe()), make_plan(small_recipe(lora={"rank": 4}))
    assert lora.parameters - lora.trainable == full.parameters
    assert lora.memory.gradients == 4 * lora.trainable
    assert lora.memory.optimizer == 8 * lora.trainable < full.memory.optimizer / 10


@pytest.mark.parametrize(
    ("optim", "least", "most"),
    [
        ({"name": "adamw8bit"}, ADAMW8BIT_BYTES, ADAMW8BIT_BYTES),
        ({"name": "muon", "muon_rate": 1e-3}, 4.0, 5.0),
    ],
)
def test_lighter_optimisers_keep_less_per_weight(optim, least, most):
    plan = make_plan(small_recipe(optim=optim))
    assert least <= plan.memory.optimizer / plan.trainable <= most


def test_a_cache_takes_the_encoders_off_the_gpu():
    small = make_plan(load_recipe("magref-14b", SMALL), world=8)
    assert small.memory.encoders == 0
    held = make_plan(load_recipe("magref-14b", [*SMALL, "data.cache=null"]), world=8)
    # umT5-XXL 5.68B and ViT-H 0.63B in bfloat16, the VAE 0.127B in float32
    assert held.memory.encoders == pytest.approx(2 * 5.68e9 + 2 * 0.63e9 + 4 * 0.127e9, rel=0.01)


def test_a_curriculum_is_planned_stage_by_stage():
    stages = [{"frames": 1, "steps": 30}, {"frames": 3, "steps": 30}, {"frames": 5, "steps": 30}]
    recipe = small_recipe(stages=stages, steps=100, batch=None, tokens=160)
    plan = make_plan(recipe)
    assert [phase.steps for phase in plan.phases] == [30, 30, 40]
    assert [phase.batch for phase in plan.phases] == [10, 3, 2]
    assert plan.seconds == pytest.approx(sum(p.steps * p.seconds for p in plan.phases))
    short = make_plan(recipe.model_copy(update={"steps": 40}))
    assert [phase.steps for phase in short.phases] == [30, 10]


def test_time_follows_the_gpu_the_processes_and_the_utilisation():
    recipe = small_recipe(engine={"sharding": "fsdp"})
    one = make_plan(recipe, "h200", world=2).seconds
    assert make_plan(recipe, "h200", 2, utilisation=0.2).seconds == pytest.approx(2 * one)
    assert make_plan(recipe, "a100", world=2).seconds == pytest.approx(989 / 312 * one)
    doubled = recipe.model_copy(update={"batch": 4})
    assert make_plan(doubled, "h200", world=4).seconds == pytest.approx(one)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gpu": "h20"}, "did you mean h200"),
        ({"world": 2}, "use sharding=fsdp"),
        ({"utilisation": 0.0}, "a share in"),
        ({"world": 0}, "give 1 or more"),
    ],
)
def test_a_plan_that_cannot_be_made_is_an_error(arguments, said):
    with pytest.raises(TrainingError, match=said):
        make_plan(small_recipe(), **arguments)


def test_a_batch_that_does_not_split_is_an_error():
    with pytest.raises(TrainingError, match="give a multiple of 24"):
        make_plan(load_recipe("magref-14b"), world=3)


def test_without_a_named_shape_the_folder_tells():
    shipped = small_recipe(model={"base": "tiny-kaleido"}, data={"shards": ["none"]})
    plan = make_plan(shipped)
    assert plan.shape == "tiny-kaleido"
    assert plan.phases[0].reference_tokens > 0
    with pytest.raises(TrainingError, match=r"name model\.shape"):
        make_plan(small_recipe(model={"base": "nowhere"}))
