from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from anyref.perception.words import BgeSmall, PpOcr


class LetterTokenizer:
    def encode(self, text):
        return SimpleNamespace(ids=[ord(letter) for letter in text])


def test_a_text_is_the_unit_vector_of_its_first_token():
    seen = []

    def network(inputs):
        seen.append({name: values.tolist() for name, values in inputs.items()})
        states = np.zeros((1, inputs["input_ids"].shape[1], 384), np.float32)
        states[0, 0, 0], states[0, -1, 1] = 5, 9
        return states

    embedder = BgeSmall()
    embedder.network, embedder.tokenizer = network, LetterTokenizer()
    vectors = embedder.embed(["abc", "xy"])
    assert seen[0] == {
        "input_ids": [[97, 98, 99]],
        "attention_mask": [[1, 1, 1]],
        "token_type_ids": [[0, 0, 0]],
    }
    assert vectors.shape == (2, 384)
    assert vectors[:, 0].tolist() == [1, 1]


@pytest.fixture
def ocr():
    """A reader whose finder sees bright pixels and whose reader says "AA B"."""

    def finder(inputs):
        return (inputs["x"].mean(1, keepdims=True) > 0).astype(np.float32)

    def reader(inputs):
        assert inputs["x"].shape[:3] == (1, 3, 48)
        outputs = np.full((1, 6, 4), 0.02, np.float32)
        for step, character in enumerate([1, 1, 0, 1, 3, 2]):
            outputs[0, step, character] = 0.9
        return outputs

    model = PpOcr()
    model.finder, model.reader, model.characters = finder, reader, ("", "A", "B", " ")
    return model


def bar(height=200, width=400):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[80:100, 100:300] = 255
    return picture


def test_repeated_characters_count_once_unless_a_blank_is_between(ocr):
    ((line,),) = ocr.read([bar()])
    assert line.text == "AA B"
    assert line.score == pytest.approx(0.9)


def test_a_line_lies_around_its_spot_in_pixels_of_the_picture(ocr):
    ((line,),) = ocr.read([bar()])
    box = line.box
    assert 60 < box.left < 100
    assert 300 < box.right < 340
    assert 50 < box.top < 80
    assert 100 < box.bottom < 130
    assert line.corners[0] == (pytest.approx(box.left), pytest.approx(box.top))
    assert line.corners[2] == (pytest.approx(box.right), pytest.approx(box.bottom))


def test_a_badly_read_line_is_left_out(ocr):
    ocr.min_score = 0.95
    assert ocr.read([bar()]) == [()]


def test_a_dark_picture_has_no_lines(ocr, blank):
    assert ocr.read([blank(level=0)]) == [()]


def test_lines_come_from_top_to_bottom(ocr):
    picture = bar()
    picture[150:170, 50:250] = 255
    picture[20:40, 150:350] = 255
    (lines,) = ocr.read([picture])
    tops = [line.box.top for line in lines]
    assert len(lines) == 3
    assert tops == sorted(tops)


@pytest.mark.slow
def test_an_overlay_is_read_and_a_clean_photograph_is_not(fetched, photograph):
    import cv2

    fetched("ppocr")
    clean = photograph("chelsea")
    marked = photograph("astronaut").copy()
    cv2.putText(marked, "ACME STOCK PHOTO", (40, 480), 0, 1.2, (255, 255, 255), 2, cv2.LINE_AA)
    none, lines = PpOcr().read([clean, marked])
    assert none == ()
    best = max(lines, key=lambda line: line.score)
    assert best.text.replace(" ", "") == "ACMESTOCKPHOTO"
    assert best.score > 0.9


@pytest.mark.slow
def test_paraphrases_are_nearer_than_unrelated_texts(fetched):
    fetched("bge-small-en")
    texts = ["a red fox runs over snow", "a fox is running across the snow", "stock prices fell"]
    vectors = BgeSmall().embed(texts)
    paraphrase, unrelated = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert paraphrase > 0.75
    assert unrelated < 0.55
