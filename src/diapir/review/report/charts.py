"""Charts as SVG: curves, scores with intervals, and pictures with axes; readable on a telephone too."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diapir.review.report.markup import Child, Html, join, shortened, tag

Numbers = Sequence[float]
WIDTH = 420
"""Units of a chart's width; its text is 12 of them, which a telephone shows at that size."""

_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 250, 58, 12, 14, 40
_COLOURS = 5
_LETTER = 6.2  # units of width, at 11 units of height
_MOST_POINTS = 1500
_ROW = 20
_LONGEST_NAME = 28
_GREATEST = 1e12
_LEAST = 1e-100
"""Of a difference: one that is smaller has no inverse."""


class Range(NamedTuple):
    """From one end of an axis to the other; an axis of depth ends with the smaller number."""

    first: float
    last: float


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Args:
        x, y: of equal length; where `y` is no finite number, the line has a gap.
        low, high: of a band around it; empty for none.
        has_dots: whether each point is marked.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    has_dots: bool = False


class Band(NamedTuple):
    """A part of the horizontal axis with a name, such as a stage of training."""

    name: str
    first: float
    last: float


class Row(NamedTuple):
    """A row of a chart of intervals: for each series a middle with its ends, or None."""

    name: str
    values: tuple[tuple[float, float, float] | None, ...]


@dataclass(frozen=True)
class Frame:
    """What a chart is drawn in: where numbers lie in it."""

    x: Range
    y: Range
    height: int = _HEIGHT
    left: int = _LEFT

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point in units of the chart."""
        return self.across(x), self.down(y)

    def across(self, x: float) -> float:
        """Of a number of the horizontal axis."""
        share = (x - self.x.first) / ((self.x.last - self.x.first) or 1)
        return self.left + share * (WIDTH - self.left - _RIGHT)

    def down(self, y: float) -> float:
        """Of a number of the vertical axis, whose first end lies below."""
        share = (y - self.y.first) / ((self.y.last - self.y.first) or 1)
        return self.height - _BOTTOM - share * (self.height - _BOTTOM - _TOP)


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    axes: tuple[str, str],
    told: str,
    x: Range | None = None,
    y: Range | None = None,
    bands: Sequence[Band] = (),
    mark: float | None = None,
    is_diagonal: bool = False,
) -> Html:
    """Curves over one axis, with a caption above and a legend below where there are several.

    Args:
        axes: what the horizontal and the vertical axis are.
        told: the chart in words, for those who do not see it.
        x, y: ends of the axes; None for those of the curves.
        mark: number of the horizontal axis with a line through it.
        is_diagonal: whether equal numbers of both axes are joined by a line.
    """
    curves = [_thinned(curve) for curve in curves]
    known = [
        (*point,) for curve in curves for point in zip(curve.x, curve.y, strict=True) if all(map(_is_drawn, point))
    ]
    if not known:
        return figure(title, tag("p", "There is nothing to draw.", class_="missing"))
    heights = [value for curve in curves for part in (curve.y, curve.low, curve.high) for value in part]
    across = x or _range_of([first for first, _ in known], is_padded=False)
    frame = Frame(across, y or _range_of([value for value in heights if _is_drawn(value)]))
    inner: list[Child] = [*_bands(frame, bands), *_ticks(frame, axes)]
    if is_diagonal:
        (left, bottom), (right, top) = frame.at(frame.x.first, frame.x.first), frame.at(frame.x.last, frame.x.last)
        inner.append(tag("line", x1=left, y1=bottom, x2=right, y2=top, class_="mark"))
    if mark is not None:
        at = frame.across(mark)
        inner.append(tag("line", x1=at, y1=float(_TOP), x2=at, y2=frame.down(frame.y.first), class_="mark"))
    for number, curve in enumerate(curves):
        inner += _curve(frame, curve, number)
    return figure(title, drawing(inner, frame.height, told=told), legend([curve.name for curve in curves]))


def interval_chart(
    title: str, rows: Sequence[Row], *, series: Sequence[str], axis: str, told: str, x: Range | None = None
) -> Html:
    """A row for each group, with a dot and a line from end to end for each series."""
    ends = [end for row in rows for value in row.values if value for end in value if _is_drawn(end)]
    if not ends:
        return figure(title, tag("p", "There is nothing to draw.", class_="missing"))
    step = max(_ROW, 9 * len(series) + 4)
    left = 24 + round(6.6 * min(max(len(row.name) for row in rows), _LONGEST_NAME))
    frame = Frame(x or _range_of(ends), Range(len(rows), 0), height=_TOP + _BOTTOM + step * len(rows), left=left)
    inner: list[Child] = [*_ticks(frame, (axis, ""), is_flat=True)]
    for place, row in enumerate(rows):
        middle = frame.down(place + 0.5)
        inner.append(tag("text", shortened(row.name, _LONGEST_NAME), x=frame.left - 6, y=middle + 4, text_anchor="end"))
        for number, value in enumerate(row.values):
            if value is not None and all(map(_is_drawn, value)):
                inner += _whisker(frame, value, middle + 9 * (number - (len(series) - 1) / 2), number)
    return figure(title, drawing(inner, frame.height, told=told), legend(series))


def picture_chart(
    title: str,
    picture: str,
    *,
    frame: Frame,
    axes: tuple[str, str],
    told: str,
    curves: Sequence[Curve] = (),
    scale: Html | None = None,
) -> Html:
    """A picture that fills the space between two axes, with curves above it.

    Args:
        picture: data URI of a PNG.
        curves: in numbers of the axes; each with the band from its low to its high.
        scale: what the colours mean.
    """
    (left, top), (right, bottom) = frame.at(frame.x.first, frame.y.last), frame.at(frame.x.last, frame.y.first)
    place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    inner: list[Child] = [tag("image", href=picture, preserveAspectRatio="none", **place)]
    inner += _ticks(frame, axes, is_short=True)
    for number, curve in enumerate(curves):
        inner += _curve(frame, _thinned(curve), number, kind="p")
    names = [curve.name for curve in curves]
    return figure(title, drawing(inner, frame.height, told=told), legend(names, least=1, kind="p"), scale)


def drawing(children: Iterable[Child], height: int, *, told: str) -> Html:
    """An SVG that says in words what it shows."""
    return tag("svg", tag("title", told), *children, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=told)


def figure(title: str, *children: Child) -> Html:
    """A picture with its caption."""
    return tag("figure", tag("figcaption", tag("strong", title)), *children)


def legend(names: Sequence[str], *, least: int = 2, kind: str = "c") -> Html | None:
    """Which line is which; None where there are fewer of them than `least`.

    Args:
        kind: `c` for colours that go with the page, `p` for those on pictures.
    """
    if len(names) < least:
        return None
    samples = [
        tag("svg", tag("line", x1=0, y1=5, x2=28, y2=5, class_=f"curve {kind}{number % _COLOURS}"), viewBox="0 0 28 10")
        for number in range(len(names))
    ]
    return tag(
        "ul",
        *(tag("li", sample, shortened(name, 60)) for sample, name in zip(samples, names, strict=True)),
        class_="legend",
    )


def ticks_of(ends: Range, *, most: int = 6) -> list[float]:
    """Round numbers between two ends, in steps of 1, 2 or 5 times a power of ten."""
    low, high = min(ends), max(ends)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * times for times in (1, 2, 5, 10) if power * times >= rough), rough)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + number) * step for number in range(min(count, 2 * most))]


def _is_drawn(value: float) -> bool:
    """Whether a number has a place in a chart: beyond what any figure of a run reaches, arithmetic overflows."""
    return math.isfinite(value) and abs(value) < _GREATEST


def _range_of(values: Numbers, *, is_padded: bool = True) -> Range:
    low, high = min(values), max(values)
    spare = (high - low) * 0.06 if is_padded else 0.0
    if high - low < _LEAST:
        spare = abs(high) * 0.1 if abs(high) > _LEAST else 0.5
    return Range(low - spare, high + spare)


def _ticks(frame: Frame, axes: tuple[str, str], *, is_flat: bool = False, is_short: bool = False) -> list[Child]:
    """Lines and numbers of both axes; of the horizontal one alone where the chart has rows.

    Args:
        is_short: whether lines end at the axis, and leave what lies within alone.
    """
    bottom, top = frame.height - _BOTTOM, _TOP
    drawn: list[Child] = []
    for value in ticks_of(frame.x):
        across = frame.across(value)
        drawn.append(
            tag(
                "line", x1=across, y1=float(bottom if is_short else top), x2=across, y2=float(bottom + 4), class_="tick"
            )
        )
        drawn.append(tag("text", f"{value:g}", x=across, y=float(bottom + 17), text_anchor="middle", class_="soft"))
    for value in [] if is_flat else ticks_of(frame.y):
        down = frame.down(value)
        drawn.append(
            tag(
                "line",
                x1=frame.left - 4,
                y1=down,
                x2=frame.left if is_short else WIDTH - _RIGHT,
                y2=down,
                class_="tick",
            )
        )
        drawn.append(tag("text", f"{value:g}", x=frame.left - 7, y=down + 4, text_anchor="end", class_="soft"))
    drawn.append(tag("path", d=f"M{frame.left} {top}V{bottom}H{WIDTH - _RIGHT}", class_="axis"))
    middle = (frame.left + WIDTH - _RIGHT) / 2
    drawn.append(tag("text", axes[0], x=middle, y=frame.height - 6, text_anchor="middle"))
    if axes[1]:
        down = (top + bottom) / 2
        drawn.append(tag("text", axes[1], x=11, y=down, transform=f"rotate(-90 11 {down:g})", text_anchor="middle"))
    return drawn


def _bands(frame: Frame, bands: Sequence[Band]) -> list[Child]:
    drawn: list[Child] = []
    for number, band in enumerate(bands):
        left, right = frame.across(band.first), frame.across(band.last)
        if number % 2 == 0:
            place = {"x": left, "y": _TOP, "width": right - left, "height": frame.height - _BOTTOM - _TOP}
            drawn.append(tag("rect", class_="band", **place))
        if right - left > _LETTER * len(band.name):
            place = {"x": (left + right) / 2, "y": _TOP - 3}
            drawn.append(tag("text", band.name, text_anchor="middle", class_="soft", **place))
    return drawn


def _curve(frame: Frame, curve: Curve, number: int, *, kind: str = "c") -> list[Child]:
    colour = f"{kind}{number % _COLOURS}"
    drawn: list[Child] = []
    points = [frame.at(*point) if all(map(_is_drawn, point)) else None for point in zip(curve.x, curve.y, strict=True)]
    if curve.low:
        drawn += [tag("path", d=path, class_=f"spread {colour}") for path in _spread(frame, curve)]
    drawn.append(tag("path", d=_path(points), class_=f"curve {colour}", fill="none"))
    for point in points if curve.has_dots else []:
        if point is not None:
            drawn.append(tag("circle", cx=point[0], cy=point[1], r=3, class_=colour))
    return drawn


def _path(points: Iterable[tuple[float, float] | None]) -> str:
    parts, is_drawing = [], False
    for point in points:
        if point is not None:
            parts.append(f"{'L' if is_drawing else 'M'}{point[0]:.1f} {point[1]:.1f}")
        is_drawing = point is not None
    return "".join(parts)


def _spread(frame: Frame, curve: Curve) -> list[str]:
    """Closed paths of a band, one for each piece that is known without a gap."""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for point in zip(curve.x, curve.low, curve.high, strict=True):
        if all(map(_is_drawn, point)):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [
        _path([*(frame.at(x, high) for x, _, high in piece), *(frame.at(x, low) for x, low, _ in reversed(piece))])
        + "Z"
        for piece in pieces
        if len(piece) > 1
    ]


def _whisker(frame: Frame, value: tuple[float, float, float], down: float, number: int) -> list[Child]:
    middle, low, high = (frame.across(end) for end in value)
    colour = f"c{number % _COLOURS}"
    dot = tag("circle", cx=middle, cy=down, r=4, class_=colour)
    # Squares beside circles, for colours alone are not seen by all.
    square = tag("rect", x=middle - 3.5, y=down - 3.5, width=7, height=7, class_=f"square {colour}")
    return [tag("line", x1=low, y1=down, x2=high, y2=down, class_=f"whisker {colour}"), square if number % 2 else dot]


def _thinned(curve: Curve) -> Curve:
    """No more points than can be told apart; the last one stays."""
    step = -(-len(curve.x) // _MOST_POINTS)
    if step <= 1:
        return curve
    rows = [*range(0, len(curve.x) - 1, step), len(curve.x) - 1]
    parts = {
        name: [values[row] for row in rows] if (values := getattr(curve, name)) else ()
        for name in ("x", "y", "low", "high")
    }
    return Curve(curve.name, **parts, has_dots=curve.has_dots)


def chart_note(chart: Html, text: str) -> Html:
    """A chart with a sentence below it."""
    return tag("div", chart, tag("p", text, class_="soft"))


def side_by_side(charts: Iterable[Child]) -> Html:
    """Charts in as many columns as the screen has room for."""
    return tag("div", join(charts), class_="grid")
