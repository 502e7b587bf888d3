"""Epoch records for trackers that people run: MLflow and TensorBoard, each an extra."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

from diapir.faults import InputError

TrackerName = Literal["mlflow", "tensorboard"]
Tracker = Callable[[Mapping[str, Any]], None]


def open_trackers(names: Sequence[TrackerName], folder: Path, *, run_name: str) -> list[Tracker]:
    """A function for each tracker that takes one epoch's record.

    Raises:
        InputError: its package is not installed.
    """
    return [_open_tracker(name, folder, run_name=run_name) for name in names]


def _open_tracker(name: TrackerName, folder: Path, *, run_name: str) -> Tracker:
    match name:
        case "mlflow":
            mlflow = _import("mlflow", extra="mlflow")
            mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
            mlflow.set_experiment("diapir")
            run_id = (
                mlflow.tracking.MlflowClient()
                .create_run(mlflow.get_experiment_by_name("diapir").experiment_id, run_name=run_name)
                .info.run_id
            )
            return lambda record: mlflow.log_metrics(_numbers(record), step=record["total_epochs"], run_id=run_id)
        case "tensorboard":
            writer = _import("torch.utils.tensorboard", extra="tensorboard").SummaryWriter(
                str(folder / "tensorboard" / run_name)
            )

            def write(record: Mapping[str, Any]) -> None:
                for key, value in _numbers(record).items():
                    writer.add_scalar(key, value, record["total_epochs"])
                writer.flush()

            return write
        case _:
            assert_never(name)


def _import(module: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError.of(
            f"--track {extra}", f"it is not installed; install it with: uv sync --extra {extra}"
        ) from None


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
