"""Whatever text is put into a page, a reader sees that text and a browser sees no markup in it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diapir.review.report.charts import Curve, Frame, Range, Row, interval_chart, line_chart, ticks_of
from diapir.review.report.markup import Html, details, join, missing, shortened, style, table, tag, words
from page_checks import Page

FINITE = st.floats(-1e6, 1e6, allow_nan=False)
ANY = st.floats()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf"])))
def test_text_comes_back_as_it_went_in(text: str) -> None:
    inner = tag("p", text, title=text)
    page = Page(f'<html lang="en">{inner.text}</html>')
    assert page.faults == []
    assert page.text == text


@given(st.text())
def test_no_text_is_markup(text: str) -> None:
    parts = [
        table(text, [text], [[text, text]]),
        details(text, text),
        missing(text),
        words(text),
        tag("a", text, href="#"),
    ]
    page = Page(f'<html lang="en"><a id=""></a>{join(parts).text}</html>')
    assert page.faults == []
    join(parts).text.encode("utf-8")


def test_what_is_markup_already_stays_it() -> None:
    assert tag("p", Html("<b>x</b>"), None, 3).text == "<p><b>x</b>3</p>"
    assert tag("img", src="#", alt="a").text == '<img src="#" alt="a">'


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("x" * 11, 10) == "xxxxxxxxxx ... (11 characters)"


def test_a_style_sheet_holds_no_tag() -> None:
    with pytest.raises(AssertionError):
        style("</style>")


@given(FINITE, FINITE)
def test_ticks_are_few_round_and_inside(one: float, other: float) -> None:
    ticks = ticks_of(Range(one, other))
    low, high = sorted((one, other))
    assert 1 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * max(high - low, 1e-9) + 1e-9
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_ends_of_axes_lie_in_the_corners_and_depth_grows_downwards() -> None:
    frame = Frame(Range(0, 10), Range(800, 0))
    assert frame.across(0) < frame.across(10)
    assert frame.down(0) < frame.down(800), "the surface is above"
    flat = Frame(Range(1, 1), Range(2, 2))
    assert flat.at(1, 2) == (flat.left, flat.down(2))


@example([(0.0, 2.225073858507203e-309)])
@given(st.lists(st.tuples(ANY, ANY), max_size=8))
def test_charts_of_any_numbers_can_be_drawn(points: list[tuple[float, float]]) -> None:
    x, y = [point[0] for point in points], [point[1] for point in points]
    charts = [
        line_chart(
            "t", [Curve("a", x, y, y, y, has_dots=True)], axes=("x", "y"), told="words", mark=0.5, is_diagonal=True
        ),
        interval_chart(
            "t", [Row("r", ((b, a, b), None)) for a, b in points], series=["s", "t"], axis="a", told="words"
        ),
    ]
    page = Page(f'<html lang="en">{join(charts).text}</html>')
    assert page.faults == []
    drawn = join(charts).text
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_curve_has_a_gap_where_nothing_is_known() -> None:
    chart = line_chart("t", [Curve("a", [0, 1, 2, 3, 4], [1, 1, float("nan"), 2, 2])], axes=("x", "y"), told="words")
    path = chart.text.split('class="curve')[0].rsplit('d="', 1)[1]
    assert path.count("M") == 2
