"""Recipe files in and out; every fault of one told at once, each with its path, its value and the nearest known key."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from diapir.faults import Fault, InputError
from diapir.recipe import Recipe, Section


def read_recipe(path: Path, *, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with `changes` such as `stages.0.epochs=3` made to it.

    Raises:
        InputError: every unknown key, wrong type and impossible combination, each with its path, value and, for an
            unknown key, the nearest known one.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError.of(f"{path}{line}", f"not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError.of(path, f"not YAML text: {error}") from None
    if not isinstance(raw, dict):
        raise InputError.of(path, f"expected a mapping of settings, found {_shown(raw)}")
    for change in changes:
        _apply_change(raw, change)
    return check_recipe(raw, source=str(path))


def check_recipe(raw: Mapping[str, Any], *, source: str) -> Recipe:
    """The recipe that plain values describe; raises like `read_recipe`."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise InputError(_faults(error, source)) from None


def write_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default spelled out; `read_recipe` gives it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=110)


def _faults(error: ValidationError, source: str) -> list[Fault]:
    found = []
    for item in error.errors(include_url=False):
        path = [part for part in item["loc"] if part not in ("timm", "residual")]
        place = ".".join(str(part) for part in path)
        where = f"{source}: {place}" if place else source
        if item["type"] == "extra_forbidden":
            found.append(
                Fault(
                    where,
                    f"unknown key (value {_shown(item['input'])}){_nearest(path)}",
                )
            )
        elif item["type"] == "value_error":
            # A check of several settings: its text names them; one line each.
            found += [Fault(where, line) for line in str(item["ctx"]["error"]).splitlines()]
        elif item["type"] == "missing":
            found.append(Fault(where, "this key is needed, and missing"))
        else:
            message = item["msg"][0].lower() + item["msg"][1:]
            found.append(Fault(where, f"{message}, found {_shown(item['input'])}"))
    return found


def _nearest(path: Sequence[int | str]) -> str:
    known = sorted(_keys_at(path[:-1]))
    close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known here: {', '.join(known)}"


def _keys_at(path: Sequence[int | str]) -> set[str]:
    """Keys that exist in the section at a path; in any of them where the path may lead to several."""
    sections: list[type[Section]] = [Recipe]
    for part in path:
        if isinstance(part, str):
            fields = [section.model_fields[part] for section in sections if part in section.model_fields]
            sections = [found for field in fields for found in _sections_in(field.annotation)]
    return {key for section in sections for key in section.model_fields}


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, Section) else []
    return [found for inner in typing.get_args(annotation) for found in _sections_in(inner)]


def _apply_change(raw: dict[str, Any], change: str) -> None:
    place, sign, text = change.partition("=")
    if not sign or not place:
        raise InputError.of(f"--set {change}", "expected KEY=VALUE, such as stages.0.epochs=3")
    try:
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError:
        raise InputError.of(f"--set {change}", f"the value {text!r} is not YAML") from None
    node: Any = raw
    *parents, last = place.split(".")
    for part in parents:
        node = _step_into(node, part, change)
    if isinstance(node, list):
        node[_index(node, last, change)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise InputError.of(
            f"--set {change}",
            f"'{parents[-1]}' holds {_shown(node)}, which has no parts",
        )


def _step_into(node: Any, part: str, change: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, change)]
    if isinstance(node, dict):
        return node.setdefault(part, {})
    raise InputError.of(f"--set {change}", f"nothing lies below {_shown(node)}")


def _index(node: Sequence[Any], part: str, change: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise InputError.of(
            f"--set {change}",
            f"expected an index from 0 to {len(node) - 1}, found '{part}'",
        )
    return int(part)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _StrictLoader(yaml.SafeLoader):
    """YAML whose doubled keys are refused: the later one would silently win."""


def _mapping_without_doubles(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if isinstance(key, typing.Hashable) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
        if isinstance(key, typing.Hashable):
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_doubles)
