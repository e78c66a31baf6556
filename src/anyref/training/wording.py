"""A small tokenizer for the small text encoder.

Its words are those of the lab's sentence templates; any other word, the names of subjects above
all, is spelled out letter by letter, so a name never seen reads like one that was.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,-'!?:;&"


def template_words(sentences: Iterable[str], least: int = 3) -> list[str]:
    """Words that stand in at least `least` of the sentences, most frequent first."""
    counts: dict[str, int] = {}
    for sentence in sentences:
        for word in set(sentence.lower().replace(",", " ").replace(".", " ").split()):
            counts[word] = counts.get(word, 0) + 1
    kept = [word for word, count in counts.items() if count >= least and word.isalpha()]
    return sorted(kept, key=lambda word: (-counts[word], word))


def make_tokenizer(words: Iterable[str], length: int) -> PreTrainedTokenizerFast:
    """A word-piece tokenizer of whole `words` and single letters; ends every text with </s>.

    Args:
        length: the longest text in tokens.
    """
    pieces = ["<pad>", "</s>", "<unk>", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces += [word for word in words if word not in pieces]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )
