"""Sections are kept within a bound, strips of them made once, and they are the same however they are cut."""

import threading
import time

import numpy as np
import pytest

from diapir.review.sources import SurveySource, open_sources
from diapir.review.viewer import strips, whole_volumes
from diapir.review.viewer.background import Slow, StillWorking
from diapir.review.viewer.strips import Bytes, Kept, Key, Strips, read_sections, strip_lines
from diapir.review.viewer.whole_volumes import TimeSlices, read_slab
from diapir.volume.line_numbers import DIRECTIONS, Direction
from fake_viewed import write_viewed_survey

SHAPE = (36, 40, 50)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SurveySource:
    folder = tmp_path_factory.mktemp("viewed")
    write_viewed_survey(folder, shape=SHAPE, dead=True)
    return open_sources([folder / "survey.zarr", folder / "salt.zarr"]).surveys["survey.zarr"]


def key(number: int) -> Key:
    return Key("survey", "amplitude", "inline", number)


def picture(size: int) -> Bytes:
    return np.zeros(size, np.uint8)


def test_the_longest_unused_goes_first() -> None:
    kept = Kept(250)
    for number in range(2):
        kept.put(key(number), picture(100))
    assert kept.get(key(0)) is not None
    kept.put(key(2), picture(100))
    assert [kept.get(key(number)) is not None for number in range(3)] == [True, False, True]
    assert kept.num_bytes <= 250


def test_what_is_larger_than_the_bound_is_kept_alone() -> None:
    kept = Kept(10)
    kept.put(key(0), picture(5))
    kept.put(key(1), picture(50))
    assert kept.get(key(0)) is None
    assert kept.get(key(1)) is not None


def read_strip(source: SurveySource, volume: str, direction: Direction, number: int) -> Bytes:
    """The lines that are kept together."""
    lines = strip_lines(source, direction)
    return read_sections(source, volume, direction, slice(number * lines, (number + 1) * lines))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[slice]:
    """The lines that were read, one after another."""
    found: list[slice] = []

    def noted(source: SurveySource, volume: str, direction: Direction, lines: slice) -> Bytes:
        found.append(lines)
        return read_sections(source, volume, direction, lines)

    monkeypatch.setattr(strips, "read_sections", noted)
    return found


def wait_for(kept: Kept, key: Key) -> None:
    for _ in range(500):
        if kept.get(key) is not None:
            return
        time.sleep(0.02)


def test_a_jump_waits_for_one_line_and_its_neighbours_come_behind_it(source: SurveySource, read: list[slice]) -> None:
    kept = Kept(1 << 24)
    sections, expected = Strips(kept), read_strip(source, "mask", "inline", 1)
    np.testing.assert_array_equal(sections.section(source, "mask", "inline", 20), expected[4])
    assert read[0] == slice(20, 21)
    wait_for(kept, Key(source.name, "mask", "inline", 1))
    assert read[1:] == [slice(16, 32)]
    np.testing.assert_array_equal(sections.section(source, "mask", "inline", 22), expected[6])
    assert slice(22, 23) not in read


def test_volumes_are_read_side_by_side_and_come_in_their_order(
    source: SurveySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def meeting(source: SurveySource, volume: str, direction: Direction, lines: slice) -> Bytes:
        if lines == slice(20, 21):
            both.wait(30)
        return read_sections(source, volume, direction, lines)

    monkeypatch.setattr(strips, "read_sections", meeting)
    kept = Kept(1 << 24)
    found = Strips(kept).sections(source, ["mask", "probability"], "inline", 20)
    assert list(found) == ["mask", "probability"]
    for volume, section in found.items():
        np.testing.assert_array_equal(section, read_strip(source, volume, "inline", 1)[4])
        wait_for(kept, Key(source.name, volume, "inline", 1))


def test_many_who_ask_at_once_have_a_strip_made_once(source: SurveySource, read: list[slice]) -> None:
    kept = Kept(1 << 24)
    sections = Strips(kept)
    threads = [threading.Thread(target=sections.section, args=(source, "mask", "inline", 20)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(kept, Key(source.name, "mask", "inline", 1))
    assert read.count(slice(16, 32)) == 1


def test_many_threads_get_the_same_sections_within_the_bound(source: SurveySource) -> None:
    kept = Kept(200_000)
    sections, wrong = Strips(kept), list[int]()
    expected = [read_strip(source, "probability", "inline", 0)[place] for place in range(16)]

    def walk(seed: int) -> None:
        for place in np.random.default_rng(seed).integers(0, 36, 40).tolist():
            found = sections.section(source, "probability", "inline", place)
            if place < 16 and not np.array_equal(found, expected[place]):
                wrong.append(place)

    threads = [threading.Thread(target=walk, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert kept.num_bytes <= 200_000


@pytest.mark.parametrize("volume", ["amplitude", "probability", "disagreement", "mask"])
def test_small_pieces_and_short_strips_change_nothing(
    source: SurveySource, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {along: [read_strip(source, volume, along, number) for number in range(2)] for along in DIRECTIONS}
    slab = read_slab(source, volume, 0, lambda words: None)
    monkeypatch.setattr(strips, "_PIECE_BYTES", 1)
    monkeypatch.setattr(whole_volumes, "_PIECE_BYTES", 1)
    np.testing.assert_array_equal(read_strip(source, volume, "inline", 1), whole["inline"][1])
    np.testing.assert_array_equal(read_slab(source, volume, 0, lambda words: None), slab)
    monkeypatch.setattr(strips, "_MOST_STRIP_BYTES", 4 * 50 * 36)
    np.testing.assert_array_equal(read_strip(source, volume, "crossline", 1), whole["crossline"][0][4:8])


def test_slices_are_what_sections_are_cut_the_other_way(source: SurveySource) -> None:
    slices = TimeSlices(Kept(1 << 24))
    found = slices.slice(source, "amplitude", 20, wait_s=60)
    rows = [Strips(Kept(1 << 24)).section(source, "amplitude", "inline", place)[20] for place in range(36)]
    np.testing.assert_array_equal(found, np.stack(rows))


def test_slow_work_tells_how_far_it_is_and_is_done_once() -> None:
    go, made = threading.Event(), list[int]()

    def make(tell: object) -> int:
        assert callable(tell)
        tell("half done")
        go.wait(10)
        made.append(1)
        return 7

    slow = Slow(make, begins="begins")
    with pytest.raises(StillWorking, match="half done"):
        slow.get(wait_s=0.2)
    go.set()
    assert [slow.get(wait_s=10), slow.get(wait_s=10)] == [7, 7]
    assert len(made) == 1


def test_slow_work_that_failed_is_tried_again() -> None:
    tries = list[int]()

    def make(tell: object) -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("the disk was away")
        return 7

    slow = Slow(make, begins="begins")
    with pytest.raises(ValueError, match="the disk was away"):
        slow.get(wait_s=10)
    assert slow.get(wait_s=10) == 7
