"""Settings of augmentation and losses: what they read, and what they refuse."""

from typing import Any

import pytest

from diapir.faults import InputError
from diapir.recipe.files import check_recipe
from diapir.recipe.training import Augment, Change, Loss


def faults(section: str, values: Any) -> list[str]:
    """What is wrong with a section of an otherwise sound recipe."""
    stage: dict[str, Any] = {"name": "s", "epochs": 1}
    raw: dict[str, Any] = {"name": "a", "stages": [stage]}
    (stage if section == "loss" else raw)[section] = values
    with pytest.raises(InputError) as error:
        check_recipe(raw, source="r")
    return [str(fault).removeprefix("r: ").removeprefix("stages.0.") for fault in error.value.faults]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"shear": 0.07}, (-0.07, 0.07)),
        ({"shear": [0, 0.1]}, (0, 0.1)),
        ({"rotation_deg": 15}, (-15, 15)),
        ({"scale": 0.6}, (0.4, 1.6)),
        ({"gamma": [0.8, 1.25]}, (0.8, 1.25)),
        ({"cutout_px": 30}, (30, 30)),
        ({"cutout_px": [20, 30]}, (20, 30)),
    ],
)
def test_a_range_is_read_from_a_number_or_a_pair(change: dict[str, Any], found: tuple[float, float]) -> None:
    section = Change.model_validate(change)
    assert getattr(section, *change) == pytest.approx(found)
    assert section.names == list(change)
    assert Change.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"shear": "x"}, ".shear: expected a finite number or a range [low, high], found 'x'"),
        ({"shear": True}, ".shear: expected a finite number or a range [low, high], found True"),
        ({"shear": float("nan")}, ".shear: expected a finite number or a range [low, high], found nan"),
        ({"shear": -0.1}, ".shear: 0.1 to -0.1 is no range: expected one that rises, from -1 to 1"),
        ({"shear": 3}, ".shear: -3 to 3 is no range: expected one that rises, from -1 to 1"),
        ({"shear": [0.1, "a"]}, ".shear.1: input should be a valid number, found 'a'"),
        ({"scale": 1.0}, ".scale: 0 to 2 is no range: expected one that rises, from 0.05 to 20"),
        ({"cutout_px": 0}, ".cutout_px: 0 to 0 is no range: expected one that rises, from 1 to 101"),
        ({"cutout_px": [30, 20]}, ".cutout_px: 30 to 20 is no range: expected one that rises, from 1 to 101"),
        ({"crop": 0.5}, ".crop: input should be less than 0.5, found 0.5"),
        ({"sheer": 0.1}, ".sheer: unknown key (value 0.1); did you mean 'shear'?"),
    ],
)
def test_a_range_that_is_none_is_told(change: dict[str, Any], fault: str) -> None:
    assert faults("augment", {"changes": [change]}) == [f"augment.changes.0{fault}"]


def test_a_group_without_a_change_is_told() -> None:
    (fault,) = faults("augment", {"changes": [{"chance": 0.5, "grid_px": 5}]})
    assert fault.startswith("augment.changes.0: no change is named: give at least one of shift, scale, ")


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        (
            {"changes": [{"crop": 0.1, "add": 0.1}, {"add": 0.2}]},
            "augment: changes: add stands in two groups: give each change once",
        ),
        (
            {"changes": [{"crop": 0.1}], "geometry": 0.5, "cutout": 0.3},
            "augment: changes and geometry, cutout are two forms of one thing: give all as changes, or none",
        ),
    ],
)
def test_groups_that_contradict_are_told(section: dict[str, Any], fault: str) -> None:
    assert faults("augment", section) == [fault]


def test_a_section_without_groups_is_what_it_was() -> None:
    assert Augment().changes == ()
    assert Augment().border == "mirror"


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        (
            {"lovasz": 1.0, "side": 0.1, "whole_batch": True},
            "loss: side 0.1 takes images apart and whole_batch true together: give one of them",
        ),
        (
            {"empty": {"focal": 0.5}},
            "loss: every weight is zero: give at least one of bce, dice, focal, lovasz, symmetric_lovasz",
        ),
        (
            {"bce": 1.0, "empty": {"has_salt": 1.0}},
            "loss.empty.has_salt: unknown key (value 1.0); known here: bce, dice, focal, lovasz, symmetric_lovasz",
        ),
        ({"bce": 1.0, "side_mean": "none"}, "loss.side_mean: input should be 'salt', 'all' or 'every', found 'none'"),
    ],
)
def test_losses_that_do_not_fit_are_told(section: dict[str, Any], fault: str) -> None:
    assert faults("loss", section) == [fault]


def test_a_mix_for_images_without_salt_may_be_nothing() -> None:
    empty = Loss.model_validate({"bce": 1.0, "empty": {}}).empty
    assert empty is not None
    assert empty.weights == {}
