import json
import subprocess
import sys
from pathlib import Path

from diapir.predict.submission import write_submission
from fake_masks import blob_masks


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from diapir.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_check_submission_says_ok_or_names_every_fault(tmp_path: Path) -> None:
    write_submission(tmp_path / "good.csv.gz", ["a", "b"], blob_masks(2))
    answer = run(tmp_path, "check-submission", "good.csv.gz", "--against", "good.csv.gz")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "ok: 2 rows\n", "")
    (tmp_path / "bad.csv").write_text("id,rle_mask\na,nan\nc,\n")
    answer = run(tmp_path, "check-submission", "bad.csv", "--against", "good.csv.gz")
    assert (answer.returncode, answer.stdout) == (2, "")
    lines = answer.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", "bad.csv:2"],
        ["error", "bad.csv:3"],
        ["error", "bad.csv"],
    ]


def test_score_prints_the_figures_and_writes_them(tmp_path: Path) -> None:
    write_submission(tmp_path / "truth.csv", ["a", "b"], blob_masks(2))
    answer = run(tmp_path, "score", "truth.csv", ".", "--json", "score.json")
    assert answer.returncode == 0, answer.stderr
    assert "1.0000 .. 1.0000" in answer.stdout
    assert json.loads((tmp_path / "score.json").read_text())["total"]["score"] == 1
