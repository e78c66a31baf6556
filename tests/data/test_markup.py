from __future__ import annotations

from anyref.data.markup import MAX_TEXT, joined, plain, table, tag


def test_text_and_attributes_are_escaped_and_elements_are_not():
    inner = tag("b", "<i>")
    assert inner == "<b>&lt;i&gt;</b>"
    made = tag("a", inner, " & ", None, 3, class_='"><script>', aria_label="x", rel=None)
    assert made == (
        '<a class="&quot;&gt;&lt;script&gt;" aria-label="x"><b>&lt;i&gt;</b> &amp; 3</a>'
    )


def test_long_text_is_cut_and_steering_signs_are_shown_as_such():
    assert len(plain("x" * 10_000)) == MAX_TEXT
    assert plain("a\x1b[2J\u202eb\nc\ud800") == "a\ufffd[2J\ufffdb c\ufffd"


def test_joining_escapes_what_is_no_element():
    assert joined("<", tag("br"), 1.5) == "&lt;<br>1.5"


def test_a_table_has_a_row_per_row():
    made = table(("a", "b"), [("1", "<"), ("2", None)])
    assert made.count("<tr>") == 3 and "<td>&lt;</td>" in made
