"""Training that goes on from a bundle: which of its weights a fold begins with, and what they want to see."""

from pathlib import Path

import torch

from diapir.faults import InputError
from diapir.nets.build import build_model
from diapir.nets.framing import InputSpec
from diapir.nets.weights import read_header, require_fit
from diapir.pipeline.bundle_files import MANIFEST, read_manifest
from diapir.pipeline.predicting import stored_spec
from diapir.pipeline.workplace import Fold
from diapir.recipe.whole import BeginWith, Recipe


def bundled_weights(own: Recipe, fold: Fold) -> tuple[Path, InputSpec]:
    """The weights of a bundle that a fold begins with, and how they want to see grey values.

    Args:
        own: the recipe of a train step alone, which names a bundle.

    Raises:
        InputError: the bundle is absent or damaged, is another one than the recipe means, or its weights do not fit.
    """
    assert own.begin_with is not None
    files = _files(own.begin_with)
    path = files[(fold or 0) % len(files)]
    shapes, facts = read_header(path)
    spec = stored_spec(own, path, facts)
    with torch.device("meta"):
        require_fit(path, build_model(own, in_channels=len(spec.channels)), shapes)
    return path, spec


def _files(section: BeginWith) -> list[Path]:
    folder = section.bundle
    manifest = read_manifest(folder)
    if manifest["digest"] != section.digest:
        what = f"expected the bundle that the recipe begins with, digest {section.digest[:12]}"
        raise InputError.of(folder, f"{what}, found {manifest['digest'][:12]}: give the other, or change the recipe")
    try:
        names = [entry["file"] for entry in manifest["members"][-1]["weights"]]
        is_sound = bool(names) and all(name in manifest["files"] for name in names)
    except (KeyError, IndexError, TypeError):
        is_sound = False
    if not is_sound:
        raise InputError.of(folder / MANIFEST, "expected models with their files of weights; use another copy")
    return [folder / name for name in names]
