"""A recipe made so small that every step of it runs in a minute or two: to see that it runs, not how well."""

from typing import Any

from diapir.recipe.whole import Recipe

LABELLED, UNLABELLED = 8, 4
"""Tiles that are enough for two folds."""
_SIDE, _WIDTH, _DEPTH = 64, 8, 3  # 64 pixels are the least that the deepest of the nets take
_ENCODER, _BOTTLENECKS = "test_resnet", {"bes": "resnet14t", "place-09": "legacy_seresnext26_32x4d"}
_BATCH = LABELLED // 2  # a fold's training tiles, so that an epoch is a step


def smoke_recipe(recipe: Recipe, *, smallest: bool = False) -> Recipe:
    """The same steps, nets and losses; one fold of two, single epochs, small batches, random weights.

    Args:
        smallest: with small encoders, few filters and small tiles too, so that it takes seconds.
    """
    raw = recipe.model_dump(mode="json")
    raw["data"] |= {"synthetic": {"labelled": LABELLED, "unlabelled": UNLABELLED, "seed": 0}, "few_tiles": True}
    raw["folds"] |= {"count": 2, "held_out": [0]}
    if raw["folds"]["scheme"] == "sections":
        raw["folds"] |= {"scheme": "depth", "gap": None}  # so few tiles lie in one section, or in none
    for model in (raw, *raw["models"].values()):
        _shrink_model(model, smallest=smallest)
    for step in raw["steps"]:
        for stage in step.get("stages", ()):
            _shrink_stage(stage, smallest=smallest)
        if step["do"] == "pseudo-label":
            step |= {"confidence": 0.0, "drop_constant": False, "sizes": []}
    return Recipe.model_validate(raw)


def _shrink_model(model: dict[str, Any], *, smallest: bool) -> None:
    if "weights" in model["net"].get("encoder", {}):
        model["net"]["encoder"]["weights"] = "none"
    if smallest:
        _narrow(model["net"])
    model["predict"]["batch"] = UNLABELLED
    model["framing"] = _smaller(model["framing"]) if smallest else model["framing"]
    if model["semi"] is not None:
        model["semi"]["rampup_epochs"] = 1
    for stage in model["stages"]:
        _shrink_stage(stage, smallest=smallest)


def _narrow(net: dict[str, Any]) -> None:
    for part in (net, net.get("encoder", {}), net.get("decoder", {})):
        for key in {"filters", "base", "width"} & part.keys():
            part[key] = min(part[key], _WIDTH)
        if "depth" in part:
            part["depth"] = min(part["depth"], _DEPTH)
        if "widths" in part:
            part["widths"] = [min(width, _WIDTH) for width in part["widths"]]
        if "weights" in part:
            part["name"] = _BOTTLENECKS.get(net["kind"], _ENCODER)


def _shrink_stage(stage: dict[str, Any], *, smallest: bool) -> None:
    cycles = min(stage["cycles"], 1 if smallest else 2)
    stage |= {"epochs": 1, "passes": 1, "cycles": cycles, "batch": min(stage["batch"], _BATCH)}
    stage["framing"] = _smaller(stage["framing"]) if smallest else stage["framing"]
    if stage["snapshot"] is not None and stage["snapshot"]["cycles"] is not None:
        stage["snapshot"]["cycles"] = min(stage["snapshot"]["cycles"], cycles)


def _smaller(framing: dict[str, Any] | None) -> dict[str, Any] | None:
    if framing is None or framing["method"] == "native":
        return framing
    return framing | {"method": "resize", "size": _SIDE, "resize": None}
