"""Recipe files in and out; every fault of one told at once, each with its path, its value and the nearest known key."""

import copy
import difflib
import re
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from diapir.faults import Fault, InputError, raise_if_any
from diapir.recipe.sections import Section
from diapir.recipe.whole import Recipe

_Path = tuple[int | str, ...]
# Aliases let a small file describe a huge value: it is shown in part, without being written out first.
_SHORT = reprlib.Repr()
_MOST_DIGITS = 9
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxother = 2, 3, 4, 60, 60


def read_recipe(path: Path, *, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with `changes` such as `stages.0.epochs=3` made to it.

    Raises:
        InputError: every unknown key, wrong type and impossible combination, each with its path, value and, for an
            unknown key, the nearest known one.
    """
    try:
        raw = _parse(path.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError.of(f"{path}{line}", f"not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError.of(path, f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise InputError.of(path, f"expected a mapping of settings, found {_shown(raw)}")
    faults = [fault for change in changes if (fault := _apply_change(raw, change))]
    try:
        recipe = check_recipe(raw, source=str(path))
    except InputError as error:
        raise InputError([*faults, *error.faults]) from None
    raise_if_any(faults)
    return recipe


def check_recipe(raw: Mapping[str, Any], *, source: str) -> Recipe:
    """The recipe that plain values describe; raises like `read_recipe`."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        found = _findings(error, raw)
    faults = [finding.fault(source) for finding in [*found, *_combinations(raw, found)]]
    raise InputError(dict.fromkeys(faults))


def write_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default spelled out; `read_recipe` gives it back."""
    settings = recipe.model_dump(mode="json")
    first = ("name", "about", "seed", "precision", "data", "folds")
    ordered = {key: settings[key] for key in first} | settings
    return yaml.safe_dump(ordered, sort_keys=False, width=110)


@dataclass(frozen=True)
class _Finding:
    """One fault of a recipe.

    Args:
        path: of the setting.
        kind: pydantic's name.
        what: the sentence for a person.
        meant: path of the setting that is unsound by it: another for a misspelt key, None for a wholly unknown one.
    """

    path: _Path
    kind: str
    what: str
    meant: _Path | None

    @property
    def place(self) -> str:
        return _dotted(self.path)

    def fault(self, source: str) -> Fault:
        return Fault(f"{source}: {self.place}" if self.path else source, self.what)

    @property
    def is_combination(self) -> bool:
        return self.kind == "value_error"

    def hangs_on(self, others: Sequence["_Finding"]) -> bool:
        """Whether this combination involves a setting that is unsound, so that a default stood in for it."""
        unsound = [other.meant for other in others if other.meant is not None]
        if self.path:
            return any(path[: len(self.path)] == self.path for path in unsound)
        return any(re.search(rf"(?<![\w.]){re.escape(_dotted(path))}(?!\w)", self.what) for path in unsound)


def _findings(error: ValidationError, raw: Mapping[str, Any]) -> list[_Finding]:
    by_path: dict[_Path, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        path = _path_in(raw, item["loc"], missing=item["type"] == "missing")
        by_path.setdefault(path, []).append(item)
    findings = []
    for path, items in by_path.items():
        kind, near = items[0]["type"], _nearest(path) if path else None
        meant = _setting(path) if kind != "extra_forbidden" else (*path[:-1], near) if near else None
        # Several at one path are the types of a choice; a check of several settings tells one fault a line.
        what = " or ".join(_sentence(item, path) for item in items)
        lines = what.splitlines() if kind == "value_error" else [what + _found(items[0], path)]
        findings += [_Finding(path, kind, line, meant) for line in lines]
    return [finding for finding in findings if not _is_only_emptied(finding, findings)]


def _is_only_emptied(finding: _Finding, findings: Sequence[_Finding]) -> bool:
    """Whether a list is called too short only because its entries have faults, each told by itself."""
    inner = any(each.path[:-1] and each.path[: len(finding.path)] == finding.path != each.path for each in findings)
    return finding.kind == "too_short" and inner


def _path_in(raw: Any, place: Sequence[int | str], *, missing: bool) -> _Path:
    """The part of pydantic's path that the file has, without the types that it names in between and at the end."""
    for end in range(len(place), 0, -1):
        path = _resolved(raw, place[:end], missing=missing and end == len(place))
        if path is not None:
            return path
    return ()


def _resolved(node: Any, place: Sequence[int | str], *, missing: bool) -> _Path | None:
    """The path whose last part is the last of `place`, or None if a value has none."""
    first, rest = place[0], place[1:]
    is_there = first in node if isinstance(node, dict) else isinstance(node, list) and isinstance(first, int)
    if not rest:
        return (first,) if is_there or (missing and isinstance(node, dict)) else None
    below = _resolved(node[first], rest, missing=missing) if is_there else None
    # Else it is the name of a type, unless there is a key of that name too.
    return (first, *below) if below is not None else _resolved(node, rest, missing=missing)


def _sentence(item: ErrorDetails, path: _Path) -> str:
    match item["type"]:
        case "extra_forbidden" | "invalid_key":
            return "unknown key"
        case "value_error":
            return str(item["ctx"]["error"])
        case "missing":
            return "this key is needed, and missing"
        case "union_tag_not_found" | "union_tag_invalid":
            # Of a choice that a function makes, pydantic gives the function's name: it looks at `kind`.
            key = "kind" if item["ctx"]["discriminator"].endswith("()") else item["ctx"]["discriminator"].strip("'")
            return f"expected the key '{key}' with one of {', '.join(map(repr, _choices(path, key)))}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "expected a mapping of settings"
        case "tuple_type":
            return "expected a list"
        case _:
            told = re.sub(r" after validation, not \d+", "", item["msg"])
            return f"{told[0].lower()}{told[1:]}".replace("tuple", "list")


def _found(item: ErrorDetails, path: _Path) -> str:
    """What follows the sentence: the value, and for an unknown key the known ones."""
    if item["type"] == "missing":
        return ""
    if item["type"] != "extra_forbidden":
        return f", found {_shown(item['input'])}"
    near = _nearest(path)
    if near == path[-1]:
        return f" here (value {_shown(item['input'])}); it belongs to another kind"
    return f" (value {_shown(item['input'])}); " + (
        f"did you mean '{near}'?" if near else f"known here: {', '.join(sorted(_keys_at(path[:-1])))}"
    )


def _combinations(raw: Mapping[str, Any], found: Sequence[_Finding]) -> list[_Finding]:
    """Combinations that are impossible whatever becomes of the faults found so far.

    What belongs together is checked only where all parts are sound, and in the whole recipe only where it is in every
    section: so again and again, with defaults for what is not, until the whole recipe was reached.
    """
    combinations: list[_Finding] = []
    unsound = list(found)
    while True:
        try:
            Recipe.model_validate(_repaired(raw, unsound))
        except ValidationError as error:
            fresh = [again for again in _findings(error, raw) if again not in unsound]
            combinations += [again for again in fresh if again.is_combination and not again.hangs_on(unsound)]
            unsound += fresh
            if any(again.path for again in fresh):
                continue
        return combinations


def _repaired(raw: Mapping[str, Any], found: Sequence[_Finding]) -> dict[str, Any]:
    """A copy without what is unsound, so that defaults stand in for it; what is needed and missing is made up."""
    repaired: dict[str, Any] = copy.deepcopy(dict(raw))
    for number, finding in enumerate(found):
        *parents, last = _setting(finding.path) or ("",)
        node: Any = repaired
        for part in parents:
            node = node[part] if not isinstance(node, dict) or part in node else {}
        in_stage = parents[-2:-1] == ["stages"]
        if parents[-1:] == ["stages"]:
            node[last] = {"name": f"made-up-{number}", "epochs": 1}
        elif (not parents or in_stage) and last in ("name", "epochs"):
            node[last] = f"made-up-{number}" if last == "name" else 1
        else:
            node.pop(last, None)
    return repaired


def _setting(path: _Path) -> _Path:
    """The setting, or the stage, that a path lies in: an entry of any other list counts as the whole list.

    Steps hang together so closely that a fault in one of them counts as one in them all.
    """
    if path[:1] == ("steps",):
        return ("steps",)
    while len(path) > 1 and isinstance(path[-1], int) and path[-2] != "stages":
        path = path[:-1]
    return path


def _nearest(path: _Path) -> str | None:
    """The known key that is most like the last one of a path."""
    return next(iter(difflib.get_close_matches(str(path[-1]), sorted(_keys_at(path[:-1])), n=1, cutoff=0.5)), None)


def _dotted(path: _Path) -> str:
    return ".".join(str(part) for part in path)


def _keys_at(path: Sequence[int | str]) -> set[str]:
    """Keys that exist in the section at a path; in any of them where the path may lead to several."""
    return {key for section in _sections_at(path) for key in section.model_fields}


def _choices(path: Sequence[int | str], key: str) -> list[str]:
    """What `key` may say at a path where it tells several sections apart."""
    fields = [section.model_fields[key] for section in _sections_at(path) if key in section.model_fields]
    return list(dict.fromkeys(value for field in fields for value in typing.get_args(field.annotation)))


def _sections_at(path: Sequence[int | str]) -> list[type[Section]]:
    sections: list[type[Section]] = [Recipe]
    is_name = False  # of an entry of a mapping, which is no key of a section
    for part in path:
        if isinstance(part, str) and not is_name:
            fields = [section.model_fields[part] for section in sections if part in section.model_fields]
            sections = [found for field in fields for found in _sections_in(field.annotation)]
            is_name = any(typing.get_origin(field.annotation) is dict for field in fields)
        else:
            is_name = False
    return sections


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, Section) else []
    return [found for inner in typing.get_args(annotation) for found in _sections_in(inner)]


def _apply_change(raw: dict[str, Any], change: str) -> Fault | None:
    """Make one change, or say why it cannot be made."""
    place, sign, text = change.partition("=")
    where = f"--set {change if len(change) <= _SHORT.maxstring else f'{change[: _SHORT.maxstring]}...'}"
    if not sign or not place:
        return Fault(where, "expected KEY=VALUE, such as stages.0.epochs=3")
    try:
        value = _parse(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return Fault(where, f"the value {_shown(text)} is not YAML")
    node: Any = raw
    *parents, last = place.split(".")
    for part in parents:
        if fault := _misfit(node, part):
            return Fault(where, fault)
        key: Any = int(part) if isinstance(node, list) else part
        # A copy, for an alias of YAML is one value in two places, and only one of them is to change.
        below = {} if isinstance(node, dict) and node.get(part) is None else copy.copy(node[key])
        node[key] = below
        node = below
    if fault := _misfit(node, last):
        return Fault(where, fault)
    node[int(last) if isinstance(node, list) else last] = value
    return None


def _misfit(node: Any, part: str) -> str | None:
    """Why a value has no such part, if it has not."""
    if isinstance(node, list):
        # Python refuses to make a number of thousands of digits.
        if part.isdecimal() and len(part) < _MOST_DIGITS and int(part) < len(node):
            return None
        return f"expected an index from 0 to {len(node) - 1}, found {_shown(part)}" if node else "the list is empty"
    return None if isinstance(node, dict) else f"nothing lies below {_shown(node)}, so it has no {_shown(part)}"


def _shown(value: Any) -> str:
    return _SHORT.repr(value)


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(yaml.SafeLoader):
    """YAML whose doubled keys are refused: the later one would silently win."""


def _mapping_without_doubles(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if key_node.tag == "tag:yaml.org,2002:bool":
            key_node.tag = "tag:yaml.org,2002:str"  # YAML takes the key `off` for false
        key = loader.construct_object(key_node)
        if isinstance(key, typing.Hashable) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
        if isinstance(key, typing.Hashable):
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_doubles)
# YAML 1.1 takes 3e-4 and 1.5e3 for text, for want of a dot and of a sign; everyone else takes them for numbers.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
