"""A calibrated probability is the share of salt among pixels that were given the raw one."""

import numpy as np
import pytest

from diapir.data.tiles import UNKNOWN
from diapir.predict.calibration import calibration_table

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_law_behind_the_pixels_is_found(power: float) -> None:
    raw = RNG.random((300, 40, 40)).astype(np.float16)
    truth = (RNG.random(raw.shape) < raw.astype(np.float64) ** power).astype(np.uint8)
    table = calibration_table(raw, truth)
    assert table is not None
    assert len(table["raw"]) == 32
    np.testing.assert_allclose(table["true"], np.array(table["raw"]) ** power, atol=0.02)


def test_tables_rise_whatever_the_pixels_say() -> None:
    raw = RNG.random((4, 10, 10))
    table = calibration_table(raw, (RNG.random(raw.shape) < 1 - raw).astype(np.uint8))
    assert table is not None
    assert (np.diff(table["raw"]) > 0).all()
    assert (np.diff(table["true"]) >= 0).all()
    assert 0.3 < table["true"][0] < 0.7, "falling shares are put together"


def test_unknown_pixels_do_not_count() -> None:
    raw = np.repeat([[0.1, 0.9]], 100, axis=0)[:, :, None]
    truth = np.repeat([[0, 1]], 100, axis=0)[:, :, None].astype(np.uint8)
    truth[50:, 1] = UNKNOWN
    assert calibration_table(raw, truth) == {"raw": [0.1, 0.9], "true": [0.0, 1.0]}
    truth[:, 1] = UNKNOWN
    assert calibration_table(raw, truth) is None


def test_ends_belong_to_the_outer_parts() -> None:
    raw = np.array([[[0.0, 1.0]]])
    assert calibration_table(raw, np.array([[[0, 1]]], np.uint8)) == {"raw": [0.0, 1.0], "true": [0.0, 1.0]}
