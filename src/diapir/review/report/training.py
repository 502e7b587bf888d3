"""How a run learned, what it took, and what was done to its masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, PseudoLabel, Train
from diapir.review.report.charts import Band, Curve, Range, line_chart, side_by_side
from diapir.review.report.markup import Html, details, join, missing, shortened, table, tag
from diapir.review.report.run import RunView, mapping, number, plain, step_figures
from diapir.train.epoch_log import LOG, read_log

Epochs = list[dict[str, Any]]
_NO_CHANGE = "This run edits no masks and blends no models: what the net says is cut at the threshold, and that is all."


@dataclass(frozen=True)
class Learned:
    """The epochs of a train step.

    Args:
        logs: of each fold that has any, by its name.
    """

    step: str
    logs: dict[str, Epochs]


def learned(run: RunView) -> list[Learned]:
    """The epochs of each train step.

    Raises:
        InputError: a log is damaged.
    """
    steps = [step.name for step in run.recipe.all_steps if isinstance(step, Train)]
    return [Learned(name, dict(_logs(run.folder / name))) for name in steps]


def curves_part(run: RunView, *, heading: str) -> Html:
    """Loss, held-out score and learning rate of each train step, stage by stage.

    Args:
        heading: element of the name of each step.
    """
    parts: list[Html] = []
    for each in learned(run):
        title = tag(heading, f"Train step {each.step}")
        if not each.logs:
            lack = missing(f"This folder keeps no epochs of {each.step} ({each.step}/fold-*/{LOG}).")
            parts.append(join([title, lack]))
            continue
        parts.append(join([title, side_by_side(_charts(each)), _stages(each)]))
    return join(parts)


def cost_part(run: RunView) -> Html:
    """Time and memory of each step, and what they ran on."""
    rows = []
    for step in run.recipe.all_steps:
        figures = step_figures(run, step.name)
        minutes, seconds = number(figures.get("train_minutes")), number(figures.get("seconds"))
        took = f"{minutes:.1f} min" if minutes is not None else _seconds(seconds)
        memory, devices = number(figures.get("peak_memory_mb")), figures.get("devices")
        held = "not kept" if memory is None else f"{memory:,.0f} MB"
        if not isinstance(step, Train | PredictStep):
            # Their seconds are those of the predictions behind them.
            took, held = "not measured", "not measured"
        rows.append([step.name, step.do, took, held, plain(devices) if devices else ""])
    record = run.record
    facts = [
        ("all training", _minutes(number(record.get("train_minutes")))),
        ("device", plain(record.get("device"))),
        ("precision", plain(record.get("precision"))),
        ("threads", plain(record.get("threads"))),
        ("processors", plain(record.get("processors"))),
        ("weights on disk", f"{_weights_mb(run.folder):.1f} MB"),
    ]
    note = "Memory is the most that the process, or the device that it trained on, held up to the end of the step."
    return join(
        [
            table("Steps of the run", ["step", "what", "took", "peak memory", "devices"], rows, kind="text"),
            tag("p", note, class_="soft"),
            table("What it ran on", ["what", "value"], facts, kind="text"),
        ]
    )


def changes_part(run: RunView) -> Html:
    """What blending, pseudo-labels and post-processing did, with counts and gains."""
    parts: list[Html] = []
    for step in run.recipe.all_steps:
        figures = step_figures(run, step.name)
        if isinstance(step, BlendStep):
            parts.append(_blend(step, figures))
        elif isinstance(step, PostProcessStep):
            parts += _edits(step, figures)
        elif isinstance(step, PseudoLabel):
            facts = [(key, plain(value)) for key, value in figures.items() if not isinstance(value, dict)]
            parts.append(
                table(f"Pseudo-labels: {step.name}", ["what", "value"], facts or [("figures", "not kept")], kind="text")
            )
    return join(parts) if parts else tag("p", _NO_CHANGE)


def _logs(folder: Path) -> Iterator[tuple[str, Epochs]]:
    for path in sorted(folder.glob(f"*/{LOG}")):
        epochs = read_log(path.parent)
        if epochs:
            yield path.parent.name, epochs


def _charts(found: Learned) -> Iterator[Html]:
    longest = max(found.logs.values(), key=len)
    bands = [Band(name, first - 0.5, last + 0.5) for name, first, last in _spans(longest)]
    for title, key, axis in (
        ("Loss", "loss", "loss of the stage"),
        ("Score of held-out tiles", "score", "score"),
        ("Learning rate", "learning_rate", "learning rate"),
    ):
        curves = []
        for name, epochs in found.logs.items():
            known = [(at, value) for at, epoch in enumerate(epochs, 1) if (value := number(epoch.get(key))) is not None]
            if known:
                x, y = zip(*known, strict=True)
                curves.append(Curve(name, x, y, has_dots=key == "score"))
        told = "; ".join(f"{curve.name}: from {curve.y[0]:.4g} to {curve.y[-1]:.4g}" for curve in curves)
        stages = ", ".join(band.name for band in bands)
        yield line_chart(
            title,
            curves,
            axes=("epoch", axis),
            told=f"{title} by epoch, stages {stages}. {told}.",
            x=Range(0.5, len(longest) + 0.5),
            bands=bands,
        )


def _spans(epochs: Epochs) -> Iterator[tuple[str, int, int]]:
    """Stages one after another, each with its first and last epoch from 1 on."""
    for name, own in groupby(enumerate(epochs, 1), key=lambda pair: shortened(str(pair[1].get("stage", "")), 40)):
        numbers = [at for at, _ in own]
        yield name, numbers[0], numbers[-1]


def _stages(found: Learned) -> Html:
    rows = []
    for fold, epochs in found.logs.items():
        for name, first, last in _spans(epochs):
            own = epochs[first - 1 : last]
            losses, scores, rates = (
                [value for e in own if (value := number(e.get(key))) is not None]
                for key in ("loss", "score", "learning_rate")
            )
            rows.append([
                f"{fold} {name}", str(len(own)),
                f"{losses[0]:.4f} to {losses[-1]:.4f}" if losses else "",
                f"{max(scores):.4f}" if scores else "not scored",
                f"{min(rates):.2g} to {max(rates):.2g}" if rates else "",
            ])  # fmt: skip
    heads = ["stage", "epochs", "loss", "best score", "learning rate"]
    return details("The same in figures", table(f"Stages of {found.step}", heads, rows))


def _blend(step: BlendStep, figures: Mapping[str, Any]) -> Html:
    members = figures.get("members")
    chosen = [place for place in members if isinstance(place, int)] if isinstance(members, list) else []
    scores, weights = (
        value if isinstance(value, list) else [] for value in (figures.get("scores"), figures.get("weights"))
    )
    rows = []
    for place, name in enumerate(step.of):
        weight = weights[chosen.index(place)] if place in chosen and len(weights) == len(chosen) else None
        score = scores[place] if len(scores) == len(step.of) else None
        rows.append([name, plain(score), plain(weight) if place in chosen else "left out"])
    gain = mapping(figures.get("gain_over_mean"))
    told = (
        f"Against the plain mean of its members, the blend ({plain(figures.get('rule'))}) is worth {gain_text(gain)}."
    )
    return join([table(f"Blend: {step.name}", ["member", "score", "weight"], rows), tag("p", told)])


def _edits(step: PostProcessStep, figures: Mapping[str, Any]) -> list[Html]:
    held_out, others = (_by_name(figures.get(key)) for key in ("held_out", "unlabelled"))
    rows = []
    for name in dict.fromkeys([*held_out, *others]):
        own, rest = held_out.get(name, {}), others.get(name, {})
        left_out = own.get("left_out") or rest.get("left_out")
        gain = f"left out: {left_out}" if left_out else gain_text(mapping(own.get("gain")))
        rows.append(
            [name, *(plain(each.get(key)) for each in (own, rest) for key in ("num_tiles", "num_pixels")), gain]
        )
    heads = ["edit", "held-out tiles", "pixels", "other tiles", "pixels", "gain on held-out tiles (95 % interval)"]
    parts = [table(f"Post-processing: {step.name}", heads, rows or [["none", "", "", "", "", ""]])]
    rules = figures.get("mosaic_rules")
    if isinstance(rules, list) and rules:
        keys = ("rule", "reached", "changed", "held_out_changed")
        cells = [
            [*(plain(mapping(rule).get(key)) for key in keys), gain_text(mapping(mapping(rule).get("gain")))]
            for rule in rules
        ]
        heads = ["rule", "tiles reached", "tiles changed", "held-out tiles changed", "gain on these (95 % interval)"]
        parts.append(table("Rules of mosaics", heads, cells))
        parts.append(tag("p", f"All rules together are worth {gain_text(mapping(figures.get('mosaic_gain')))}."))
    return parts


def _by_name(value: Any) -> dict[str, dict[str, Any]]:
    """Edits by their names and, of several of one name, their order."""
    found: dict[str, dict[str, Any]] = {}
    for edit in value if isinstance(value, list) else ():
        own = mapping(edit)
        name = plain(own.get("name"))
        found[name if name not in found else f"{name} ({len(found) + 1})"] = own
    return found


def gain_text(gain: Mapping[str, Any]) -> str:
    """A gain with its interval."""
    values = [number(gain.get(key)) for key in ("difference", "low", "high")]
    known = [value for value in values if value is not None]
    return "unknown" if len(known) < 3 else "{:+.4f} ({:+.4f} to {:+.4f})".format(*known)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "not kept"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _minutes(minutes: float | None) -> str:
    return "not kept" if minutes is None else f"{minutes:.1f} min"


def _weights_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors") if path.is_file()) / 1e6


def total_minutes(runs: Sequence[RunView]) -> list[str]:
    """Minutes of training of each run."""
    return [_minutes(number(run.record.get("train_minutes"))) for run in runs]
