"""HTML made of elements: whatever is not an element is escaped, so no name can become markup."""

from __future__ import annotations

import html
from typing import TypeAlias

MAX_TEXT = 400  # letters of one piece of text
_VOID = frozenset({"img", "br", "rect", "line"})


class Markup(str):
    """HTML that stands as it is; `tag` and `joined` make it."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | None"


def plain(text: object, limit: int = MAX_TEXT) -> str:
    """Text for people: cut, and every sign that steers a terminal or a page replaced."""
    words = str(text)
    cut = words if len(words) <= limit else words[: limit - 1] + "…"
    return "".join(map(_shown, cut))


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if sign.isspace() else "\ufffd"


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element.

    Args:
        children: elements, or text and numbers, which are cut and escaped; None is nothing.
        attributes: with _ for -, and class_ for class; those that are None are left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>" if name in ("img", "br") else f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Elements and text after one another."""
    return Markup("".join(_safe(child) for child in children))


def _safe(child: Child) -> str:
    if isinstance(child, Markup):
        return str(child)
    return "" if child is None else html.escape(plain(child))


def table(headings: tuple[str, ...], rows: list[tuple[Child, ...]]) -> Markup:
    """A table that scrolls by itself on a narrow screen; the first column is words."""
    head = tag("tr", *(tag("th", heading) for heading in headings))
    body = (tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll")
