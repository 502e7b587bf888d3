import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diapir.recipe.training import Stage
from diapir.train.cycles import batch_size, cycle_rate, cycles_of, epoch_order, epoch_steps, is_over
from fake_training import tiny_recipe


def stage(**named: Any) -> Stage:
    return Stage.model_validate({"name": "a", "epochs": 1} | named)


def test_cycles_come_in_the_order_of_their_stages() -> None:
    recipe = tiny_recipe({"stages.1.cycles": 3})
    cycles = cycles_of(recipe)
    assert [cycle.name for cycle in cycles] == ["small", "native-1", "native-2", "native-3"]
    assert [cycle.stage for cycle in cycles] == [recipe.stages[0], *[recipe.stages[1]] * 3]


# Epochs.


@given(st.integers(1, 60), st.integers(2, 20), st.integers(1, 3), st.booleans())
def test_an_epoch_is_whole_batches_of_tiles_that_are_there(
    tiles: int, batch: int, passes: int, replacement: bool
) -> None:
    section = stage(batch=batch, passes=passes, replacement=replacement)
    order = epoch_order(section, tiles, rng=torch.Generator().manual_seed(0))
    assert len(order) == epoch_steps(section, tiles) * batch_size(section, tiles)
    assert epoch_steps(section, tiles) == passes * max(tiles // batch, 1)
    assert set(order.tolist()) <= set(range(tiles))


@given(st.integers(1, 60), st.integers(2, 20), st.integers(1, 3))
def test_no_tile_comes_twice_in_one_pass(tiles: int, batch: int, passes: int) -> None:
    order = epoch_order(stage(batch=batch, passes=passes), tiles, rng=torch.Generator().manual_seed(0))
    for a_pass in order.view(passes, -1).tolist():
        assert len(set(a_pass)) == len(a_pass)
        assert len(a_pass) > tiles - batch


def test_the_first_place_draws_two_passes_of_random_batches() -> None:
    section = stage(batch=24, passes=2, replacement=True)
    order = epoch_order(section, 3136, rng=torch.Generator().manual_seed(0))
    assert epoch_steps(section, 3136) == 2 * (3136 // 24)
    # Of n draws from n tiles a share of 1 - 1 / e is distinct; of 2 n, one of 1 - 1 / e^2.
    assert len(set(order.tolist())) / 3136 == pytest.approx(1 - math.exp(-2), abs=0.02)


def test_epochs_differ() -> None:
    for replacement in (False, True):
        rng = torch.Generator().manual_seed(0)
        first, second = (epoch_order(stage(batch=4, replacement=replacement), 40, rng=rng) for _ in range(2))
        assert not torch.equal(first, second)


# Rates.


def test_cosine_cycles_over_epochs_follow_the_published_formula() -> None:
    section = stage(epochs=50, optimiser={"lr": 0.012}, schedule={"name": "cosine", "per": "epoch", "lowest_lr": 1e-3})
    for epoch in range(50):
        expected = 0.001 + (0.012 - 0.001) * (1 + math.cos(math.pi * epoch / 50)) / 2
        (rate,) = {cycle_rate(section, epoch=epoch, step=step, steps=7, scores=()) for step in range(7)}
        assert rate == pytest.approx(expected)


def test_a_cosine_over_steps_ends_with_the_last_of_them() -> None:
    section = stage(epochs=5, optimiser={"lr": 0.01}, schedule={"name": "cosine", "lowest_lr": 1e-4})
    assert cycle_rate(section, epoch=0, step=0, steps=7, scores=()) == 0.01
    assert cycle_rate(section, epoch=4, step=6, steps=7, scores=()) == pytest.approx(1e-4)


def test_triangles_go_on_over_the_epochs() -> None:
    schedule = {"name": "triangular2", "half_cycle": 1500, "lowest_lr": 1e-4}
    section = stage(epochs=80, optimiser={"lr": 3e-4}, schedule=schedule)
    assert cycle_rate(section, epoch=9, step=60, steps=160, scores=()) == pytest.approx(3e-4)
    assert cycle_rate(section, epoch=28, step=20, steps=160, scores=()) == pytest.approx(2e-4)


def test_a_plateau_looks_at_the_scores() -> None:
    section = stage(epochs=80, optimiser={"lr": 0.1}, schedule={"name": "plateau", "patience": 2, "factor": 0.5})
    assert cycle_rate(section, epoch=3, step=0, steps=9, scores=[0.5, 0.6, 0.7]) == 0.1
    assert cycle_rate(section, epoch=3, step=0, steps=9, scores=[0.7, 0.6, 0.7]) == 0.05


# Ends.


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=12), st.integers(1, 12), st.integers(1, 4))
def test_a_cycle_ends_where_a_plain_simulation_ends(scores: list[float], epochs: int, patience: int) -> None:
    section = stage(epochs=epochs, stop_patience=patience)
    best, waited, end = -1.0, 0, None
    for epoch, score in enumerate(scores[:epochs], start=1):
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == patience or epoch == epochs:
            end = epoch
            break
    found = next(
        (epoch for epoch in range(1, len(scores) + 1) if is_over(section, epochs=epoch, scores=scores[:epoch])), None
    )
    assert found == end


def test_without_patience_a_cycle_has_its_length() -> None:
    assert not is_over(stage(epochs=3), epochs=2, scores=[0.9, 0.1])
    assert is_over(stage(epochs=3), epochs=3, scores=[])
