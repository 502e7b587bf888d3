"""What a run was made from: its recipe and how that differs from its parent, its data, its environment."""

from pathlib import Path
from typing import Any

from diapir.data.check import describe_data
from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.pipeline.plan import RECIPE
from diapir.predict.comparing import settings_that_differ
from diapir.recipe.files import read_recipe, write_recipe
from diapir.recipe.whole import Recipe
from diapir.review.report.markup import Html, details, join, shortened, table, tag
from diapir.review.report.run import RunView, fact_rows, mapping, plain

_MOST_NOTES, _MOST_FACTS, _MOST_SECTIONS = 30, 16, 200


def read_parent(path: Path) -> Recipe:
    """The recipe that others are held against: a file, or that of a run or a bundle.

    Raises:
        InputError: there is none, or it is faulty.
    """
    place = path / RECIPE if path.is_dir() else path
    if not place.is_file():
        raise InputError.of(path, f"expected a recipe, or a folder with {RECIPE} in it, found none")
    return read_recipe(place)


def recipe_part(run: RunView, parent: Recipe | None) -> Html:
    """What the recipe is for, what differs from its parent, and all of it."""
    recipe = run.recipe
    steps = [[step.name, step.do] for step in recipe.all_steps]
    return join(
        [
            tag("p", shortened(recipe.about)) if recipe.about else None,
            tag("p", f"Digest of its settings: {recipe.digest}.", class_="soft"),
            _differences(run, parent),
            details("Its steps", table("Steps in order", ["step", "what"], steps, kind="text")),
            details("The whole recipe", tag("pre", write_recipe(recipe), tabindex=0, aria_label="recipe as YAML")),
        ]
    )


def data_part(run: RunView) -> Html:
    """Where the tiles came from, and what is in them."""
    own = {key: value for key, value in run.record["data"].items() if key not in ("labelled_sections", "notes")}
    facts = fact_rows(own)
    inner = table("What the run says of its data", ["what", "value"], facts, kind="text")
    parts = [inner if len(facts) <= _MOST_FACTS else details("What the run says of its data", inner), _sections(run)]
    if isinstance(run.data, DataSet):
        parts.append(_check(run.data))
    else:
        parts.append(tag("p", f"A check of the tiles themselves is missing: {run.data}.", class_="missing"))
    return join(parts)


def environment_part(run: RunView) -> Html:
    """Code, libraries and machine."""
    facts = fact_rows(run.record["provenance"])
    identity = run.record.get("identity")
    note = f"Identity of the result, over recipe, data and steps: {identity}." if isinstance(identity, str) else ""
    return join(
        [table("Where it was made", ["what", "value"], facts, kind="text"), tag("p", shortened(note), class_="soft")]
    )


def _differences(run: RunView, parent: Recipe | None) -> Html:
    """Settings in which it differs from its parent; without one, from the defaults."""
    told, own = "", run.recipe
    if parent is None and own.begin_with is not None:
        parent, told = _bundled(own, own.begin_with.bundle)
    if parent is None:
        note = told or "This recipe goes on from no bundle, and no parent was named with --parent."
        own_settings = own.model_dump(mode="json", exclude_defaults=True, exclude={"name", "about"})
        pairs = [(key, after) for key, _, after in settings_that_differ({}, own_settings)]
        inner = table("Settings that are no defaults", ["setting", "value"], _short(pairs), kind="text")
        told = f"{note} Held against the defaults, it sets {len(pairs):,} values."
        return join([tag("p", told), details("What it sets", inner)])
    settings = [each.model_dump(mode="json", exclude={"name", "about"}) for each in (parent, own)]
    rows = settings_that_differ(*settings)
    if not rows:
        return tag("p", f"It has the settings of its parent, {parent.name}.")
    heads = ["setting", f"parent, {parent.name}", "here"]
    inner = table(f"What differs from its parent, {parent.name}", heads, _short(rows), kind="text")
    return join([tag("p", f"It differs from its parent, {parent.name}, in {len(rows):,} settings."), inner])


def _bundled(own: Recipe, bundle: Path) -> tuple[Recipe | None, str]:
    """The recipe of the bundle that training began with, or why it is not to be had."""
    assert own.begin_with is not None
    try:
        return read_parent(bundle), ""
    except (InputError, OSError):
        digest = own.begin_with.digest[:12]
        return (
            None,
            f"It goes on from the bundle {bundle.name} (digest {digest}), which is not here; name it with --parent.",
        )


def _short(rows: list[Any]) -> list[list[str]]:
    return [[shortened(str(cell), 300) for cell in row] for row in rows]


def _sections(run: RunView) -> Html | None:
    """Labelled sections of a run on a survey."""
    found = run.record["data"].get("labelled_sections")
    if not isinstance(found, list) or not found:
        return None
    keys = ("direction", "line", "salt", "known", "file")
    rows = [
        [str(place), *(shortened(plain(mapping(each).get(key)), 80) for key in keys)]
        for place, each in enumerate(found[:_MOST_SECTIONS], 1)
    ]
    notes = run.record["data"].get("notes")
    told = [tag("li", shortened(plain(note), 400)) for note in notes[:_MOST_NOTES]] if isinstance(notes, list) else []
    inner = table(
        "Sections that were labelled", ["", "direction", "line", "share of salt", "share known", "file"], rows
    )
    return join([inner, tag("ul", *told) if told else None])


def _check(data: DataSet) -> Html:
    """The figures of `diapir data check`."""
    found = describe_data(data)
    both = [found["labelled"], found["unlabelled"]]
    rows = [
        ["tiles", *(f"{each['tiles']:,}" for each in both)],
        ["constant images", *(f"{each['constant']:,}" for each in both)],
        ["mean grey", *(plain(each["mean_grey"]) for each in both)],
        ["without depth", *(f"{each['without_depth']:,}" for each in both)],
        ["depth, m", *(_depths(each["depth_m_quantiles_0_25_50_75_100"]) for each in both)],
    ]
    masks, double = found["masks"], found["duplicates"]
    counts = [
        ("empty", masks["empty"]), ("full", masks["full"]), ("vertical (all rows alike)", masks["vertical"]),
        *((f"{pixels} salt pixels", count) for pixels, count in masks["tiny"].items()),
        ("salt in constant images", masks["salt_in_constant_images"]),
        ("groups of equal images", double["groups"]),
        ("of these, labelled and unlabelled together", double["groups_across_labelled_and_unlabelled"]),
        ("of these, with masks that differ", double["groups_with_masks_that_differ"]),
    ]  # fmt: skip
    return join(
        [
            table("Check of the tiles", ["", "labelled", "unlabelled"], rows),
            table(
                "Masks of the labelled tiles, and equal images",
                ["", "number"],
                [[name, f"{n:,}"] for name, n in counts],
            ),
        ]
    )


def _depths(quantiles: list[float] | None) -> str:
    return "unknown" if quantiles is None else f"{quantiles[0]:g} to {quantiles[4]:g} (median {quantiles[2]:g})"
