"""Files of a folder, of a zip, or of zips in either, read in memory and never unpacked to disk."""

import io
import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from diapir.faults import Fault, InputError, raise_if_any

_MIB = 1 << 20
# What the competition's files need, many times over; beyond it a file was made to fill a memory.
_MOST_BYTES = {".png": 4 * _MIB, ".csv": 64 * _MIB, ".zip": 1024 * _MIB}
_MOST_BYTES_OF_OTHERS = 1024 * _MIB
_MOST_BYTES_OF_NESTED = 2048 * _MIB
_MOST_FILES = 200_000
# Text of run lengths shrinks about 5 times, a mask not at all; deflate can reach 1032.
_MOST_RATIO, _SMALLEST_FOR_RATIO = 200, _MIB
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED_BITS = 0x1 | 0x40 | 0x2000
_LOCAL_HEADER_BYTES = 30
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Member:
    """One file of a source.

    Args:
        parts: folders and zips on the way to it, without `.zip`, then its own name.
        where: the same for messages, from the source on.
        size: bytes, as declared.
        read: gives the content; raises InputError where that is damaged or differs from what was declared.
    """

    parts: tuple[str, ...]
    where: str
    size: int
    read: Callable[[], bytes]

    @property
    def suffix(self) -> str:
        """The ending of its name, in small letters."""
        return PurePosixPath(self.parts[-1]).suffix.lower()


@contextmanager
def open_source(source: Path) -> Iterator[tuple[Member, ...]]:
    """Every file of a folder or of a zip, zips in them included; they can be read while the block lasts.

    Hidden files and folders (.git, __MACOSX) are left out.

    Raises:
        InputError: there is nothing, or a zip is cut off, is encrypted, would unpack to more than sane sizes, or
            names a file outside of itself, a link or the same file twice; or a folder links outside of itself.
    """
    with ExitStack() as stack:
        if source.is_dir():
            files, faults = _in_folder(source)
            plain, zips = _without_zips(files)
        elif source.is_file():
            plain, zips, faults = [], [_member_of_file(source, parts=(source.name,))], []
        else:
            raise InputError.of(source, "expected a folder or a zip, found neither there; check the path")
        outer, outer_faults = _opened(zips, from_disk=True, stack=stack)
        outer, zips = _without_zips(outer)
        if sum(member.size for member in zips) > _MOST_BYTES_OF_NESTED:
            what = f"its zips unpack to more than {_MOST_BYTES_OF_NESTED // _MIB} MB; unpack them to a folder first"
            raise InputError.of(source, what)
        inner, inner_faults = _opened(zips, from_disk=False, stack=stack)
        inner, zips = _without_zips(inner)
        too_deep = [Fault(member.where, "expected a zip in a zip at most; unpack this one first") for member in zips]
        members = (*plain, *outer, *inner)
        raise_if_any([*faults, *outer_faults, *inner_faults, *too_deep])
        if len(members) > _MOST_FILES:
            raise InputError.of(source, _too_many(len(members)))
        yield members


def read_alike(members: tuple[Member, ...]) -> bytes:
    """The content of a file that a source may hold more than once, such as in a zip and unpacked beside it.

    Raises:
        InputError: the copies differ, or one cannot be read.
    """
    content = members[0].read()
    for other in members[1:]:
        if other.read() != content:
            what = f"differs from {other.where}, which has the same name; keep one of them"
            raise InputError.of(members[0].where, what)
    return content


def _without_zips(members: list[Member]) -> tuple[list[Member], list[Member]]:
    """What is no zip, and what is one."""
    return (
        [member for member in members if member.suffix != ".zip"],
        [member for member in members if member.suffix == ".zip"],
    )


def _opened(zips: list[Member], *, from_disk: bool, stack: ExitStack) -> tuple[list[Member], list[Fault]]:
    """What zips hold, and why they should not be read."""
    members: list[Member] = []
    faults: list[Fault] = []
    for zipped in zips:
        try:
            file = Path(zipped.where) if from_disk else io.BytesIO(zipped.read())
            members += _in_zip(file, zipped=zipped, stack=stack)
        except InputError as error:
            faults += error.faults
    return members, faults


def _in_folder(folder: Path) -> tuple[list[Member], list[Fault]]:
    """Every file below a folder; links may lead to files of the same folder only."""
    members: list[Member] = []
    faults: list[Fault] = []
    root = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        # Links to folders are not followed, so they must be told of.
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for path in (Path(place) / name for name in sorted([*names, *links]) if not _is_hidden(name)):
            if path.is_symlink() and not _is_file_in(root, Path(os.path.realpath(path))):
                what = f"is a link to {path.readlink()}, which is no file of this folder; put the file itself here"
                faults.append(Fault(str(path), what))
            elif path.is_file():
                members.append(_member_of_file(path, parts=path.relative_to(folder).parts))
        if len(members) > _MOST_FILES:
            raise InputError.of(folder, _too_many(len(members)))
    return members, faults


def _is_file_in(root: Path, path: Path) -> bool:
    return path.is_relative_to(root) and path.is_file()


def _member_of_file(path: Path, *, parts: tuple[str, ...]) -> Member:
    return Member(parts, str(path), path.stat().st_size, partial(_read_file, path))


def _read_file(path: Path) -> bytes:
    most = _most_bytes(path.name)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError.of(path, f"cannot be read ({error.strerror or error})") from None
    if len(content) > most:
        raise InputError.of(path, f"expected at most {most // _MIB} MB, found more; is it the right file?")
    return content


def _in_zip(file: Path | io.BytesIO, *, zipped: Member, stack: ExitStack) -> list[Member]:
    """What a zip holds.

    Raises:
        InputError: it is cut off, damaged or unsafe; none of it should be read.
    """
    where = zipped.where
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except _BROKEN as error:
        raise InputError.of(where, _why_no_zip(file, error=error)) from None
    infos = archive.infolist()
    if len(infos) > _MOST_FILES:
        raise InputError.of(where, _too_many(len(infos)))
    faults = [Fault(f"{where}/{_shown(info)}", fault) for info in infos for fault in _faults_of_entry(info)]
    faults += [Fault(where, fault) for fault in _faults_of_names(infos)]
    faults += [Fault(where, fault) for fault in _faults_of_places(archive)]
    raise_if_any(faults)
    # The zip's own name counts as a folder: train.zip holds images/ where the unpacked folder has train/images/.
    above = (*zipped.parts[:-1], PurePosixPath(zipped.parts[-1]).stem)
    return [
        Member((*above, *inner), f"{where}/{info.filename}", info.file_size, partial(_read_entry, archive, info, where))
        for info in infos
        if not info.is_dir()
        for inner in [_plain_parts(info)]
        if inner and not any(_is_hidden(part) for part in inner)
    ]


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, zip_where: str) -> bytes:
    where = f"{zip_where}/{info.filename}"
    try:
        with archive.open(info) as file:
            content = file.read(info.file_size + 1)
    except _BROKEN as error:
        raise InputError.of(where, f"is damaged in its zip ({error}); download the zip again") from None
    if len(content) != info.file_size:
        found = f"expected {info.file_size} bytes, as its zip declares, found {len(content)}"
        raise InputError.of(where, f"{found}; download the zip again")
    return content


def _faults_of_entry(info: zipfile.ZipInfo) -> Iterator[str]:
    name = info.orig_filename
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        yield "leads outside of its zip; such a zip is unsafe: take it from where it came from again"
    elif "\\" in name or "\0" in name:
        yield "has a backslash or a null character in its name; pack the zip again with plain names"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "link" if stat.S_ISLNK(mode) else "device or pipe"
        yield f"expected a plain file, found a {kind}; pack the zip again with the files themselves"
    if info.flag_bits & _ENCRYPTED_BITS:
        yield "is encrypted; pack the zip again without a password"
    elif info.compress_type not in _METHODS:
        method = zipfile.compressor_names.get(info.compress_type, "?")  # type: ignore[attr-defined]
        yield f"is packed by method {info.compress_type} ({method}); pack the zip again with deflate"
    most = _most_bytes(name)
    if info.file_size > most:
        yield f"claims to unpack to {info.file_size} bytes, expected at most {most}; it was not unpacked"
    elif info.file_size > max(_SMALLEST_FOR_RATIO, _MOST_RATIO * info.compress_size):
        shrunk = f"claims to unpack from {info.compress_size} to {info.file_size} bytes"
        yield f"{shrunk}, expected at most {_MOST_RATIO} times as many; it was not unpacked"


def _faults_of_names(infos: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Names that come twice: programs differ in which of the two they take."""
    for parts, count in Counter(_plain_parts(info) for info in infos if not info.is_dir()).items():
        if count > 1:
            yield f"holds {'/'.join(parts)!a} {count} times; pack it again with every file once"


def _faults_of_places(archive: zipfile.ZipFile) -> Iterator[str]:
    """Entries that share bytes, by which a small zip unpacks to much. Source: Fifield 2019, A better zip bomb."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    begins = [info.header_offset for info in infos]
    for info, following in zip(infos, [*begins[1:], archive.start_dir], strict=True):
        if info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > following:
            yield f"is damaged: {info.filename!a} overlaps what follows it; download it again"
            return


def _why_no_zip(file: Path | io.BytesIO, *, error: Exception) -> str:
    """Why a file cannot be opened as a zip."""
    try:
        with file.open("rb") if isinstance(file, Path) else io.BytesIO(file.getvalue()) as content:
            begin = content.read(4)
    except OSError as reason:
        return f"cannot be read ({reason.strerror or reason})"
    if begin == b"PK\x03\x04":
        return f"is a zip that is cut off or damaged ({error}); download it again"
    if not begin:
        return "expected a zip, found an empty file; download it again"
    return "expected a zip, found something else; give the competition's zip, or the folder it was unpacked to"


def _plain_parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in info.filename.split("/") if part not in ("", "."))


def _shown(info: zipfile.ZipInfo) -> str:
    """A name that may hold anything, for a message."""
    return ascii(info.orig_filename)[1:-1]


def _is_hidden(name: str) -> bool:
    """Whether programs put it there for themselves, such as macOS its `__MACOSX/._name` into zips."""
    return name.startswith(".") or name == "__MACOSX"


def _most_bytes(name: str) -> int:
    return _MOST_BYTES.get(PurePosixPath(name).suffix.lower(), _MOST_BYTES_OF_OTHERS)


def _too_many(count: int) -> str:
    return f"expected at most {_MOST_FILES} files, found {count} or more; is it the right one?"


def _raise(error: OSError) -> None:
    raise error
