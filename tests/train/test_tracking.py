import sys
from pathlib import Path
from typing import Any

import pytest

from diapir.faults import InputError
from diapir.train.tracking import open_trackers, require_trackers

RECORD: dict[str, Any] = {
    "stage": "one", "epoch": 1, "total_epochs": 1, "loss": 0.5, "bce_only": True, "score": None, "learning_rate": 0.1,
}  # fmt: skip

FAKE_MLFLOW = """
from types import SimpleNamespace
told = []
def set_tracking_uri(uri): told.append(("uri", uri))
def set_experiment(name): told.append(("experiment", name))
def get_experiment_by_name(name): return SimpleNamespace(experiment_id="7")
def log_metrics(metrics, *, step, run_id): told.append(("metrics", metrics, step, run_id))
class MlflowClient:
    def create_run(self, experiment_id, run_name):
        told.append(("run", experiment_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))
tracking = SimpleNamespace(MlflowClient=MlflowClient)
"""


def test_tensorboard_gets_an_event_file_a_run(tmp_path: Path) -> None:
    require_trackers(["tensorboard"])
    (track,) = open_trackers(["tensorboard", "tensorboard"], tmp_path, run_name="tiny-fold-0")
    track(RECORD)
    (events,) = (tmp_path / "tensorboard_logs" / "tiny-fold-0").iterdir()
    content = events.read_bytes()
    assert b"loss" in content
    assert b"learning_rate" in content
    assert b"bce_only" not in content, "a switch is no figure"


def test_mlflow_gets_a_run_and_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.py").write_text(FAKE_MLFLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    require_trackers(["mlflow"])
    (track,) = open_trackers(["mlflow"], tmp_path, run_name="tiny-fold-0")
    track(RECORD)
    fake: Any = sys.modules.pop("mlflow")
    assert fake.told == [
        ("uri", f"sqlite:///{tmp_path / 'mlflow.db'}"),
        ("experiment", "diapir"),
        ("run", "7", "tiny-fold-0"),
        ("metrics", {"epoch": 1.0, "total_epochs": 1.0, "loss": 0.5, "learning_rate": 0.1}, 1, "r1"),
    ]


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        require_trackers(["mlflow", "tensorboard"])
    assert [fault.where for fault in error.value.faults] == ["--track mlflow", "--track tensorboard"]
    assert "setup.py --extra mlflow" in error.value.faults[0].what
