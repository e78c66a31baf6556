from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

ESTIMATE = {"value": 0.5, "low": 0.25, "high": 0.75, "count": 100}
METRICS = ("identity", "both", "swapped", "merged", "direction", "change", "background", "pose")
CELLS = {"model": ESTIMATE, "ceiling": ESTIMATE, "floor": None}
RESULTS = {
    "subjects": {
        "1": {
            **dict.fromkeys((*METRICS, "pose_chance"), CELLS),
            "merged": {"model": None, "ceiling": None, "floor": None},
            "reference_background": {"model": ESTIMATE},
        }
    },
    "vae_psnr": {"value": 27.5, "low": 26.0, "high": 29.0, "count": 100},
    "seconds": {"make": 2.0, "measure": 0.5},
}


@pytest.fixture
def asked(monkeypatch):
    """Stands in for the evaluation and the shards; what they were asked for."""
    asked = SimpleNamespace()

    def make_protocol(model, **options):
        asked.protocol = {"model": model, **options}
        return "protocol"

    def evaluate(protocol, folder, **options):
        options["on_clip"](1, 2)
        asked.folder, asked.options = folder, options
        return RESULTS

    def write_lab_shards(folder, **options):
        options["on_shard"](folder / "96x96x17/000000.tar")
        asked.folder, asked.options = folder, options
        return (folder / "96x96x17/000000.tar",)

    import anyref.lab

    for name, values in {
        "evaluation": {"make_protocol": make_protocol, "evaluate": evaluate},
        "shards": {"write_lab_shards": write_lab_shards},
    }.items():
        module = ModuleType(f"anyref.lab.{name}")
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(anyref.lab, name, module, raising=False)
    return asked


def test_an_evaluation_is_asked_for_as_written_and_shown_with_intervals(asked, anyref, home):
    options = ("--subjects", "2,1", "-n", "7", "--steps", "5", "--seed", "3", "--workers", "2")
    code, out, err = anyref("lab", "evaluate", "--model", "tiny-magref", *options)
    assert code == 0, err
    assert asked.protocol["steps"] == 5
    assert asked.protocol["seed"] == 3
    assert asked.protocol["size"] is None
    assert asked.options["subjects"] == (1, 2)
    assert (asked.options["clips"], asked.options["workers"]) == (7, 2)
    assert asked.folder.as_posix() == "lab-evaluation/tiny-magref"
    row = next(line for line in out.splitlines() if "identity" in line)
    assert " ".join(row.split()) == "identity (of 20) 50% (25%-75%) 50% (25%-75%) - 100"
    assert "merged" not in out
    assert "27.5 dB" in out
    assert "clip 1/2" in err


def test_json_is_all_that_stdout_holds(asked, anyref, home):
    code, out, _ = anyref("lab", "evaluate", "--model", "tiny-magref", "--json")
    assert code == 0
    assert json.loads(out) == RESULTS


def test_shards_are_written_with_the_shares_asked_for(asked, anyref, home):
    code, out, _ = anyref("lab", "shards", "clips", "-n", "5", "--mix", "1=0.5,3=0.5")
    assert code == 0
    assert asked.options["world_weights"] == {1: 0.5, 3: 0.5}
    assert (asked.options["clips"], asked.options["split"]) == (5, "train")
    assert "5 clips in 1 shards" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "--model", "m", "--subjects", "4"), "subjects '4'"),
        (("evaluate", "--model", "m", "--split", "all"), "split 'all'"),
        (("shards", "clips", "--mix", "half"), "mix 'half'"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(asked, anyref, home, arguments, message):
    code, _, err = anyref("lab", *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
