import hashlib
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label

from diapir.faults import InputError
from diapir.volume import synthetic_cube
from diapir.volume.smooth_fields import SmoothField, field_on
from diapir.volume.synthetic_cube import USUAL_AMPLITUDE, Earth, draw_earth, make_part
from diapir.volume.synthetic_salt import KINDS, BodyKind, draw_salt, salt_distance
from diapir.volume.synthetic_survey import (
    MaskKind,
    SurveyGrid,
    SyntheticSurvey,
    decimate,
    live_mask,
    make_survey,
    trace_positions,
)

Values = NDArray[np.float64]
Truth = NDArray[np.bool_]

TINY = (24, 20, 48)
SMALL = (64, 48, 112)


@pytest.fixture(scope="module")
def earth() -> Earth:
    return draw_earth(SMALL, seed=1)


@pytest.fixture(scope="module")
def survey() -> SyntheticSurvey:
    return make_survey(inlines=SMALL[0], crosslines=SMALL[1], samples=SMALL[2], seed=1)


def make_tiny(seed: int) -> SyntheticSurvey:
    return make_survey(inlines=TINY[0], crosslines=TINY[1], samples=TINY[2], seed=seed)


def digest_of(survey: SyntheticSurvey) -> str:
    arrays = (survey.amplitude, survey.salt, survey.top_of_salt, survey.base_of_salt, *survey.cdp_m)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def axes_of(shape: tuple[int, ...], *, step: int = 1) -> tuple[Values, Values, Values]:
    inline, crossline, sample = (np.arange(0.0, length, step) for length in shape)
    return inline, crossline, sample


def iou(found: Truth, truth: Truth) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_same_seed_gives_the_same_bytes_and_another_seed_another_earth() -> None:
    assert digest_of(make_tiny(4)) == digest_of(make_tiny(4))
    assert digest_of(make_tiny(4)) != digest_of(make_tiny(5))
    assert (make_tiny(4).salt != make_tiny(5).salt).any()


def test_last_bits_of_arithmetic_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digest_of(make_tiny(2))
    rng = np.random.default_rng(0)
    calls: list[int] = []

    def inexact(field: SmoothField, *axes: Values) -> Values:
        values = field_on(field, *axes)
        calls.append(values.size)
        return np.asarray(values * (1.0 + 1e-10 * rng.choice([-2, -1, 1, 2], size=values.shape)), np.float64)

    monkeypatch.setattr(synthetic_cube, "field_on", inexact)
    assert digest_of(make_tiny(2)) == expected
    assert calls


def test_an_earth_is_the_same_however_it_is_cut(earth: Earth, survey: SyntheticSurvey) -> None:
    for first, last in ((0, 3), (17, 18), (40, SMALL[0])):
        part = make_part(earth, first, last)
        np.testing.assert_array_equal(part.amplitude, survey.amplitude[first:last])
        np.testing.assert_array_equal(part.salt, survey.salt[first:last])
        np.testing.assert_array_equal(part.top_of_salt, survey.top_of_salt[first:last])
        np.testing.assert_array_equal(part.base_of_salt, survey.base_of_salt[first:last])


def test_arrays_have_the_shape_and_kind_that_they_are_said_to_have(survey: SyntheticSurvey) -> None:
    assert survey.amplitude.shape == survey.salt.shape == SMALL
    assert survey.top_of_salt.shape == survey.base_of_salt.shape == SMALL[:2]
    kinds = [array.dtype for array in (survey.amplitude, survey.salt, survey.top_of_salt, survey.base_of_salt)]
    assert kinds == [np.float32, np.bool_, np.float32, np.float32]


def test_amplitudes_are_whole_numbers_of_two_bytes_around_zero(survey: SyntheticSurvey) -> None:
    amplitude = survey.amplitude.astype(np.float64)
    assert (amplitude == np.rint(amplitude)).all()
    assert np.abs(amplitude).max() < 2**15
    spread = amplitude.std()
    assert 0.3 * USUAL_AMPLITUDE < spread < 3 * USUAL_AMPLITUDE
    assert abs(amplitude.mean()) < 0.02 * spread


def test_salt_is_where_the_function_of_the_model_is_positive(earth: Earth, survey: SyntheticSurvey) -> None:
    inside, _ = salt_distance(earth.salt, *axes_of(SMALL))
    np.testing.assert_array_equal(survey.salt, inside > 0)


def test_function_of_the_model_is_about_the_distance_to_the_surface(earth: Earth) -> None:
    _, smooth = salt_distance(earth.salt, *axes_of(SMALL))
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(smooth)))
    near = np.abs(smooth) < 2
    assert 0.7 < np.median(slope[near]) < 1.4
    assert np.quantile(slope[near], 0.05) > 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_of_any_kind_is_as_large_as_salt_is(kind: BodyKind) -> None:
    for seed in range(3):
        shape = (72, 60, 80)
        inside, _ = salt_distance(draw_salt(np.random.default_rng(seed), shape, kinds=(kind,)), *axes_of(shape, step=3))
        assert 0.05 < (inside > 0).mean() < 0.25


@pytest.mark.parametrize("shape", [(8, 8, 32), (8, 60, 40), (60, 8, 40), (40, 30, 200)])
def test_salt_of_surveys_of_any_shape_is_part_of_them(shape: tuple[int, int, int]) -> None:
    for seed in range(3):
        inside, _ = salt_distance(draw_salt(np.random.default_rng(seed), shape), *axes_of(shape))
        assert 0.04 < (inside > 0).mean() < 0.28


def test_one_to_three_bodies_of_different_kinds_are_drawn() -> None:
    drawn = [draw_salt(np.random.default_rng(seed), (8, 8, 32)).kinds for seed in range(30)]
    assert {len(kinds) for kinds in drawn} == {1, 2, 3}
    assert all(len(set(kinds)) == len(kinds) for kinds in drawn)
    assert {kind for kinds in drawn for kind in kinds} == set(KINDS)


def test_overhangs_have_layers_below_salt_and_domes_few() -> None:
    def share_of_traces_with_two_tops(kind: BodyKind) -> float:
        shape = (60, 60, 80)
        models = [draw_salt(np.random.default_rng(seed), shape, kinds=(kind,)) for seed in range(2)]
        salt = np.stack([salt_distance(model, *axes_of(shape, step=2))[0] > 0 for model in models])
        tops = (salt[..., 1:] & ~salt[..., :-1]).sum(-1)
        return float((tops > 1).sum() / (tops > 0).sum())

    assert share_of_traces_with_two_tops("overhang") > 0.05
    assert share_of_traces_with_two_tops("overhang") > 2 * share_of_traces_with_two_tops("pillow")


def test_no_salt_lies_in_the_shallow_part() -> None:
    for seed in range(5):
        model = draw_salt(np.random.default_rng(seed), TINY)
        inside, _ = salt_distance(model, *axes_of(TINY))
        first = int((inside > 0).any((0, 1)).argmax())
        assert first > model.ceiling > 0.1 * TINY[2]


def test_salt_has_few_bits_of_its_own(survey: SyntheticSurvey) -> None:
    parts, count = label(survey.salt)
    sizes = np.bincount(parts.ravel())[1:]
    assert count <= 12
    assert np.sort(sizes)[-3:].sum() > 0.99 * sizes.sum()


def test_top_and_base_lie_between_the_samples_where_the_function_changes_sign(
    earth: Earth, survey: SyntheticSurvey
) -> None:
    inside, _ = salt_distance(earth.salt, *axes_of(SMALL))
    for i in range(0, SMALL[0], 5):
        for x in range(0, SMALL[1], 3):
            trace, top, base = inside[i, x], survey.top_of_salt[i, x], survey.base_of_salt[i, x]
            within = [sample for sample in range(SMALL[2]) if trace[sample] > 0]
            if not within:
                assert np.isnan([top, base]).all()
                continue
            first, last = within[0], within[-1]
            assert first - 1 <= top < first
            assert np.interp(top, np.arange(SMALL[2]), trace) == pytest.approx(0, abs=0.02)
            if last == SMALL[2] - 1:
                assert np.isnan(base)
            else:
                assert last < base <= last + 1
                assert np.interp(base, np.arange(SMALL[2]), trace) == pytest.approx(0, abs=0.02)


def test_top_of_salt_is_the_strongest_reflection_around_and_lies_at_the_truth(survey: SyntheticSurvey) -> None:
    around = windows_around(survey.amplitude, survey.top_of_salt, reach=8)
    assert np.median(np.abs(np.abs(around).argmax(1) - 8)) <= 2
    mean = around.mean(0)
    assert abs(int(mean.argmax()) - 8) <= 1
    assert mean.max() == np.abs(mean).max()
    assert mean.max() > 1.5 * survey.amplitude.std()


def test_base_of_salt_is_weaker_than_its_top_and_of_the_other_sign(survey: SyntheticSurvey) -> None:
    top = windows_around(survey.amplitude, survey.top_of_salt, reach=8).mean(0)
    base = windows_around(survey.amplitude, survey.base_of_salt, reach=8).mean(0)
    assert abs(int(base.argmin()) - 8) <= 1
    assert 0 < -base.min() < top.max()


def windows_around(amplitude: NDArray[np.float32], surface: NDArray[np.float32], *, reach: int) -> Values:
    """Amplitudes around a surface that lies well within the survey: float64 (traces, 2 * reach + 1)."""
    inline, crossline = np.nonzero((surface > reach + 1) & (surface < amplitude.shape[2] - reach - 2))
    assert len(inline) > 50
    middle = np.rint(surface[inline, crossline]).astype(int)
    rows = middle[:, None] + np.arange(-reach, reach + 1)
    return amplitude[inline[:, None], crossline[:, None], rows].astype(np.float64)


def test_dominant_wavelength_is_that_of_migrated_data_and_grows_with_depth() -> None:
    def wavelength(first: int, last: int) -> float:
        """Twice the mean distance of changes of sign."""
        part = amplitude[:, :, first:last]
        return float(2 * part.size / np.count_nonzero(np.diff(np.signbit(part), axis=2)))

    parts = [make_part(draw_earth((8, 60, 200), seed=seed), 0, 8) for seed in range(3)]
    amplitude = np.concatenate([part.amplitude for part in parts])
    shallow, deep = wavelength(0, 60), wavelength(140, 200)
    assert 6 < shallow < deep < 24
    assert deep > 1.25 * shallow


def test_the_earth_is_as_coherent_from_inline_to_inline_as_along_them(survey: SyntheticSurvey) -> None:
    amplitude = survey.amplitude
    across = np.corrcoef(amplitude[1:].ravel(), amplitude[:-1].ravel())[0, 1]
    along = np.corrcoef(amplitude[:, 1:].ravel(), amplitude[:, :-1].ravel())[0, 1]
    assert across > 0.85
    assert across == pytest.approx(along, abs=0.05)
    assert np.corrcoef(amplitude[0].ravel(), amplitude[-1].ravel())[0, 1] < 0.7


def test_the_two_sides_of_a_fault_are_displaced_against_each_other_by_its_throw(earth: Earth) -> None:
    middle = SMALL[1] / 2 - 0.5
    fault = replace(
        earth.faults[0], middle=(0.0, middle), strike=0.0, lean=0.0, listric=0.0, throw=12.0, length=1e6, height=1e6
    )
    whole = replace(earth, haze=0.0, faults=())
    faulted = replace(whole, faults=(replace(fault, reach=1e6),))
    broken, still = (make_part(e, 0, SMALL[0]) for e in (faulted, whole))
    np.testing.assert_array_equal(broken.salt, still.salt)
    _, distance = salt_distance(earth.salt, *axes_of(SMALL))
    layers = distance < -5
    crossline = np.arange(SMALL[1])[:, None]
    sides = (layers & (crossline < middle - 3), layers & (crossline > middle + 3))
    moved = [best_shift(broken.amplitude, still.amplitude, at=side) for side in sides]
    assert moved[0] == pytest.approx(-moved[1], abs=1)
    assert abs(moved[0] - moved[1]) == pytest.approx(12, abs=1)


def test_layers_bend_up_beside_salt(earth: Earth) -> None:
    """Beside salt, layers lie higher than in the earth without drag; far from it, less so."""
    silent = replace(earth, haze=0.0, faults=())
    bent, flat = (make_part(e, 0, SMALL[0]) for e in (silent, replace(silent, drag=0.0)))
    _, distance = salt_distance(earth.salt, *axes_of(SMALL))
    near, far = (
        best_shift(bent.amplitude, flat.amplitude, at=at) for at in ((distance > -10) & (distance < -4), distance < -25)
    )
    assert near <= -5
    assert near + 3 <= far <= 0


def best_shift(moved: NDArray[np.float32], still: NDArray[np.float32], *, at: Truth) -> int:
    """By how many samples the one is moved down against the other, at some places in the middle of the traces."""
    reach = 20
    middle = np.s_[..., reach:-reach]
    where = at[middle]
    assert where.sum() > 1000
    shifts = range(-reach, reach + 1)
    errors = [np.abs(moved[middle] - np.roll(still, shift, 2)[middle])[where].mean() for shift in shifts]
    return shifts[int(np.argmin(errors))]


def test_inside_of_salt_is_chaotic_and_weak() -> None:
    """Away from its surfaces, less is left in the mean over neighbouring traces than of layers; and there is less."""
    ratios = []
    for seed in range(3):
        earth = draw_earth((36, 40, 120), seed=seed, kinds=("dome",))
        part = make_part(earth, 0, 36)
        amplitude = part.amplitude.astype(np.float64)
        left = gaussian_filter(amplitude, (2.5, 2.5, 0))
        below = np.arange(120) - part.top_of_salt[..., None] > 16
        inside = binary_erosion(part.salt, iterations=4) & below
        outside = ~binary_dilation(part.salt, iterations=8)
        energy = [(np.square(left[at]).mean(), np.square(amplitude[at]).mean()) for at in (inside, outside)]
        ratios.append([(energy[0][0] / energy[0][1]) / (energy[1][0] / energy[1][1]), energy[0][1] / energy[1][1]])
    assert np.median(ratios, axis=0)[0] < 0.7
    assert np.median(ratios, axis=0)[1] < 0.7


def test_no_threshold_of_energy_finds_the_salt(survey: SyntheticSurvey) -> None:
    best = 0.0
    for scale in (2.0, 4.0, 8.0):
        energy = gaussian_filter(np.square(survey.amplitude.astype(np.float64)), scale)
        for level in np.quantile(energy, np.linspace(0.02, 0.98, 25)):
            best = max(best, iou(energy < level, survey.salt), iou(energy > level, survey.salt))
    assert best < 0.6


def test_smoothed_attributes_tell_salt_from_layers_in_inlines_that_they_have_not_seen(survey: SyntheticSurvey) -> None:
    table = attributes(survey.amplitude)
    learn, unseen = np.arange(0, SMALL[0], 8), np.arange(4, SMALL[0], 8)
    weights = logistic(table[learn].reshape(-1, table.shape[-1]), survey.salt[learn].ravel())
    found, truth = (table[unseen] @ weights).ravel(), survey.salt[unseen].ravel()
    assert area_under_curve(found, truth) > 0.85


def attributes(amplitude: NDArray[np.float32]) -> Values:
    """Energy, lateral coherence and dip of the surroundings, standardised: float64 (..., attributes)."""
    values = amplitude.astype(np.float64) / USUAL_AMPLITUDE
    steps = np.gradient(values)
    columns = [np.ones(values.shape)]
    for scale in (2.0, 4.0, 8.0):
        energy = gaussian_filter(np.square(values), scale) + 1e-3
        mean = gaussian_filter(np.square(gaussian_filter(values, (2.5, 2.5, 0))), scale)
        columns += [np.log(energy), mean / energy]
        columns += [np.log(gaussian_filter(np.square(step), scale) / energy + 1e-3) for step in steps]
    table = np.stack(columns, -1)
    table[..., 1:] = (table[..., 1:] - table[..., 1:].mean((0, 1, 2))) / table[..., 1:].std((0, 1, 2))
    return table


def logistic(table: Values, truth: Truth) -> Values:
    """Weights of a logistic regression, by Newton's steps with a little ridge."""
    weights = np.zeros(table.shape[1])
    for _ in range(8):
        chance = 1 / (1 + np.exp(-np.clip(table @ weights, -30, 30)))
        slope = table.T @ (chance - truth) + 1.0 * weights
        bend = (table * (chance * (1 - chance))[:, None]).T @ table + 1.0 * np.eye(len(weights))
        weights = weights - np.linalg.solve(bend, slope)
    return weights


def area_under_curve(found: Values, truth: Truth) -> float:
    ranks = np.empty(len(found))
    ranks[np.argsort(found, kind="stable")] = np.arange(1, len(found) + 1)
    yes = int(truth.sum())
    return float((ranks[truth].sum() - yes * (yes + 1) / 2) / (yes * (len(found) - yes)))


def test_numbers_and_positions_are_those_of_the_grid() -> None:
    grid = SurveyGrid(inline_first=1001, inline_step=2, crossline_first=50, crossline_step=3, turn_deg=120.0)
    survey = make_survey(inlines=9, crosslines=8, samples=32, seed=0, grid=grid)
    assert list(survey.inlines) == [1001 + 2 * n for n in range(9)]
    assert list(survey.crosslines) == [50 + 3 * n for n in range(8)]
    x, y = survey.cdp_m
    assert (x[0, 0], y[0, 0]) == (grid.origin_x_m, grid.origin_y_m)
    across = np.hypot(np.diff(x, axis=0), np.diff(y, axis=0))
    along = np.hypot(np.diff(x, axis=1), np.diff(y, axis=1))
    np.testing.assert_allclose(across, grid.inline_spacing_m, atol=0.02)
    np.testing.assert_allclose(along, grid.crossline_spacing_m, atol=0.02)
    right = (x[-1, 0] - x[0, 0]) * (x[0, -1] - x[0, 0]) + (y[-1, 0] - y[0, 0]) * (y[0, -1] - y[0, 0])
    assert abs(right) / (200 * 87.5) < 0.02
    assert np.rad2deg(np.arctan2(y[0, -1] - y[0, 0], x[0, -1] - x[0, 0])) == pytest.approx(120, abs=0.05)
    np.testing.assert_allclose(100 * x, np.rint(100 * x), atol=1e-6)


def test_decimated_lines_keep_numbers_positions_and_samples() -> None:
    survey = make_tiny(3)
    thin = decimate(survey, inlines=3, crosslines=2)
    np.testing.assert_array_equal(thin.amplitude, survey.amplitude[::3, ::2])
    np.testing.assert_array_equal(thin.salt, survey.salt[::3, ::2])
    np.testing.assert_array_equal(thin.top_of_salt, survey.top_of_salt[::3, ::2])
    np.testing.assert_array_equal(thin.base_of_salt, survey.base_of_salt[::3, ::2])
    np.testing.assert_array_equal(thin.inlines, survey.inlines[::3])
    np.testing.assert_array_equal(thin.crosslines, survey.crosslines[::2])
    for found, expected in zip(thin.cdp_m, survey.cdp_m, strict=True):
        np.testing.assert_array_equal(found, expected[::3, ::2])
    assert digest_of(decimate(survey)) == digest_of(survey)


def test_every_trace_has_a_place_of_its_own() -> None:
    x, y = trace_positions(SurveyGrid(), inlines=30, crosslines=40)
    assert len(set(zip(x.ravel(), y.ravel(), strict=True))) == 30 * 40


@pytest.mark.parametrize("kind", ["ragged", "dead"])
@pytest.mark.parametrize("size", [(8, 8), (40, 31), (200, 160)])
def test_same_seed_gives_the_same_mask_and_another_seed_another(kind: MaskKind, size: tuple[int, int]) -> None:
    first, again, other = (live_mask(inlines=size[0], crosslines=size[1], kind=kind, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == size
    assert (first != other).any()


def test_all_traces_of_a_regular_survey_are_live() -> None:
    assert live_mask(inlines=5, crosslines=7, kind="regular", seed=0).sum() == 35


@pytest.mark.parametrize("size", [(8, 8), (12, 90), (200, 160)])
def test_a_ragged_survey_is_one_piece_with_holes_that_reaches_all_sides(size: tuple[int, int]) -> None:
    for seed in range(12):
        live = live_mask(inlines=size[0], crosslines=size[1], kind="ragged", seed=seed)
        assert 0.4 < live.mean() < 1
        assert live[0].any()
        assert live[-1].any()
        assert live[:, 0].any()
        assert live[:, -1].any()
        assert live.any(0).all()
        assert live.any(1).all()
        if min(size) > 100:
            assert np.bincount(label(live)[0].ravel())[1:].max() > 0.98 * live.sum()
            gaps = label(~live)[0]
            at_sides = set(gaps[0]) | set(gaps[-1]) | set(gaps[:, 0]) | set(gaps[:, -1])
            assert set(np.unique(gaps)) - at_sides, "a hole that no side sees"
            starts = live.argmax(1)
            assert len(set(starts)) > 5, "lines start at different places"


def test_few_traces_are_dead_and_most_of_them_have_dead_neighbours() -> None:
    for seed in range(8):
        dead = ~live_mask(inlines=200, crosslines=160, kind="dead", seed=seed)
        assert 0.005 < dead.mean() < 0.15
        sizes = np.bincount(label(dead)[0].ravel())[1:]
        assert sizes[sizes > 3].sum() > 0.6 * dead.sum()
        assert not dead.all(0).any()
        assert not dead.all(1).any()


def test_progress_reaches_the_number_of_inlines() -> None:
    steps: list[int] = []
    make_survey(inlines=11, crosslines=8, samples=32, seed=0, advance=steps.append)
    assert sum(steps) == 11


def test_impossible_numbers_are_refused_all_together() -> None:
    with pytest.raises(InputError) as caught:
        make_survey(inlines=0, crosslines=-1, samples=40_000, seed=-2)
    assert [fault.where for fault in caught.value.faults] == ["--inlines", "--crosslines", "--samples", "--seed"]
    with pytest.raises(InputError, match="smaller survey"):
        make_survey(inlines=50_000, crosslines=50_000, samples=1000, seed=0)
