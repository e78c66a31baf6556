"""The small tokenizer: whole template words, names letter by letter."""

from __future__ import annotations

from anyref.training.wording import make_tokenizer, template_words


def test_template_words_are_those_that_many_sentences_share():
    sentences = ["a fox walks right", "a cat walks left", "a dog, walks right"]
    assert template_words(sentences, least=2) == ["a", "walks", "right"]


def test_known_words_are_one_token_and_names_are_spelled():
    tokenizer = make_tokenizer(["walks", "right"], 16)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Fox walks, RIGHT").input_ids)
    assert tokens == ["f", "##o", "##x", "walks", ",", "right", "</s>"]


def test_the_tokenizer_survives_saving(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer(["walks"], 16)
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a fox walks").input_ids == (
        tokenizer("a fox walks").input_ids
    )
