"""The score of a submission against true masks: in all, by coverage class and by depth, each with its spread."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from diapir.data.rle import decode
from diapir.data.tables import read_table
from diapir.data.tiles import TILE, coverage_classes
from diapir.faults import Fault, InputError, raise_if_any
from diapir.metrics import bootstrap_interval, mask_scores
from diapir.predict.submission import Submission, mask_faults, read_submission
from diapir.record import provenance
from diapir.runs import sha256_of_file, write_json

TRUTH_NAMES = ("truth.csv", "truth.csv.gz", "train.csv", "train.csv.gz")
"""Files that a folder of truth may hold; the first that is there is taken."""

_DEPTH_BAND_M = 200
_SEED = 0


@dataclass(frozen=True)
class Figure:
    """The mean score of some tiles.

    Args:
        name: which tiles.
        num_tiles: how many.
        score: mean of their scores, 0 to 1.
        low, high: bootstrap 95 % interval of the mean.
    """

    name: str
    num_tiles: int
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Scoring:
    """How a submission did.

    Args:
        submission, truth: the files that were compared.
        total: over all the tiles of the truth.
        by_coverage: by class of salt coverage, 0 for none, else ceil(10 x salt pixels / pixels).
        by_depth: by depth of the tile, bands of 200 m; empty without depths.
        num_not_scored: rows of the submission whose ids the truth does not have.
    """

    submission: Path
    truth: Path
    total: Figure
    by_coverage: tuple[Figure, ...]
    by_depth: tuple[Figure, ...]
    num_not_scored: int


def score_submission(submission_path: Path, truth_path: Path, *, depths_path: Path | None = None) -> Scoring:
    """Score a submission against a file of true masks, or a folder that holds one.

    Args:
        submission_path: CSV with id and rle_mask, plain or gzipped.
        truth_path: CSV of the same form, or a folder with one of `TRUTH_NAMES`.
        depths_path: CSV with id and z; None takes depths.csv beside the truth where it is.

    Raises:
        InputError: a file cannot be used, or ids of the truth have no row in the submission.
    """
    truth_path = _truth_file(truth_path)
    truth, submission = read_submission(truth_path), read_submission(submission_path)
    beside = truth_path.with_name("depths.csv")
    depths = _read_depths(depths_path or beside) if depths_path or beside.is_file() else {}
    tiles = tuple(truth.texts)
    _require_scorable(submission, truth)
    masks = [decode([source.texts[tile] for tile in tiles], height=TILE, width=TILE) for source in (submission, truth)]
    scores = mask_scores(masks[0], masks[1])
    depths_m = np.array([depths.get(tile, np.nan) for tile in tiles])
    rng = np.random.default_rng(_SEED)
    return Scoring(
        submission=submission_path,
        truth=truth_path,
        total=figure_of("all", scores, rng=rng),
        by_coverage=_by_coverage(scores, masks[1], rng=rng),
        by_depth=_by_depth(scores, depths_m, rng=rng) if depths else (),
        num_not_scored=len(submission) - len(tiles),
    )


def print_scoring(scoring: Scoring, console: Console) -> None:
    """Print the score as a table a person reads."""
    # A path is not markup, and is copied more easily from one line.
    console.print(f"{scoring.submission} against {scoring.truth}", markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("tiles", "number", "score", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "tiles" else "right")
    for section in ((scoring.total,), scoring.by_coverage, scoring.by_depth):
        for figure in section:
            interval = f"{figure.low:.4f} .. {figure.high:.4f}"
            table.add_row(figure.name, str(figure.num_tiles), f"{figure.score:.4f}", interval)
        table.add_section()
    console.print(table)
    if scoring.num_not_scored:
        console.print(f"{scoring.num_not_scored} rows of the submission were not scored: the truth has no such ids.")


def write_scoring(scoring: Scoring, path: Path) -> None:
    """Write the figures as JSON, with the hashes of both files and where they were made."""
    content: dict[str, Any] = asdict(scoring)
    for name, file in (("submission", scoring.submission), ("truth", scoring.truth)):
        content[name] = {"file": file.name, "sha256": sha256_of_file(file)}
    write_json(path, content | {"provenance": provenance()})


def _truth_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in TRUTH_NAMES if (path / name).is_file()]
    if not found:
        raise InputError.of(path, f"expected a folder with one of {', '.join(TRUTH_NAMES)}, found none of them")
    return found[0]


def _require_scorable(submission: Submission, truth: Submission) -> None:
    """Every tile of the truth has a mask in both files."""
    if not truth.texts:
        raise InputError.of(truth.path, "expected true masks, found no rows below the header")
    present = [tile for tile in truth.texts if tile in submission.texts]
    absent = [tile for tile in truth.texts if tile not in submission.texts]
    faults = [*mask_faults(truth, truth.texts), *mask_faults(submission, present)]
    faults += [
        Fault(str(submission.path), f'no row for the id "{tile}" of {truth.where(tile)}; an empty mask is a row too')
        for tile in absent
    ]
    raise_if_any(faults)


def _read_depths(path: Path) -> dict[str, float]:
    """Depth of every tile in metres, by its id."""
    table = read_table(path, columns=("id", "z"))
    depths: dict[str, float] = {}
    faults = list(table.faults)
    for row, (tile, text) in enumerate(table.rows):
        depth_m = _number(text)
        if not np.isfinite(depth_m):
            faults.append(Fault(table.where(row), f"expected a depth in metres, found {text!a}"))
        elif depths.setdefault(tile, depth_m) != depth_m:
            faults.append(Fault(table.where(row), f'id "{tile}" has another depth above; keep one of them'))
    raise_if_any(faults)
    return depths


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _by_coverage(
    scores: NDArray[np.float64], truth: NDArray[np.uint8], *, rng: np.random.Generator
) -> tuple[Figure, ...]:
    classes = coverage_classes(truth)
    return tuple(
        figure_of(f"coverage class {number}", scores[classes == number], rng=rng) for number in np.unique(classes)
    )


def _by_depth(
    scores: NDArray[np.float64], depths_m: NDArray[np.float64], *, rng: np.random.Generator
) -> tuple[Figure, ...]:
    is_known = np.isfinite(depths_m)
    bands = np.floor(np.where(is_known, depths_m, 0) / _DEPTH_BAND_M)
    figures = [
        figure_of(
            f"depth {band * _DEPTH_BAND_M:g} to {(band + 1) * _DEPTH_BAND_M:g} m",
            scores[is_known & (bands == band)],
            rng=rng,
        )
        for band in np.unique(bands[is_known])
    ]
    if not is_known.all():
        figures.append(figure_of("depth unknown", scores[~is_known], rng=rng))
    return tuple(figures)


def figure_of(name: str, scores: NDArray[np.float64], *, rng: np.random.Generator) -> Figure:
    """The mean score of tiles (n,), n at least 1, with its interval."""
    low, high = bootstrap_interval(scores, rng=rng)
    return Figure(name=name, num_tiles=len(scores), score=float(scores.mean()), low=low, high=high)
