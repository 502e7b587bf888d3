import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.synthetic import make_synthetic
from diapir.faults import InputError
from diapir.train.find_rate import find_rate, runs_away, smooth, steepest_rate, sweep_rates
from fake_training import one_device, tiny_fold, tiny_recipe, tiny_run_recipe, tiny_tiles

RATES = np.geomspace(1e-6, 10, 200)


def falls_at(rate: float, *, width: float) -> NDArray[np.float64]:
    """A loss that falls as a logistic curve in the rate's logarithm, steepest at `rate`, and then runs away."""
    fall = 1 / (1 + np.exp((np.log10(RATES) - math.log10(rate)) / width))
    return np.asarray(0.3 + fall + np.maximum(0, np.log10(RATES / (100 * rate))) ** 2)


@pytest.mark.parametrize("rate", [5e-2, 1e-3, 3e-5])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_steepest_place_of_a_known_curve_is_found(rate: float, noise: float) -> None:
    losses = falls_at(rate, width=0.2) + noise * np.random.default_rng(0).standard_normal(len(RATES))
    found = steepest_rate(RATES, smooth(losses, width=10))
    assert abs(math.log10(found / rate)) < 0.15


def test_the_loss_on_its_way_back_is_not_looked_at() -> None:
    losses = np.concatenate([np.linspace(1, 0.8, 50), np.linspace(0.8, 5, 50), np.linspace(5, 0.9, 100)])
    assert steepest_rate(RATES, losses) <= RATES[50]


def test_a_loss_that_never_falls_is_told() -> None:
    for losses in (np.linspace(1, 2, 200), np.array([])):
        with pytest.raises(InputError, match="falls at no learning rate"):
            steepest_rate(RATES[: len(losses)], losses)


def test_smoothing_neither_shifts_nor_lifts() -> None:
    line = np.linspace(2, 1, 100)
    assert smooth(line, width=10)[20:80] == pytest.approx(line[20:80])
    rough = line + 0.1 * (-1) ** np.arange(100)
    assert smooth(rough, width=10)[20:80] == pytest.approx(line[20:80], abs=1e-3)


def test_a_loss_far_above_its_lowest_runs_away() -> None:
    assert not runs_away([9.0, 1.0, 1.0])
    assert not runs_away([1.0] * 9 + [5.0])
    assert runs_away([1.0] * 9 + [5.0] * 5)


def test_a_sweep_trains_at_rising_rates_and_ends_when_the_loss_runs_away(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe({"stages.0.optimiser": {"name": "sgd"}})
    fold = tiny_fold(recipe)
    sweep = sweep_rates(recipe, fold.train, spec=fold.spec, fabric=one_device(), low=1e-4, high=1e4, steps=60)
    assert len(sweep.rates) == len(sweep.losses) == len(sweep.smoothed) <= 60
    assert sweep.rates[0] == pytest.approx(1e-4)
    assert np.allclose(sweep.rates[1:] / sweep.rates[:-1], 1e8 ** (1 / 59))
    assert np.isfinite(sweep.losses).all()
    assert sweep.rates[0] <= sweep.steepest <= sweep.rates[-1]
    again = sweep_rates(recipe, fold.train, spec=fold.spec, fabric=one_device(), low=1e-4, high=1e4, steps=60)
    assert (again.losses == sweep.losses).all()


def test_fewer_tiles_than_a_batch_can_be_swept() -> None:
    recipe = tiny_recipe()
    fold = tiny_fold(recipe, train=tiny_tiles(3, seed=1))
    assert sweep_rates(recipe, fold.train, spec=fold.spec, fabric=one_device(), steps=30).steepest > 0


def test_a_sweep_of_a_data_set_is_drawn(tmp_path: Path) -> None:
    data = make_synthetic(labelled=12, unlabelled=2, seed=1)[0]
    sweep = find_rate(tiny_run_recipe(), data, tmp_path / "rate.png")
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")
    assert 1e-6 <= sweep.steepest <= 10
    with pytest.raises(InputError, match="expected the name of a file to write, found a folder"):
        find_rate(tiny_run_recipe(), data, tmp_path)
    bare = tiny_run_recipe().model_copy(update={"stages": (), "models": {"one": tiny_run_recipe()}})
    with pytest.raises(InputError, match="give one of them with --model, one"):
        find_rate(bare, data, tmp_path / "none.png")
    nothing = data.labelled.take(np.arange(1))
    with pytest.raises(InputError, match="expected at least 2 labelled tiles"):
        find_rate(tiny_run_recipe(), type(data)(nothing, data.unlabelled, data.record), tmp_path / "none.png")
