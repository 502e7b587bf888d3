"""What recipes say of unlabelled tiles: what they read, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest

from diapir.faults import InputError
from diapir.recipe.files import check_recipe, read_recipe, write_recipe
from diapir.recipe.semi import CoTraining, MeanTeacher
from diapir.recipe.smoke import smoke_recipe
from diapir.recipe.whole import Recipe

RECIPES = Path(__file__).parent.parent / "recipes"
LEAST: dict[str, Any] = {"name": "a", "stages": [{"name": "s", "epochs": 1}]}
TEACHER, PAIR = {"kind": "mean-teacher"}, {"kind": "co-training"}


def read(**sections: Any) -> Recipe:
    return check_recipe(LEAST | sections, source="r")


def faults(**sections: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        read(**sections)
    return [str(fault).removeprefix("r: ") for fault in error.value.faults]


@pytest.mark.parametrize(
    ("semi", "fault"),
    [
        (
            {"kind": "teacher"},
            ": expected the key 'kind' with one of 'mean-teacher', 'co-training', found {'kind': 'te",
        ),
        ({"weight": 1.0}, ": expected the key 'kind' with one of 'mean-teacher', 'co-training', found {'weight': 1.0}"),
        (TEACHER | {"wight": 1.0}, ".wight: unknown key (value 1.0); did you mean 'weight'?"),
        (TEACHER | {"eps": 1.0}, ".eps: unknown key here (value 1.0); it belongs to another kind"),
        (TEACHER | {"decay": 1.0}, ".decay: input should be less than 1, found 1.0"),
        (PAIR | {"unlabelled_share": 1.0}, ".unlabelled_share: input should be less than 1, found 1.0"),
        (PAIR | {"rampup_epochs": 0}, ".rampup_epochs: input should be greater than or equal to 1, found 0"),
    ],
)
def test_a_section_that_is_none_is_told(semi: dict[str, Any], fault: str) -> None:
    (found,) = faults(semi=semi)
    assert found.startswith(f"semi{fault}")


def test_a_net_of_no_known_kind_is_told() -> None:
    (found,) = faults(net={"kind": "place-29"})
    assert found.startswith("net: expected the key 'kind' with one of 'unet', ")
    assert "'place-28'" in found


def test_two_moving_averages_are_refused() -> None:
    (fault,) = faults(semi=TEACHER, average={"decay": 0.9})
    assert fault.startswith("average.decay: 0.9 would be a second moving average beside that of semi, the teacher")
    assert read(semi=PAIR, average={"decay": 0.9}).average.decay == 0.9
    (fault,) = faults(models={"m": {"semi": TEACHER, "average": {"decay": 0.9}}})
    assert fault.startswith("models.m.average.decay: 0.9 would be a second moving average beside that of models.m.semi")


@pytest.mark.parametrize("pairs", [(True, False), (False, True)])
def test_one_net_cannot_start_from_two_nor_two_from_one(pairs: tuple[bool, bool]) -> None:
    models = {
        name: {"stages": LEAST["stages"], "semi": PAIR if pair else None}
        for name, pair in zip("ab", pairs, strict=True)
    }
    steps = [
        {"do": "train", "name": "before", "model": "a"},
        {"do": "train", "name": "after", "model": "b", "start_from": "before"},
        {"do": "predict", "name": "says", "of": "after"},
        {"do": "submit", "of": "says"},
    ]
    assert faults(models=models, steps=steps) == [
        "steps.1.start_from: 'before' and 'after': semi.kind 'co-training' needs to be of both"
    ]
    assert read(models={"a": models["a"], "b": models["a"]}, steps=steps).steps


@pytest.mark.parametrize("semi", [TEACHER, PAIR], ids=["mean-teacher", "co-training"])
def test_a_section_is_written_and_read_again_and_changes_the_digest(semi: dict[str, Any], tmp_path: Path) -> None:
    recipe = read(semi=semi)
    (tmp_path / "r.yaml").write_text(write_recipe(recipe))
    assert read_recipe(tmp_path / "r.yaml") == recipe
    assert recipe.digest != read().digest


def test_a_smoke_run_comes_to_full_strength() -> None:
    semi = smoke_recipe(read(semi=PAIR)).semi
    assert semi is not None
    assert semi.rampup_epochs == 1


@pytest.mark.parametrize("kind", [MeanTeacher, CoTraining])
def test_the_28th_places_recipes_differ_in_this_alone(kind: type[MeanTeacher | CoTraining]) -> None:
    name = {MeanTeacher: "mean-teacher", CoTraining: "co-training"}[kind]
    recipe, plain = read_recipe(RECIPES / f"place-28-{name}.yaml"), read_recipe(RECIPES / "place-28-ashrapov.yaml")
    assert isinstance(recipe.semi, kind)
    assert recipe.model_copy(update={"semi": None}).digest == plain.digest
