import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diapir.metrics import tile_scores
from diapir.predict import selection
from diapir.predict.selection import Selection, mean_score, select_members
from fake_masks import blob_masks


def score_of(mask: NDArray[np.bool_], truth: NDArray[np.uint8]) -> float:
    return float(tile_scores(torch.from_numpy(mask), torch.from_numpy(truth)).double().mean())


def noisy(truth: NDArray[np.uint8], level: float, *, seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0, level, truth.shape)
    return np.clip(truth * 0.6 + 0.2 + noise, 0, 1).astype(np.float32)


def mean_of(members: list[NDArray[np.float32]], taken: tuple[int, ...]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean([members[member].astype(np.float64) for member in taken], axis=0)
    return mean


@pytest.fixture
def truth() -> NDArray[np.uint8]:
    return blob_masks(16, side=16)


def test_the_best_member_comes_first_whatever_it_costs(truth: NDArray[np.uint8]) -> None:
    members = [noisy(truth, 0.5, seed=0), noisy(truth, 0.2, seed=1), noisy(truth, 0.9, seed=2)]
    chosen = select_members(members, truth, seconds=[1, 900, 1])
    assert chosen.order[0] == 1
    assert chosen.scores[0] == pytest.approx(mean_score(members[1], truth))


def test_scores_rise_and_are_those_of_the_mean_so_far(truth: NDArray[np.uint8]) -> None:
    members = [noisy(truth, 0.4, seed=seed) for seed in range(5)]
    chosen = select_members(members, truth, seconds=[1, 2, 3, 4, 5])
    assert len(chosen.order) > 1
    assert all(later > earlier for earlier, later in zip(chosen.scores, chosen.scores[1:], strict=False))
    for step, score in enumerate(chosen.scores, start=1):
        assert score == pytest.approx(score_of(mean_of(members, chosen.order[:step]) > 0.5, truth))


def test_it_ends_where_no_single_member_improves(truth: NDArray[np.uint8]) -> None:
    members = [noisy(truth, 0.4, seed=seed) for seed in range(4)]
    chosen = select_members(members, truth, seconds=[1, 1, 1, 1])
    for member in range(4):
        assert score_of(mean_of(members, (*chosen.order, member)) > 0.5, truth) <= chosen.scores[-1] + 1e-9


def test_each_step_takes_the_largest_gain_per_second(truth: NDArray[np.uint8]) -> None:
    members, seconds = [noisy(truth, 0.4, seed=seed) for seed in range(5)], [3.0, 1.0, 20.0, 2.0, 7.0]
    chosen = select_members(members, truth, seconds=seconds)
    for step in range(1, len(chosen.order)):
        before = chosen.order[:step]
        gains = [score_of(mean_of(members, (*before, member)) > 0.5, truth) for member in range(5)]
        gains = [score - chosen.scores[step - 1] for score in gains]
        free = [member for member in set(before) if gains[member] > 1e-9]
        if free:
            assert gains[chosen.order[step]] == pytest.approx(max(gains[member] for member in free))
        else:
            ratios = [gain / cost for gain, cost in zip(gains, seconds, strict=True)]
            assert ratios[chosen.order[step]] == pytest.approx(max(ratios))


def test_of_two_equal_members_the_cheap_one_is_taken(truth: NDArray[np.uint8]) -> None:
    first, other = noisy(truth, 0.2, seed=0), noisy(truth, 0.45, seed=1)
    chosen = select_members([first, other, other], truth, seconds=[1, 5, 2])
    assert 1 not in chosen.order


def test_a_member_taken_again_costs_nothing_more(truth: NDArray[np.uint8]) -> None:
    chosen = select_members([noisy(truth, 0.4, seed=seed) for seed in range(5)], truth, seconds=[1, 2, 4, 8, 16])
    for step, spent in enumerate(chosen.seconds, start=1):
        assert spent == sum({member: 2**member for member in chosen.order[:step]}.values())
    assert chosen.weights(5) == [chosen.order.count(member) for member in range(5)]


def test_a_member_is_taken_twice_where_two_to_one_is_best() -> None:
    # Pixels, truth, and what each member says: 10 both find, 4 the first misses, 6 the other misses, 2 it invents.
    groups = [(10, 1, 0.6, 0.6), (4, 1, 0.45, 0.9), (6, 1, 0.9, 0.2), (2, 0, 0.3, 0.8), (3, 0, 0.1, 0.1)]
    truth, first, other = (
        np.concatenate([np.full(group[0], group[column]) for group in groups])[None, None] for column in (1, 2, 3)
    )
    members = [first.astype(np.float32), other.astype(np.float32)]
    chosen = select_members(members, truth.astype(np.uint8), seconds=[4, 3])
    # IoU 16/20 alone, 20/22 half and half, and 1 at two to one.
    assert chosen.order == (0, 1, 0)
    assert chosen.scores == pytest.approx((0.6, 0.9, 1.0))
    assert chosen.seconds == (4, 7, 7)
    assert chosen.weights(2) == [2, 1]


def test_a_limit_of_seconds_is_kept(truth: NDArray[np.uint8]) -> None:
    members = [noisy(truth, 0.2, seed=0), noisy(truth, 0.4, seed=1), noisy(truth, 0.4, seed=2)]
    chosen = select_members(members, truth, seconds=[100, 6, 7], most_s=10)
    assert 0 not in chosen.order
    assert chosen.seconds[-1] <= 10


def test_a_gain_that_is_not_above_the_least_is_none(truth: NDArray[np.uint8]) -> None:
    members = [noisy(truth, 0.4, seed=seed) for seed in range(5)]
    free, held = (select_members(members, truth, seconds=[1] * 5, least_gain=gain) for gain in (0.0, 0.05))
    assert len(held.order) <= len(free.order)
    assert all(later - earlier > 0.05 for earlier, later in zip(held.scores, held.scores[1:], strict=False))
    assert len(select_members(members, truth, seconds=[1] * 5, least_gain=1.0).order) == 1


def test_chunks_do_not_change_the_selection(truth: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    members = [noisy(truth, 0.4, seed=seed).astype(np.float16) for seed in range(3)]
    whole: Selection = select_members(members, truth, seconds=[1, 2, 3])
    monkeypatch.setattr(selection, "_CHUNK", 5)
    parts = select_members(members, truth, seconds=[1, 2, 3])
    assert (parts.order, parts.seconds) == (whole.order, whole.seconds)
    assert parts.scores == pytest.approx(whole.scores)


def test_a_member_is_scored_at_a_half(truth: NDArray[np.uint8]) -> None:
    member = noisy(truth, 0.4, seed=3)
    assert mean_score(member, truth) == pytest.approx(score_of(member > 0.5, truth))
