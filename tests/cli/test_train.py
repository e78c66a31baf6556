import json
import subprocess
import sys
from types import ModuleType

import pytest

import anyref.training

RECIPE = """
model: {base: none, shape: tiny-magref, dtype: fp32}
data: {shards: [none], height: 48, width: 48, num_frames: 5}
batch: 2
steps: 10
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def runs(monkeypatch):
    """Recipes that a stand-in trainer was given."""
    given = []
    module = ModuleType("anyref.training.trainer")
    module.run = given.append
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(anyref.training, "trainer", module, raising=False)
    return given


def test_a_recipe_is_trained_with_its_changes(anyref, recipe, runs):
    code, _, _ = anyref("train", recipe, "optim.learning_rate=3e-5", "steps=7")
    assert code == 0
    (run,) = runs
    assert (run.name, run.steps, run.optim.learning_rate) == ("mine", 7, 3e-5)


def test_a_bad_recipe_is_one_line_and_code_2(anyref, recipe, runs):
    code, _, errors = anyref("train", recipe, "stepz=7")
    assert code == 2
    assert not runs
    assert errors.count("\n") == 1
    assert "did you mean steps?" in errors


def test_a_plan_is_printed_and_nothing_trained(anyref, recipe, runs):
    code, out, _ = anyref("train", recipe, "--plan", "--gpu", "4090")
    assert code == 0
    assert not runs
    for said in ("3.34M parameters", "on 1 x 4090", "activations", "fits", "video tokens a clip"):
        assert said in out


def test_a_plan_as_json_has_every_figure(anyref, recipe):
    code, out, _ = anyref("train", recipe, "--plan", "--json", "--utilisation", "0.5")
    assert code == 0
    plan = json.loads(out)
    assert plan["utilisation"] == 0.5
    assert plan["memory"]["total"] > plan["memory"]["activations"] > 0
    assert plan["phases"][0]["tokens"] == 2 * 5 * 4 * 4
    assert plan["seconds"] == pytest.approx(10 * plan["phases"][0]["seconds"])


def test_help_lists_train_and_needs_no_torch():
    code = (
        "import sys; from anyref.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


def test_a_bad_recipe_is_found_before_torch_is_read(recipe):
    code = (
        "import sys; from anyref.cli import main; "
        f"main(['train', {str(recipe)!r}, 'stepz=1']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
