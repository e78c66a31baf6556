import pytest
import yaml

from anyref.errors import TrainingError
from anyref.training import recipe_file
from anyref.training.recipe import Recipe, load_recipe
from anyref.training.recipe_file import shipped_recipes

LEAST = "model: {base: tiny-magref}\ndata: {shards: [data/train]}\nbatch: 8\n"
NAMES = (
    "kaleido-1.3b",
    "kaleido-14b",
    "kaleido-14b-lora-24gb",
    "magref-14b",
    "magref-14b-lora-24gb",
    "tiny-kaleido",
    "tiny-lora",
    "tiny-magref",
)


@pytest.fixture
def load(tmp_path):
    """Loads the least recipe with changes, or another text."""

    def load(*overrides, text=LEAST):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load_recipe(path, overrides)

    return load


def test_a_recipe_states_differences_from_defaults(load):
    recipe = load("optim.learning_rate=1e-5")
    assert recipe.optim.learning_rate == 1e-5
    assert recipe.optim.weight_decay == 0.01
    assert recipe.name == "mine"
    assert str(recipe.run_folder) == "runs/mine"


def test_changes_are_yaml_scalars_and_lists(load):
    recipe = load(
        "optim.betas=[0.9, 0.95]",
        "optim.clip_norm=null",
        "engine.compile=true",
        "stages=[{frames: 1, steps: 3}, {frames: 5, steps: 2}]",
        "lora.rank=4",
        "data.shards=[a, 's3://b/*.tar']",
        "folder=out/here",
    )
    assert recipe.optim.betas == (0.9, 0.95)
    assert recipe.optim.clip_norm is None
    assert recipe.engine.compile is True
    assert [stage.frames for stage in recipe.stages] == [1, 5]
    assert recipe.lora.rank == 4
    assert recipe.data.shards == ("a", "s3://b/*.tar")
    assert str(recipe.run_folder) == "out/here"


def test_precision_no_means_no_although_yaml_reads_false(load):
    assert load("engine.precision=no").engine.precision == "no"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optim.learning_rat=1", "optim.learning_rat: no such key, did you mean optim.learning_"),
        ("learning_rate=1", "learning_rate: no such key, did you mean optim.learning_rate?"),
        ("optim.batch=1", "optim.batch: no such key, did you mean batch?"),
        ("stages=[{frames: 5, step: 1}]", "stages.0.step: no such key, did you mean stages.steps?"),
        ("engine.zzz=1", "known: engine.accumulation, engine.attention, engine.compile"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_match(load, change, said):
    with pytest.raises(TrainingError) as error:
        load(change)
    assert said in str(error.value)


def test_every_fault_is_told_at_once(load):
    with pytest.raises(TrainingError, match=r"optim\.eps.*engine\.shard\b.*steps"):
        load("optim.eps=-1", "engine.shard=fsdp", "steps=none")


def test_a_fault_names_key_value_and_limit(load):
    with pytest.raises(TrainingError, match=r"data\.cross_pair: 1\.2 given.*less than or equal"):
        load("data.cross_pair=1.2")


def test_a_value_that_may_be_of_two_types_is_one_fault(load):
    with pytest.raises(TrainingError) as error:
        load("objective.shift=steep")
    assert str(error.value).count("steep") == 1
    assert "'resolution'" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["tokens=4096"], "batch 8 and tokens 4096"),
        (["batch=null"], "batch None and tokens None"),
        (["engine.accumulation=3"], "no multiple of engine.accumulation 3"),
        (["stages=[{frames: 5, steps: 1}, {frames: 1, steps: 1}]"], "rising order"),
        (["lora={}", "model.train=[transformer, text_encoder]"], "a LoRA trains the transformer"),
        (["model.train=[]"], "model.train is empty"),
        (["optim.schedule=cosine_restarts"], "cosine_restarts needs restart_every"),
        (["optim.restart_every=5"], "nothing else takes it"),
        (["optim.schedule=linear", "optim.cooldown=0.2"], "only constant has a cooldown"),
        (["optim.name=muon"], "muon needs muon_rate"),
        (["optim.muon_rate=0.1"], "nothing else takes it"),
        (["optim.name=muon", "optim.muon_rate=0.1", "engine.sharding=fsdp"], "use adamw"),
        (["optim.name=adamw8bit", "engine.sharding=fsdp"], "use adamw"),
        (["engine.quantize_base=nf4"], "add a lora section"),
        (["engine.quantize_base=int8", "lora={}", "engine.sharding=fsdp"], "use sharding none"),
        (["data.height=96"], "give both or neither"),
        (["data.buckets=[[96, 96, 17]]", "data.num_frames=17"], "give buckets or one size"),
        (["data.min_references=4"], "min_references 4 is over max_references 3"),
    ],
)
def test_combinations_that_cannot_work_are_refused_up_front(load, changes, said):
    with pytest.raises(TrainingError) as error:
        load(*changes)
    assert said in str(error.value)


@pytest.mark.parametrize("change", ["steps", "=3", "batch.x=1", "steps=[1"])
def test_a_change_that_is_none_is_an_error(load, change):
    with pytest.raises(TrainingError, match=r"write key=value|give batch=|quote it"):
        load(change)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "steps: [1"])
def test_a_file_that_is_no_recipe_is_an_error(load, text):
    with pytest.raises(TrainingError, match=r"mine\.yaml (holds no mapping|is not YAML)"):
        load(text=text)


def test_a_recipe_can_be_written_whole_and_read_back(load):
    recipe = load("stages=[{frames: 1, steps: 3}]", "lora={dora: true}", "engine.precision=no")
    assert load(text=recipe.to_yaml()) == recipe


def test_the_curriculum_goes_on_with_its_last_stage(load):
    recipe = load("stages=[{frames: 1, steps: 3}, {frames: 5, steps: 2}]")
    assert [recipe.frames_at(step) for step in range(7)] == [1, 1, 1, 5, 5, 5, 5]
    assert load().frames_at(0) is None


def test_shipped_recipes_load_by_name():
    assert sorted(shipped_recipes()) == sorted(NAMES)
    for name in NAMES:
        assert load_recipe(name).name == name


def test_recipes_inside_an_installed_package_come_first(tmp_path, monkeypatch):
    inside, beside = tmp_path / "inside", tmp_path / "beside"
    monkeypatch.setattr(recipe_file, "SHIPPED_FOLDERS", (inside, beside))
    for folder in (beside, inside):
        folder.mkdir()
        (folder / "mine.yaml").write_text(LEAST)
        assert recipe_file.recipe_path("mine") == folder / "mine.yaml"


def test_a_recipe_that_is_nowhere_names_the_nearest():
    with pytest.raises(TrainingError, match="did you mean magref-14b"):
        load_recipe("magref14b")


def _leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_state_only_differences(name):
    stated = yaml.safe_load(shipped_recipes()[name].read_text())
    lora = {"lora": {}} if "lora" in stated else {}
    bare = {"model": {"base": "x"}, "data": {"shards": ["x"]}, "batch": 1, **lora}
    defaults = dict(_leaves(Recipe.model_validate(bare).model_dump(mode="json")))
    repeated = [
        key
        for key, value in _leaves(stated)
        if key != "batch" and key in defaults and defaults[key] == value
    ]
    assert repeated == []


def test_the_recipe_of_magref_is_the_published_one():
    optim = load_recipe("magref-14b").optim
    assert (optim.name, optim.betas, optim.weight_decay) == ("adamw", (0.9, 0.999), 0.01)
    assert (optim.learning_rate, optim.clip_norm) == (1e-5, 1.0)
    assert optim.schedule == "cosine_restarts"


def test_the_recipe_of_kaleido_is_the_published_one():
    recipe = load_recipe("kaleido-14b")
    optim, objective = recipe.optim, recipe.objective
    assert (optim.name, optim.betas, optim.eps) == ("adamw", (0.9, 0.95), 1e-8)
    assert (optim.learning_rate, optim.weight_decay, optim.clip_norm) == (5e-6, 1e-4, 0.1)
    assert (optim.schedule, recipe.engine.accumulation, recipe.steps) == ("constant", 8, 5000)
    assert (objective.timesteps, objective.mean, objective.std) == ("logit_normal", 0.0, 1.0)
    assert (objective.shift, recipe.data.text_dropout) == ("resolution", 0.1)
