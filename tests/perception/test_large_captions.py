from __future__ import annotations

import json

import pytest
import torch

from anyref.errors import PerceptionError
from anyref.perception.contracts import Description
from anyref.perception.large_captions import QwenCaptioner, read_description
from tiny_large import pictures, save_qwen

TEXT = "A brown dog runs after the red ball."


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = save_qwen(tmp_path_factory.mktemp("qwen"))
    return QwenCaptioner(
        folder, device="cpu", dtype="float32", prompt="what?", max_tokens=4, max_pixels=56 * 56
    )


def answering(captioner, monkeypatch, *answers):
    """The captioner with these batches of answers; returns the talks that it was given."""
    heard = []
    left = iter(answers)

    def answer(talks, clips):
        heard.append([list(talk) for talk in talks])
        return next(left)

    monkeypatch.setattr(captioner, "answer", answer)
    return heard


def test_every_frame_gets_as_many_tokens_as_the_network_makes_of_it(captioner):
    clips = [pictures(*[(60, 90)] * 3), pictures((80, 40))]
    talks = [[captioner._question(frames, 0)] for frames in clips]
    inputs = captioner._inputs(talks, clips)
    image = captioner.network.config.image_token_id
    counts = (inputs["input_ids"] == image).sum(1).tolist()
    grids = (inputs["image_grid_thw"].prod(-1) // 4).tolist()
    assert counts == [sum(grids[:3]), grids[3]]
    assert torch.equal(inputs["mm_token_type_ids"], (inputs["input_ids"] == image).int())
    assert inputs["attention_mask"][1, 0] == 0  # padded on the left
    assert inputs["pixel_values"].shape[0] == 4 * sum(grids)


def test_a_batch_of_clips_is_answered_as_each_alone(captioner):
    clips = [pictures(*[(60, 90)] * 3), pictures((80, 40))]
    talks = [[captioner._question(frames, 0)] for frames in clips]
    together = captioner.answer(talks, clips)
    alone = [captioner.answer([t], [c])[0] for t, c in zip(talks, clips, strict=True)]
    assert together == alone


def test_what_a_random_network_says_is_an_error_that_quotes_it(captioner):
    with pytest.raises(PerceptionError, match=r"clip 0 of 1, attempt 2: .*the model answered"):
        captioner.describe([pictures((60, 90))])


def test_a_clip_without_frames_is_refused(captioner):
    with pytest.raises(PerceptionError, match="clip 1 has no frames"):
        captioner.describe([pictures((60, 90)), []])


def test_only_the_clips_whose_answers_cannot_be_read_are_asked_about_again(captioner, monkeypatch):
    good = json.dumps({"caption": TEXT, "subjects": ["A brown dog"]})
    better = json.dumps({"caption": TEXT, "subjects": []})
    heard = answering(captioner, monkeypatch, ["no JSON", good], [better])
    clips = [pictures((60, 90)), pictures((80, 40))]
    first, second = captioner.describe(clips)
    assert first == Description(text=TEXT)
    assert second == Description(text=TEXT, subjects=("A brown dog",))
    assert [len(talk) for talk in heard[1]] == [3]
    assert heard[1][0][1]["content"][0]["text"] == "no JSON"


def test_subjects_are_phrases_of_the_caption_in_its_letters_and_its_order():
    answer = json.dumps(
        {"caption": TEXT, "subjects": ["the Red  ball", "a brown dog", "A brown dog"]}
    )
    found = read_description(f"```json\n{answer}\n```")
    assert found.subjects == ("A brown dog", "the red ball")
    assert [TEXT[start:end] for start, end in found.spans] == ["A brown dog", "the red ball"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Sure! {}", "not JSON"),
        ('["a"]', "keys caption and subjects"),
        ('{"caption": "a"}', "keys caption and subjects"),
        ('{"caption": "a", "subjects": [], "more": 1}', "keys caption and subjects"),
        ('{"caption": " ", "subjects": []}', "caption is not a text"),
        ('{"caption": "a", "subjects": "a"}', "not a list of texts"),
        ('{"caption": "a", "subjects": [""]}', "not a list of texts"),
        ('{"caption": "a cat", "subjects": ["a dog"]}', "'a dog' is not in the caption"),
    ],
)
def test_an_answer_of_another_form_is_refused(answer, problem):
    with pytest.raises(PerceptionError, match=problem):
        read_description(answer)


def test_a_description_refuses_a_subject_that_it_does_not_name():
    with pytest.raises(PerceptionError, match="'a cat' is not in the caption"):
        Description(text=TEXT, subjects=("a cat",))
