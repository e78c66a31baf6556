"""Which text tokens name which reference, in the text that the encoder really reads."""

from __future__ import annotations

import pytest
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import tiny
from anyref.errors import ModelError, PromptError, ReferencesError
from anyref.pipelines.prompts import subject_spans, subject_tokens
from anyref.request import Reference, resolve_mentions
from anyref.training.wording import make_tokenizer

PIECES = ("▁a", "▁red", "▁fox", "fox", "▁walks", "▁", "▁(", ",", ".", "!", "▁and", "▁s", "un", "-")


@pytest.fixture(scope="module")
def sentencepiece():
    """Unigram pieces that carry the space before a word, as UMT5's do."""
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz狐狸在跑é()'"))
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -2.0) for piece in PIECES] + [(letter, -8.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def reference(name="fox", text=None):
    return Reference(tiny.picture(), name, text=text)


def named_text(prompt, *references):
    text, spans = subject_spans(prompt, references)
    assert text == prompt_clean(resolve_mentions(prompt, references))
    return [[text[start:end] for start, end in own] for own in spans]


@pytest.mark.parametrize(
    ("prompt", "words", "found"),
    [
        ("@fox", "a red fox", ["a red fox"]),
        ("a @fox, a @fox!", None, ["fox", "fox"]),
        ("  the   fox near\n\n @fox  ", None, ["fox"]),
        ("the fox\u00a0@fox\u2003walks", " red\t fox ", ["red fox"]),
        ("一只@fox在跑", "狐狸", ["狐狸"]),
        ("caf\u00c3\u00a9 @fox &amp; me@home @@", "renard à l\u2019œil", ["renard à l'œil"]),
        ("&lt;@fox&gt; it\u2019s", "Tom &amp; Jerry", ["Tom & Jerry"]),
        ("one&nbsp;@fox&nbsp;two", None, ["fox"]),
        ("a @fox walks", "\ufb01re e\u0301clair", ["fire éclair"]),
    ],
)
def test_the_words_are_found_in_the_cleaned_text(prompt, words, found):
    assert named_text(prompt, reference(text=words)) == [found]


def test_the_mentioned_occurrence_counts_and_each_reference_has_its_own():
    found = subject_spans("a fox and a @dog by @fox @dog", [reference(), reference("dog")])
    assert found == ("a fox and a dog by fox dog", (((19, 22),), ((12, 15), (23, 26))))


def test_a_mention_that_grows_together_with_its_neighbours_is_refused():
    with pytest.raises(PromptError, match="put a space"):
        subject_spans("a @fox\u0301 walks", [reference(text="cafe")])


def tokens_of(tokenizer, prompt, *references, length=64):
    text = prompt_clean(resolve_mentions(prompt, references))
    ids = tokenizer([text], max_length=length, truncation=True, padding="max_length").input_ids[0]
    found = subject_tokens(tokenizer, prompt, references, length)
    return [[tokenizer.convert_ids_to_tokens(ids[i]) for i in own] for own in found]


@pytest.mark.parametrize(
    ("prompt", "words", "found"),
    [
        ("a @fox walks", None, ["▁fox"]),
        ("a fox and @fox, @fox.", None, ["▁fox", "▁fox"]),
        ("@fox walks", "a red fox", ["▁a", "▁red", "▁fox"]),
        ("a (@fox) walks", None, ["fox"]),
        ("  a   @fox  walks ", " red  fox ", ["▁red", "▁fox"]),
        ("一@fox在跑", "狐狸", ["狐", "狸"]),
    ],
)
def test_pieces_that_carry_a_space_are_found(sentencepiece, prompt, words, found):
    assert tokens_of(sentencepiece, prompt, reference(text=words)) == [found]


def test_the_small_models_tokenizer_is_understood_with_accents():
    tokenizer = make_tokenizer(["a", "walks", "red"], 64)
    (found,) = tokens_of(tokenizer, "a @fox walks.", reference(text="red Été"))
    assert found == ["red", "e", "##t", "##e"]


def test_unnamed_references_and_words_past_the_end_have_no_tokens(sentencepiece):
    references = (Reference(tiny.picture()), reference())
    assert tokens_of(sentencepiece, "a @fox", *references) == [[], ["▁fox"]]
    assert subject_tokens(sentencepiece, "a a a a @fox", references, 4) == ((), ())


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(ModelError, match="fast tokenizer"):
        subject_tokens(object(), "a @fox", [reference()], 8)


def test_mentions_are_checked_as_everywhere(sentencepiece):
    with pytest.raises(PromptError, match="@dog"):
        subject_tokens(sentencepiece, "a @dog", [reference()], 8)
    with pytest.raises(ReferencesError, match="never used"):
        subject_tokens(sentencepiece, "a dog", [reference()], 8)
