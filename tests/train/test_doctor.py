import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diapir.train.doctor import TrainingFailed, check_loss, diagnose

LN2 = math.log(2)
losses_in_0_to_10 = st.lists(st.floats(0, 10), min_size=1, max_size=30)


def history(
    losses: list[float], *, stage: str = "one", bce_only: bool = False, empty: float | None = 0.2
) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "epoch": epoch,
            "loss": loss,
            "bce_only": bce_only,
            "learning_rate": 0.25,
            "predicted_empty": empty,
        }
        for epoch, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("finite", "cause"), [(True, "outputs overflowed"), (False, "learning rate, 0.25 here")])
def test_a_loss_that_is_not_finite_is_told_with_place_and_cause(loss: float, finite: bool, cause: str) -> None:
    with pytest.raises(TrainingFailed, match=f"fold 3: the loss is {loss}.*{cause}"):
        check_loss(loss, place="fold 3", learning_rate=0.25, weights_finite=finite)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_loss_passes(loss: float) -> None:
    check_loss(loss, place="", learning_rate=1.0, weights_finite=True)


def test_no_epoch_is_no_trouble() -> None:
    assert diagnose([], has_salt=True) is None


@given(losses_in_0_to_10)
def test_a_falling_loss_is_left_alone(losses: list[float]) -> None:
    assert diagnose(history(sorted(losses, reverse=True)), has_salt=True) is None


@given(losses_in_0_to_10, losses_in_0_to_10)
def test_a_new_stage_may_begin_at_any_loss(before: list[float], after: list[float]) -> None:
    epochs = history(sorted(before, reverse=True)) + history(sorted(after, reverse=True), stage="two")
    assert diagnose(epochs, has_salt=True) is None


def test_a_loss_that_runs_away_is_named_with_its_learning_rate() -> None:
    trouble = diagnose(history([0.7, 0.5, 0.3, 0.9, 1.4, 2.0]), has_salt=True)
    assert trouble is not None
    assert "the loss was 0.3 and has stayed above 0.9 for 3 epochs" in trouble
    assert "0.25" in trouble


@pytest.mark.parametrize(
    "losses",
    [
        [0.7, 0.5, 0.3, 0.9, 1.4],  # two epochs may be a fluke
        [0.7, 0.5, 0.3, 0.9, 0.5, 1.4],  # it came back
        [0.05, 0.01, 0.012, 0.08, 0.09, 0.1],  # small losses swing by large factors
        [0.7, 0.5, 0.3, 0.45, 0.5, 0.55],
    ],
)
def test_a_loss_that_swings_is_left_alone(losses: list[float]) -> None:
    assert diagnose(history(losses), has_salt=True) is None


def test_eight_scores_in_a_row_without_salt_are_a_collapse() -> None:
    falling = [1 / epoch for epoch in range(1, 10)]
    assert diagnose(history(falling[:7], empty=1.0), has_salt=True) is None
    trouble = diagnose(history(falling[:8], empty=1.0), has_salt=True)
    assert trouble is not None
    assert "empty 8 times in a row" in trouble


def test_empty_masks_are_right_where_there_is_no_salt() -> None:
    assert diagnose(history([1.0] * 9, empty=1.0), has_salt=False) is None


def test_epochs_without_a_score_say_nothing_of_a_collapse() -> None:
    epochs = history([1.0] * 7, empty=1.0) + history([1.0] * 9, empty=None)
    assert diagnose(epochs, has_salt=True) is None
    assert diagnose(epochs + history([1.0], empty=1.0), has_salt=True) is not None


def test_one_pixel_of_salt_breaks_the_row() -> None:
    epochs = history([1.0] * 7, empty=1.0) + history([1.0], empty=0.99) + history([1.0] * 7, empty=1.0)
    assert diagnose(epochs, has_salt=True) is None


@pytest.mark.parametrize("start", [[], [0.9, 0.75]])
def test_five_epochs_at_ln_2_are_a_coin(start: list[float]) -> None:
    epochs = history([*start, *[LN2 + 0.001, LN2 - 0.002, LN2, LN2, LN2]], bce_only=True)
    trouble = diagnose(epochs, has_salt=True)
    assert trouble is not None
    assert "ln 2" in trouble
    assert diagnose(epochs[:-1], has_salt=True) is None


def test_ln_2_of_another_loss_is_only_a_number() -> None:
    assert diagnose(history([LN2] * 9, bce_only=False), has_salt=True) is None


def test_a_loss_on_its_way_through_ln_2_is_left_alone() -> None:
    assert diagnose(history([0.75, 0.7, LN2, LN2, 0.68, 0.66], bce_only=True), has_salt=True) is None
