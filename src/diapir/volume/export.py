"""Stores back into SEG-Y files: every byte of the source's headers, and other samples."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.faults import Fault, InputError, raise_if_any
from diapir.runs import naming_what_fails, read_json, require_file_place, require_outside, sha256_of_file
from diapir.volume.chunk_files import missing_files
from diapir.volume.geometry import NO_TRACE
from diapir.volume.labelled_section import LabelledSection
from diapir.volume.salt_checks import Edit, edited_mask, read_edits
from diapir.volume.segy_format import FORMATS, Order, SampleFormat
from diapir.volume.segy_write import Block, write_segy
from diapir.volume.store import STRIP, Lines, Store, array_of, open_store, read_array, read_rows, read_volume
from diapir.volume.surface_files import EDITS, FACTS, source_of

What = Literal["probability", "mask", "disagreement", "amplitude"]

SOURCE_ARRAYS = ("file_header", "trace_headers", "trailer", "duplicates")
"""What a store keeps of a SEG-Y file besides samples."""
_GROUP_BYTES = 128 << 20
_AGAIN = "ingest the file again, or use another copy"


class _Read(Protocol):
    """Some lines of a volume: (inlines, crosslines, samples)."""

    def __call__(self, *, inlines: Lines, crosslines: Lines) -> NDArray[Any]: ...


def export_segy(
    store_path: Path,
    out: Path,
    *,
    what: What | None = None,
    surfaces: Path | None = None,
    drawn: Sequence[LabelledSection] = (),
) -> str:
    """Write a volume of a store as the SEG-Y file that the survey came from, and say what was written.

    Text header, binary header, every trace header and what followed the traces are the source's, byte for byte, and so
    are the order of the traces and the format of the samples: in formats of whole numbers probability and disagreement
    stand in percent. Traces that are dead are zero; a trace whose place another holds has the other's samples.

    Args:
        what: None for the mask, or for the amplitude where there is no other volume.
        surfaces: what `extract_surfaces` wrote of this store: the mask is that after its checks.
        drawn: sections of the mask as a person has them. Where two cross, a voxel that only one of them changed is as
            that one has it, and else as the later one.

    Raises:
        InputError: the store is not whole, has no such volume or none of a source's headers; the place is taken by
            a folder; the format cannot hold the samples; the checks are of another store, or of no mask.
    """
    require_file_place(out)
    require_outside(out, store_path)
    store = open_store(store_path)
    _require_no_source(out, store)
    name = what or ("mask" if "mask" in store.volumes else "amplitude")
    if name not in store.volumes:
        raise InputError.of(store_path, f"expected a volume {name}, found {', '.join(store.volumes)}")
    if name != "mask" and (surfaces or drawn):
        raise InputError.of(store_path, f"checks and corrections change the mask, not {name}: leave one of them out")
    read = _reader(store, name, surfaces=surfaces, drawn=drawn)
    stored, order = _source_format(store)
    num_traces = write_segy(
        out,
        file_header=read_array(store, "file_header").tobytes(),
        blocks=_blocks(store, read, in_percent=not stored.is_float and name in ("probability", "disagreement")),
        stored=stored,
        order=order,
        trailer=_trailer(store),
    )
    after = [*(["the checks"] if surfaces else []), *([f"{len(drawn)} corrected sections"] if drawn else [])]
    told = f"{name} after {' and '.join(after)}," if after else name
    return f"{out}: {told} of {num_traces} traces, {stored.name}, read back and found as written"


def source_faults(store: Store) -> Iterator[Fault]:
    """What is wrong with the copies of headers that SEG-Y is written from, where there are any."""
    for name in SOURCE_ARRAYS:
        if (store.path / name).is_dir():
            try:
                yield from missing_files(store.path / name, array_of(store, name))
            except InputError as error:
                yield from error.faults


def copy_source_arrays(source: Store, target: Store) -> None:
    """Give another store of the same survey what is needed to write SEG-Y."""
    for name in (*SOURCE_ARRAYS, "live", "x", "y", "trace_row"):
        if (source.path / name).is_dir() and not (target.path / name).exists():
            _copy_files(source.path / name, target.path / name)


def _require_no_source(out: Path, store: Store) -> None:
    """Refuse to write over the very file that the survey came from, which may be the only one."""
    source = store.facts.get("source")
    if not isinstance(source, dict) or not out.is_file() or out.stat().st_size != source.get("bytes"):
        return
    if sha256_of_file(out) == source.get("sha256"):
        raise InputError.of(out, "expected another file than the one that the survey came from; name another")


def _copy_files(source: Path, target: Path) -> None:
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        with naming_what_fails(place):
            shutil.copyfile(file, place)


def _source_format(store: Store) -> tuple[SampleFormat, Order]:
    found = store.facts.get("segy")
    faults = [
        Fault(str(store.path / name), f"expected what a SEG-Y file had besides samples, found none: {_AGAIN}")
        for name in SOURCE_ARRAYS
        if not (store.path / name).is_dir()
    ]
    raise_if_any([*faults, *source_faults(store)])
    if not isinstance(found, dict) or found.get("format") not in FORMATS or found.get("order") not in ("big", "little"):
        raise InputError.of(store.path, f"expected the sample format of a SEG-Y file, found none: {_AGAIN}")
    return FORMATS[found["format"]], found["order"]


def _reader(store: Store, name: str, *, surfaces: Path | None, drawn: Sequence[LabelledSection]) -> _Read:
    read: _Read = partial(read_volume, store, name)
    if surfaces is not None:
        checks = _own_checks(store, surfaces)
        edits = read_edits(surfaces / EDITS, store.grid)
        raise_if_any(_cut_edits(surfaces, checks, edits))
        read = partial(edited_mask, store, edits)
    return partial(_with_drawn, read, drawn) if drawn else read


def _own_checks(store: Store, surfaces: Path) -> dict[str, dict[str, Any]]:
    """What surfaces of this very store say of each check, with all the files that they name.

    Raises:
        InputError: there are none, or of another store, or a file is gone.
    """
    facts = read_json(surfaces / FACTS)
    source = facts.get("source") if isinstance(facts, dict) else None
    if not isinstance(source, dict):
        raise InputError.of(surfaces, "expected a folder that diapir survey surfaces wrote, found none")
    own = source_of(store)
    # Surfaces from before keys were kept say nothing of theirs.
    if {name: source.get(name, own["key"] if name == "key" else None) for name in own} != own:
        raise InputError.of(
            surfaces, f"expected surfaces of {store.path}, found those of another store; make them anew"
        )
    checks = facts.get("checks")
    told = checks if isinstance(checks, dict) else {}
    made = {name: check for name, check in told.items() if isinstance(check, dict)}
    kept = [check.get("kept_in") for check in made.values()]
    raise_if_any(
        Fault(str(surfaces / name), "expected what a check changed, found no such file: make the surfaces anew")
        for name in kept
        if isinstance(name, str) and not (surfaces / name).is_file()
    )
    return made


def _cut_edits(surfaces: Path, checks: Mapping[str, Mapping[str, Any]], edits: Sequence[Edit]) -> Iterator[Fault]:
    """Edits with another number of pieces or voxels than their check made, as of a file that lost lines."""
    for edit in edits:
        check, found = checks.get(edit.name, {}), (edit.num_pieces, edit.num_voxels)
        made = tuple(check.get(count, 0) for count in ("pieces", "voxels"))
        if made != found:
            yield Fault(
                str(surfaces / EDITS / f"{edit.name}.csv"),
                f"expected {made[0]} pieces of {made[1]} voxels in all, as {FACTS} says, found {found[0]} of "
                f"{found[1]}; use another copy, or run diapir survey surfaces again",
            )


def _with_drawn(read: _Read, drawn: Sequence[LabelledSection], *, inlines: Lines, crosslines: Lines) -> NDArray[Any]:
    found = read(inlines=inlines, crosslines=crosslines)
    block = found.copy()
    for section in drawn:
        is_inline = section.direction == "inline"
        along, across = (inlines, crosslines) if is_inline else (crosslines, inlines)
        place = section.place - along.start
        if 0 <= place < found.shape[not is_inline]:
            at = (place,) if is_inline else (slice(None), place)
            own = section.mask.T[across]
            block[at] = np.where((own != UNKNOWN) & (own != found[at]), own, block[at])
    return block


def _blocks(store: Store, read: _Read, *, in_percent: bool) -> Iterator[Block]:
    """Headers and samples of traces in the order of the file, some of them at a time."""
    places = _places(store, num_traces=array_of(store, "trace_headers").shape[0])
    live = read_array(store, "live")
    size = max(_GROUP_BYTES // (4 * store.grid.num_samples), 1)
    for start in range(0, len(places), size):
        own = places[start : start + size]
        values = _samples(store, read, own)
        values[~live[own[:, 0], own[:, 1]]] = 0
        yield (
            read_rows(store, "trace_headers", slice(start, start + size)),
            values * np.float32(100) if in_percent else values,
        )


def _places(store: Store, *, num_traces: int) -> NDArray[np.int64]:
    """Inline and crossline, counted from 0, of each trace of the file: (n, 2); -1 of those that have no place."""
    rows = read_array(store, "trace_row")
    duplicates = read_array(store, "duplicates")
    present = rows != NO_TRACE
    known = rows[present]
    is_sound = (
        duplicates.shape[1:] == (2,)
        and len(known) + len(duplicates) == num_traces
        and ((known >= 0) & (known < num_traces)).all()
        and ((duplicates[:, 0] >= 0) & (duplicates[:, 1] >= NO_TRACE) & (duplicates < num_traces).all(1)).all()
    )
    # Only a number that the maps bear out is made room for.
    places = np.full((num_traces if is_sound else 1, 2), -1, np.int64)
    if is_sound:
        places[known] = np.argwhere(present)
        others = duplicates[duplicates[:, 1] != NO_TRACE]
        places[others[:, 0]] = places[others[:, 1]]
        is_far = np.zeros(num_traces, np.bool_)
        is_far[duplicates[duplicates[:, 1] == NO_TRACE, 0]] = True
    if not is_sound or ((places < 0).any(1) != is_far).any():
        what = f"expected a place for each of its {num_traces} traces, found others"
        raise InputError.of(store.path / "trace_row", f"{what}: {_AGAIN}")
    return places


def _samples(store: Store, read: _Read, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Samples at some places, zeros where there is none: float32 (k, samples); each chunk is read once."""
    values = np.zeros((len(places), store.grid.num_samples), np.float32)
    keys = places // STRIP
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ends = np.flatnonzero((np.diff(keys[order], axis=0) != 0).any(1)) + 1
    for group in np.split(order, ends):
        first, second = keys[group[0]] * STRIP
        if first < 0:
            continue
        block = read(inlines=slice(first, first + STRIP), crosslines=slice(second, second + STRIP))
        values[group] = block[places[group, 0] - first, places[group, 1] - second]
    return values


def _trailer(store: Store) -> Iterator[bytes]:
    array = array_of(store, "trailer")
    step = array.chunks[0]
    for start in range(0, array.shape[0], step):
        yield read_rows(store, "trailer", slice(start, start + step)).tobytes()
