"""Whether a survey is like what a model was trained on: how far in what, why it matters, and what to do about it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from diapir.data.statistics import TileStatistics
from diapir.volume.gate_measures import (
    MOST_STRETCH,
    bandwidth,
    grey_distance,
    main_frequency,
    polarity,
    shape_distance,
    spectral_stretch,
)
from diapir.volume.gate_sampling import SurveyStatistics
from diapir.volume.line_numbers import DIRECTIONS, Direction

Level = Literal["fit", "doubtful", "unfit"]
LEVELS: tuple[Level, ...] = ("fit", "doubtful", "unfit")
"""From good to bad."""


@dataclass(frozen=True)
class Finding:
    """One thing that was held against the training data.

    Args:
        about: what it is.
        level: "cannot tell" where the data do not say; a verdict does not rest on such a finding.
        found: what was measured, and against what.
        distance: how far that is, in `unit`; None where nothing could be measured.
        why: it matters.
        advice: what to do; empty where nothing is.
    """

    about: str
    level: Level | Literal["cannot tell"]
    found: str
    distance: float | None
    unit: str
    why: str
    advice: str = ""

    def __str__(self) -> str:
        parts = [f"{self.level}: {self.about}: {self.found}"]
        if self.level != "fit":
            parts += [self.why, *([f"to do: {self.advice}"] if self.advice else [])]
        return "; ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a model on a survey.

    Args:
        level: the worst of the findings'.
    """

    level: Level
    findings: tuple[Finding, ...]

    @property
    def title(self) -> str:
        """The level and what it rests on, on one line."""
        worst = [finding.about for finding in self.findings if finding.level == self.level != "fit"]
        open_ = [finding.about for finding in self.findings if finding.level == "cannot tell"]
        told = f" ({', '.join(worst)})" if worst else ""
        return f"{self.level}{told}{'; cannot tell: ' + ', '.join(open_) if open_ else ''}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"level": self.level, "findings": [asdict(finding) for finding in self.findings]}


class Scale(NamedTuple):
    """How the survey that a model was trained on is sampled."""

    interval: float
    unit: str


class Limits(NamedTuple):
    """From where on a distance is doubtful, and unfit."""

    doubtful: float
    unfit: float

    def level(self, distance: float) -> Level:
        """Of a distance, which grows with what it measures."""
        return "unfit" if distance >= self.unfit else "doubtful" if distance >= self.doubtful else "fit"


class FactorLimits(NamedTuple):
    """The same of a factor, which may be too small and too large."""

    small: Limits
    large: Limits

    def level(self, factor: float) -> Level:
        """Of a factor, 1 where nothing differs; the limits of small ones are of their inverse."""
        return self.large.level(factor) if factor >= 1 else self.small.level(1 / max(factor, 1e-9))


# Where limits come from: what is natural (N) is how parts of the TGS tiles differ from all of them (thirds of the
# depth; groups of five mosaics, some 430 tiles) and made surveys from each other: benchmarks/gate_separation.py prints
# it. Harm (H) is the IoU of a net of recipe tgs-cpu over 240 of the 644 TGS tiles that it was not trained on, changed
# so; it was 0.854 unchanged, when these tiles had a vertical scale of 0.93 already. benchmarks/gate_harm.py prints that
# of any run; one of recipe odoh-cpu fell alike.
CONTRAST = FactorLimits(Limits(1.67, 3.3), Limits(1.5, 2.2))
"""N: 0.90 to 1.01, made 0.69 to 1.20. H: 0.854 at half, 0.62 at a quarter, 0.853 at 1.4, 0.74 at 1.8, 0.23 at 2.6."""
MEAN = Limits(0.5, 1.5)
"""N: -0.16 to 0.16. H: 0.858 at 0.4, 0.82 at 1.1."""
SHAPE = Limits(0.15, 0.35)
"""N: to 0.05, made to 0.06. H: clipping that makes 0.25 leaves 0.23."""
VERTICAL = FactorLimits(Limits(1.6, 2.5), Limits(1.4, 1.75))
"""N: 0.81 to 1.37, made 0.89 to 1.21. H: 0.74 at 0.46, 0.81 at 0.60, 0.84 at 0.72, 0.83 at 1.1, 0.73 at 1.3,
0.38 at 1.8."""
HORIZONTAL = FactorLimits(Limits(1.75, 3.0), Limits(1.75, 3.0))
"""N: 0.92 to 1.46, one group 1.93; made 0.89 to 1.11. H: 0.78 at 0.46, 0.82 at 0.58, 0.84 at 1.4, 0.82 at 1.9."""
LEFT = Limits(0.28, 0.42)
"""N: to 0.16, made to 0.25. H: low-pass 0.853 at 0.16, 0.79 at 0.27, 0.66 at 0.34; noise 0.69 at 0.37, 0.46 at 0.48."""
ODDS = math.log(100)
"""H: 0.69 inverted."""
INTERVAL = FactorLimits(Limits(1.5, math.inf), Limits(1.5, math.inf))
EMPTY = Limits(0.5, math.inf)


def judge(survey: SurveyStatistics, training: TileStatistics, *, scale: Scale | None = None) -> Verdict:
    """What is to be thought of a model that was trained on such tiles, on such a survey.

    Args:
        scale: how the training data are sampled; None where that is not known.
    """
    findings = (
        *_amplitude(survey, training),
        *_vertical(survey, training),
        *(finding for along in DIRECTIONS for finding in _horizontal(survey, training, along)),
        _polarity(survey, training),
        _interval(survey, scale),
        *_amount(survey),
    )
    return Verdict(max((each.level for each in findings if each.level != "cannot tell"), key=LEVELS.index), findings)


def _amplitude(survey: SurveyStatistics, training: TileStatistics) -> Iterator[Finding]:
    own = survey.every
    contrast = own.deviation / max(training.deviation, 1e-6)
    yield Finding(
        "contrast",
        CONTRAST.level(contrast),
        f"greys deviate by {own.deviation:.3f}, in training by {training.deviation:.3f}: {contrast:.2f} times",
        contrast,
        "ratio of deviations",
        "flat or clipped tiles hide from a net what it looks for",
        f"give --limit {survey.limit * contrast:.3g}, for it was {survey.limit:.3g}",
    )
    shift = (own.mean - training.mean) / max(training.deviation, 1e-6)
    yield Finding(
        "mean grey",
        MEAN.level(abs(shift)),
        f"mean grey {own.mean:.3f}, in training {training.mean:.3f}: {shift:+.2f} deviations",
        shift,
        "deviations of training",
        "amplitudes of seismic data are as often above zero as below",
        "take the mean out of the traces, and ingest again",
    )
    shape = shape_distance(own, training)
    yield Finding(
        "distribution of greys",
        SHAPE.level(shape),
        f"at equal mean and deviation {shape:.2f} deviations apart, as they are {grey_distance(own, training):.2f}",
        shape,
        "Wasserstein distance in deviations",
        "gain control and clipping change how much stronger strong events are than weak ones",
        "give the traces the gain control that the training data had, and ingest again",
    )


def _vertical(survey: SurveyStatistics, training: TileStatistics) -> Iterator[Finding]:
    own, other = survey.every.vertical_spectrum, training.vertical_spectrum
    factor, left = spectral_stretch(own, other)
    wanted = survey.interval / factor
    yield Finding(
        "vertical scale",
        VERTICAL.level(factor),
        f"{_told(factor)} times the frequencies of training, in pixels "
        f"(on average {main_frequency(own):.3f} and {main_frequency(other):.3f} cycles a pixel)",
        factor,
        "ratio of frequencies",
        "a net knows layers by how many pixels thick they are",
        _unless_noisy(f"give --resample {wanted:.3g}, for a sample was {survey.interval:g} {survey.unit}", left=left),
    )
    yield _left("vertical spectrum", own, other, left=left)


def _horizontal(survey: SurveyStatistics, training: TileStatistics, along: Direction) -> Iterator[Finding]:
    if along not in survey.by_direction:
        return
    own, other = survey.by_direction[along].horizontal_spectrum, training.horizontal_spectrum
    factor, left = spectral_stretch(own, other)
    spacing = survey.spacing[along]
    places = "" if spacing is None else f", from a spacing of {spacing:.4g} to {spacing / factor:.3g}"
    todo = f"every {1 / factor:.1f}-th trace would do" if factor < 1 else f"interpolate to {factor:.1f} times as many"
    yield Finding(
        f"horizontal scale along {along}s",
        HORIZONTAL.level(factor),
        f"{_told(factor)} times the frequencies of training, in pixels "
        f"(on average {main_frequency(own):.3f} and {main_frequency(other):.3f} cycles a pixel)",
        factor,
        "ratio of frequencies",
        "flanks look steeper or flatter than those that a net learned",
        _unless_noisy(f"resample traces along {along}s ({todo}{places}), or leave these sections out", left=left),
    )
    yield _left(f"horizontal spectrum along {along}s", own, other, left=left)


def _left(about: str, own: tuple[float, ...], other: tuple[float, ...], *, left: float) -> Finding:
    """What a stretch does not explain."""
    width = bandwidth(own) / max(bandwidth(other), 1e-9)
    wide = width > 1
    return Finding(
        about,
        LEFT.level(left),
        f"{left:.2f} nepers from training's when brought to the same scale; bandwidth {width:.2f} times",
        left,
        "nepers, root mean square",
        "it is noisier or richer in high frequencies" if wide else "its high frequencies are weaker",
        "filter the noise out" if wide else "use less of a filter, or whiten the spectrum",
    )


def _unless_noisy(advice: str, *, left: float) -> str:
    """What to do about a scale, which noise and filters seem to change too."""
    return advice if LEFT.level(left) == "fit" else "first see to the shape of its spectrum, and check again"


def _told(factor: float) -> str:
    """A stretch, of which no more than so much was looked for."""
    open_ = " or more" if factor >= MOST_STRETCH else " or less" if factor <= 1 / MOST_STRETCH else ""
    return f"{factor:.2f}{open_}"


def _polarity(survey: SurveyStatistics, training: TileStatistics) -> Finding:
    found = polarity(
        survey.every, training, asymmetry_error=survey.asymmetry_error, skewness_error=survey.skewness_error
    )
    figures = f"skewness {survey.every.skewness:+.2f}, in training {training.skewness:+.2f}"
    if not math.isnan(found.own):
        figures += f"; asymmetry {found.own:+.3f}, in training {found.other:+.3f} (error {found.error:.3f})"
    level: Level | Literal["cannot tell"] = "cannot tell"
    advice = "look at an event whose sign is known, such as the sea floor or the top of salt, here and in training"
    factor = spectral_stretch(survey.every.vertical_spectrum, training.vertical_spectrum).factor
    if VERTICAL.level(factor) != "fit":
        figures += "; not comparable before the vertical scale is"
    elif abs(found.log_odds) >= ODDS:
        level = "fit" if found.log_odds > 0 else "doubtful"
        advice = "" if found.log_odds > 0 else f"give --flip-polarity and compare; before, {advice}"
    return Finding(
        "polarity",
        level,
        figures,
        found.log_odds,
        "log-odds of the same polarity",
        "a top of salt that is dark instead of bright is another thing to a net",
        advice,
    )


def _interval(survey: SurveyStatistics, scale: Scale | None) -> Finding:
    here, about = f"{survey.interval:g} {survey.unit}", "sample interval"
    why = "what a net learned of thickness and depth was learned at another interval"
    if scale is None:
        found = f"{here}; training's is not known"
        return Finding(about, "cannot tell", found, None, "", "only the vertical scale tells how waves compare")
    found = f"{here}, in training {scale.interval:g} {scale.unit}"
    if scale.unit != survey.unit:
        advice = "convert the survey, or expect layers that grow thicker or thinner with depth than the net knows"
        return Finding(about, "doubtful", found, None, "", "time and depth are not stretched alike", advice)
    ratio = survey.interval / scale.interval
    advice = f"give --resample {scale.interval:g}, unless the vertical scale fits as it is"
    return Finding(about, INTERVAL.level(ratio), found, ratio, "ratio of intervals", why, advice)


def _amount(survey: SurveyStatistics) -> Iterator[Finding]:
    empty = survey.every.constant_share
    yield Finding(
        "empty tiles",
        EMPTY.level(empty),
        f"{empty:.0%} of {survey.every.num_tiles} tiles hold one value; {survey.live_share:.0%} of the traces are live",
        empty,
        "share of tiles",
        "a model was taught by tiles with something in them",
        "see that the amplitudes were read as they should be (diapir survey info)",
    )
    if survey.is_mirrored:
        yield Finding(
            "size",
            "cannot tell",
            "sections are smaller than a tile and were mirrored; all figures are rough",
            None,
            "",
            "a few layers are no measure of a survey",
        )
