"""Images of many through few threads: what comes back, in what company, and what is done for nobody."""

import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.pipeline.survey_tiles import Floats, Moments, Predict
from diapir.review.service.jobs import Job, new_job
from diapir.review.service.limits import Limits
from diapir.review.service.net_queue import ModelFailed, NetQueue
from diapir.volume.tiling import Blend

LIMITS = Limits(batch=8, waiting=6, waiting_pixels=6 * 101 * 101)


def brightness(greys: NDArray[np.uint8], depths_m: Floats) -> Moments:
    """Of each pixel, so that a tile says nothing of another."""
    mean = (greys / np.float32(255)).astype(np.float32)
    return Moments(mean, mean * mean)


class Gate:
    """A predictor that waits until it is let go, and notes what it was given."""

    def __init__(self, predict: Predict = brightness) -> None:
        self.batches: list[NDArray[np.uint8]] = []
        self.depths_m: list[float] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self._predict = predict

    def __call__(self, greys: NDArray[np.uint8], depths_m: Floats) -> Moments:
        self.batches.append(greys)
        self.depths_m += depths_m.tolist()
        self.begun.set()
        assert self.go.wait(30)
        return self._predict(greys, depths_m)


@contextmanager
def nets(
    predict: Predict = brightness,
    *,
    limits: Limits = LIMITS,
    workers: int = 1,
    on_batch: Callable[[int, float], None] = lambda *_: None,
    **others: Predict,
) -> Iterator[NetQueue]:
    loaders: dict[str, Callable[[], Predict]] = {"one": lambda: predict}
    loaders |= {name: partial(lambda other: other, other) for name, other in others.items()}
    found = NetQueue(loaders, limits=limits, workers=workers, on_batch=on_batch)
    try:
        yield found
    finally:
        found.close()


def image(rows: int = 101, columns: int = 101, *, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)


@dataclass(frozen=True)
class Noted(Blend):
    """Notes the order in which tiles are added."""

    added: list[int]

    def add(self, number: int, tile: Floats) -> None:
        self.added.append(number)
        super().add(number, tile)


def job(greys: NDArray[np.uint8] | None = None, *, model: str = "one", wait_s: float = 30.0) -> Job:
    return new_job(model, image() if greys is None else greys, deadline_s=time.monotonic() + wait_s)


def answer(found: Job) -> NDArray[np.float32]:
    return found.future.result(30).section()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("shape", [(101, 101), (1, 1), (40, 300), (250, 101), (203, 177)])
def test_an_image_comes_back_whole(shape: tuple[int, int], workers: int) -> None:
    greys = image(*shape)
    with nets(limits=Limits(batch=4), workers=workers) as found:
        found.submit(sent := job(greys))
        np.testing.assert_allclose(answer(sent), greys.astype(np.float32) / 255, atol=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_image_gets_its_own_answer(workers: int) -> None:
    images = [image(seed=seed) for seed in range(6)]
    gate = Gate()
    with nets(gate, workers=workers) as found:
        sent = [job(greys) for greys in images]
        for each in sent:
            found.submit(each)
        gate.go.set()
        for each, greys in zip(sent, images, strict=True):
            assert (answer(each) == greys.astype(np.float32) / 255).all()


def test_images_go_through_the_nets_together() -> None:
    gate = Gate()
    with nets(gate) as found:
        found.submit(first := job())
        assert gate.begun.wait(30)
        others = [job() for _ in range(5)]
        for each in others:
            found.submit(each)
        gate.go.set()
        for each in (first, *others):
            answer(each)
    assert [len(batch) for batch in gate.batches] == [1, 5]


def test_a_batch_waits_for_clients_who_were_just_answered_and_ask_again() -> None:
    gate = Gate()
    with nets(gate, limits=replace(LIMITS, batch=4, gather_s=20.0)) as found:
        found.submit(first := job())
        assert gate.begun.wait(30)
        others = [job(), job()]
        for each in others:
            found.submit(each)
        gate.go.set()
        answer(first)
        time.sleep(0.1)
        assert [len(batch) for batch in gate.batches] == [1], "three were there a moment ago, and two are"
        found.submit(again := job())
        for each in (*others, again):
            answer(each)
    assert [len(batch) for batch in gate.batches] == [1, 3]


class Meeting:
    """A predictor that comes back only when as many batches as it waits for are in it at once."""

    def __init__(self, count: int) -> None:
        self.sizes: list[int] = []
        self._barrier = threading.Barrier(count)

    def __call__(self, greys: NDArray[np.uint8], depths_m: Floats) -> Moments:
        self.sizes.append(len(greys))
        self._barrier.wait(30)
        return brightness(greys, depths_m)


def test_batches_run_side_by_side_and_share_what_waits() -> None:
    meeting, greys = Meeting(3), image(101, 76 * 11 + 101)
    with nets(meeting, workers=3) as found:
        found.submit(sent := job(greys))
        np.testing.assert_allclose(answer(sent), greys.astype(np.float32) / 255, atol=1e-6)
    assert len(sent.blend.tiling) == 12
    assert meeting.sizes == [4, 4, 4]


def test_tiles_are_put_together_in_their_order_whichever_is_done_first() -> None:
    greys = image(101, 76 * 3 + 101)
    second_done = threading.Event()

    def first_waits(tiles: NDArray[np.uint8], depths_m: Floats) -> Moments:
        if (tiles[0] == greys[:, :101]).all():
            assert second_done.wait(30)
        else:
            threading.Timer(0.1, second_done.set).start()
        return brightness(tiles, depths_m)

    added: list[int] = []
    with nets(first_waits, limits=Limits(batch=1), workers=2) as found:
        sent = job(greys)
        noted = replace(sent, blend=Noted(sent.blend.tiling, sent.blend.sums, added))
        found.submit(noted)
        answer(noted)
    assert added == [0, 1, 2, 3]


def test_a_large_image_keeps_no_small_one_waiting() -> None:
    large, small = image(101, 101 * 40), image(seed=5)
    gate = Gate()
    with nets(gate, limits=Limits(batch=4)) as found:
        found.submit(first := job(large))
        assert gate.begun.wait(30)
        found.submit(second := job(small))
        gate.go.set()
        answer(second)
        np.testing.assert_allclose(answer(first), large.astype(np.float32) / 255, atol=1e-6)
    has_small = [any((tile == small).all() for tile in batch) for batch in gate.batches]
    assert has_small.index(True) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_many_large_images_keep_no_small_one_waiting(workers: int) -> None:
    large, small = image(101, 76 * 19 + 101), image(seed=5)
    gate = Gate()
    with nets(gate, limits=Limits(batch=2), workers=workers) as found:
        sent = [job(large) for _ in range(5)]
        for each in sent:
            found.submit(each)
        assert gate.begun.wait(30)
        found.submit(last := job(small))
        gate.go.set()
        answer(last)
        for each in sent:
            answer(each)
    has_small = [any((tile == small).all() for tile in batch) for batch in gate.batches]
    assert has_small.index(True) <= 4, "every image has its turn before any has its second"


def test_a_batch_waits_for_no_client_while_another_model_is_wanted() -> None:
    gate = Gate()
    with nets(gate, limits=Limits(batch=4, gather_s=20.0), two=brightness) as found:
        several = [job() for _ in range(3)]
        for each in several:
            found.submit(each)
        assert gate.begun.wait(30)
        gate.go.set()
        answer(several[0])
        start_s = time.monotonic()
        found.submit(two := job(model="two"))
        answer(two)
        assert time.monotonic() - start_s < 15, "two of three are there, and the third may never ask again"


def test_a_model_that_is_loaded_answers_while_another_is_loaded() -> None:
    loading, go = threading.Event(), threading.Event()

    def slow() -> Predict:
        loading.set()
        assert go.wait(30)
        return brightness

    found = NetQueue({"one": lambda: brightness, "two": slow}, limits=LIMITS, workers=2)
    found.submit(waits := job(model="two"))
    assert loading.wait(30)
    found.submit(sent := job())
    answer(sent)
    assert not waits.future.done()
    go.set()
    answer(waits)
    found.close()


def test_threads_that_wait_hold_no_image() -> None:
    with nets(workers=2) as found:
        found.submit(sent := job())
        answer(sent)
        held = weakref.ref(sent)
        del sent
        for _ in range(500):
            if held() is None:
                break
            gc.collect()
            time.sleep(0.02)
        assert held() is None


def test_models_take_turns() -> None:
    one, before = Gate(), list[int]()

    def other(greys: NDArray[np.uint8], depths_m: Floats) -> Moments:
        before.append(len(one.batches))
        return brightness(greys, depths_m)

    with nets(one, limits=Limits(batch=2), two=other) as found:
        found.submit(first := job(image(101, 101 * 20)))
        assert one.begun.wait(30)
        found.submit(second := job(image(101, 101 * 2), model="two"))
        one.go.set()
        answer(second), answer(first)
    assert before == [2, 3], "one after the other"


def test_a_model_is_loaded_once_and_when_it_is_asked_for() -> None:
    loaded: list[str] = []

    def load(name: str) -> Predict:
        loaded.append(name)
        time.sleep(0.05)
        return brightness

    started: list[int] = []
    found = NetQueue(
        {"one": lambda: load("one"), "two": lambda: load("two")},
        limits=LIMITS,
        workers=3,
        on_start=lambda number: started.append(number),
    )
    sent = [job() for _ in range(6)]
    for each in sent:
        found.submit(each)
    for each in sent:
        answer(each)
    found.close()
    assert loaded == ["one"]
    assert sorted(started) == [0, 1, 2]


def test_depths_go_with_their_tiles() -> None:
    gate = Gate()
    gate.go.set()
    with nets(gate) as found:
        sent = new_job("one", image(202, 101), deadline_s=time.monotonic() + 30, depth_m=500, row_m=2)
        unknown = new_job("one", image(202, 101), deadline_s=time.monotonic() + 30, depth_m=500)
        found.submit(sent)
        answer(sent)
        found.submit(unknown)
        answer(unknown)
    tops = [row for row, _ in sent.blend.tiling.places]
    np.testing.assert_array_equal(gate.depths_m, [500 + 2 * row for row in tops] + [500, *[np.nan] * (len(tops) - 1)])


def test_what_has_no_room_is_not_taken_and_room_comes_back() -> None:
    with nets() as found, ExitStack() as others:
        for _ in range(5):
            others.enter_context(found.room(101 * 101))
        with found.room(101 * 101):
            found.submit(sent := job())
            answer(sent)
            assert (found.has_room(), found.num_waiting) == (False, 6), "what is done is held until it was told"
            with pytest.raises(queue.Full), found.room(1):
                pass
        assert (found.has_room(), found.num_waiting) == (True, 5)
        with pytest.raises(queue.Full), found.room(102 * 101):
            pass


def test_a_single_image_has_room_whatever_it_is_padded_to() -> None:
    with nets() as found, found.room(7 * 101 * 101):
        assert not found.has_room(1)


def test_for_who_left_nothing_more_is_done() -> None:
    gate, limits = Gate(), Limits(batch=1)
    with nets(gate, limits=limits) as found:
        found.submit(sent := job(image(101, 101 * 20)))
        assert gate.begun.wait(30)
        assert found.has_room(limits.waiting_pixels)
        found.forget(sent)
        assert not found.has_room(limits.waiting_pixels), "a batch still holds it"
        gate.go.set()
        found.submit(other := job())
        answer(other)
        assert len(gate.batches) == 2
        assert found.has_room(limits.waiting_pixels)
        with pytest.raises(ModelFailed):
            sent.future.result()


def test_nothing_is_done_after_its_time() -> None:
    gate = Gate()
    with nets(gate) as found:
        found.submit(first := job())
        assert gate.begun.wait(30)
        found.submit(late := job(wait_s=0.05))
        time.sleep(0.1)
        gate.go.set()
        answer(first)
        with pytest.raises(TimeoutError):
            late.future.result(30)
    assert len(gate.batches) == 1


@pytest.mark.parametrize(
    "error", [InputError.of("weights", "damaged"), RuntimeError("out of memory"), MemoryError(), ValueError("of a net")]
)
def test_a_model_that_fails_says_so_and_the_others_go_on(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(greys: NDArray[np.uint8], depths_m: Floats) -> Moments:
        raise error

    with nets(fail, limits=Limits(batch=1), two=brightness) as found:
        found.submit(failed := job(image(101, 202)))
        found.submit(sound := job(model="two"))
        with pytest.raises(ModelFailed, match="model one cannot answer"):
            failed.future.result(30)
        assert answer(sound).shape == (101, 101)
        assert found.is_open
    told = capsys.readouterr().err
    assert "model one" in told
    assert ("Traceback" in told) == (not isinstance(error, InputError))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_leaves_nobody_waiting(workers: int) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with nets(brightness, limits=Limits(batch=1), workers=workers, on_batch=fail) as found:
        found.submit(first := job(image(101, 404)))
        with pytest.raises(ModelFailed):
            first.future.result(30)
        while found.is_open:
            time.sleep(0.01)
        with pytest.raises(ModelFailed):
            found.submit(job())


@pytest.mark.parametrize("workers", [1, 3])
def test_closing_finishes_what_was_taken(workers: int) -> None:
    gate = Gate()
    with nets(gate, workers=workers) as found:
        sent = [job() for _ in range(4)]
        for each in sent:
            found.submit(each)
        threading.Timer(0.1, gate.go.set).start()
        found.close()
        assert all(answer(each).shape == (101, 101) for each in sent)
        with pytest.raises(ModelFailed):
            found.submit(job())
