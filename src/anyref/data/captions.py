"""From a prompt with mentions to a caption that says which words name whom."""

from __future__ import annotations

from collections.abc import Sequence

from anyref.request import Reference, split_mentions

Span = tuple[int, int]  # characters [start, end)


def spell_out(prompt: str, references: Sequence[Reference]) -> tuple[str, dict[str, Span]]:
    """The prompt with every mention in words, and where the first mention of each name went.

    Returns:
        the text of `request.resolve_mentions`, and character spans in it by name.

    Raises:
        PromptError, ReferencesError: as `resolve_mentions`.
    """
    text = ""
    spans: dict[str, Span] = {}
    for piece, index in split_mentions(prompt, references):
        name = None if index is None else references[index].name
        if name is not None:
            spans.setdefault(name, (len(text), len(text) + len(piece)))
        text += piece
    return text, spans
