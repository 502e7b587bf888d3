import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diapir.recipe.training import Schedule
from diapir.train.schedules import constant, cosine, flat_cosine, learning_rate, one_cycle


def half_cosine(share: float, *, high: float, low: float) -> float:
    """From `high` at share 0 to `low` at share 1, by its double-angle form."""
    return low + (high - low) * math.cos(math.pi * share / 2) ** 2


def test_constant_is_constant() -> None:
    assert {constant(step, peak=0.3) for step in range(10)} == {0.3}


def test_cosine_follows_its_closed_form() -> None:
    for step in range(101):
        expected = half_cosine(step / 100, high=2.0, low=0.5)
        assert cosine(step, peak=2.0, end=0.5, steps=101) == pytest.approx(expected)


def test_cosine_begins_at_its_peak_ends_at_its_end_and_halves_in_the_middle() -> None:
    assert cosine(0, peak=2.0, end=0.5, steps=101) == 2.0
    assert cosine(50, peak=2.0, end=0.5, steps=101) == pytest.approx(1.25)
    assert cosine(100, peak=2.0, end=0.5, steps=101) == pytest.approx(0.5)
    assert cosine(0, peak=2.0, end=0.5, steps=1) == 2.0


def test_one_cycle_follows_its_closed_form() -> None:
    for step in range(100):
        if step <= 20:
            expected = half_cosine(1 - step / 20, high=2.0, low=0.1)
        else:
            expected = half_cosine((step - 20) / 79, high=2.0, low=0.5)
        assert one_cycle(step, start=0.1, peak=2.0, end=0.5, steps=100, warmup=20) == pytest.approx(expected)


def test_one_cycle_begins_at_its_start_peaks_after_the_warm_up_and_ends_at_its_end() -> None:
    rates = [one_cycle(step, start=0.1, peak=2.0, end=0.5, steps=100, warmup=20) for step in range(100)]
    assert (rates[0], rates[20], rates[99]) == pytest.approx((0.1, 2.0, 0.5))
    assert rates[10] == pytest.approx(1.05)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_one_cycle_without_warm_up_is_a_cosine() -> None:
    for step in range(30):
        plain = cosine(step, peak=2.0, end=0.5, steps=30)
        assert one_cycle(step, start=0.1, peak=2.0, end=0.5, steps=30, warmup=0) == plain


def test_flat_cosine_follows_its_closed_form() -> None:
    for step in range(100):
        if step < 10:
            expected = half_cosine(1 - step / 10, high=2.0, low=0.1)
        elif step < 60:
            expected = 2.0
        else:
            expected = half_cosine((step - 60) / 39, high=2.0, low=0.5)
        found = flat_cosine(step, start=0.1, peak=2.0, end=0.5, steps=100, warmup=10, fall=40)
        assert found == pytest.approx(expected)


def test_a_recipes_shares_are_of_the_stages_steps_and_of_the_peak() -> None:
    def rate(name: str, step: int) -> float:
        section = Schedule.model_validate({"name": name, "warmup": 0.1, "fall": 0.4, "start": 0.2, "end": 0.05})
        return learning_rate(section, step, peak=3.0, steps=200)

    for step in (0, 1, 19, 20, 100, 119, 120, 121, 199):
        assert rate("constant", step) == 3.0
        assert rate("cosine", step) == cosine(step, peak=3.0, end=0.05 * 3, steps=200)
        same = {"start": 0.2 * 3.0, "peak": 3.0, "end": 0.05 * 3, "steps": 200, "warmup": 20}
        assert rate("one_cycle", step) == pytest.approx(one_cycle(step, **same))  # type: ignore[arg-type]  # all fit
        assert rate("flat_cosine", step) == pytest.approx(flat_cosine(step, **same, fall=80))  # type: ignore[arg-type]


@given(
    st.sampled_from(["constant", "cosine", "one_cycle", "flat_cosine"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 40),
)
def test_every_rate_lies_between_its_ends_and_the_peak(
    name: str, warmup: float, fall: float, start: float, end: float, steps: int
) -> None:
    share = {"warmup": warmup, "fall": min(fall, 1 - warmup)}  # more is refused
    section = Schedule.model_validate({"name": name, "start": start, "end": end} | share)
    rates = [learning_rate(section, step, peak=2.0, steps=steps) for step in range(steps)]
    assert all(2 * min(start, end) - 1e-12 <= rate <= 2 + 1e-12 for rate in rates)
