"""Epoch records for trackers that people run: MLflow and TensorBoard, each an extra."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

from diapir.faults import Fault, raise_if_any

TENSORBOARD = "tensorboard_logs"
"""Folder of a run; no step can be called so."""
TrackerName = Literal["mlflow", "tensorboard"]
Tracker = Callable[[Mapping[str, Any]], None]


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Refuse to go on where the package of a tracker is not installed.

    Raises:
        InputError: with every one that is missing.
    """
    raise_if_any(
        Fault(f"--track {name}", f"it is not installed; install it with: python3 scripts/setup.py --extra {name}")
        for name in dict.fromkeys(names)
        if importlib.util.find_spec(name) is None
    )


def open_trackers(names: Sequence[TrackerName], folder: Path, *, run_name: str) -> list[Tracker]:
    """A function for each tracker that takes one epoch's record."""
    return [_open_tracker(name, folder, run_name=run_name) for name in dict.fromkeys(names)]


def _open_tracker(name: TrackerName, folder: Path, *, run_name: str) -> Tracker:
    match name:
        case "mlflow":
            mlflow = importlib.import_module("mlflow")
            mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
            mlflow.set_experiment("diapir")
            run_id = (
                mlflow.tracking.MlflowClient()
                .create_run(mlflow.get_experiment_by_name("diapir").experiment_id, run_name=run_name)
                .info.run_id
            )
            return lambda record: mlflow.log_metrics(_numbers(record), step=record["total_epochs"], run_id=run_id)
        case "tensorboard":
            writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(
                str(folder / TENSORBOARD / run_name)
            )

            def write(record: Mapping[str, Any]) -> None:
                for key, value in _numbers(record).items():
                    writer.add_scalar(key, value, record["total_epochs"])
                writer.flush()

            return write
        case _:
            assert_never(name)


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
