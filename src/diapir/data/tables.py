"""CSV files as people's programs save them, read line by line so that every fault has its line."""

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from diapir.faults import Fault, InputError

# The largest file the competition gives has under 1 MB; this stops what was packed to fill a memory.
_MOST_BYTES = 64 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_QUOTE = 60


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file.

    Args:
        path: the file, for messages.
        header: names of all its columns.
        lines: line number of every row, from 1 for the header's.
        rows: the asked columns of every row, in the order asked; without the white space around a value.
        faults: lines that could not be used, and why.
    """

    path: Path
    header: tuple[str, ...]
    lines: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]
    faults: tuple[Fault, ...]

    def where(self, row: int) -> str:
        """File and line of a row, as messages name them."""
        return f"{self.path}:{self.lines[row]}"


def read_table(path: Path, *, columns: tuple[str, ...]) -> Table:
    """Read columns of a CSV file, plain or gzipped; a byte order mark, any line ends, quotes, blank lines are harmless.

    Raises:
        InputError: the file is absent, unreadable, too large, not UTF-8 text, or lacks a column.
    """
    return parse_table(_read_bytes(path), path=path, columns=columns)


def parse_table(content: bytes, *, path: Path, columns: tuple[str, ...]) -> Table:
    """What `read_table` gives, of content that lies somewhere else, as in a zip; `path` is for messages.

    Raises:
        InputError: the content is not UTF-8 text, or lacks a column.
    """
    lines = [
        (number, line)
        for number, line in enumerate(io.StringIO(_decode_text(content, path=path), newline=None), start=1)
        if line.strip()
    ]
    if not lines:
        raise InputError.of(path, f'expected the header "{",".join(columns)}", found an empty file')
    where = f"{path}:{lines[0][0]}"
    header = _split(lines[0][1])
    if isinstance(header, str) or any(header.count(column) != 1 for column in columns):
        raise InputError.of(where, f'expected the header "{",".join(columns)}", found {_quoted(lines[0][1])}')
    places = [header.index(column) for column in columns]
    numbers, rows, faults = [], [], []
    for number, line in lines[1:]:
        fields = _split(line)
        if isinstance(fields, str):
            faults.append(Fault(f"{path}:{number}", f"{fields}: {_quoted(line)}"))
        elif len(fields) != len(header):
            what = f"expected {len(header)} fields, as in the header, found {len(fields)}: {_quoted(line)}"
            faults.append(Fault(f"{path}:{number}", what))
        else:
            numbers.append(number)
            rows.append(tuple(fields[place] for place in places))
    return Table(path, tuple(header), tuple(numbers), tuple(rows), tuple(faults))


def _split(line: str) -> list[str] | str:
    """The fields of one line, or what is wrong with it. No value of ours holds a line end."""
    try:
        return [field.strip() for field in next(csv.reader([line.rstrip("\n")], strict=True, skipinitialspace=True))]
    except csv.Error as error:
        return f"expected fields with commas between them, and quotes in pairs ({error})"


def _decode_text(content: bytes, *, path: Path) -> str:
    if content.startswith(_UTF16_MARKS):
        raise InputError.of(path, 'expected UTF-8 text, found UTF-16; save it as "CSV UTF-8"')
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError.of(f"{path}:{line}", f"expected UTF-8 text: {error.reason}") from None


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if is_packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    content = unpacked.read(_MOST_BYTES + 1)
            else:
                content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputError.of(path, "expected this file, found none") from None
    except EOFError:
        raise InputError.of(path, "is cut off: the gzip data end early; download or write it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError.of(path, f"holds damaged gzip data ({error}); download or write it again") from None
    except OSError as error:
        raise InputError.of(path, f"cannot be read ({error.strerror or error})") from None
    if len(content) > _MOST_BYTES:
        raise InputError.of(path, f"expected at most {_MOST_BYTES >> 20} MB of text, found more")
    if path.suffix == ".gz" and not is_packed:
        raise InputError.of(path, "is named .gz, but is not gzip data; name it .csv, or pack it")
    return content


def _quoted(line: str) -> str:
    text = line.rstrip("\n")
    return ascii(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}...")
