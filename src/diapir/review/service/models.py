"""The models that are served: opened and checked at the start, their nets loaded when they are first asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.bundle import Model, open_model
from diapir.pipeline.members import needed_files
from diapir.pipeline.survey_tiles import Predict, mask_threshold, tile_predictor
from diapir.runs import json_digest, sha256_of_file
from diapir.volume.segment import precision_of


@dataclass(frozen=True)
class ServedModel:
    """A finished run or a bundle by the name that requests call it.

    Args:
        digest: of a bundle its own; of a run SHA-256 over the hashes of the files that predicting needs.
        threshold: probability above which a pixel is salt, unless a request has one of its own.
    """

    name: str
    model: Model
    digest: str
    threshold: float

    def load(self) -> Predict:
        """What predicts tiles, with its nets in memory.

        Raises:
            InputError: a file of weights is damaged.
        """
        return tile_predictor(self.model, precision=precision_of(self.model))


def open_models(models: Mapping[str, Path]) -> dict[str, ServedModel]:
    """Finished runs and bundles, each checked as `open_model` does.

    Raises:
        InputError: any of them cannot be used; with the faults of all.
    """
    found, faults = dict[str, ServedModel](), list[Fault]()
    for name, folder in models.items():
        try:
            found[name] = _open(name, folder)
        except InputError as error:
            faults += error.faults
    raise_if_any(faults)
    return found


def _open(name: str, folder: Path) -> ServedModel:
    model = open_model(folder)
    files = needed_files(folder, model.recipe, model.members)
    digest = model.digest or json_digest({each: sha256_of_file(folder / each) for each in files})
    return ServedModel(name, model, digest, mask_threshold(model))
