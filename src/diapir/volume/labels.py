"""What a person said of some sections of a survey: pictures, SEG-Y files and arrays, every fault told at once."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.faults import Fault, InputError, raise_if_any
from diapir.volume.label_pictures import read_picture
from diapir.volume.label_volumes import Found, read_segy_labels, read_zarr_labels
from diapir.volume.labelled_section import LabelledSection, hide_dead
from diapir.volume.store import Store, read_map

_PICTURES, _SEGY = (".png",), (".sgy", ".segy")
_OTHER_PICTURES = (".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_FORMS = "PNGs such as inline-120.png, SEG-Y files (.sgy, .segy) or Zarr arrays"


@dataclass(frozen=True)
class Labels:
    """Labelled sections, inlines and then crosslines, each in rising order.

    Args:
        notes: what a person should know of how they were read.
    """

    sections: tuple[LabelledSection, ...]
    notes: tuple[str, ...]


def read_labels(path: Path, store: Store, *, of_segy: Mapping[str, Any] | None = None) -> Labels:
    """The labelled sections of a file, or of all files of a folder; nothing is known of dead and missing traces.

    Args:
        of_segy: what `read_segy_labels` takes besides: how files of traces are to be read.

    Raises:
        InputError: no labels are there, or they are faulty; with every fault of every file.
    """
    live = read_map(store, "live")
    found, faults = list[Found](), list[Fault]()
    files, others = _files(path)
    for file in files:
        try:
            found.append(_read(file, store, live, of_segy or {}))
        except InputError as error:
            faults += error.faults
        except OSError as error:
            faults.append(Fault(str(file), f"cannot be read: {error.strerror or error}"))
    sections = [section for each in found for section in each.sections]
    sections.sort(key=lambda section: (section.direction == "crossline", section.place))
    raise_if_any([*faults, *_told_twice(sections)])
    raise_if_any(_one_sided(path, sections))
    ignored = [f"{path}: left alone, for they are no labels: {', '.join(others)}"] if others else []
    return Labels(tuple(sections), (*ignored, *(note for each in found for note in each.notes)))


def _files(path: Path) -> tuple[list[Path], list[str]]:
    """Files of labels, and names of what else lies beside them.

    Raises:
        InputError: there are none.
    """
    if not path.exists():
        raise InputError.of(path, f"expected labels ({_FORMS}), found no such file or folder")
    if not path.is_dir() or _is_zarr(path):
        return [path], []
    inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    suffixes = (*_PICTURES, *_SEGY, *_OTHER_PICTURES)
    files = [each for each in inside if _is_zarr(each) or (each.is_file() and each.suffix.lower() in suffixes)]
    if not files:
        raise InputError.of(path, f"expected labels in it ({_FORMS}), found none")
    return files, [each.name for each in inside if each not in files]


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and (path.suffix.lower() == ".zarr" or (path / "zarr.json").exists())


def _read(path: Path, store: Store, live: NDArray[np.bool_], of_segy: Mapping[str, Any]) -> Found:
    if path.is_dir():
        return read_zarr_labels(path, store, live=live)
    if path.suffix.lower() in _SEGY:
        return read_segy_labels(path, store, live=live, **of_segy)
    if path.suffix.lower() not in _PICTURES:
        raise InputError.of(path, f"expected {_FORMS}, found another kind of file; save pictures as PNG, without loss")
    section = hide_dead(read_picture(path, store.grid), live)
    if (section.mask > 1).all():
        raise InputError.of(path, f"all that it labels are dead or missing traces of {section.name}: remove the file")
    return Found([section], [])


def _told_twice(sections: Sequence[LabelledSection]) -> Iterator[Fault]:
    sources: dict[str, list[str]] = defaultdict(list)
    for section in sections:
        sources[section.name].append(str(section.source))
    for name, files in sources.items():
        if len(files) > 1:
            yield Fault(files[1], f"{name} is labelled in {files[0]} too: keep one of them")


def _one_sided(path: Path, sections: Sequence[LabelledSection]) -> Iterator[Fault]:
    """Labels that teach nothing, for they say the same everywhere."""
    for value, what in ((1, "salt"), (0, "anything but salt")):
        if not any((section.mask == value).any() for section in sections):
            yield Fault(
                str(path), f"expected salt and what is none, found no {what} in {len(sections)} labelled sections"
            )
