"""The epochs of a fold: what was written is read, and a file of something else is named."""

from pathlib import Path

import pytest

from diapir.faults import InputError
from diapir.train.epoch_log import LOG, read_log, write_log


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    history = [{"stage": "both", "epoch": number, "loss": 1 / (1 + number)} for number in range(3)]
    write_log(tmp_path, history)
    assert read_log(tmp_path) == history


@pytest.mark.parametrize("content", [b"{", b'{"loss": 1}\n\n', b"\xff", b"[" * 200_000])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOG).write_bytes(content)
    with pytest.raises(InputError, match=r"log\.jsonl: expected an epoch a line as JSON"):
        read_log(tmp_path)
