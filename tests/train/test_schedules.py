import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diapir.recipe.training import Schedule
from diapir.train.schedules import (
    constant,
    cosine,
    flat_cosine,
    learning_rate,
    looks_since_best,
    noam,
    one_cycle,
    plateau,
    triangular,
    triangular2,
)


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
    st.sampled_from(["constant", "cosine", "one_cycle", "flat_cosine", "triangular", "triangular2"]),
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
    section = Schedule.model_validate({"name": name, "start": start, "end": end, "half_cycle": 7} | share)
    rates = [learning_rate(section, step, peak=2.0, steps=steps) for step in range(steps)]
    assert all(2 * min(start, end) - 1e-12 <= rate <= 2 + 1e-12 for rate in rates)


def test_a_lowest_rate_stands_for_both_shares() -> None:
    def rate(step: int, **named: object) -> float:
        return learning_rate(Schedule.model_validate(named), step, peak=0.012, steps=51)

    assert rate(50, name="cosine", lowest_lr=0.001) == pytest.approx(0.001)
    assert rate(25, name="cosine", lowest_lr=0.001) == pytest.approx((0.012 + 0.001) / 2)
    assert rate(0, name="one_cycle", warmup=0.2, lowest_lr=0.001) == pytest.approx(0.001)
    assert rate(0, name="triangular", lowest_lr=0.001) == pytest.approx(0.001)


# Triangles.


def published_triangular2(iteration: int, *, base: float, peak: float, size: int) -> float:
    """The formula as Smith writes it."""
    cycle = math.floor(1 + iteration / (2 * size))
    distance = abs(iteration / size - 2 * cycle + 1)
    return float(base + (peak - base) * max(0.0, 1 - distance) / 2 ** (cycle - 1))


@given(st.integers(0, 40_000), st.integers(100, 3000))
def test_triangular2_follows_its_published_formula(step: int, half_cycle: int) -> None:
    expected = published_triangular2(step, base=1e-4, peak=3e-4, size=half_cycle)
    assert triangular2(step, base=1e-4, peak=3e-4, half_cycle=half_cycle) == pytest.approx(expected, rel=1e-9)


def test_the_triangles_of_the_28th_place_are_as_high_as_published() -> None:
    rates = {step: triangular2(step, base=1e-4, peak=3e-4, half_cycle=1500) for step in range(0, 9001, 750)}
    assert [rates[step] for step in (0, 1500, 3000, 4500, 6000, 7500, 9000)] == pytest.approx(
        [1e-4, 3e-4, 1e-4, 2e-4, 1e-4, 1.5e-4, 1e-4]
    )
    assert rates[750] == pytest.approx(2e-4)


def test_triangular_repeats_itself() -> None:
    first = [triangular(step, base=0.1, peak=1.0, half_cycle=4) for step in range(8)]
    assert first == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0, 0.775, 0.55, 0.325])
    assert [triangular(step, base=0.1, peak=1.0, half_cycle=4) for step in range(8, 24)] == pytest.approx(first * 2)


# Noam.


def test_noam_has_the_values_that_the_9th_place_logged() -> None:
    logged = {0: 5e-5, 1: 5e-5, 10: 5e-4, 249: 1.0e-4}
    section = Schedule(name="noam", per="epoch", warmup=0.04)
    for epoch, rate in logged.items():
        assert noam(epoch, peak=5e-4, warmup=10) == pytest.approx(rate, rel=5e-3)
        assert learning_rate(section, epoch, peak=5e-4, steps=251) == pytest.approx(rate, rel=5e-3)


def test_noam_rises_in_a_line_and_falls_with_the_root() -> None:
    for epoch in range(1, 11):
        assert noam(epoch, peak=3.0, warmup=10) == pytest.approx(3.0 * epoch / 10)
    for epoch in (10, 40, 90, 1000):
        assert noam(epoch, peak=3.0, warmup=10) == pytest.approx(3.0 / math.sqrt(epoch / 10))


# Plateaus.


def rates_epoch_by_epoch(
    scores: Sequence[float], *, peak: float, factor: float, patience: int, lowest: float
) -> list[float]:
    """The rate before each epoch, and after the last, by looking back over the epochs since the rate last changed."""
    rates, changed = [peak], 0
    for epoch in range(len(scores)):
        since = range(changed, epoch + 1)
        highs = [e for e in since if scores[e] > max(scores[:e], default=-math.inf)]
        quiet = epoch - highs[-1] if highs else len(since)
        if quiet == patience:
            rates.append(max(rates[-1] * factor, lowest))
            changed = epoch + 1
        else:
            rates.append(rates[-1])
    return rates


SCORES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]), max_size=40)


@given(SCORES, st.integers(1, 5), st.sampled_from([0.25, 0.5, 0.7]), st.sampled_from([0.0, 0.0625, 0.3]))
def test_a_plateau_lowers_the_rate_as_a_plain_simulation_does(
    scores: list[float], patience: int, factor: float, lowest: float
) -> None:
    expected = rates_epoch_by_epoch(scores, peak=1.0, factor=factor, patience=patience, lowest=lowest)
    found = [
        plateau(scores[:count], peak=1.0, factor=factor, patience=patience, lowest=lowest)
        for count in range(len(scores) + 1)
    ]
    assert found == expected


def test_the_first_place_comes_to_its_lowest_rate_after_two_plateaus() -> None:
    section = Schedule(name="plateau", factor=0.25, patience=10, lowest_lr=6.25e-6)
    rates = [learning_rate(section, 0, peak=1e-4, steps=9, scores=[0.5] * count) for count in range(42)]
    assert rates[:11] == [1e-4] * 11
    assert rates[11:21] == [2.5e-5] * 10
    assert rates[21:] == [6.25e-6] * 21


@given(SCORES)
def test_looks_are_counted_since_the_first_of_the_highest_scores(scores: list[float]) -> None:
    waited, best = 0, -1.0
    for score in scores:
        if score > best:
            waited, best = 0, score
        else:
            waited += 1
    assert looks_since_best(scores) == waited
