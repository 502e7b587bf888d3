"""A small download of the competition: its files in memory, and in each of the forms in which it is kept."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diapir.data import rle
from fake_masks import blob_masks
from fake_png import png

LABELLED = ("b1", "a2", "c3", "d4", "e5", "f6", "g7", "h8")
UNLABELLED = ("z1", "y2", "x3")
Files = dict[str, bytes]


def csv(*rows: Sequence[object]) -> bytes:
    return "".join(",".join(str(value) for value in row) + "\n" for row in rows).encode()


def tgs_files() -> Files:
    """Path and content of every file of the unpacked folder: RGB and grey images, masks of 8 and of 16 bits."""
    rng = np.random.default_rng(0)
    ids = LABELLED + UNLABELLED
    images = rng.integers(0, 256, (len(ids), 101, 101), dtype=np.uint8)
    masks = blob_masks(len(LABELLED))
    texts = rle.encode(masks)
    files = {
        "train.csv": csv(("id", "rle_mask"), *zip(LABELLED, texts, strict=True)),
        "depths.csv": csv(("id", "z"), *((tile, 50 + row) for row, tile in enumerate(ids))),
        "sample_submission.csv": csv(("id", "rle_mask"), *((tile, "1 1") for tile in UNLABELLED)),
    }
    for row, tile in enumerate(ids):
        if tile in UNLABELLED:
            files[f"test/images/{tile}.png"] = png(images[row])
            continue
        files[f"train/images/{tile}.png"] = png(np.repeat(images[row, :, :, None], 3, axis=2))
        is_deep = row % 2 == 1
        mask = masks[row].astype(np.uint16) * np.uint16(65535) if is_deep else masks[row] * np.uint8(255)
        files[f"train/masks/{tile}.png"] = png(mask)
    return files


def write_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    """The unpacked folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def packed(files: Mapping[str, bytes]) -> Files:
    """The files as the competition gives them: train.zip and test.zip beside the tables."""
    given = {name: content for name, content in files.items() if name.endswith(".csv")}
    for part in ("train", "test"):
        inner = {name.removeprefix(f"{part}/"): data for name, data in files.items() if name.startswith(f"{part}/")}
        if inner:
            given[f"{part}.zip"] = zipped(inner)
    return given
