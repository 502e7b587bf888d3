"""Words for what goes wrong, and work that requests wait for."""

import errno
import threading
from pathlib import Path

import pytest
from fastapi import HTTPException

from diapir.faults import Fault, InputError
from diapir.review.corrections import answers
from diapir.review.corrections.answers import Findings, in_words
from diapir.review.corrections.subjects import NoSuchTarget


def test_who_asks_too_early_is_told_to_come_back_and_the_work_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_WAIT_S", 0.02)
    findings, may_end, made = Findings(), threading.Event(), list[int]()

    def make() -> int:
        may_end.wait(20)
        made.append(7)
        return made[-1]

    for _ in range(3):
        with pytest.raises(HTTPException) as refused:
            findings.get("key", make, words="being worked out")
        assert (refused.value.status_code, refused.value.detail) == (503, "being worked out")
        assert refused.value.headers == {"Retry-After": "1"}
    may_end.set()
    monkeypatch.setattr(answers, "_WAIT_S", 20)
    assert [findings.get("key", make, words="") for _ in range(2)] == [7, 7]
    assert made == [7]


def test_who_ends_the_server_does_not_wait_for_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_WAIT_S", 0.02)
    findings, may_end, seen = Findings(), threading.Event(), list[threading.Thread]()

    def make() -> None:
        seen.append(threading.current_thread())
        may_end.wait(20)

    for key in ("one", "other"):
        with pytest.raises(HTTPException):
            findings.get(key, make, words="")
    (thread,) = seen  # the other one waits for its turn
    assert thread.daemon, "a process waits at its end for all others"
    may_end.set()
    monkeypatch.setattr(answers, "_WAIT_S", 20)
    findings.get("other", make, words="")
    assert len(seen) == 2


def test_work_that_failed_is_begun_again() -> None:
    findings, tries = Findings(), iter([InputError.of("/home/ada/survey.zarr", "expected a file, found none"), None])

    def make() -> str:
        error = next(tries)
        if error is not None:
            raise error
        return "made"

    with pytest.raises(HTTPException) as refused:
        findings.get("key", make, words="")
    assert (refused.value.status_code, refused.value.detail) == (502, "survey.zarr: expected a file, found none")
    assert findings.get("key", make, words="") == "made"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NoSuchTarget.of("", "there is no tile x"), 404, "there is no tile x"),
        (
            InputError([Fault("/a/b", "one"), Fault("/a", "name /home/ada/run, not 1/2")]),
            409,
            "b: one; a: name run, not 1/2",
        ),
        (OSError(errno.ENOSPC, "No space left", "/home/ada/x"), 502, "x: cannot be read or written: No space left"),
    ],
)
def test_errors_become_words_without_places(error: Exception, status: int, words: str) -> None:
    with pytest.raises(HTTPException) as refused, in_words(faulty=409):
        raise error
    assert (refused.value.status_code, refused.value.detail) == (status, words)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(HTTPException, match="cannot be read or written"), in_words():
        (tmp_path / "absent").read_bytes()
