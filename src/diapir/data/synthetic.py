"""Seeded seismic tiles with salt whose truth is known exactly, in the competition's layout."""

import csv
import io
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from diapir import __version__
from diapir.data import rle
from diapir.data.synthetic_earth import HEIGHT, WIDTH, SaltKind, Section, make_section
from diapir.data.tiles import TILE, DataSet, TileSet
from diapir.faults import Fault, raise_if_any
from diapir.runs import atomic_folder, write_json, write_text

_SECTION_TILES = 10
_MOST_TILES = 1_000_000  # 10 GB of images; more is a slip of the finger
# Neighbours of the real survey do not overlap; a little keeps the sections small.
_APART = 67
_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_SALT_KINDS: tuple[SaltKind, ...] = ("massif", "diapir", "sheet", "overhang")
_KIND_SHARES = (0.32, 0.30, 0.18, 0.20)


@dataclass(frozen=True)
class _Share:
    """How often the competition's training set holds masks of such an area, and how deep they lie.

    Args:
        kind: "constant" (black, without salt), "ordinary", or "vertical" (all rows of the mask are identical).
        low, high: salt pixels, both included.
        count: tiles of 4000.
        depths_m: quantiles 0, 10, 25, 50, 75, 90 and 100 % of the depth; the outermost without the real set's outliers.
    """

    kind: str
    low: int
    high: int
    count: int
    depths_m: tuple[int, ...]

    @property
    def title(self) -> str:
        """What such tiles are called in a record."""
        salt = f"salt on {self.low} to {self.high} pixels" if self.high else "no salt"
        return salt if self.kind == "ordinary" else f"{self.kind}, {salt}"


_EMPTY_M = (54, 159, 286, 490, 683, 803, 956)
_BLACK_M = (51, 67, 90, 151, 227, 293, 420)
_SMALL_M = (120, 245, 360, 502, 657, 736, 850)
_PART_M = (150, 288, 400, 535, 655, 755, 870)
_GREAT_M = (220, 345, 420, 525, 640, 760, 870)
_WALLS_M = (92, 190, 331, 540, 749, 862, 948)
# Counted in the competition's 4000 training masks (the depths in 3217 of them).
_SHARES = (
    _Share("constant", 0, 0, 80, _BLACK_M),
    _Share("ordinary", 0, 0, 1482, _EMPTY_M),
    *(
        _Share("ordinary", low, high, count, depths)
        for low, high, count, depths in (
            (1, 10, 45, _SMALL_M),
            (11, 100, 123, _SMALL_M),
            (101, 500, 249, _SMALL_M),
            (501, 1020, 155, _PART_M),
            (1021, 2040, 284, _PART_M),
            (2041, 3060, 221, _PART_M),
            (3061, 4080, 181, _PART_M),
            (4081, 5100, 211, _PART_M),
            (5101, 6120, 185, _PART_M),
            (6121, 7140, 160, _PART_M),
            (7141, 8160, 131, _GREAT_M),
            (8161, 9180, 146, _GREAT_M),
            (9181, 10000, 137, _GREAT_M),
            (10001, 10200, 97, _GREAT_M),
        )
    ),
    *(
        _Share("vertical", low, high, count, _WALLS_M)
        for low, high, count in (
            (505, 2040, 16),
            (2041, 4080, 8),
            (4081, 5100, 13),
            (5101, 6120, 20),
            (6121, 7140, 14),
            (7141, 8160, 17),
            (8161, 9180, 13),
            (9181, 10000, 12),
        )
    ),
)


@dataclass(frozen=True)
class _Wish:
    """A tile that is to be cut from some section."""

    row: int
    share: _Share
    depth_m: int


def make_synthetic(
    *, labelled: int, unlabelled: int, seed: int, advance: Callable[[int], None] = lambda tiles: None
) -> tuple[DataSet, NDArray[np.uint8]]:
    """A synthetic data set, and the masks of its unlabelled tiles.

    Shares of empty, constant, tiny, vertical-walled and nearly full tiles, the coverage classes and the depths follow
    the competition's training set. Tiles of one section may stand in both sets, as they do in the real survey.

    Args:
        labelled, unlabelled: numbers of tiles, at least 1 and at least 0.
        seed: not negative; the same seed gives the same tiles.
        advance: told how many more tiles are made.

    Returns:
        The data set (tiles of 101 x 101) and uint8 (unlabelled, 101, 101), 1 where there is salt.

    Raises:
        InputError: a number is too small or too large.
    """
    raise_if_any(
        Fault(f"--{name}", f"expected a whole number from {least} to {most}, found {number}")
        for name, number, least, most in (
            ("labelled", labelled, 1, _MOST_TILES),
            ("unlabelled", unlabelled, 0, _MOST_TILES),
            ("seed", seed, 0, 2**63 - 1),
        )
        if not least <= number <= most
    )
    root = np.random.default_rng([seed, 0])
    wishes = _draw_wishes(root, first_row=0, count=labelled) + _draw_wishes(root, first_row=labelled, count=unlabelled)
    ids = _draw_ids(root, labelled + unlabelled)
    images, masks, sections = _make_tiles(wishes, seed=seed, advance=advance)
    depths = np.zeros(len(wishes), np.float32)
    for wish in wishes:
        depths[wish.row] = wish.depth_m
    record = {
        "source": "synthetic",
        "seed": seed,
        "labelled": labelled,
        "unlabelled": unlabelled,
        "sections": sections,
        "kinds": _count_kinds(wishes),
        "diapir": __version__,
    }
    data = DataSet(
        labelled=TileSet(ids[:labelled], images[:labelled], masks[:labelled], depths[:labelled]),
        unlabelled=TileSet(ids[labelled:], images[labelled:], None, depths[labelled:]),
        record=record,
    )
    return data, masks[labelled:]


def _make_tiles(
    wishes: list[_Wish], *, seed: int, advance: Callable[[int], None]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    """Images and masks of all wishes, row by row, and how many sections they took.

    Tiles of about the same depth share a section; what one section does not hold is looked for in the next.
    """
    images = np.zeros((len(wishes), TILE, TILE), np.uint8)
    masks = np.zeros((len(wishes), TILE, TILE), np.uint8)
    sections = 0
    for kind in ("ordinary", "vertical"):
        todo = sorted((w for w in wishes if w.share.kind == kind), key=lambda wish: (wish.depth_m, wish.row))
        while todo:
            sections += 1
            rng = np.random.default_rng([seed, sections])
            group, todo = todo[:_SECTION_TILES], todo[_SECTION_TILES:]
            section = make_section(rng, depth_m=_middle_depth(group), kind=_choose_kind(rng, group))
            missed = _cut(rng, section, group, images=images, masks=masks)
            advance(len(group) - len(missed))
            todo = missed + todo
            assert sections < 100 + 10 * len(wishes), "every wish comes true in one section of a few"
    advance(sum(wish.share.kind == "constant" for wish in wishes))
    return images, masks, sections


def _count_kinds(wishes: list[_Wish]) -> dict[str, int]:
    """How many tiles were made of each kind."""
    counts = Counter(wish.share for wish in wishes)
    return {share.title: counts[share] for share in _SHARES if counts[share]}


def _draw_wishes(rng: np.random.Generator, *, first_row: int, count: int) -> list[_Wish]:
    """What the tiles of one set are to be: shares by largest remainder, in random order."""
    weights = np.array([share.count for share in _SHARES], np.float64)
    ideal = weights * count / weights.sum()
    number = np.floor(ideal).astype(int)
    number[np.argsort(number - ideal, kind="stable")[: count - number.sum()]] += 1
    rows = first_row + rng.permutation(count)
    drawn = [(share, index, times) for share, times in zip(_SHARES, number, strict=True) for index in range(times)]
    shares = [share for share, _, _ in drawn]
    # Even steps through the quantiles of each share, so that small sets have its depths too.
    levels = [(index + rng.random()) / times for _, index, times in drawn]
    return [
        _Wish(row=int(row), share=share, depth_m=round(float(np.interp(level, _LEVELS, share.depths_m))))
        for row, share, level in zip(rows, shares, levels, strict=True)
    ]


def _draw_ids(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Distinct names of ten hexadecimal digits."""
    names: dict[str, None] = {}
    while len(names) < count:
        names[f"{int(rng.integers(16**10)):010x}"] = None
    return tuple(names)


def _middle_depth(group: list[_Wish]) -> float:
    return float(np.median([wish.depth_m for wish in group]))


def _choose_kind(rng: np.random.Generator, group: list[_Wish]) -> SaltKind:
    if group[0].share.kind == "vertical":
        return "walls"
    if all(wish.share.high == 0 for wish in group):
        return "none"
    return _SALT_KINDS[int(rng.choice(len(_SALT_KINDS), p=_KIND_SHARES))]


def _cut(
    rng: np.random.Generator,
    section: Section,
    group: list[_Wish],
    *,
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
) -> list[_Wish]:
    """Cut the wished tiles out of a section, apart from each other, rarest first; give back those it does not hold."""
    areas = _tile_areas(section.salt)
    free = np.ones(areas.shape, np.bool_)
    missed = []
    for wish in sorted(group, key=lambda wish: (wish.share.count, wish.row)):
        places = np.flatnonzero(free & (areas >= wish.share.low) & (areas <= wish.share.high))
        if len(places) == 0:
            missed.append(wish)
            continue
        top, left = (int(i) for i in np.unravel_index(rng.choice(places), areas.shape))
        window = np.s_[top : top + TILE, left : left + TILE]
        images[wish.row] = _grey(section.amplitude[window])
        masks[wish.row] = section.salt[window]
        free[max(top - _APART, 0) : top + _APART, max(left - _APART, 0) : left + _APART] = False
    return missed


def _tile_areas(salt: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Salt pixels of the tile at every possible place: int64 (HEIGHT - 100, WIDTH - 100)."""
    total = np.zeros((HEIGHT + 1, WIDTH + 1), np.int64)
    total[1:, 1:] = salt.cumsum(0, dtype=np.int64).cumsum(1)
    return total[TILE:, TILE:] - total[:-TILE, TILE:] - total[TILE:, :-TILE] + total[:-TILE, :-TILE]


def _grey(amplitude: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Amplitudes as the real tiles have them: stretched so that the least is 0 and the greatest 255."""
    low, high = amplitude.min(), amplitude.max()
    if high - low < 1e-12:
        return np.zeros(amplitude.shape, np.uint8)
    grey: NDArray[np.uint8] = np.rint((amplitude - low) * (255.0 / (high - low))).astype(np.uint8)
    return grey


def write_synthetic(out: Path, *, labelled: int, unlabelled: int, seed: int) -> DataSet:
    """Write a synthetic data set in the competition's layout, with `truth.csv` for its test tiles and `record.json`.

    The same seed gives the same bytes, whatever the machine.

    Raises:
        InputError: `out` holds files already, or a number is too small.
    """
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with atomic_folder(out) as folder, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Making tiles", total=max(labelled + unlabelled, 0))
        data, truth = make_synthetic(
            labelled=labelled, unlabelled=unlabelled, seed=seed, advance=lambda tiles: bar.advance(task, tiles)
        )
        _write_layout(folder, data, truth)
    return data


def _write_layout(folder: Path, data: DataSet, truth: NDArray[np.uint8]) -> None:
    labelled, unlabelled = data.labelled, data.unlabelled
    assert labelled.masks is not None
    depths = sorted(zip(labelled.ids + unlabelled.ids, [*labelled.depths_m, *unlabelled.depths_m], strict=True))
    _write_table(folder / "depths.csv", "z", [(tile, f"{depth:.0f}") for tile, depth in depths])
    _write_table(folder / "train.csv", "rle_mask", zip(labelled.ids, rle.encode(labelled.masks), strict=True))
    _write_table(folder / "sample_submission.csv", "rle_mask", ((tile, "1 1") for tile in unlabelled.ids))
    _write_table(folder / "truth.csv", "rle_mask", zip(unlabelled.ids, rle.encode(truth), strict=True))
    _write_pictures(folder / "train" / "images", labelled.ids, labelled.images)
    _write_pictures(folder / "train" / "masks", labelled.ids, labelled.masks * np.uint8(255))
    _write_pictures(folder / "test" / "images", unlabelled.ids, unlabelled.images)
    write_json(folder / "record.json", data.record | {"digest": data.digest})


def _write_table(path: Path, value: str, rows: Iterable[tuple[str, str]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", value])
    table.writerows(rows)
    write_text(path, text.getvalue())


def _write_pictures(folder: Path, ids: tuple[str, ...], pictures: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for tile, picture in zip(ids, pictures, strict=True):
        (folder / f"{tile}.png").write_bytes(_png(picture))


def _png(picture: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey PNG that is stored, not compressed: compressors differ from machine to machine.

    Source: PNG specification (ISO/IEC 15948) and RFC 1951, section 3.2.4.
    """
    height, width = picture.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = picture
    content = rows.tobytes()
    assert len(content) < 65536, "one stored block holds 65535 bytes"
    block = struct.pack("<2sBHH", b"\x78\x01", 1, len(content), len(content) ^ 0xFFFF) + content
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", block + struct.pack(">I", zlib.adler32(content))),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
