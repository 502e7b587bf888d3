"""A survey beside the tiles that a model was trained on: greys, spectra, and how new each section is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diapir.data.statistics import BINS, TileStatistics
from diapir.runs import atomic_path
from diapir.volume.gate_lines import LineToLabel, novelty
from diapir.volume.gate_measures import FREQUENCIES
from diapir.volume.gate_sampling import SurveyStatistics
from diapir.volume.line_numbers import DIRECTIONS

_TRAINING, _COLOURS = "#9aa5b1", {"inline": "#1f5c99", "crossline": "#e4572e"}


def draw_gate(
    path: Path, survey: SurveyStatistics, training: TileStatistics, *, lines: Sequence[LineToLabel], title: str
) -> None:
    """Draw histograms, spectra and the novelty of lines into a PNG.

    Args:
        lines: to label next; they are marked.
        title: the verdict.
    """
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _draw_greys(axes[0, 0], survey, training)
    _draw_lines(axes[0, 1], survey, training, chosen=lines)
    _draw_spectrum(axes[1, 0], survey, training, name="vertical")
    _draw_spectrum(axes[1, 1], survey, training, name="horizontal")
    # A path may hold a dollar, and is no formula.
    figure.suptitle(title, fontsize=12, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _draw_greys(axes: Axes, survey: SurveyStatistics, training: TileStatistics) -> None:
    edges = (np.arange(BINS + 1) / BINS).tolist()
    axes.stairs([BINS * share for share in training.histogram], edges, fill=True, color=_TRAINING, label="training")
    for along, own in survey.by_direction.items():
        axes.stairs([BINS * share for share in own.histogram], edges, color=_COLOURS[along], label=f"{along}s")
    axes.set(title="greys", xlabel="grey, 0 black to 1 white", ylabel="density")
    _tidy(axes)


def _draw_spectrum(axes: Axes, survey: SurveyStatistics, training: TileStatistics, *, name: str) -> None:
    def of(tiles: TileStatistics) -> tuple[float, ...]:
        return tiles.vertical_spectrum if name == "vertical" else tiles.horizontal_spectrum

    axes.fill_between(FREQUENCIES, of(training), color=_TRAINING, label="training")
    for along, own in survey.by_direction.items():
        axes.plot(FREQUENCIES, of(own), color=_COLOURS[along], label=f"{along}s")
    axes.set(title=f"{name} spectrum", xlabel="cycles a pixel", ylabel="amplitude", yscale="log")
    _tidy(axes)


def _draw_lines(
    axes: Axes, survey: SurveyStatistics, training: TileStatistics, *, chosen: Sequence[LineToLabel]
) -> None:
    for along in DIRECTIONS:
        own = [line for line in survey.lines if line.along == along]
        if not own:
            continue
        gains = [novelty(line.tiles, training) for line in own]
        axes.plot([line.number for line in own], gains, ".-", color=_COLOURS[along], label=f"{along}s")
    for line in chosen:
        axes.axvline(line.number, color=_COLOURS[line.along], linestyle=":")
    axes.set(title="novelty of lines; dotted: label these next", xlabel="number of the line", ylabel="novelty")
    axes.set_ylim(bottom=0)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8)
