"""Surveys on disk: Zarr format 3, arrays over inline, crossline and sample, cut for sections each way and for blocks.

A store is a group. Its attributes hold the grid and where the survey came from; its arrays are `amplitude` or what was
found in it, the numbers and positions of its traces, which of them are live, and every byte of the SEG-Y file that is
no sample, so that a file can be written again without the first one.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from diapir.faults import Fault, InputError, raise_if_any
from diapir.volume.chunk_files import AGAIN, is_plain, missing_files, read_block, require_files
from diapir.volume.line_numbers import Axis, Direction

Unit = Literal["ms", "m", "ft"]
Shape = tuple[int, ...]
Lines = slice
"""Inlines or crosslines by their place in the grid, from 0 on, in steps of 1."""

DIMENSIONS = ("inline", "crossline", "sample")
VOLUMES = {"amplitude": "float32", "probability": "float16", "disagreement": "float16", "mask": "uint8"}
"""Arrays over the whole grid, with the type of their numbers."""
MAPS = {"live": "bool", "x": "float64", "y": "float64", "trace_row": "int64"}
"""Arrays over inlines and crosslines."""
STRIP = 16
"""Lines that are read together at the price of one: the side of a chunk."""

_FORMAT, _VERSION = "diapir survey", 1
_NAME = "diapir"
_SHARD_LINES, _MOST_SAMPLES, _BLOCK_BYTES = 64, 1024, 64 << 20
_BYTES_A_CHUNK = 4 << 20
_SMALL = ZstdCodec(level=1, checksum=True)
_MOST_A_FILE = _SHARD_LINES * _SHARD_LINES * _MOST_SAMPLES
_MOST_PLACES, _MOST_AXIS = 2**33, 2**31
# A chunk of nothing but zeros is written like any other: one that is absent is a loss.
zarr.config.set({"array.write_empty_chunks": True})


@dataclass(frozen=True)
class Grid:
    """Where the samples of a survey lie.

    Args:
        first_sample: time or depth of the first sample.
        interval: from one sample to the next, in the same unit.
    """

    inlines: Axis
    crosslines: Axis
    num_samples: int
    first_sample: float
    interval: float
    unit: Unit

    @property
    def shape(self) -> tuple[int, int, int]:
        """Inlines, crosslines, samples."""
        return self.inlines.count, self.crosslines.count, self.num_samples


@dataclass(frozen=True, eq=False)
class Store:
    """A survey on disk, or what was found in one.

    Args:
        facts: where it came from; plain JSON values.
    """

    path: Path
    grid: Grid
    facts: Mapping[str, Any]
    group: zarr.Group

    @property
    def volumes(self) -> tuple[str, ...]:
        """Those of VOLUMES that it has."""
        return tuple(name for name in VOLUMES if (self.path / name).is_dir())


def new_store(path: Path, grid: Grid, facts: Mapping[str, Any]) -> Store:
    """A store without arrays but those of its axes, in a folder that is absent or empty."""
    own: dict[str, Any] = {_NAME: {"format": _FORMAT, "version": _VERSION, "grid": asdict(grid), "facts": facts}}
    # In one write: of a group that a kill leaves without a word on what it is nobody could go on.
    group = zarr.open_group(path, mode="w-" if not path.exists() else "a", zarr_format=3, attributes=own)
    store = Store(path, grid, facts, group)
    for name, axis in (("inline", grid.inlines), ("crossline", grid.crosslines)):
        put_array(store, name, axis.first + axis.step * np.arange(axis.count), dimensions=(name,))
    samples = grid.first_sample + grid.interval * np.arange(grid.num_samples)
    put_array(store, "sample", samples, dimensions=("sample",), attributes={"units": grid.unit})
    return store


def put_array(
    store: Store,
    name: str,
    values: NDArray[Any],
    *,
    dimensions: tuple[str, ...] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole array that fits in memory."""
    array = store.group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=tuple(min(max(side, 1), _MOST_SAMPLES) for side in values.shape),
        compressors=_SMALL,
        dimension_names=dimensions,
        attributes=dict(attributes or {}),
    )
    array[...] = values


def put_map(store: Store, name: str, values: NDArray[Any]) -> None:
    """Write one of MAPS: (inlines, crosslines)."""
    assert values.shape == store.grid.shape[:2]
    put_array(store, name, values.astype(MAPS[name]), dimensions=DIMENSIONS[:2])


def put_bytes(store: Store, name: str, pieces: Iterable[bytes], *, size: int) -> None:
    """Write bytes that come some at a time: uint8 (size,)."""
    chunks = (min(max(size, 1), _BYTES_A_CHUNK),)
    array = store.group.create_array(name, shape=(size,), dtype="uint8", chunks=chunks, compressors=_SMALL)
    start = 0
    for piece in pieces:
        array[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        start += len(piece)
    assert start == size


def add_volume(store: Store, name: str, *, chunk: Shape, shard: Shape | None, kind: str = "") -> zarr.Array[Any]:
    """Make an array over the whole grid, to be filled shard by shard; each chunk has a checksum (CRC-32C).

    Args:
        name: one of VOLUMES; or of another `kind` of numbers, for work that is under way.
        chunk: what is read as a whole.
        shard: what is written as a whole, a file each; None where that is the chunk.
    """
    return store.group.create_array(
        name,
        shape=store.grid.shape,
        dtype=kind or VOLUMES[name],
        chunks=chunk,
        shards=shard,
        compressors=Crc32cCodec(),
        filters=None,
        dimension_names=DIMENSIONS,
    )


def cut_of(shape: Shape) -> tuple[Shape, Shape]:
    """Chunk and shard for a volume that is filled block by block, and read by sections both ways.

    A block of whole traces under a shard is 64 MiB of float32 at most, or a chunk.
    """
    lines = _SHARD_LINES
    while lines > STRIP and lines * lines * shape[2] * 4 > _BLOCK_BYTES:
        lines //= 2
    return _cut(shape, (lines, lines))


def strip_cut(shape: Shape, *, along: Direction) -> tuple[Shape, Shape]:
    """Chunk and shard for a volume that is filled strip by strip: STRIP lines of `along` at a time."""
    return _cut(shape, (STRIP, _SHARD_LINES) if along == "inline" else (_SHARD_LINES, STRIP))


def _cut(shape: Shape, shard: tuple[int, int]) -> tuple[Shape, Shape]:
    """Chunks no wider than the grid and all about as deep: on the disk what goes beyond it takes room like the rest."""
    depth = -(-shape[2] // -(-shape[2] // _MOST_SAMPLES))
    sides = [(min(side, STRIP), lines if side >= STRIP else side) for side, lines in zip(shape[:2], shard, strict=True)]
    return (sides[0][0], sides[1][0], depth), (sides[0][1], sides[1][1], depth)


def open_store(path: Path) -> Store:
    """A store that is whole: all of its files were looked for.

    Raises:
        InputError: it is none, was not finished, has arrays of another shape, or lacks files; with every fault.
    """
    store = _open(path, mode="r")
    if store.facts.get("finished") is not True:
        raise InputError.of(path, "it was not finished; the command that began it goes on when it is given again")
    raise_if_any(_faults(store))
    return store


def is_store(path: Path) -> bool:
    """Whether a folder says that it is a store, be it whole or not."""
    try:
        return _NAME in zarr.open_group(path, mode="r", zarr_format=3).attrs
    except Exception:  # noqa: BLE001 - of a description that lies zarr and its parts raise whatever comes
        return False


def open_unfinished(path: Path) -> Store:
    """A store whose volumes are being filled.

    Raises:
        InputError: it is none.
    """
    return _open(path, mode="r+")


def finish(store: Store, facts: Mapping[str, Any]) -> None:
    """Say that a store is whole, and what else came to be known of it."""
    raw: Any = store.group.attrs.asdict()[_NAME]
    store.group.update_attributes({_NAME: {**raw, "facts": {**store.facts, **facts, "finished": True}}})


def read_volume(
    store: Store, name: str, *, inlines: Lines = slice(None), crosslines: Lines = slice(None)
) -> NDArray[Any]:
    """Some lines of a volume: (inlines, crosslines, samples).

    Raises:
        InputError: there is no such volume, a file of it is absent by now, or does not match its checksum.
    """
    if name not in store.volumes:
        raise InputError.of(store.path, f"expected a volume {name}, found {', '.join(store.volumes) or 'none'}")
    return read_lines(store, name, inlines=inlines, crosslines=crosslines)


def read_lines(
    store: Store,
    name: str,
    *,
    inlines: Lines = slice(None),
    crosslines: Lines = slice(None),
    array: zarr.Array[Any] | None = None,
) -> NDArray[Any]:
    """The same of any array over the whole grid, such as one for work that is under way.

    Args:
        array: where `array_of` opened it before.

    Raises:
        InputError: there is none, a file of it is absent by now, or does not match its checksum.
    """
    array = array_of(store, name) if array is None else array
    if is_plain(array):
        return read_block(store.path / name, array, (inlines, crosslines))
    # A copy that was compressed, or cut in another way, is Zarr's affair.
    require_files(store.path / name, array, (inlines, crosslines))
    return _read(store, name, array, (inlines, crosslines))


def read_map(store: Store, name: str) -> NDArray[Any]:
    """One of MAPS: (inlines, crosslines).

    Raises:
        InputError: as `read_volume`.
    """
    return read_array(store, name)


def read_array(store: Store, name: str) -> NDArray[Any]:
    """A whole array of the store. Raises InputError where there is none, or its bytes are damaged."""
    raise_if_any(missing_files(store.path / name, array_of(store, name)))
    return _read(store, name, array_of(store, name), ())


def read_rows(store: Store, name: str, rows: slice) -> NDArray[Any]:
    """Some rows of an array that is too large to be read whole. Raises InputError as `read_array`."""
    array = array_of(store, name)
    require_files(store.path / name, array, (rows,))
    return _read(store, name, array, (rows,))


def array_of(store: Store, name: str) -> zarr.Array[Any]:
    """One of its arrays, to be read or filled in parts.

    Raises:
        InputError: there is none, or what describes it makes no sense.
    """
    try:
        array = store.group[name]
    except KeyError:
        raise InputError.of(store.path / name, f"expected an array, found none: {AGAIN}") from None
    except Exception as error:  # noqa: BLE001 - of a description that lies zarr and its parts raise whatever comes
        raise InputError.of(
            store.path / name, f"expected an array, found none ({_first_line(error)}): {AGAIN}"
        ) from None
    if not isinstance(array, zarr.Array):
        raise InputError.of(store.path / name, f"expected an array, found a group: {AGAIN}")
    if 0 in (*array.chunks, *(array.shards or ())):
        raise InputError.of(store.path / name, f"its chunks are none that diapir writes ({array.chunks}): {AGAIN}")
    return array


def _read(store: Store, name: str, array: zarr.Array[Any], block: tuple[slice, ...]) -> NDArray[Any]:
    try:
        return np.asarray(array[block or ...])
    except Exception as error:  # noqa: BLE001 - of damaged chunks zarr and its codecs raise whatever comes
        what = f"its bytes are not those that were written ({_first_line(error)})"
        raise InputError.of(store.path / name, f"{what}: {AGAIN}") from None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def _open(path: Path, *, mode: Literal["r", "r+"]) -> Store:
    group = _open_group(path, mode=mode)
    raw = group.attrs.asdict().get(_NAME)
    if not isinstance(raw, dict) or raw.get("format") != _FORMAT:
        raise InputError.of(path, "expected a store that diapir survey wrote, found another kind of Zarr group")
    if raw.get("version") != _VERSION:
        raise InputError.of(path, f"expected version {_VERSION} of the store, found {raw.get('version')}: {AGAIN}")
    facts = raw.get("facts")
    if not isinstance(facts, dict):
        raise InputError.of(path, f"expected facts about where it came from, found none: {AGAIN}")
    return Store(path, _stored_grid(path, raw.get("grid")), facts, group)


def _open_group(path: Path, *, mode: Literal["r", "r+"]) -> zarr.Group:
    if not path.is_dir():
        raise InputError.of(path, "expected a store, a folder that diapir survey ingest wrote; found none")
    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except Exception as error:  # noqa: BLE001 - of a description that lies zarr and its parts raise whatever comes
        what = f"expected a store that diapir survey wrote, found none ({_first_line(error)})"
        raise InputError.of(path, what) from None


def _stored_grid(path: Path, raw: Any) -> Grid:
    """The grid as `asdict` gave it.

    Raises:
        InputError: it was not given by it, or no survey has it.
    """
    try:
        grid = Grid(
            _stored_axis(raw["inlines"]),
            _stored_axis(raw["crosslines"]),
            _whole(raw["num_samples"]),
            float(raw["first_sample"]),
            float(raw["interval"]),
            raw["unit"],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError.of(path, f"expected inlines, crosslines and samples of a survey ({error}): {AGAIN}") from None
    is_sound = (
        all(0 < side <= _MOST_AXIS for side in grid.shape)
        and grid.shape[0] * grid.shape[1] <= _MOST_PLACES
        and all(
            0 < axis.step <= _MOST_AXIS and abs(axis.first) <= _MOST_AXIS for axis in (grid.inlines, grid.crosslines)
        )
        and math.isfinite(grid.first_sample)
        and 0 < grid.interval < math.inf
        and grid.unit in get_args(Unit)
    )
    if not is_sound:
        raise InputError.of(path, f"its grid is none that a survey has ({grid}): {AGAIN}")
    return grid


def _stored_axis(raw: Any) -> Axis:
    return Axis(_whole(raw["first"]), _whole(raw["step"]), _whole(raw["count"]))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def _faults(store: Store) -> Iterator[Fault]:
    shape = store.grid.shape
    expected = dict.fromkeys(store.volumes, shape) | dict.fromkeys(MAPS, shape[:2])
    for name, wanted in expected.items():
        try:
            array = array_of(store, name)
        except InputError as error:
            yield from error.faults
            continue
        kind = (VOLUMES | MAPS)[name]
        if array.shape != wanted or str(array.dtype) != kind:
            found = f"{array.dtype} {array.shape}"
            yield Fault(f"{store.path / name}", f"expected {kind} {wanted}, as its grid says, found {found}: {AGAIN}")
        elif math.prod(array.shards or array.chunks) > _MOST_A_FILE:
            yield Fault(f"{store.path / name}", f"its chunks are none that diapir writes ({array.chunks}): {AGAIN}")
        else:
            yield from missing_files(store.path / name, array)
