"""The page of a bundle that a person reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diapir.pipeline.members import Member

_LIMITS = """\
- It was trained and scored on tiles of one source. Of other surveys nothing is known: hold their figures against those
  above before you believe it there.
- It takes grey tiles scaled as those were, of that size in pixels, each of which stands for the same time and distance.
- Salt is what the labels of the source call salt, with their mistakes.
- The interval is that of the tiles that were held out. It does not cover another training, labels or survey."""
_UNSAID = "Not stated. Ask whoever gave you this bundle before you use it or pass it on."


def card_text(facts: Mapping[str, Any], *, record: Mapping[str, Any], members: Sequence[Member]) -> str:
    """Markdown: what a model is, what it was trained on, how it scores, its limits, licence and provenance.

    Args:
        facts: those of the bundle's manifest.
        record: of the run.
    """
    sections = {
        "What it is": _what_it_is(facts, members),
        "Trained on": _trained_on(facts, record["data"]),
        "How it scores": _scores(facts["scores"]),
        "Limits": [_LIMITS],
        "Licence": [_on_one_line(facts["licence"]) or _UNSAID],
        "Provenance": _provenance(facts, record["provenance"]),
    }
    about = _on_one_line(members[0].recipe.about)
    head = f"# {facts['name']}\n\nA model that finds salt in seismic tiles, made with diapir. {about}".rstrip() + "\n"
    return head + "".join(f"\n## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())


def _what_it_is(facts: Mapping[str, Any], members: Sequence[Member]) -> Iterator[str]:
    yield "| step | net | sees | channels | views | files of weights |"
    yield "|---|---|---|---|---|---|"
    for member in members:
        frame, own = member.frame, member.recipe
        sees = "tiles as they are" if frame.size is None else f"{frame.size} x {frame.size} ({frame.method})"
        cells = (member.step, _net(member), sees, ", ".join(own.input.channels), ", ".join(own.predict.views))
        yield f"| {' | '.join(cells)} | {len(member.weights)} |"
    yield ""
    yield f"A pixel is salt above {facts['threshold']:g}. `bundle.json` has the rest, `recipe.yaml` every setting."
    yield ""
    yield "    diapir predict THIS_FOLDER DATA out.csv        # DATA: the competition's layout, or a folder of PNGs"
    for entry in facts["onnx"]:
        yield ""
        yield f"`{entry['file']}`: within {entry['largest_difference']:.2g} of torch's probabilities."


def _net(member: Member) -> str:
    """Kind of net, and its encoder where it has one by name."""
    net = member.recipe.net
    encoder = getattr(net, "encoder", None)
    return " ".join(filter(None, [net.kind, getattr(encoder, "name", getattr(encoder, "kind", ""))]))


def _trained_on(facts: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    found = facts["training_data"]
    depths = "unknown" if found["depth_m"] is None else "{:g} to {:g} m".format(*found["depth_m"])
    low, *_, high = found["percentiles"]
    yield f"- source: {_on_one_line(data.get('source', 'unknown'))}; SHA-256 of its tiles `{facts['data_digest']}`"
    size = f"{found['height_px']} x {found['width_px']} pixels"
    yield f"- {found['num_tiles']} labelled tiles of {size}; depths: {depths}"
    yield f"- of one grey value: {found['constant_share']:.1%}; what follows is of the others"
    yield (
        f"- grey in 0..1: mean {found['mean']:.3f}, deviation {found['deviation']:.3f}, skewness "
        f"{found['skewness']:.2f}, 1 to 99 %: {low:.3f} to {high:.3f}"
    )
    yield (
        f"- correlation of a pixel with the next: {found['vertical_correlation']:.3f} down, "
        f"{found['horizontal_correlation']:.3f} across"
    )


def _scores(scores: Mapping[str, Any]) -> list[str]:
    low, high = scores["interval_95"]
    kind = _on_one_line(scores["score_kind"])
    return [
        f"{scores['score']:.4f} (95 % interval {low:.4f} to {high:.4f}), by the metric of the TGS competition: {kind}."
    ]


def _provenance(facts: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[str]:
    yield f"- recipe `{facts['recipe_digest']}`"
    for key in ("diapir", "commit", "python", "libraries", "system", "processor"):
        value = provenance.get(key)
        told = ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else value
        yield f"- {key}: {_on_one_line(told or 'unknown')}"


def _on_one_line(value: object) -> str:
    return " ".join(str(value).split())
