"""Runs side by side: figures in columns, differences on the same tiles, and what differs in how they were made."""

import math
from collections.abc import Sequence

from diapir.predict.comparing import Difference, compare_runs, what_differs
from diapir.review.report.charts import Row, interval_chart, side_by_side
from diapir.review.report.gallery import changed_part
from diapir.review.report.markup import Html, details, join, missing, shortened, table, tag
from diapir.review.report.run import RunView, number, plain, step_figures
from diapir.review.report.scores import (
    Confusion,
    calibration_chart,
    confusion,
    confusion_table,
    groups_part,
    held_out_text,
    nothing_score,
    threshold_chart,
)
from diapir.review.report.training import total_minutes

_MOST_LINES = 400


def comparison_verdict(runs: Sequence[RunView]) -> str:
    """One line: whether later runs are better than the first, on the tiles that both held out."""
    return "; ".join(_against(runs[0], other) for other in runs[1:])


def comparison(runs: Sequence[RunView]) -> list[tuple[str, Html]]:
    """Titles and contents of the sections that hold all runs together."""
    first, others = runs[0], runs[1:]
    pairs = [_pair_part(first, other) for other in others]
    changed = [
        join(
            [
                tag("h3", f"{first.name} and {other.name}") if len(others) > 1 else None,
                changed_part(first, other, each=4, is_inner=len(others) > 1),
            ]
        )
        for other in others
    ]
    charts = [threshold_chart(runs), calibration_chart(runs), *(confusion_table(run) for run in runs)]
    return [
        ("Figures side by side", _figures(runs)),
        ("Paired differences", join(pairs)),
        ("Thresholds, calibration, empty tiles", side_by_side(charts)),
        ("By depth, coverage and boundary", groups_part(runs)),
        ("Where they differ most", join(changed)),
        ("How they were made differently", join(_made(first, other) for other in others)),
    ]


def _against(first: RunView, other: RunView) -> str:
    if why := _why_apart(first, other):
        return f"nobody can say which of {first.name} and {other.name} is better: {why}"
    gain, count = (found := _differences(first, other)[0]).gain, found.num_tiles
    told = f"{gain.difference:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f}) on {count:,} common tiles"
    if gain.low > 0:
        return f"{other.name} is better than {first.name}: {told}"
    if gain.high < 0:
        return f"{other.name} is worse than {first.name}: {told}"
    return f"{other.name} cannot be told from {first.name}: {told}"


def _why_apart(first: RunView, other: RunView) -> str:
    """Why two runs cannot be held against each other; empty where they can."""
    for run in (first, other):
        if not run.facts:
            return f"{run.name} keeps no table of held-out tiles"
    ids = [{fact["id"] for fact in run.facts} for run in (first, other)]
    return "" if ids[0] & ids[1] else "they held out no tile in common"


def _differences(first: RunView, other: RunView) -> list[Difference]:
    return compare_runs(first.folder, other.folder)


def _figures(runs: Sequence[RunView]) -> Html:
    empties = [confusion(run) for run in runs]
    rows = [
        ["recipe", *(run.recipe.name for run in runs)],
        ["score", *(f"{run.record['score']:.4f}" for run in runs)],
        ["95 % interval", *("{:.4f} to {:.4f}".format(*run.interval) for run in runs)],
        ["scored on", *(held_out_text(run) for run in runs)],
        ["every tile called empty", *(f"{nothing_score(run):.4f}" if run.facts else "not kept" for run in runs)],
        ["threshold", *(f"{run.threshold:g}" for run in runs)],
        ["empty tiles given salt", *(_share(each, "empty") for each in empties)],
        ["tiles with salt called empty", *(_share(each, "salt") for each in empties)],
        ["training", *total_minutes(runs)],
        ["peak memory", *(_memory(run) for run in runs)],
        ["epochs", *(plain(run.record.get("epochs")) for run in runs)],
        ["device", *(shortened(plain(run.record.get("device")), 60) for run in runs)],
        ["precision", *(shortened(plain(run.record.get("precision")), 60) for run in runs)],
    ]
    return table("Runs in columns", ["", *(run.name for run in runs)], rows)


def _share(found: Confusion | str, kind: str) -> str:
    if isinstance(found, str):
        return "not kept"
    wrong, right = (found.empty_wrong, found.empty_right) if kind == "empty" else (found.salt_missed, found.salt_right)
    return f"{wrong:,} of {wrong + right:,}"


def _memory(run: RunView) -> str:
    known = [
        peak
        for step in run.recipe.all_steps
        if (peak := number(step_figures(run, step.name).get("peak_memory_mb"))) is not None
    ]
    return f"{max(known):,.0f} MB" if known else "not kept"


def _pair_part(first: RunView, other: RunView) -> Html:
    """The second's scores less the first's, in all and by group, as a table and drawn."""
    title = f"{other.name} less {first.name}"
    if why := _why_apart(first, other):
        return join([tag("h3", title), missing(f"There is no difference to show: {why}.")])
    found = _differences(first, other)
    rows = [
        [
            each.name, f"{each.num_tiles:,}", f"{each.gain.before:.4f}", f"{each.gain.after:.4f}",
            f"{each.gain.difference:+.4f}", f"{each.gain.low:+.4f} to {each.gain.high:+.4f}",
            f"{each.least_visible:.4f}" if math.isfinite(each.least_visible) else "unknown",
        ]
        for each in found
    ]  # fmt: skip
    heads = ["tiles", "number", first.name, other.name, "difference", "95 % interval", "least visible"]
    drawn = [Row(each.name, ((each.gain.difference, each.gain.low, each.gain.high),)) for each in found]
    told = "; ".join(f"{each.name}: {each.gain.difference:+.3f}" for each in found)
    chart = interval_chart(
        f"{title}, with 95 % intervals", drawn, series=[title], axis="difference of scores", told=told
    )
    note = (
        "The same tiles are scored by both; an interval that holds 0 shows no difference. Least visible is the "
        "smallest difference that so many tiles would have shown, four times in five."
    )
    return join([tag("h3", title), tag("p", note, class_="soft"), table(title, heads, rows), side_by_side([chart])])


def _made(first: RunView, other: RunView) -> Html:
    lines = [shortened(line, 400) for line in what_differs(first.folder, other.folder)]
    items = [tag("li", line) for line in lines[:_MOST_LINES]]
    title = f"{first.name} -> {other.name}: {len(lines):,} lines"
    return details(title, tag("ul", *items), is_open=len(lines) <= 40)
