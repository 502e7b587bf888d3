"""A model in a folder of its own: what predicting needs of a run, hashed, with what it learned from and how it scores.

A bundle is a run's folder without what only training, scoring and looking back need, and with `bundle.json` and
`card.md`. Opening one holds every file against the manifest, and what the manifest says against the files.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diapir.data.statistics import TileStatistics, tile_statistics
from diapir.faults import Fault, InputError, raise_if_any
from diapir.nets.weights import load_tensors
from diapir.pipeline.bundle_files import CARD, MANIFEST, read_manifest, write_manifest
from diapir.pipeline.card import card_text
from diapir.pipeline.members import Member, members_of, needed_files
from diapir.pipeline.onnx_files import export_onnx, onnx_name, require_onnx
from diapir.pipeline.plan import RECIPE, own_tiles, require_finished
from diapir.pipeline.run import open_run_data
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.record import RECORD, read_record
from diapir.runs import atomic_folder, atomic_path, require_new_folder, write_text

_KEYS = ("recipe_digest", "threshold", "score", "interval_95", "score_kind", "data", "provenance")


@dataclass(frozen=True)
class Model:
    """What predicts: a finished run, or a bundle of one.

    Args:
        folder: where it lies.
        record: of the run.
        members: what each predict step behind the submission brings to it.
        manifest: of a bundle; None for a run.
    """

    folder: Path
    recipe: Recipe
    record: dict[str, Any]
    members: tuple[Member, ...]
    manifest: dict[str, Any] | None = None

    @property
    def threshold(self) -> float:
        """Probability above which a pixel of the last step before the submission is salt."""
        return float(self.record["threshold"])

    @property
    def statistics(self) -> TileStatistics | None:
        """Of the labelled tiles that it was trained on; None for a run, which does not keep them."""
        return None if self.manifest is None else TileStatistics.stored(self.manifest["training_data"])

    @property
    def digest(self) -> str | None:
        """SHA-256 over everything in a bundle; None for a run."""
        return None if self.manifest is None else str(self.manifest["digest"])


def open_model(folder: Path) -> Model:
    """A finished run, or a bundle with every file of it held against its hash.

    Raises:
        InputError: there is neither, or a file is missing, damaged or does not belong to the others; in a bundle also
            what does not belong there, links, and a manifest that says other things than the files do.
    """
    manifest = read_manifest(folder) if _is_bundle(folder) else None
    require_finished(folder)
    recipe = read_recipe(folder / RECIPE)
    record = _sound_record(folder, recipe)
    model = Model(folder, recipe, record, members_of(folder, recipe), manifest)
    if manifest is not None:
        _require_true(model, manifest)
    return model


def write_bundle(
    run: Path, out: Path, *, data_path: Path | None = None, licence: str = "", with_onnx: bool = False
) -> Model:
    """Write what predicting needs of a finished run, or of another bundle, as a bundle, whole or not at all.

    The same run gives the same bytes.

    Args:
        data_path: the data set that the run had, where it made none of its own; a bundle knows what is wanted of it.
        licence: for the card; empty for what the other bundle says, if there is one.

    Raises:
        InputError: as `open_model`; the data are not those that the run had; `out` is no new folder; a file of weights
            does not match its hash; or with ONNX, the packages are absent or what they give differs.
    """
    require_new_folder(out)
    if with_onnx:
        require_onnx()
    source = open_model(run)
    before = source.manifest or {}
    statistics = source.statistics if before and data_path is None else _statistics(source, data_path)
    assert statistics is not None
    needed = needed_files(run, source.recipe, source.members)
    with atomic_folder(out) as folder:
        for name in needed:
            _copy(run / name, folder / name)
        onnx = export_onnx(source.members, folder) if with_onnx else []
        facts = _facts(source, statistics=statistics, licence=licence or before.get("licence", ""), onnx=onnx)
        write_text(folder / CARD, card_text(facts, record=source.record, members=source.members))
        manifest = write_manifest(folder, facts, names=[*needed, CARD, *(entry["file"] for entry in onnx)])
    return Model(out, source.recipe, source.record, source.members, manifest)


def _is_bundle(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (MANIFEST, CARD))


def _sound_record(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The run's record, with all in it that is asked for later."""
    record = read_record(folder, keys=_KEYS)
    if record["recipe_digest"] != recipe.digest:
        raise InputError.of(folder, f"its {RECORD} and {RECIPE} do not belong together; use another copy of the run")
    return record


def _statistics(source: Model, data_path: Path | None) -> TileStatistics:
    """Of the labelled tiles that the run had."""
    skipped = bool(source.record["data"].get("skipped"))
    data_path = own_tiles(source.folder, data_path)
    data, _ = open_run_data(source.recipe, data_path, skip_bad=skipped)
    if data.digest != source.record["data"]["digest"]:
        raise InputError.of(
            "--data" if data_path is None else data_path,
            f"these are not the data that {source.folder} was trained on: name those with --data",
        )
    return tile_statistics(data.labelled.images, depths_m=data.labelled.depths_m)


def _copy(source: Path, target: Path) -> None:
    if source.suffix == ".safetensors":
        load_tensors(source)  # damage is not handed on
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _facts(source: Model, *, statistics: TileStatistics, licence: str, onnx: list[dict[str, Any]]) -> dict[str, Any]:
    """What a manifest says besides the files; all but the last three follows from these."""
    record = source.record
    return {
        "name": source.recipe.name,
        "recipe_digest": source.recipe.digest,
        "data_digest": record["data"]["digest"],
        "members": [member.to_json() for member in source.members],
        "threshold": record["threshold"],
        "scores": {key: record[key] for key in ("score", "interval_95", "score_kind")},
        "training_data": statistics.to_json(),
        "licence": licence,
        "onnx": onnx,
    }


def _require_true(model: Model, manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest that says other things than the files do."""
    path = model.folder / MANIFEST
    try:
        statistics = TileStatistics.stored(manifest["training_data"])
        onnx, licence = list(manifest["onnx"]), str(manifest["licence"])
        exported = [str(entry["file"]) for entry in onnx]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError.of(path, f"expected training_data, licence and onnx ({error}); use another copy") from None
    facts = _facts(model, statistics=statistics, licence=licence, onnx=onnx)
    faults = [
        Fault(f"{path}: {key}", "it says other things than the recipe, the record and the weights do: use another copy")
        for key, value in facts.items()
        if manifest.get(key) != value
    ]
    unknown = sorted(manifest.keys() - facts.keys() - {"format", "version", "files", "digest"})
    faults += [Fault(f"{path}: {key}", "no bundle says such a thing: use another copy") for key in unknown]
    weights = {each.file for member in model.members for each in member.weights}
    needed = {*needed_files(model.folder, model.recipe, model.members), CARD, *exported}
    if exported and {*exported} != {onnx_name(name) for name in weights}:
        faults.append(Fault(f"{path}: onnx", "expected a file for each file of weights, or none: use another copy"))
    faults += [
        Fault(
            str(model.folder / name), "no step of the recipe needs it: remove it from the bundle, or use another copy"
        )
        for name in sorted({*manifest["files"]} - needed)
    ]
    faults += [
        Fault(str(model.folder / name), f"expected it in {MANIFEST}, found none: use another copy")
        for name in sorted(needed - {*manifest["files"]})
    ]
    raise_if_any(faults)
