"""Figures of a report are those that a slow count gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diapir.review.report.gallery import best, worst
from diapir.review.report.run import Found, RunView, data_opener, has_salt, read_run, tile_uncertainty
from diapir.review.report.scores import Confusion, confusion, group_figures, nothing_score, verdict
from diapir.review.report.training import learned
from fake_report_run import write_fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    folder = write_fake_run(tmp_path_factory.mktemp("runs") / "made")
    return read_run(folder, name="made", data_path=None, open_data=data_opener())


def truth_of(run: RunView) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    assert run.tiles is not None
    assert run.tiles.masks is not None
    return np.asarray(run.tiles.masks == 1)


def test_empty_tiles_are_counted_as_a_loop_counts_them(run: RunView) -> None:
    assert isinstance(run.found, Found)
    counts = {(holds, says): 0 for holds in (False, True) for says in (False, True)}
    for truth, mask in zip(truth_of(run), run.found.final, strict=True):
        counts[bool(truth.any()), bool((mask > 0.5).any())] += 1
    found = confusion(run)
    assert found == Confusion(counts[False, False], counts[False, True], counts[True, False], counts[True, True])
    assert has_salt(run.found, 0.5).sum() == counts[False, True] + counts[True, True]


def test_uncertainty_is_one_where_nothing_is_known_and_none_where_all_is(run: RunView) -> None:
    assert isinstance(run.found, Found)
    halves, sure = (np.full((3, 4, 4), value, np.float16) for value in (0.5, 1.0))
    assert tile_uncertainty(replace(run.found, probability=halves)).tolist() == [1, 1, 1]
    assert tile_uncertainty(replace(run.found, probability=sure)).tolist() == [0, 0, 0]


def test_the_worst_tiles_have_no_better_score_than_any_other_and_the_best_no_worse(run: RunView) -> None:
    low, high = worst(run, each=5), best(run, each=5)
    others = np.delete(run.scores, low)
    assert run.scores[low].max() <= others.min()
    assert run.scores[high].min() >= np.delete(run.scores, high).max()


def test_of_equal_scores_the_tile_with_more_wrong_pixels_is_worse(run: RunView) -> None:
    assert isinstance(run.found, Found)
    wrong = [((mask > 0.5) != truth).sum() for mask, truth in zip(run.found.final, truth_of(run), strict=True)]
    order = worst(run, each=len(wrong)).tolist()
    pairs = [(run.scores[row], -wrong[row]) for row in order]
    assert pairs == sorted(pairs)


def test_every_tile_called_empty_scores_the_share_of_empty_tiles(run: RunView) -> None:
    assert nothing_score(run) == pytest.approx(np.mean([not truth.any() for truth in truth_of(run)]))


def test_the_verdict_weighs_the_interval_against_calling_every_tile_empty(run: RunView) -> None:
    nothing = nothing_score(run)
    for low, high, told in (
        (nothing + 0.1, nothing + 0.2, "better than"),
        (nothing - 0.2, nothing - 0.1, "worse than"),
        (nothing - 0.1, nothing + 0.1, "cannot be told from"),
    ):
        record = run.record | {"interval_95": [low, high], "score": (low + high) / 2}
        assert told in verdict(replace(run, record=record))


def test_groups_of_tiles_hold_each_tile_once_a_kind(run: RunView) -> None:
    found = group_figures(run.facts, run.scores)
    assert found[0].name == "all"
    assert found[0].score == pytest.approx(run.scores.mean())
    for kind in ("depth", "coverage"):
        own = [each for each in found if each.name.startswith(kind)]
        assert sum(each.num_tiles for each in own) == len(run.facts)
        mean = sum(each.num_tiles * each.score for each in own) / len(run.facts)
        assert mean == pytest.approx(run.scores.mean())


def test_epochs_of_every_fold_are_found(run: RunView) -> None:
    assert {each.step: sorted(each.logs) for each in learned(run)} == {
        "one": ["fold-0", "fold-1"],
        "two": ["fold-0", "fold-1"],
    }


def test_a_run_has_its_tiles_in_the_order_of_its_table(run: RunView, tmp_path: Path) -> None:
    assert run.tiles is not None
    assert [fact["id"] for fact in run.facts] == list(run.tiles.ids)
    classes = [int(fact["coverage_class"]) for fact in run.facts]
    shares = [truth.mean() for truth in truth_of(run)]
    assert all(number == np.ceil(np.round(10 * share, 9)) for number, share in zip(classes, shares, strict=True))
