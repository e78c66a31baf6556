from __future__ import annotations

from anyref.data.captions import spell_out
from anyref.request import Reference, resolve_mentions


def test_mentions_are_spelled_out_as_a_request_does():
    references = [
        Reference("a.png", name="red_car"),
        Reference("b.png", name="owl", text="barn owl"),
    ]
    for prompt in (
        "the @red_car passes @owl",
        "@owl, an owl@@night, sees @red_car and @owl",
        "mail@example @owl @red_car",
    ):
        text, spans = spell_out(prompt, references)
        assert text == resolve_mentions(prompt, references)
        assert {name: text[slice(*span)] for name, span in spans.items()} == {
            "red_car": "red car",
            "owl": "barn owl",
        }
