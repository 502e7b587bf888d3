"""A recipe made so small that every step of it runs in a minute or two: to see that it runs, not how well."""

from typing import Any

from diapir.recipe.whole import Recipe

LABELLED, UNLABELLED = 12, 4
"""Tiles that are enough for two folds."""


def smoke_recipe(recipe: Recipe) -> Recipe:
    """The same steps, nets, losses and framings; two folds, single epochs, small batches, random weights."""
    raw = recipe.model_dump(mode="json")
    raw["data"]["synthetic"] = {"labelled": LABELLED, "unlabelled": UNLABELLED, "seed": 0}
    raw["folds"] |= {"count": 2, "held_out": []}
    for model in (raw, *raw["models"].values()):
        _shrink_model(model)
    for step in raw["steps"]:
        for stage in step.get("stages", ()):
            _shrink_stage(stage)
        if step["do"] == "pseudo-label":
            step |= {"confidence": 0.0, "drop_constant": False}
    return Recipe.model_validate(raw)


def _shrink_model(model: dict[str, Any]) -> None:
    if "weights" in model["net"].get("encoder", {}):
        model["net"]["encoder"]["weights"] = "none"
    model["predict"]["batch"] = UNLABELLED
    if model["semi"] is not None:
        model["semi"]["rampup_epochs"] = 1
    for stage in model["stages"]:
        _shrink_stage(stage)


def _shrink_stage(stage: dict[str, Any]) -> None:
    cycles = min(stage["cycles"], 2)
    stage |= {"epochs": 1, "passes": 1, "cycles": cycles, "batch": min(stage["batch"], 3)}
    if stage["snapshot"] is not None and stage["snapshot"]["cycles"] is not None:
        stage["snapshot"]["cycles"] = min(stage["snapshot"]["cycles"], cycles)
