import numpy as np
import pytest

from diapir.predict.crossfit import crossed_parts


@pytest.mark.parametrize("count", [2, 3, 5, 23])
def test_every_tile_is_left_out_once_and_decides_nothing_then(count: int) -> None:
    parts = list(crossed_parts(count))
    assert len(parts) == min(5, count)
    assert sorted(np.concatenate([own for own, _ in parts]).tolist()) == list(range(count))
    for own, others in parts:
        assert sorted([*own, *others]) == list(range(count))
        assert abs(len(own) - count / len(parts)) < 1


def test_parts_are_drawn_at_random_and_alike_each_time() -> None:
    first, again, other = (next(crossed_parts(50, seed=seed))[0].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first != list(range(10))


def test_one_tile_decides_for_itself_and_none_is_no_trouble() -> None:
    [(own, others)] = crossed_parts(1)
    assert own.tolist() == others.tolist() == [0]
    assert list(crossed_parts(0)) == []
