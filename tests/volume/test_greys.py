"""Greys of amplitudes, also of those at the ends of what floats can hold."""

import numpy as np
import pytest

from diapir.volume.greys import to_grey


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("limit", [1e-300, 1e-44, 1e-42, 1e-37, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("flip_polarity", [False, True])
def test_greys_are_right_at_any_size_of_the_limit(limit: float, *, flip_polarity: bool) -> None:
    values = np.array([0, 1e-42, -1e-42, 3e-43, 1, -1, 3e38, -3e38], np.float32)
    sign = -1 if flip_polarity else 1
    exact = np.clip(128 + sign * 127.5 * (values.astype(np.longdouble) / np.longdouble(limit)), 0, 255)
    found = to_grey(values, limit=limit, flip_polarity=flip_polarity)
    np.testing.assert_array_equal(found, exact.astype(np.uint8))
