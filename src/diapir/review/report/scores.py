"""How well runs do: the verdict, the score with its interval, by group, by threshold, calibration, empty tiles."""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import known_alone
from diapir.metrics import bootstrap_interval
from diapir.pipeline.plan import FOLDS
from diapir.predict.calibration import calibration_table
from diapir.predict.comparing import tile_groups
from diapir.predict.scoring import Figure, figure_of
from diapir.predict.threshold import CANDIDATES, candidate_scores
from diapir.review.report.charts import Curve, Range, Row, chart_note, figure, interval_chart, line_chart, side_by_side
from diapir.review.report.markup import Html, details, join, missing, shortened, table, tag, words
from diapir.review.report.run import Found, RunView, has_salt, mapping, number, plain, step_figures

_SHARE = Range(0, 1)


class Confusion(NamedTuple):
    """Held-out tiles by whether they hold salt, and whether the run says so."""

    empty_right: int
    empty_wrong: int
    salt_missed: int
    salt_right: int


def verdict(run: RunView) -> str:
    """One line: how good the run is, held against a mask without any salt."""
    low, high = run.interval
    score = f"{run.record['score']:.3f} (95 % interval {low:.3f} to {high:.3f}) on {held_out_text(run)}"
    if not run.facts:
        return f"{run.recipe.name} scores {score}"
    nothing = nothing_score(run)
    against = f"{nothing:.3f} for calling every tile empty"
    if low > nothing:
        told = f"better than {against}"
    elif high < nothing:
        told = f"worse than {against}"
    else:
        told = f"which cannot be told from {against}"
    return f"{run.recipe.name} scores {score}: {told}"


def held_out_text(run: RunView) -> str:
    """Which tiles the score is of."""
    folds = run.record.get("folds_held_out")
    told = shortened(plain(folds), 40) if isinstance(folds, list) and folds else ""
    tiles = f"{len(run.facts):,} held-out tiles" if run.facts else "held-out tiles"
    return f"{tiles} of fold{'s' if ',' in told else ''} {told}" if told else tiles


def nothing_score(run: RunView) -> float:
    """The score on the same tiles of masks without any salt: the share of tiles that hold none."""
    return float(np.mean([fact["coverage_class"] == "0" for fact in run.facts]))


def score_section(run: RunView) -> Html:
    """Key figures, and the score of each fold."""
    record, (low, high) = run.record, run.interval
    minutes, epochs = number(record.get("train_minutes")), record.get("epochs")
    at_half = number(record.get("score_at_half"))
    cards = [
        ("score", f"{record['score']:.4f}"),
        ("95 % interval", f"{low:.4f} to {high:.4f}"),
        ("threshold", f"{run.threshold:g}"),
        ("score at threshold 0.5", "not kept" if at_half is None else f"{at_half:.4f}"),
        ("every tile called empty", f"{nothing_score(run):.4f}" if run.facts else "not kept"),
        ("held-out tiles", f"{len(run.facts):,}" if run.facts else "not kept"),
        ("training", "not kept" if minutes is None else f"{minutes:.1f} min, {shortened(plain(epochs), 9)} epochs"),
    ]
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in cards]
    kind = f"The score is the competition's: the {record['score_kind']}. The interval is of the mean over these tiles."
    return join([tag("dl", *shown, class_="cards"), tag("p", shortened(kind), class_="soft"), _by_fold(run)])


def threshold_chart(runs: Sequence[RunView]) -> Html:
    """Mean score at each threshold, with the interval of a single run, and the threshold that the run took."""
    curves, untold = [], []
    for run in runs:
        found = _threshold_curve(run, is_alone=len(runs) == 1)
        curves += [found] if isinstance(found, Curve) else []
        untold += [f"{run.name}: {found}"] if isinstance(found, str) else []
    lacks = [missing(f"{text}.") for text in untold]
    title = "Score against threshold"
    if not curves:
        return figure(title, *lacks)
    best = [f"{curve.name}: best {max(curve.y):.4f} at {curve.x[int(np.argmax(curve.y))]:g}" for curve in curves]
    only = runs[0] if len(runs) == 1 and not (isinstance(runs[0].found, Found) and runs[0].found.is_edited) else None
    chart = line_chart(
        title,
        curves,
        axes=("probability above which a pixel is salt", "score"),
        told=f"Curves of score against threshold. {'; '.join(best)}.",
        mark=None if only is None else only.threshold,
    )
    note = "" if only is None else f" The dashed line is the run's own threshold, {only.threshold:g}."
    return join([chart_note(chart, f"{'; '.join(best)}.{note}"), *lacks])


def calibration_chart(runs: Sequence[RunView]) -> Html:
    """Of the pixels that were given a probability, the share that is salt."""
    curves, lacks, told = [], [], []
    for run in runs:
        found = _calibration(run)
        if isinstance(found, str):
            lacks.append(missing(f"{run.name}: {found}."))
            continue
        raw, true = found
        curves.append(Curve(run.name, raw, true, has_dots=len(runs) == 1))
        at = [
            f"{share:.0%} of the pixels given {p:g}" for p, share in zip((0.2, 0.5, 0.8), _at(raw, true), strict=True)
        ]
        told.append(f"{run.name}: salt are {', '.join(at)}")
    title = "Calibration"
    if not curves:
        return figure(title, *lacks)
    chart = line_chart(
        title,
        curves,
        axes=("probability that was given", "share that is salt"),
        told=f"Share of salt against probability; the dashed diagonal is perfect. {'; '.join(told)}.",
        x=_SHARE,
        y=_SHARE,
        is_diagonal=True,
    )
    return join([chart_note(chart, f"{'; '.join(told)}. On the dashed line the two are the same."), *lacks])


def _at(raw: Sequence[float], true: Sequence[float]) -> list[float]:
    return [float(np.interp(p, raw, true)) for p in (0.2, 0.5, 0.8)]


def confusion(run: RunView) -> Confusion | str:
    """Empty and other tiles; a text says why they cannot be counted."""
    if isinstance(run.found, str):
        return run.found
    says = has_salt(run.found, run.threshold)
    holds = np.array([fact["coverage_class"] != "0" for fact in run.facts])
    return Confusion(
        *(
            int((which & claims).sum())
            for which, claims in ((~holds, ~says), (~holds, says), (holds, ~says), (holds, says))
        )
    )


def confusion_table(run: RunView) -> Html:
    """The confusion of empty and non-empty tiles, in a table and a sentence."""
    found = confusion(run)
    title = "Tiles with and without salt"
    if isinstance(found, str):
        return figure(title, missing(f"{run.name}: {found}."))
    rows = [
        ("without salt", f"{found.empty_right:,}", f"{found.empty_wrong:,}"),
        ("with salt", f"{found.salt_missed:,}", f"{found.salt_right:,}"),
    ]
    inner = table(
        f"{run.name}: tiles by truth (rows) and by what the run says", ["truth", "says none", "says salt"], rows
    )
    return figure(title, inner, words(*confusion_words(found)))


def confusion_words(found: Confusion) -> list[str]:
    """The same in sentences."""
    told = []
    for wrong, right, what in (
        (found.empty_wrong, found.empty_right, "tiles without salt are given some"),
        (found.salt_missed, found.salt_right, "tiles with salt are called empty"),
    ):
        if wrong + right:
            share = f" ({wrong / (wrong + right):.1%}), and score 0 each" if wrong else ""
            told.append(f"{wrong:,} of {wrong + right:,} {what}{share}.")
    return told


def groups_part(runs: Sequence[RunView]) -> Html:
    """Score by depth, coverage class and length of the boundary: a chart each, and their figures in a table."""
    known = [run for run in runs if run.facts]
    lacks = [missing(f"{run.name}: this folder keeps no table of held-out tiles.") for run in runs if not run.facts]
    if not known:
        return join(lacks)
    found = [{each.name: each for each in group_figures(run.facts, run.scores)} for run in known]
    names = list(dict.fromkeys(name for each in found for name in each))
    charts, series = [], [run.name for run in known]
    for title, kind in (("depth", "depth "), ("salt coverage", "coverage class "), ("boundary length", "boundary ")):
        own = _in_order([name for name in names if name.startswith(kind)])
        if not own:
            charts.append(figure(f"Score by {title}", missing(f"No {title} is known of these tiles.")))
            continue
        rows = [
            Row(name.removeprefix(kind).removeprefix("of "), tuple(_triple(each.get(name)) for each in found))
            for name in own
        ]
        told = "; ".join(f"{name}: {_figure_text(found[0].get(name))}" for name in own)
        charts.append(interval_chart(f"Score by {title}", rows, series=series, axis="score", told=told, x=_SHARE))
    heads = ["tiles", *(head for name in series for head in (f"{name}: number", "score", "95 % interval"))]
    cells = [[name, *(cell for each in found for cell in _cells(each.get(name)))] for name in _in_order(names)]
    note = "Coverage class 0 holds no salt, class 10 more than nine tenths of it; lines are 95 % intervals of the mean."
    figures = details("The same in figures", table("Score by group of tiles", heads, cells))
    return join([side_by_side(charts), tag("p", note, class_="soft"), figures, *lacks])


def group_figures(facts: Sequence[Mapping[str, str]], scores: NDArray[np.float64]) -> list[Figure]:
    """Mean score of each group that has tiles, with its interval."""
    rng = np.random.default_rng(0)
    return [figure_of(name, scores[which], rng=rng) for name, which in tile_groups(facts) if which.any()]


def _in_order(names: Sequence[str]) -> list[str]:
    """By their first number; names without one come first."""

    def key(name: str) -> tuple[str, float]:
        kind, _, rest = name.partition(" ")
        digits = next((word for word in rest.split() if word.lstrip("-").isdecimal()), "-1")
        return kind, float(digits)

    return sorted(names, key=key)


def _triple(found: Figure | None) -> tuple[float, float, float] | None:
    return None if found is None else (found.score, found.low, found.high)


def _figure_text(found: Figure | None) -> str:
    return "no tiles" if found is None else f"{found.score:.3f} over {found.num_tiles} tiles"


def _cells(found: Figure | None) -> list[str]:
    if found is None:
        return ["0", "", ""]
    return [f"{found.num_tiles:,}", f"{found.score:.4f}", f"{found.low:.4f} to {found.high:.4f}"]


def _by_fold(run: RunView) -> Html | None:
    """A table where several folds were held out."""
    fold_of = _folds(run)
    folds = sorted({fold_of[fact["id"]] for fact in run.facts if fact["id"] in fold_of})
    if len(folds) < 2:
        return None
    own = np.array([fold_of.get(fact["id"], -1) for fact in run.facts])
    rng = np.random.default_rng(0)
    figures = [figure_of(f"fold {fold}", run.scores[own == fold], rng=rng) for fold in folds]
    means = [each.score for each in figures]
    rows = [[each.name, *_cells(each)] for each in figures]
    deviation = np.std(means, ddof=1)
    note = f"Folds differ by {max(means) - min(means):.4f} at most; their standard deviation is {deviation:.4f}."
    return join(
        [table("Score by fold", ["fold", "tiles", "score", "95 % interval"], rows), tag("p", note, class_="soft")]
    )


def _folds(run: RunView) -> dict[str, int]:
    """The fold of each labelled tile, as far as the run's table of them can be read."""
    path = run.folder / FOLDS
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line[:1] != "#"]
    rows = [row for row in csv.reader(lines) if len(row) == 2]
    return {name: int(fold) for name, fold in rows if fold.isdecimal() and len(fold) < 9}


def _threshold_curve(run: RunView, *, is_alone: bool) -> Curve | str:
    """The curve; a text says why there is none."""
    if run.tiles is not None:
        scores = _candidates(run)
        low, high = [], []
        for each in scores if is_alone else ():
            ends = bootstrap_interval(each, rng=np.random.default_rng(0), repeats=400)
            low.append(ends[0])
            high.append(ends[1])
        return Curve(run.name, CANDIDATES, scores.mean(1).tolist(), low, high)
    editor = run.found.editor if isinstance(run.found, Found) else ""
    of_masks = step_figures(run, editor) if editor else run.record
    kept = _kept_curve(of_masks.get("score_by_threshold"))
    if kept is None:
        return f"the score at other thresholds was not kept, and {run.why_no_tiles}"
    return Curve(run.name, *kept)


def _kept_curve(value: Any) -> tuple[list[float], list[float]] | None:
    """Thresholds and scores of a record, if they are sound."""
    parts = [mapping(value).get(key) for key in ("threshold", "score")]
    if not all(isinstance(part, list) and part and None not in map(number, part) for part in parts):
        return None
    cuts, scores = parts
    return (cuts, scores) if cuts is not None and scores is not None and len(cuts) == len(scores) else None


@lru_cache(maxsize=4)
def _candidates(run: RunView) -> NDArray[np.float64]:
    """Score of each held-out tile at each candidate, of the probabilities before masks were edited."""
    assert run.tiles is not None and run.tiles.masks is not None and isinstance(run.found, Found)
    truth = (run.tiles.masks == 1).astype(np.uint8)
    return candidate_scores(known_alone(np.asarray(run.found.probability), run.tiles.masks), truth)


def _calibration(run: RunView) -> tuple[list[float], list[float]] | str:
    """Probabilities and shares; a text says why there are none."""
    is_edited = isinstance(run.found, Found) and run.found.is_edited
    stored = None if is_edited else _stored_calibration(run.record.get("calibration"))
    if stored is None and run.tiles is not None and run.tiles.masks is not None and isinstance(run.found, Found):
        stored = _stored_calibration(calibration_table(run.found.probability, run.tiles.masks))
    if stored is None:
        return f"the run kept none, and {run.why_no_tiles or 'all probabilities are alike'}"
    return stored


def _stored_calibration(value: Any) -> tuple[list[float], list[float]] | None:
    parts = [mapping(value).get(key) for key in ("raw", "true")]
    if not all(isinstance(part, list) and part and None not in map(number, part) for part in parts):
        return None
    raw, true = parts
    return (raw, true) if raw is not None and true is not None and len(raw) == len(true) else None
