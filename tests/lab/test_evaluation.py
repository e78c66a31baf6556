from __future__ import annotations

import json

import numpy as np
import pytest

import tiny

pytest.importorskip("cv2")

from anyref.errors import LabError, SizeError
from anyref.lab import evaluation
from anyref.lab.evaluation import (
    GROUND_TRUTH,
    Session,
    evaluate,
    make_protocol,
    psnr,
    read_records,
)

SMALL = {"size": 48, "num_frames": 5}


def ground_truth(catalog, folder, **options):
    protocol = make_protocol(GROUND_TRUTH, **SMALL, seed=options.pop("seed", 0))
    return evaluate(protocol, folder, catalog=catalog, **{"subjects": (1, 2), "clips": 2} | options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pipeline of random weights that makes 5 frames of 64x64."""
    folder = tmp_path_factory.mktemp("model")
    tiny.kaleido(height=64, width=64, num_frames=5).save_pretrained(folder)
    return str(folder)


def test_the_truth_is_right_and_the_next_clips_truth_is_wrong(held_out, tmp_path):
    results = ground_truth(held_out, tmp_path)
    for number in ("1", "2"):
        table = results["subjects"][number]
        assert table["identity"]["model"]["value"] == 1
        assert table["direction"]["model"]["value"] == 1
        assert table["identity"]["floor"]["value"] < 0.5
        assert table["identity"]["ceiling"] is None
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert len(list((tmp_path / "sheets").iterdir())) == 4


def test_finished_clips_are_not_made_again(held_out, tmp_path, monkeypatch):
    made = []

    def run(session, task, original=Session.run):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(task)
        return original(session, task)

    monkeypatch.setattr(Session, "run", run)
    with pytest.raises(KeyboardInterrupt):
        ground_truth(held_out, tmp_path)
    with (tmp_path / "clips.jsonl").open("a") as file:
        file.write('{"subjects": 1, "ind')  # what a kill amid a line leaves
    monkeypatch.undo()
    done = []
    resumed = ground_truth(held_out, tmp_path, on_clip=lambda count, total: done.append(count))
    assert done == [3, 4]
    assert len(read_records(tmp_path / "clips.jsonl")) == 4
    at_once = ground_truth(held_out, tmp_path / "other")
    assert resumed["subjects"] == at_once["subjects"]


def test_fewer_clips_are_a_part_of_more(held_out, tmp_path):
    ground_truth(held_out, tmp_path, clips=1)
    done = []
    results = ground_truth(held_out, tmp_path, clips=2, on_clip=lambda *count: done.append(count))
    assert done == [(3, 4), (4, 4)]
    assert results["subjects"]["1"]["identity"]["model"]["count"] == 2


def test_clips_of_other_settings_are_not_mixed_in(held_out, tmp_path):
    ground_truth(held_out, tmp_path, clips=1)
    with pytest.raises(LabError, match="holds clips with seed 0, this evaluation has 1"):
        ground_truth(held_out, tmp_path, seed=1)


def test_a_model_is_measured_beside_its_own_vae(held_out, tmp_path, model):
    protocol = make_protocol(model)
    assert (protocol.size, protocol.num_frames, protocol.split) == (64, 5, "test")
    results = evaluate(protocol, tmp_path, subjects=(2,), clips=2, catalog=held_out)
    identity = results["subjects"]["2"]["identity"]
    assert all(identity[column]["count"] == 2 for column in ("model", "ceiling", "floor"))
    assert 0 < results["vae_psnr"]["value"] < 20  # random weights
    assert results["settings"]["weights"]


def test_the_request_is_the_clips_own_and_repeatable(held_out, tmp_path, model, monkeypatch):
    requests = []

    def generate(pipe, request, original=evaluation.generate):
        requests.append(request)
        return original(pipe, request)

    monkeypatch.setattr(evaluation, "generate", generate)
    session = Session(make_protocol(model), tmp_path, catalog=held_out)
    first, again = session.run((1, 0)), session.run((1, 0))
    clip, _ = session.clip(1, 0)
    assert requests[0] == requests[1]
    assert requests[0].prompt == clip.prompt
    assert [r.name for r in requests[0].references] == [r.name for r in clip.references]
    assert first["model"] == again["model"]
    session.run((1, 1))
    assert requests[2].seed != requests[0].seed


def test_wrong_references_keep_the_words_and_change_the_pictures(
    held_out, tmp_path, model, monkeypatch
):
    requests = []

    def generate(pipe, request, original=evaluation.generate):
        requests.append(request)
        return original(pipe, request)

    monkeypatch.setattr(evaluation, "generate", generate)
    for wrong in (False, True):
        protocol = make_protocol(model, wrong_references=wrong)
        Session(protocol, tmp_path, catalog=held_out).run((1, 0))
    own, wrong = requests
    assert own.text == wrong.text
    assert own.references[0].name == wrong.references[0].name
    pictures = [np.asarray(request.references[0].images[0]) for request in requests]
    assert not np.array_equal(*pictures)


def test_sizes_that_cannot_be_evaluated_are_refused(tmp_path, model):
    with pytest.raises(SizeError, match="network frames do not fit"):
        make_protocol(model, num_frames=6)
    with pytest.raises(LabError, match="multiple of 16"):
        make_protocol(GROUND_TRUTH, size=50)
    wide = tmp_path / "wide"
    tiny.kaleido().save_pretrained(wide)
    with pytest.raises(LabError, match="96x64 by default, clips are square"):
        make_protocol(str(wide))
    with pytest.raises(LabError, match="0 clips"):
        evaluate(make_protocol(GROUND_TRUTH), tmp_path, clips=0)


def test_psnr_of_a_difference_of_one_grey_level_is_48_db():
    frames = np.full((2, 4, 4, 3), 100, np.uint8)
    assert psnr(frames, frames + 1) == pytest.approx(48.13, abs=0.01)
