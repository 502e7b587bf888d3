"""A round of pseudo-labels taken out of a run again, with everything that came of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diapir.faults import InputError
from diapir.pipeline.plan import (
    PICTURE,
    RECIPE,
    ROLLED_BACK,
    SUBMISSION,
    Planned,
    own_tiles,
    plan_steps,
    plan_text,
    require_no_bundle,
)
from diapir.pipeline.run import open_run_data, run_recipe
from diapir.predict.comparing import HELD_OUT
from diapir.recipe.files import check_recipe, read_recipe, write_recipe
from diapir.recipe.steps import PseudoLabel, dependents, sources
from diapir.recipe.whole import Recipe
from diapir.record import RECORD
from diapir.runs import locked_folder, write_text


@dataclass(frozen=True)
class Rollback:
    """What rolling back would do.

    Args:
        run: its folder.
        step: the pseudo-label step.
        before: the run's recipe, and `after`, the one without the round.
        aside: the folder that takes what is dropped.
        dropped: steps that are in it no more, in order; the submit step is done anew.
        left: the steps of `after`, with what the run's folder holds of them.
    """

    run: Path
    step: str
    before: Recipe
    after: Recipe
    aside: Path
    dropped: tuple[str, ...]
    left: tuple[Planned, ...]


def plan_rollback(run: Path, step: str, *, data_path: Path | None, skip_bad: bool = False) -> Rollback:
    """What `roll_back` would do; nothing is written.

    Raises:
        InputError: there is no run in the folder, it has no such step, or the data are not those that it had.
    """
    require_no_bundle(run)
    if not (run / RECIPE).exists():
        raise InputError.of(run, f"expected the folder of a run, found no {RECIPE} in it")
    before = read_recipe(run / RECIPE)
    rounds = [one.name for one in before.all_steps if isinstance(one, PseudoLabel)]
    if step not in rounds:
        listed = ", ".join(rounds) or "none"
        raise InputError.of(run, f"expected a pseudo-label step of its recipe ({listed}), found '{step}'")
    data, _ = open_run_data(before, own_tiles(run, data_path), skip_bad=skip_bad)
    if any(one.state == "changed" for one in plan_steps(before, run, data=data)):
        raise InputError.of(
            "--data", f"these are not the data that {run} was made from, or its recipe was changed: name those it had"
        )
    dropped = dependents(before.all_steps, step)
    after = _without(before, dropped)
    left = tuple(plan_steps(after, run, data=data))
    folder = run / ROLLED_BACK
    number = next(one for one in range(1, 10**6) if not (folder / f"{step}-{one}").exists())
    names = tuple(one.name for one in before.all_steps[:-1] if one.name in dropped)
    return Rollback(run, step, before, after, folder / f"{step}-{number}", names, left)


def roll_back(planned: Rollback, *, data_path: Path | None, skip_bad: bool = False) -> dict[str, Any]:
    """Move what the round led to aside, and do what is left of the run; gives the record of the earlier round.

    Stopped half way, it may be begun again; once the recipe without the round is written, `run_recipe` goes on as well.

    Raises:
        InputError: another command changed the run since it was planned; or as `run_recipe`.
        Stopped, TrainingFailed: as `run_recipe`.
    """
    with locked_folder(planned.run):
        if plan_rollback(planned.run, planned.step, data_path=data_path, skip_bad=skip_bad) != planned:
            raise InputError.of(planned.run, "it was changed since rolling back was planned; give the command again")
        write_text(planned.aside / RECIPE, write_recipe(planned.before))
        for name in _moved(planned):
            if (planned.run / name).exists():
                (planned.run / name).rename(planned.aside / name)
        write_text(planned.run / RECIPE, write_recipe(planned.after))
    tiles = own_tiles(planned.run, data_path)
    return run_recipe(planned.after, planned.run, data_path=tiles, resume=True, skip_bad=skip_bad)


def rollback_text(planned: Rollback) -> str:
    """For a person: what goes where, and what is left."""
    source = sources(planned.after.all_steps[-1])["of"][0]
    lines = [
        f"dropped     {', '.join(planned.dropped)}",
        f"            to {planned.aside}, with {RECORD} and {SUBMISSION}",
        f"submitted   from {source}",
        *(f"            {line}" for line in plan_text(planned.left).splitlines()),
    ]
    return "\n".join(lines)


def _without(recipe: Recipe, dropped: set[str]) -> Recipe:
    """The recipe without these steps; where they were submitted, it submits the last of those left that predict."""
    *steps, last = recipe.all_steps
    kept = [one for one in steps if one.name not in dropped]
    source = sources(last)["of"][0]
    if source in dropped:
        source = [one.name for one in kept if one.do in ("predict", "blend", "post-process")][-1]
    raw = recipe.model_dump(mode="json")
    raw["steps"] = [*(one.model_dump(mode="json") for one in kept), last.model_dump(mode="json") | {"of": source}]
    return check_recipe(raw, source=f"the recipe without {', '.join(sorted(dropped))}")


def _moved(planned: Rollback) -> Iterator[str]:
    """What goes aside, the record first: from then on the run counts as unfinished."""
    yield RECORD
    yield planned.before.all_steps[-1].name
    yield from (SUBMISSION, PICTURE, HELD_OUT)
    yield from planned.dropped
