"""Markup in which nothing that comes from a file can become a tag, an attribute or a request."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Controls, halves of characters, and marks that turn the direction of writing: a page shows them as what they are not.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_VOID = {"img", "meta", "br", "hr"}
_LONGEST = 4000


@dataclass(frozen=True)
class Html:
    """Markup that stands in a page as it is; only this module makes it from text, which it escapes."""

    text: str


Child = Html | str | int | None
"""What stands between two tags: a plain string is escaped, None is nothing."""


def tag(name: str, *children: Child, **attributes: str | int | float | None) -> Html:
    """An element.

    Args:
        attributes: `class_` is class and `aria_label` is aria-label; those that are None are left out.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_number(value) if isinstance(value, float) else _escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(children).text}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Pieces one after another."""
    return Html(
        "".join(each.text if isinstance(each, Html) else _escaped(str(each)) for each in children if each is not None)
    )


def style(text: str) -> Html:
    """A style sheet of ours, which holds no text from a file."""
    assert "<" not in text, "a style sheet ends at the first tag"
    return Html(f"<style>{text}</style>")


def words(*texts: str) -> Html:
    """A paragraph for each text."""
    return join(tag("p", text) for text in texts)


def missing(text: str) -> Html:
    """Why something cannot be shown, in its place."""
    return tag("p", text, class_="missing")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]], *, kind: str = "figures") -> Html:
    """A table whose first column names its rows.

    Args:
        kind: `figures`, which stand right, or `text`, which stands left and is broken into lines.
    """
    head = tag("tr", *(tag("th", each, scope="col") for each in heads))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_=kind)
    # A table that is wider than the screen is scrolled by itself, with keys as well.
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def details(title: str, *children: Child, is_open: bool = False) -> Html:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", title), *children, open="" if is_open else None)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text of a length that a person reads; files may hold any."""
    return text if len(text) <= longest else f"{text[:longest]} ... ({len(text):,} characters)"


def _escaped(text: str) -> str:
    return html.escape(_UNFIT.sub("\ufffd", text), quote=True)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
