import numpy as np
import pytest

from diapir.volume import smooth_fields
from diapir.volume.smooth_fields import DrawnAgain, draw_field, field_on


@pytest.mark.parametrize(("lengths", "trailing"), [((50,), 0), ((50, 30), 0), ((50, 30), 7), ((40, 30, 20), 0)])
def test_a_field_that_is_drawn_again_is_the_one_that_is_held(
    lengths: tuple[int, ...], trailing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spacings = (3.0, 2.5, 4.0)[: len(lengths)]
    generators = [np.random.default_rng(3), np.random.default_rng(3)]
    held = draw_field(generators[0], lengths, spacings=spacings, trailing=trailing)
    monkeypatch.setattr(smooth_fields, "_MOST_HELD", 10)
    again = draw_field(generators[1], lengths, spacings=spacings, trailing=trailing)
    assert isinstance(again.coefficients, DrawnAgain)
    assert not isinstance(held.coefficients, DrawnAgain)
    # What is drawn next is the same too.
    assert generators[0].normal() == generators[1].normal()
    for first in (np.arange(-16.0, lengths[0] + 16), np.arange(20.0, 23), np.array([-3.5, 44.25])):
        axes = (first, *(np.arange(0.0, length, 1.5) for length in lengths[1:]))
        np.testing.assert_allclose(field_on(again, *axes), field_on(held, *axes), rtol=0, atol=1e-13)


def test_a_part_of_a_field_is_that_of_the_whole() -> None:
    field = draw_field(np.random.default_rng(0), (60, 20), spacings=(3.0, 5.0), trailing=4)
    rows, columns = np.arange(-10.0, 70), np.arange(20.0)
    whole = field_on(field, rows, columns)
    assert whole.shape == (80, 20, 4)
    for cut in (slice(0, 5), slice(33, 34), slice(70, 80)):
        np.testing.assert_allclose(field_on(field, rows[cut], columns), whole[cut], rtol=0, atol=1e-13)


def test_fields_have_about_unit_spread() -> None:
    field = draw_field(np.random.default_rng(1), (400, 300), spacings=(3.0, 4.0))
    values = field_on(field, np.arange(400.0), np.arange(300.0))
    assert 0.9 < values.std() < 1.1
