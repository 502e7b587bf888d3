"""A recipe made so small that every step of it runs in a minute or two: to see that it runs, not how well."""

from typing import Any

from diapir.recipe.whole import Recipe

LABELLED, UNLABELLED = 8, 4
"""Tiles that are enough for two folds."""
_BATCH = LABELLED // 2  # a fold's training tiles, so that an epoch is a step


def smoke_recipe(recipe: Recipe, *, side: int | None = None) -> Recipe:
    """The same steps, nets and losses; one fold of two, single epochs, small batches, random weights.

    Args:
        side: pixels to which every tile is brought that a net does not see as it is; None for the recipe's framings.
    """
    raw = recipe.model_dump(mode="json")
    raw["data"]["synthetic"] = {"labelled": LABELLED, "unlabelled": UNLABELLED, "seed": 0}
    raw["folds"] |= {"count": 2, "held_out": [0]}
    for model in (raw, *raw["models"].values()):
        _shrink_model(model, side=side)
    for step in raw["steps"]:
        for stage in step.get("stages", ()):
            _shrink_stage(stage, side=side)
        if step["do"] == "pseudo-label":
            step |= {"confidence": 0.0, "drop_constant": False, "sizes": []}
    return Recipe.model_validate(raw)


def _shrink_model(model: dict[str, Any], *, side: int | None) -> None:
    if "weights" in model["net"].get("encoder", {}):
        model["net"]["encoder"]["weights"] = "none"
    model["predict"]["batch"] = UNLABELLED
    model["framing"] = _smaller(model["framing"], side)
    if model["semi"] is not None:
        model["semi"]["rampup_epochs"] = 1
    for stage in model["stages"]:
        _shrink_stage(stage, side=side)


def _shrink_stage(stage: dict[str, Any], *, side: int | None) -> None:
    cycles = min(stage["cycles"], 2)
    stage |= {"epochs": 1, "passes": 1, "cycles": cycles, "batch": min(stage["batch"], _BATCH)}
    stage["framing"] = _smaller(stage["framing"], side)
    if stage["snapshot"] is not None and stage["snapshot"]["cycles"] is not None:
        stage["snapshot"]["cycles"] = min(stage["snapshot"]["cycles"], cycles)


def _smaller(framing: dict[str, Any] | None, side: int | None) -> dict[str, Any] | None:
    if framing is None or side is None or framing["method"] == "native":
        return framing
    return framing | {"method": "resize", "size": side, "resize": None}
