"""The files of a bundle, and the manifest that lists them: what is read of a folder that a stranger may have made."""

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from diapir.faults import Fault, InputError, raise_if_any
from diapir.runs import BUNDLE, json_bytes, json_digest, sha256_of_file, write_json

MANIFEST, CARD = BUNDLE
FORMAT, VERSION = "diapir bundle", 1

_MIB = 1 << 20
_MOST_MANIFEST_BYTES = 64 * _MIB
# Of text that is parsed as a whole: what recipes, records and folds need, many times over.
_MOST_TEXT_BYTES = 64 * _MIB
_TENSORS = (".safetensors", ".onnx")
_MOST_STRANGERS = 20
_AGAIN = "use another copy of the bundle"


def write_manifest(folder: Path, facts: Mapping[str, Any], *, names: Iterable[str]) -> dict[str, Any]:
    """Write `bundle.json`: the facts, size and SHA-256 of each file, and a digest of it all; gives what it holds."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
        for name in sorted(names)
    }
    content = {"format": FORMAT, "version": VERSION, **facts, "files": files}
    manifest = content | {"digest": json_digest(content)}
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_manifest` wrote, after every file was held against it, and nothing else was found in the folder.

    Raises:
        InputError: the manifest is absent, damaged, or of a later version; a file is missing, changed, too many, or
            outside of the folder; or there is a link.
    """
    manifest = _parsed(folder / MANIFEST)
    listed = _listed_files(folder / MANIFEST, manifest)
    found, faults = _found_files(folder, known={MANIFEST, *listed})
    raise_if_any([*faults, *_faults_of_files(folder, listed, found)])
    return manifest


def _parsed(path: Path) -> dict[str, Any]:
    """The manifest, held against its own digest."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError.of(path, f"expected a file, found a link or something else; {_AGAIN}")
    if path.exists() and path.stat().st_size > _MOST_MANIFEST_BYTES:
        raise InputError.of(path, f"expected at most {_MOST_MANIFEST_BYTES // _MIB} MiB, found more; {_AGAIN}")
    try:
        text = path.read_bytes()
        manifest = json.loads(text)
    except FileNotFoundError:
        raise InputError.of(path, f"expected this file beside {CARD}, found none; {_AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise InputError.of(path, f"expected JSON: {error}; {_AGAIN}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError.of(path, f"expected the manifest of a {FORMAT}, found something else")
    version = manifest.get("version")
    if type(version) is int and version > VERSION:
        raise InputError.of(path, f"it is of version {version}, and this diapir reads {VERSION}: use a later diapir")
    if version != VERSION or not _is_as_written(manifest, text):
        raise InputError.of(path, f"its content does not match its own digest: it was changed or damaged, {_AGAIN}")
    return manifest


def _is_as_written(manifest: Mapping[str, Any], text: bytes) -> bool:
    content = {key: value for key, value in manifest.items() if key != "digest"}
    try:
        # The text as well, for a key given twice would be lost to the digest.
        return manifest.get("digest") == json_digest(content) and text == json_bytes(manifest)
    except RecursionError:
        return False


def _listed_files(path: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file that the manifest names."""
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise InputError.of(path, f"expected 'files' with size and SHA-256 of each, found none; {_AGAIN}")
    faults, listed = list[Fault](), dict[str, tuple[int, str]]()
    for name, entry in files.items():
        if not _is_inside(name):
            faults.append(Fault(f"{path}: {name}", f"expected a name below the bundle's folder; {_AGAIN}"))
        elif not isinstance(entry, dict) or type(entry.get("bytes")) is not int or set(entry) != {"bytes", "sha256"}:
            faults.append(Fault(f"{path}: {name}", f"expected its bytes and sha256; {_AGAIN}"))
        elif not name.endswith(_TENSORS) and entry["bytes"] > _MOST_TEXT_BYTES:
            faults.append(Fault(f"{path}: {name}", f"expected at most {_MOST_TEXT_BYTES // _MIB} MiB; {_AGAIN}"))
        else:
            listed[name] = (entry["bytes"], str(entry["sha256"]))
    raise_if_any(faults)
    return listed


def _is_inside(name: str) -> bool:
    """Whether a name leads to a place below a folder, written in the one way that is used."""
    parts = PurePosixPath(name).parts
    is_plain = bool(parts) and ".." not in parts and not name.startswith("/") and "\\" not in name
    return is_plain and "/".join(parts) == name and name.isprintable() and name != MANIFEST


def _found_files(folder: Path, *, known: set[str]) -> tuple[set[str], list[Fault]]:
    """Files that lie in the folder and are known, and a fault for whatever else lies there; nothing is opened."""
    folders = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
    found, faults = set[str](), list[Fault]()
    for name, mode in _walk(folder, below="", folders=folders):
        if stat.S_ISLNK(mode):
            faults.append(Fault(str(folder / name), f"expected a file of its own, found a link; {_AGAIN}"))
        elif stat.S_ISREG(mode) and name in known:
            found.add(name)
        elif not (stat.S_ISDIR(mode) and name in folders):
            faults.append(Fault(str(folder / name), f"it is not part of the bundle: remove it, or {_AGAIN}"))
        if len(faults) >= _MOST_STRANGERS:
            break
    return found, faults


def _walk(folder: Path, *, below: str, folders: set[str]) -> Iterator[tuple[str, int]]:
    """Name and kind of all that lies in a folder, and in those below it that hold known files."""
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            name, mode = f"{below}{entry.name}", entry.stat(follow_symlinks=False).st_mode
            yield name, mode
            if stat.S_ISDIR(mode) and name in folders:
                yield from _walk(folder, below=f"{name}/", folders=folders)


def _faults_of_files(folder: Path, listed: Mapping[str, tuple[int, str]], found: set[str]) -> Iterator[Fault]:
    for name, (size, digest) in listed.items():
        path = folder / name
        if name not in found:
            if not path.is_symlink():  # a link was told of
                yield Fault(str(path), f"expected this file, found none; {_AGAIN}")
        elif (actual := path.stat().st_size) != size:
            yield Fault(str(path), f"expected {size} bytes, found {actual}: it was changed or damaged, {_AGAIN}")
        elif sha256_of_file(path) != digest:
            yield Fault(str(path), f"it does not match its SHA-256 in {MANIFEST}: it was changed or damaged, {_AGAIN}")
