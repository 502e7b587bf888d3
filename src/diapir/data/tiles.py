"""Tiles as arrays: what every reader gives and every step takes."""

import csv
import hashlib
import io
import tokenize
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.runs import atomic_folder, read_json, write_json, write_text

TILE = 101
"""Side of a tile of the TGS competition, in pixels."""
UNKNOWN = 255
"""In a mask: nobody has said whether this pixel is salt; no loss and no score asks for it."""
ODD_HEADER = (
    *(KeyError, ValueError, TypeError, SyntaxError, tokenize.TokenError),
    *(MemoryError, RecursionError, OverflowError, Warning),
)
"""What NumPy raises for headers of arrays that nobody writes."""
INLINE, CROSSLINE = 0, 1
PLACE = ("direction", "line", "sample", "trace")
"""Where a survey's tile lies: INLINE or CROSSLINE, its section, and its first sample and trace there, from 0 on."""


@dataclass(frozen=True)
class TileSet:
    """Tiles of one kind, in a fixed order.

    Args:
        ids: n distinct names.
        images: uint8 (n, height, width), grey.
        masks: uint8 (n, height, width), 1 where there is salt, UNKNOWN where nobody has said, and 0 elsewhere; None for
            unlabelled tiles.
        depths_m: float32 (n,), depth of the tile's top as the competition gives it; NaN where unknown.
        places: int64 (n, 4), PLACE of each tile; None where they come from nowhere that is known.
    """

    ids: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    depths_m: NDArray[np.float32]
    places: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        assert self.images.ndim == 3 and self.images.dtype == np.uint8
        assert len(self.ids) == len(self.images) == len(self.depths_m)
        assert self.masks is None or (self.masks.shape == self.images.shape and self.masks.dtype == np.uint8)
        assert self.places is None or self.places.shape == (len(self.ids), len(PLACE))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.integer[Any]]) -> "TileSet":
        """The tiles at `rows`, in that order."""
        return TileSet(
            ids=tuple(self.ids[row] for row in rows),
            images=self.images[rows],
            masks=None if self.masks is None else self.masks[rows],
            depths_m=self.depths_m[rows],
            places=None if self.places is None else self.places[rows],
        )


@dataclass(frozen=True)
class DataSet:
    """The labelled and the unlabelled tiles of one source.

    Args:
        labelled: tiles with masks.
        unlabelled: tiles without, in the order in which a submission lists them.
        record: where they came from: source, counts, faults that were skipped. Plain JSON values.
    """

    labelled: TileSet
    unlabelled: TileSet
    record: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, depths, images, masks and places: the identity of the data, whatever files they came in."""
        total = hashlib.sha256()
        for tiles in (self.labelled, self.unlabelled):
            total.update("\n".join(tiles.ids).encode())
            total.update(np.ascontiguousarray(tiles.depths_m).tobytes())
            total.update(np.ascontiguousarray(tiles.images).tobytes())
            if tiles.masks is not None:
                total.update(np.packbits(tiles.masks == 1).tobytes())
                if (unknown := tiles.masks == UNKNOWN).any():
                    total.update(np.packbits(unknown).tobytes())
            if tiles.places is not None:
                total.update(np.ascontiguousarray(tiles.places).tobytes())
        return total.hexdigest()


def is_constant(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images (n, h, w) are of one grey value: (n,)."""
    return np.asarray(np.ptp(images, axis=(1, 2)) == 0)


def known_alone(values: NDArray[Any], masks: NDArray[np.uint8]) -> NDArray[Any]:
    """Values (n, h, w), with 0 where the masks do not know: as truth without salt there, that changes no score."""
    return np.where(masks == UNKNOWN, values.dtype.type(0), values)


def coverage_classes(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The tenth of the tile that is salt, rounded up: (n,) of 0 (no salt) to 10.

    Source: the competition's usual stratification, ceil(10 area / pixels).
    """
    area = (masks == 1).sum(axis=(1, 2), dtype=np.int64)
    pixels = masks.shape[1] * masks.shape[2]
    # Whole numbers all the way: a float may lift a tenth over its edge.
    classes: NDArray[np.int64] = -(-10 * area // pixels)
    return classes


def write_data(data: DataSet, out: Path) -> None:
    """Write a prepared folder: arrays as .npy, `tiles.csv` (id, set, z, PLACE) and `record.json`; whole or not at all.

    Raises:
        InputError: `out` holds files already.
    """
    assert data.labelled.masks is not None
    with atomic_folder(out) as folder:
        _save_array(folder / "labelled-images.npy", data.labelled.images)
        _save_array(folder / "labelled-masks.npy", data.labelled.masks)
        _save_array(folder / "unlabelled-images.npy", data.unlabelled.images)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        is_placed = data.labelled.places is not None
        assert is_placed == (data.unlabelled.places is not None)
        rows.writerow(["id", "set", "z", *(PLACE if is_placed else ())])
        for name, tiles in (
            ("labelled", data.labelled),
            ("unlabelled", data.unlabelled),
        ):
            places = [[]] * len(tiles) if tiles.places is None else tiles.places.tolist()
            for tile, depth, place in zip(tiles.ids, tiles.depths_m, places, strict=True):
                # Nine digits bring every float32 back.
                rows.writerow([tile, name, "" if np.isnan(depth) else f"{depth:.9g}", *place])
        write_text(folder / "tiles.csv", text.getvalue())
        write_json(folder / "record.json", data.record | {"digest": data.digest})


def _save_array(path: Path, array: NDArray[np.uint8]) -> None:
    """What np.save writes, but a full disk is the system's error: NumPy's own tells counts of bytes and no reason."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)


def is_prepared(folder: Path) -> bool:
    """Whether `write_data` made this folder."""
    return (folder / "tiles.csv").is_file() and (folder / "labelled-images.npy").is_file()


def read_data(folder: Path) -> DataSet:
    """Read a prepared folder and check it against its own digest.

    Raises:
        InputError: an array is missing, is damaged, or does not fit the others.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name in ("labelled-images", "labelled-masks", "unlabelled-images"):
        path = folder / f"{name}.npy"
        arrays[name] = _load_array(path)
    rows = _read_rows(folder / "tiles.csv")
    record = read_json(folder / "record.json")
    if not isinstance(record, dict):
        raise InputError.of(folder / "record.json", "expected a JSON object; prepare the data again")
    try:
        labelled, unlabelled = rows["labelled"], rows["unlabelled"]
        data = DataSet(
            labelled=TileSet(
                labelled.ids, arrays["labelled-images"], arrays["labelled-masks"], labelled.depths_m, labelled.places
            ),
            unlabelled=TileSet(
                unlabelled.ids, arrays["unlabelled-images"], None, unlabelled.depths_m, unlabelled.places
            ),
            record=record,
        )
    except AssertionError:
        raise InputError.of(
            folder,
            "its arrays and tiles.csv do not have the same number of tiles; prepare the data again",
        ) from None
    # The digest tells salt and what is unknown from the rest alone.
    others = (arrays["labelled-masks"] > 1) & (arrays["labelled-masks"] != UNKNOWN)
    if record.get("digest") != data.digest or others.any():
        raise InputError.of(
            folder,
            "its content differs from its own digest in record.json; prepare the data again",
        )
    return data


class _Rows(NamedTuple):
    """What `tiles.csv` says of one set."""

    ids: tuple[str, ...]
    depths_m: NDArray[np.float32]
    places: NDArray[np.int64] | None


def _read_rows(path: Path) -> dict[str, _Rows]:
    """Labelled and unlabelled tiles.

    Raises:
        InputError: the file is absent or damaged.
    """
    found: dict[str, list[tuple[str, float, list[int]]]] = {"labelled": [], "unlabelled": []}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            columns = PLACE if PLACE[0] in (rows.fieldnames or ()) else ()
            for row in rows:
                place = [int(row[name]) for name in columns]
                found[row["set"]].append((row["id"], float(row["z"] or "nan"), place))
        return {
            name: _Rows(
                tuple(tile for tile, _, _ in tiles),
                np.array([depth for _, depth, _ in tiles], np.float32),
                np.array([place for _, _, place in tiles], np.int64).reshape(-1, len(PLACE)) if columns else None,
            )
            for name, tiles in found.items()
        }
    except (OSError, KeyError, ValueError, TypeError, OverflowError, csv.Error) as error:
        raise InputError.of(path, f"cannot be read ({error}); prepare the data again") from None


def _load_array(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, EOFError, *ODD_HEADER) as error:
        raise InputError.of(path, f"cannot be read ({error}); prepare the data again") from None
    if array.dtype != np.uint8 or array.ndim != 3:
        found = f"{array.dtype} {array.shape}"
        raise InputError.of(path, f"expected uint8 (tiles, height, width), found {found}; prepare the data again")
    return array
