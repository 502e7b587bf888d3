"""A recipe that goes on from a bundle: the bundle's net and how it sees tiles, and the recipe's way of learning."""

from pathlib import Path
from typing import Any

from diapir.faults import InputError
from diapir.pipeline.bundle import open_model
from diapir.recipe.files import check_recipe
from diapir.recipe.semi import CoTraining
from diapir.recipe.whole import Recipe

_HEAD_WEIGHT = 0.05
"""Of the loss of a head that the bundle's net has and the recipe does not speak of."""


def start_from_bundle(recipe: Recipe, bundle: Path) -> Recipe:
    """The recipe with the net, framing, input and weights of a bundle; of several models, of the one trained last.

    Stages keep their losses, but for heads that the net has or lacks, and see tiles as the bundle's net does.

    Raises:
        InputError: it is no sound bundle, or its net is none that the recipe can go on with.
    """
    model = open_model(bundle)
    if model.digest is None:
        raise InputError.of(bundle, "expected a bundle, found a run: make one of it first, with diapir bundle")
    if recipe.models:
        what = "it has several models, and a bundle can begin only one: use a recipe of one model"
        raise InputError.of(f"recipe {recipe.name}", what)
    own = model.members[-1].recipe
    if isinstance(own.semi, CoTraining) or isinstance(recipe.semi, CoTraining):
        raise InputError.of(bundle, "expected a single net to go on with; 'co-training' is of two")
    raw, given = recipe.model_dump(mode="json"), own.model_dump(mode="json")
    raw |= {
        "framing": given["stages"][-1]["framing"] or given["framing"],
        "input": given["input"],
        "net": _without_pretraining(given["net"]),
        "begin_with": {"bundle": str(bundle), "digest": model.digest},
    }
    for stages in (raw["stages"], *(step.get("stages", []) for step in raw["steps"])):
        for stage in stages:
            stage["framing"] = None
            loss = stage["loss"]
            loss["has_salt"] = (loss["has_salt"] or _HEAD_WEIGHT) if own.net.has_salt_head else 0.0
            loss["side"] = (loss["side"] or _HEAD_WEIGHT) if own.net.num_sides else 0.0
    return check_recipe(raw, source=f"recipe {recipe.name} with {bundle}")


def _without_pretraining(net: dict[str, Any]) -> dict[str, Any]:
    """The net without trained weights of its encoder, for the bundle's are better."""
    encoder = net.get("encoder")
    return net | {"encoder": encoder | {"weights": "none"}} if encoder and "weights" in encoder else net
