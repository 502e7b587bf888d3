"""A report: finished runs, and what was found in surveys, on one page that needs nothing but itself."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from diapir.faults import Fault, InputError, raise_if_any
from diapir.recipe.whole import Recipe
from diapir.review.report.charts import side_by_side
from diapir.review.report.compare import comparison, comparison_verdict
from diapir.review.report.gallery import gallery_part
from diapir.review.report.markup import Child, Html, join, style, tag
from diapir.review.report.recipe import data_part, environment_part, read_parent, recipe_part
from diapir.review.report.run import RunView, data_opener, is_run, read_run
from diapir.review.report.scores import (
    calibration_chart,
    confusion_table,
    groups_part,
    score_section,
    threshold_chart,
    verdict,
)
from diapir.review.report.style import STYLE
from diapir.review.report.survey import (
    SurveyView,
    is_store,
    is_surfaces,
    open_surveys,
    survey_parts,
    survey_verdict,
)
from diapir.review.report.training import changes_part, cost_part, curves_part
from diapir.runs import require_file_place, require_outside, write_text

Parts = list[tuple[str, Html]]
"""Titles and contents, one below another."""

# Nothing is loaded and nothing runs, whatever a file in a run has for text.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_report(runs: Sequence[Path], out: Path, *, data_path: Path | None = None, parent: Path | None = None) -> str:
    """Write a report of finished runs, side by side where there are several, and of surveys; gives what was written.

    Args:
        runs: folders of finished runs; also salt stores, survey stores and folders of surfaces, which belong together
            by the survey that they name.
        out: the page to write, HTML that asks for nothing outside itself.
        data_path: the data set that the runs were trained on, for what needs their tiles; runs on surveys keep their
            own, and synthetic data are made again.
        parent: a recipe, run or bundle that recipes are held against; None for the bundle that a run went on from.

    Raises:
        InputError: a folder is none of these, is not finished or is damaged, with all faults; the data are of none of
            the runs; or `out` lies in one of the folders.
    """
    require_file_place(out)
    _require_known(runs, out)
    ancestor = None if parent is None else read_parent(parent)
    views = _read_runs([path for path in runs if is_run(path)], data_path)
    surveys = open_surveys([path for path in runs if not is_run(path)])
    page = _page(views, surveys, parent=ancestor)
    write_text(out, page)
    shown = ", ".join([*(view.name for view in views), *(view.name for view in surveys)])
    note = "".join(f"; without tiles of {view.name}: {view.why_no_tiles}" for view in views if view.tiles is None)
    return f"{out}: report of {shown}, {len(page.encode()) / 1e6:.1f} MB{note}"


def _require_known(paths: Sequence[Path], out: Path) -> None:
    """Refuse what is no run, store or folder of surfaces, and to write into one that is."""
    if not paths:
        raise InputError.of("report", "expected a run or more, found none")
    faults = [
        Fault(
            str(path),
            "expected a finished run, a store of diapir survey, or a folder of surfaces; found "
            + ("none of them" if path.exists() else "nothing there"),
        )
        for path in paths
        if not (is_run(path) or is_store(path) or is_surfaces(path))
    ]
    resolved = Counter(path.resolve() for path in paths)
    faults += [Fault(str(path), "it is given twice; name it once") for path, count in resolved.items() if count > 1]
    raise_if_any(faults)
    for path in paths:
        if not is_run(path):
            require_outside(out, path)


def _read_runs(paths: Sequence[Path], data_path: Path | None) -> list[RunView]:
    open_data, views, faults = data_opener(), list[RunView](), list[Fault]()
    for path, name in zip(paths, _names(paths), strict=True):
        try:
            views.append(read_run(path, name=name, data_path=data_path, open_data=open_data))
        except InputError as error:
            faults += error.faults
    raise_if_any(dict.fromkeys(faults))
    if data_path is not None and views and not any(view.tiles is not None for view in views):
        raise InputError.of(data_path, f"expected the data that the run was trained on: {views[0].why_no_tiles}")
    return views


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of folders, with a number where several have the same."""
    names = [path.resolve().name or "run" for path in paths]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _page(views: Sequence[RunView], surveys: Sequence[SurveyView], *, parent: Recipe | None) -> str:
    lines = [comparison_verdict(views)] if len(views) > 1 else [verdict(view) for view in views]
    lines += [survey_verdict(view) for view in surveys]
    title = "Report: " + ", ".join([*(view.name for view in views), *(view.name for view in surveys)])
    parts: Parts = []
    if len(views) == 1:
        parts += _run_parts(views[0], parent, heading="h3")
    elif views:
        parts += comparison(views)
        parts += [(f"All of {view.name}", _folded(view, parent)) for view in views]
    for survey in surveys:
        parts += [(f"{survey.name}: {name}", inner) for name, inner in survey_parts(survey)]
    links = [tag("li", tag("a", name, href=f"#part-{place}")) for place, (name, _) in enumerate(parts)]
    sections = [tag("section", tag("h2", name, id=f"part-{place}"), inner) for place, (name, inner) in enumerate(parts)]
    body = tag(
        "body",
        tag(
            "header",
            tag("h1", title),
            *(tag("p", line, class_="verdict") for line in lines),
            tag("nav", tag("ul", *links), aria_label="Contents"),
        ),
        tag("main", *sections),
        tag(
            "footer",
            "Written by diapir report. This page holds all that it shows, and asks for nothing outside itself.",
        ),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        style(STYLE),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en').text}\n"


def _run_parts(view: RunView, parent: Recipe | None, *, heading: str) -> Parts:
    """Everything about one run."""
    charts = [threshold_chart([view]), calibration_chart([view]), confusion_table(view)]
    return [
        ("Score", score_section(view)),
        ("Threshold, calibration, empty tiles", side_by_side(charts)),
        ("By depth, coverage and boundary", groups_part([view])),
        ("Training", curves_part(view, heading=heading)),
        ("Tiles to look at", gallery_part(view, heading=heading)),
        ("What blending and post-processing changed", changes_part(view)),
        ("Time and memory", cost_part(view)),
        ("Recipe", recipe_part(view, parent)),
        ("Data", data_part(view)),
        ("Environment", environment_part(view)),
    ]


def _folded(view: RunView, parent: Recipe | None) -> Html:
    """Everything about one of several runs, below a line that opens it."""
    inner: Iterator[Child] = (
        join([tag("h3", title), content]) for title, content in _run_parts(view, parent, heading="h4")
    )
    return tag("details", tag("summary", verdict(view)), *inner, class_="run")
