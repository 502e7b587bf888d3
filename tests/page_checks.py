"""What every page that is written must hold: it asks for nothing, runs nothing, and can be read by all."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"img", "meta", "br", "hr"}
# Elements that load, run, send or embed something.
ACTIVE = {"script", "iframe", "object", "embed", "link", "form", "base", "audio", "video", "source", "applet", "frame"}
LOADING = {
    "src",
    "href",
    "xlink:href",
    "srcset",
    "action",
    "formaction",
    "poster",
    "data",
    "background",
    "ping",
    "cite",
}
NEEDED = {"img": "alt", "svg": "aria-label", "html": "lang", "th": "scope"}
LOUD = re.compile(r"url\s*\(|@import|expression\s*\(|image-set", re.IGNORECASE)


class Page(HTMLParser):
    """A page taken apart; a class because the parser of the standard library wants to be inherited from.

    Attributes:
        faults: what speaks against it, in words.
        text: what a person reads.
    """

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.counts: dict[str, int] = {}
        self.text = ""
        self.feed(content)
        self.close()
        self.faults += [f"{name} is not closed" for name in self.open]
        self.faults += [f"the id {name} is given twice" for name in set(self.ids) if self.ids.count(name) > 1]
        self.faults += [f"{link} leads nowhere" for link in self.links if link[1:] not in self.ids]
        levels = [1, *self.headings]
        self.faults += [f"h{after} follows h{first}" for first, after in pairwise(levels) if after > first + 1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag in ACTIVE:
            self.faults.append(f"<{tag}>")
        # Of a legend's samples the words stand beside.
        if tag in NEEDED and not found.get(NEEDED[tag]) and not (tag == "svg" and self._is_in("li")):
            self.faults.append(f"<{tag}> without {NEEDED[tag]}")
        self.faults += list(loud_attributes(found))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" and "href" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        if self._is_in("style"):
            if LOUD.search(data):
                self.faults.append("the style sheet loads something")
        else:
            self.text += data

    def _is_in(self, tag: str) -> bool:
        return tag in self.open


def loud_attributes(found: dict[str, str]) -> Iterator[str]:
    """Attributes that run something, or load something from elsewhere."""
    for name, value in found.items():
        if name.startswith("on"):
            yield f"{name}={value}"
        if name in LOADING and not value.startswith(("data:image/png;base64,", "#")):
            yield f"{name}={value[:80]}"
        if name == "style" and LOUD.search(value):
            yield f"style={value}"
