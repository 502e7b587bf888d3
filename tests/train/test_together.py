import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trained_together
from diapir.train.epoch_log import LOG
from diapir.train.snapshots import WEIGHTS_BEST, WEIGHTS_LAST
from fake_training import VARYING


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")
def test_a_signal_to_one_of_two_processes_stops_both_and_costs_no_byte(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = [sys.executable, trained_together.__file__, str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    for name in (WEIGHTS_BEST, WEIGHTS_LAST):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")


def timeless(folder: Path) -> list[dict[str, object]]:
    lines = (folder / LOG).read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in VARYING} for line in lines]
