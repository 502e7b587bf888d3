"""Records of corrections: whole or absent, never lost, whatever happens while they are written."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.review.corrections.records import RECORDS, CorrectionStore, history, mask_of
from diapir.review.corrections.saving import (
    corrected_targets,
    corrections_beside,
    current_mask,
    refuse,
    save_mask,
    undo,
)
from diapir.review.corrections.targets import Target
from diapir.runs import json_digest, read_json, write_json

SHAPE = (6, 5)
TILE = Target("tile", "a/b é..")
Mask = NDArray[np.uint8]
# Saves one correction after another, each of a row more, until it is killed.
SAVER = """
import sys
from pathlib import Path
import numpy as np
from diapir.review.corrections.saving import save_mask
from diapir.review.corrections.records import CorrectionStore
from diapir.review.corrections.targets import Target
store = CorrectionStore(Path(sys.argv[1]), "x")
target, mask = Target("inline", "120"), np.zeros((200, 150), np.uint8)
print("begun", flush=True)
while True:
    after = mask.copy()
    after.flat[np.random.default_rng().integers(0, after.size, 999)] ^= 1
    mask = save_mask(store, target, before=mask, after=after, who="Ada", original=lambda: np.zeros_like(mask)).mask
"""


def empty() -> Mask:
    return np.zeros(SHAPE, np.uint8)


def store_in(folder: Path) -> CorrectionStore:
    return corrections_beside(folder / "run", identity="of these data")


def drawn(*places: tuple[int, int], value: int = 1, on: Mask | None = None) -> Mask:
    mask = empty() if on is None else on.copy()
    for place in places:
        mask[place] = value
    return mask


def save(store: CorrectionStore, before: Mask, after: Mask, *, who: str = "Ada", target: Target = TILE) -> Mask:
    return save_mask(store, target, before=before, after=after, who=who, original=empty).mask


def now(store: CorrectionStore, target: Target = TILE) -> Mask:
    return current_mask(store, target, original=empty)[0]


def test_what_is_saved_is_found_with_who_and_when_and_what_was_there(tmp_path: Path) -> None:
    store, after = store_in(tmp_path), drawn((1, 2), value=UNKNOWN)
    assert (save(store, empty(), after, who=" Ada \n\x1b[31m Lovelace ") == after).all()
    (record,) = history(store)
    assert (record.who, record.target, record.based_on, record.changed) == ("Ada [31m Lovelace", TILE, 0, 1)
    assert record.when.endswith("+00:00")
    assert (mask_of(store, 1, "before", shape=SHAPE) == empty()).all()
    assert (now(store) == after).all()
    assert store.folder == tmp_path / "run.corrections"
    assert not (now(store, Target("tile", "b"))).any()


@pytest.mark.parametrize(("named", "inside"), [(".", "salt.zarr"), ("..", "salt.zarr/mask"), ("", "salt.zarr")])
def test_corrections_of_the_folder_one_is_in_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, inside: str
) -> None:
    (tmp_path / inside).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / inside)
    assert corrections_beside(Path(named), identity="x").folder == tmp_path / "salt.zarr.corrections"


def test_a_save_on_an_older_state_takes_in_what_came_between(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    save(store, empty(), drawn((0, 0), (1, 1)), who="Ada")
    saved = save_mask(
        store, TILE, before=empty(), after=drawn((2, 2), (1, 1), value=UNKNOWN), who="Bob", original=empty
    )
    expected = drawn((2, 2), (1, 1), value=UNKNOWN, on=drawn((0, 0)))
    assert (saved.mask == expected).all()
    assert (now(store) == expected).all()
    assert "brought together with correction 1" in saved.words
    assert "1 pixel that both of you changed was taken from you" in saved.words
    assert (mask_of(store, 2, "drawn", shape=SHAPE) == drawn((2, 2), (1, 1), value=UNKNOWN)).all()


def test_who_began_with_something_that_nobody_saved_gets_what_is_seen(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    seen = drawn((3, 3), (3, 4))
    assert (save(store, seen, drawn((0, 0), on=seen)) == drawn((0, 0), on=seen)).all()


def test_saving_the_same_again_writes_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    save(store, empty(), drawn((0, 0)))
    saved = save_mask(store, TILE, before=drawn((0, 0)), after=drawn((0, 0)), who="", original=empty)
    assert saved.correction is None
    assert len(history(store)) == 1


@pytest.mark.parametrize("part", ["", RECORDS])
def test_a_file_in_the_place_of_the_folder_is_told_before_anything_is_drawn(tmp_path: Path, part: str) -> None:
    store = store_in(tmp_path)
    place = store.folder / part
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    for ask in (lambda: history(store), lambda: now(store), lambda: save(store, empty(), drawn((0, 0)))):
        with pytest.raises(InputError, match="expected a folder of corrections, found something else"):
            ask()
    assert place.read_text() == "mine"


def test_undoing_is_a_record_and_can_be_undone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first = save(store, empty(), drawn((0, 0)))
    save(store, first, drawn((4, 4), on=first))
    told = undo(store, 1, who="Bob", shape=lambda target: SHAPE)
    assert (now(store) == drawn((4, 4))).all(), "the later correction stays"
    assert told.correction is not None
    assert (told.correction.undoes, told.correction.number) == (1, 3)
    with pytest.raises(InputError, match="correction 1 was undone by correction 3"):
        undo(store, 1, who="Bob", shape=lambda target: SHAPE)
    undo(store, 3, who="Bob", shape=lambda target: SHAPE)
    assert (now(store) == drawn((0, 0), (4, 4))).all()
    undo(store, 1, who="Bob", shape=lambda target: SHAPE)
    assert (now(store) == drawn((4, 4))).all()
    assert [record.number for record in history(store)] == [1, 2, 3, 4, 5]


def test_what_is_taken_back_in_any_order_comes_to_the_same(tmp_path: Path) -> None:
    drawing = drawn((0, 0), (0, 1), (1, 0))
    erased = drawn((0, 1), value=0, on=drawing)
    for name, order in {"last first": (2, 1), "first first": (1, 2)}.items():
        store = store_in(tmp_path / name)
        save(store, save(store, empty(), drawing), erased)
        for number in order:
            undo(store, number, who="Ada", shape=lambda target: SHAPE)
        assert (now(store) == empty()).all(), name
        assert not corrected_targets(history(store))
        undo(store, 4, who="Ada", shape=lambda target: SHAPE)
        assert (now(store) == (drawing if order[1] == 1 else empty())).all(), "only the erasure stands"
        undo(store, 3, who="Ada", shape=lambda target: SHAPE)
        assert (now(store) == erased).all()
        assert set(corrected_targets(history(store))) == {TILE}


def test_records_of_before_say_nothing_of_the_original_and_are_read(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    save(store, empty(), drawn((0, 0)))
    path = store.folder / "records" / "000001.json"
    content = {key: value for key, value in read_json(path).items() if key not in ("is_original", "digest")}
    write_json(path, content | {"digest": json_digest(content)})
    (record,) = history(store)
    assert not record.is_original
    undo(store, 1, who="Ada", shape=lambda target: SHAPE)
    assert [record.is_original for record in history(store)] == [False, True]


def test_what_is_drawn_back_to_what_it_was_is_not_corrected(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    save(store, save(store, empty(), drawn((0, 0))), empty())
    assert not corrected_targets(history(store))


def test_what_is_taken_back_wholly_is_not_corrected(tmp_path: Path) -> None:
    store, other = store_in(tmp_path), Target("crossline", "-7")
    save(store, empty(), drawn((0, 0)))
    save(store, empty(), drawn((0, 0)), target=other)
    refuse(store, Target("tile", "c"), who="Ada", suggestion="0" * 16)
    undo(store, 1, who="Ada", shape=lambda target: SHAPE)
    assert set(corrected_targets(history(store))) == {other}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 4), st.sampled_from([0, 1, UNKNOWN]))))
def test_nothing_that_one_person_alone_changed_is_lost(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[int, int, int, int]]
) -> None:
    store = store_in(tmp_path_factory.mktemp("many"))
    pages = [empty() for _ in range(3)]
    expected = empty()
    for person, row, column, value in deeds:
        after = drawn((row, column), value=value, on=pages[person])
        if after[row, column] != pages[person][row, column]:
            expected[row, column] = value
        pages[person] = save(store, pages[person], after, who=str(person))
        assert (now(store) == expected).all()
        assert (pages[person] == expected).all(), "each is shown what it came to"


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    places = [(row, column) for row in range(SHAPE[0]) for column in range(SHAPE[1])]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: save(store, empty(), drawn(place)), places))
    assert now(store).all()
    assert [record.number for record in history(store)] == list(range(1, len(places) + 1))


@pytest.mark.parametrize("turn", range(4))
def test_a_process_killed_while_it_saves_leaves_the_old_or_the_new(tmp_path: Path, turn: int) -> None:
    folder = tmp_path / "killed.corrections"
    with subprocess.Popen([sys.executable, "-c", SAVER, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(turn).uniform(0.05, 0.6))
        os.kill(process.pid, signal.SIGKILL)
    store, target = CorrectionStore(folder, "x"), Target("inline", "120")
    records = history(store)
    shape, last = (200, 150), np.zeros((200, 150), np.uint8)
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert (mask_of(store, record.number, "before", shape=shape) == last).all()
        last = mask_of(store, record.number, "after", shape=shape)
    again = save_mask(store, target, before=last, after=1 - last, who="Bob", original=lambda: np.zeros(shape, np.uint8))
    assert again.correction is not None
    assert again.correction.number == len(records) + 1
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")], "what it left half is cleared away"


@pytest.mark.parametrize("damage", ["", "[]", '{"format": "diapir correction", "version": 9}', "\x00"])
def test_a_damaged_record_is_told(tmp_path: Path, damage: str) -> None:
    store = store_in(tmp_path)
    save(store, empty(), drawn((0, 0)))
    (store.folder / "records" / "000001.json").write_text(damage)
    with pytest.raises(InputError, match=r"000001\.json"):
        history(store)


@pytest.mark.parametrize(
    "lie", [{"undoes": [1]}, {"undoes": 1}, {"undoes": True}, {"suggestion": 3}, {"who": None}, {"when": 7}]
)
def test_a_record_of_another_program_that_makes_no_sense_is_told(tmp_path: Path, lie: dict[str, object]) -> None:
    store = store_in(tmp_path)
    save(store, empty(), drawn((0, 0)))
    path = store.folder / "records" / "000001.json"
    content = {key: value for key, value in read_json(path).items() if key != "digest"} | lie
    write_json(path, content | {"digest": json_digest(content)})
    with pytest.raises(InputError, match="expected a correction, found something else"):
        history(store)


def test_a_record_of_another_size_is_told(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    save(store, empty(), drawn((0, 0)))
    with pytest.raises(InputError, match="expected a mask of 7 rows and 5 columns"):
        mask_of(store, 1, "after", shape=(7, 5))


def test_corrections_of_other_data_are_refused(tmp_path: Path) -> None:
    save(store_in(tmp_path), empty(), drawn((0, 0)))
    other = corrections_beside(tmp_path / "run", identity="of others")
    with pytest.raises(InputError, match="corrections of other data"):
        history(other)
    with pytest.raises(InputError, match="corrections of other data"):
        save(other, empty(), drawn((1, 1)))
