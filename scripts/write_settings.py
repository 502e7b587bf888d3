"""Writes docs/settings.md: every setting of a recipe with its type, range, default and meaning, from the code itself.

python scripts/write_settings.py [--out docs/settings.md]
"""

import argparse
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from diapir.recipe.sections import Section
from diapir.recipe.whole import Recipe
from diapir.runs import write_text

_ROOT = Path(__file__).resolve().parent.parent
_HEAD = """\
# Every setting of a recipe

Written by `python scripts/write_settings.py` from the classes in `src/diapir/recipe/`, which read recipes. How the
parts work together is told in [recipes.md](recipes.md). A key without a default has to be given. Ranges are written
[from, to], with round brackets where the end itself is out.
"""
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_TYPES = {"number": "number", "integer": "whole number", "boolean": "true or false", "string": "text"}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=_ROOT / "docs" / "settings.md")
    write_text(parser.parse_args().out, settings_page())


def settings_page() -> str:
    """The page as Markdown, a section for each part of a recipe in the order in which a recipe leads to them."""
    schema = Recipe.model_json_schema()
    sections = {"Recipe": schema, **schema["$defs"]}
    own = {section.__name__: section for section in _all_sections(Section)}
    names = [name for name in dict.fromkeys(_reached("Recipe", sections)) if name in own]
    return "\n".join([_HEAD, *(line for name in names for line in _part(sections[name], own[name]))])


def _all_sections(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in base.__subclasses__():
        yield each
        yield from _all_sections(each)


def _reached(name: str, sections: Mapping[str, Any]) -> Iterator[str]:
    """The names of a part's schema and of those behind its keys, each where it is first met."""
    waiting, seen = [name], set[str]()
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            yield name
            found = re.findall(r'"#/\$defs/(\w+)"', json.dumps(sections[name].get("properties", {})))
            waiting = [*dict.fromkeys(found), *waiting]


def _part(schema: Mapping[str, Any], section: type[BaseModel]) -> Iterator[str]:
    told, meanings = _told(section)
    yield f"## {section.__name__}\n"
    yield f"{told}\n"
    if schema.get("properties"):
        yield "| key | what may stand there | default | meaning |\n|---|---|---|---|"
        for key, value in schema["properties"].items():
            default = "" if key in schema.get("required", ()) else f"`{_plain(value.get('default', {}))}`"
            yield f"| `{key}` | {_kind(value)} | {default} | {meanings.get(key, '')} |"
    yield ""


def _told(section: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What a class's docstring says of it, and of each of its keys; what it inherits is told by its parents."""
    meanings: dict[str, str] = {}
    for each in reversed(section.__mro__):
        if issubclass(each, Section) and each.__doc__:
            _, _, listed = inspect.cleandoc(each.__doc__).partition("\nArgs:\n")
            for names, text in re.findall(r"^    ([\w, ]+): ((?:.|\n(?!    \w))+)", listed.partition("\n\n")[0], re.M):
                meanings |= dict.fromkeys(names.split(", "), " ".join(text.split()).replace("|", "\\|"))
    about = inspect.cleandoc(section.__doc__ or "").partition("\nArgs:\n")[0].partition("\nSource:")[0]
    return about.strip(), meanings


def _kind(value: Mapping[str, Any]) -> str:
    """What may stand at a key."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in value:
            return " or ".join(dict.fromkeys(_kind(each) for each in value[several]))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    if value.get("type") == "null":
        return "`null`"
    if value.get("type") == "array":
        items = value.get("items") or value.get("prefixItems", [{}])[0]
        return f"a list of: {_kind(items)}" if "items" in value else f"a pair [low, high]: {_kind(items)}"
    if value.get("type") == "object":
        (inner,) = value.get("patternProperties", {"": value.get("additionalProperties", {})}).values()
        return f"names, each with: {_kind(inner)}"
    return _TYPES.get(value.get("type", ""), "a value") + _range(value)


def _range(value: Mapping[str, Any]) -> str:
    found = {key: value[key] for key in _BOUNDS if key in value}
    if not found:
        return ""
    low = "(" if "exclusiveMinimum" in found else "["
    high = ")" if "exclusiveMaximum" in found else "]"
    first = found.get("minimum", found.get("exclusiveMinimum", "..."))
    last = found.get("maximum", found.get("exclusiveMaximum", "..."))
    return f" {low}{first}, {last}{high}"


def _plain(value: Any) -> str:
    """A default as YAML has it; of a whole part, what it sets."""
    return json.dumps(value).replace("|", "\\|") if not isinstance(value, dict) else "{}"


if __name__ == "__main__":
    main()
