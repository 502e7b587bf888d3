"""The epochs of a fold, one record each: a line of JSON in its folder, a line of text for a person."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diapir.faults import InputError
from diapir.runs import write_text

LOG = "log.jsonl"
Record = Mapping[str, Any]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The epoch records of a fold's folder, oldest first.

    Raises:
        InputError: its file holds something else.
    """
    path = folder / LOG
    if not path.exists():
        return []
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a line is no object")
        return records
    except (ValueError, RecursionError) as error:
        raise InputError.of(path, f"expected an epoch a line as JSON ({error}); use another copy of the run") from None


def write_log(folder: Path, history: Sequence[Record]) -> None:
    """Write all the records of a fold."""
    write_text(folder / LOG, "".join(json.dumps(record) + "\n" for record in history))


def of_cycle(history: Sequence[Record], name: str) -> list[Record]:
    """The records of one cycle, oldest first."""
    return [record for record in history if record["stage"] == name]


def scores_of(records: Sequence[Record]) -> list[float]:
    """Held-out scores, of the epochs that have one."""
    return [record["score"] for record in records if record["score"] is not None]


def best_of(records: Sequence[Record]) -> Record:
    """The record with the highest held-out score, the first of several; one at least has a score."""
    return max((record for record in records if record["score"] is not None), key=lambda record: record["score"])


def epoch_line(fold: str, record: Record) -> str:
    """An epoch as a person reads it."""
    score = "" if record["score"] is None else f"  score {record['score']:.4f}"
    return (
        f"{fold}  {record['stage']} {record['epoch']:>3}  loss {record['loss']:.4f}"
        f"{score}  {record['elapsed_s'] / 60:.1f} min"
    )
