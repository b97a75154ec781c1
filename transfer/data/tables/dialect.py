"""From the bytes of a CSV file to rows of cells: its encoding and delimiter are found out, and nothing is converted.

A file is read as a stream, a line at a time, and no line may be longer than `LINE_LIMIT`: memory stays bounded whatever
the file holds.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NoReturn, TextIO

from feature_cache.errors import BadData

LINE_LIMIT = 2**24  # characters: an image of 2000 x 2000 pixels in cells has fewer
SAMPLE_LINES, SAMPLE_CHARACTERS = 40, 2**20  # that the delimiter is found out by
DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
# Files of other kinds that go by the name of a table, by their first bytes.
_OTHERS = {
    b"PK\x03\x04": "an Excel workbook or another zip archive; save the sheet as CSV, or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; unpack it first",
    b"PAR1": "a Parquet file; save the table as CSV",
    b"ARROW1": "an Arrow file; save the table as CSV",
    b"\x89HDF": "an HDF5 file; save the table as CSV",
    b"SQLite format 3": "an SQLite database; save the table as CSV",
    b"%PDF": "a PDF document; save the table as CSV",
    b"{\\rtf": "a document in RTF; save the table as CSV",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS, not the table itself; fetch it with git lfs pull",
}
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)
_JSON = re.compile(rb'\s*(\[\s*)?\{\s*("|\})')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's own way to name the delimiter
_MARKS = {
    codecs.BOM_UTF8: ("utf-8-sig", "UTF-8"),
    codecs.BOM_UTF32_LE: ("utf-32", "UTF-32"),
    codecs.BOM_UTF32_BE: ("utf-32", "UTF-32"),
    codecs.BOM_UTF16_LE: ("utf-16", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16", "UTF-16"),
}


def other_kind(head: bytes) -> str | None:
    """What a file that begins with `head` is, if it is of another kind than a table, and what to do about it."""
    for start, kind in _OTHERS.items():
        if head.startswith(start):
            return kind
    if _WEB_PAGE.match(head):
        return "a web page or XML, perhaps the page of an error; download the table again"
    if _JSON.match(head):
        return "JSON; save the table as CSV"
    return None


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose encoding and delimiter are known.

    Attributes
    ----------
    file : Path
    encoding : str
    delimiter, quote : str
    first_line : int
        That holds cells: 2 where Excel's ``sep=;`` comes before them.
    notes : tuple of str
        What was guessed, in sentences.
    """

    file: Path
    encoding: str
    delimiter: str
    quote: str = '"'
    first_line: int = 1
    notes: tuple[str, ...] = ()

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Every row that is not blank, the header first, and the number of the line that it begins in.

        Raises
        ------
        BadData
            When a line is too long or holds what no text does, or a quotation mark is never closed.
        """
        with _open(self.file, self.encoding) as stream:
            lines = _Lines(stream, self.file)
            for _ in islice(lines, self.first_line - 1):
                pass
            reader, start = self._reader(lines), lines.number + 1
            lines.recent.clear()
            last, text = start, [""]
            limit = csv.field_size_limit(LINE_LIMIT)
            try:
                for cells in reader:
                    if any(map(str.strip, cells)):
                        yield start, cells
                    last, start = start, lines.number + 1
                    text = lines.recent.copy()
                    lines.recent.clear()
                if self._left_open(text):
                    raise BadData(f"{self.file}, line {last}: a quotation mark is opened there and never closed.")
            except csv.Error as error:
                open_mark = "a quotation mark is opened there and never closed" if "limit" in str(error) else str(error)
                raise BadData(f"{self.file}, line {start}: {open_mark}.") from error
            finally:
                csv.field_size_limit(limit)

    def _reader(self, lines: Iterator[str], strict: bool = False) -> Iterator[list[str]]:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            skipinitialspace=self.delimiter != "\t",
            strict=strict,
        )

    def _left_open(self, text: Sequence[str]) -> bool:
        """Whether the file ends within quotation marks, by its last row."""
        try:
            list(self._reader(iter(text), strict=True))
        except csv.Error as error:
            return "unexpected end" in str(error)
        return False


@dataclass
class _Lines:
    """The lines of a text, none too long; `recent` are those since it was last emptied."""

    stream: TextIO
    file: Path
    number: int = 0
    recent: list[str] = field(default_factory=list)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.stream.readline(LINE_LIMIT)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LINE_LIMIT:
            raise BadData(
                f"{self.file}, line {self.number}, is longer than {LINE_LIMIT} characters: no table of images."
            )
        if "\0" in line:
            raise BadData(f"{self.file}, line {self.number}, holds a zero byte: this is no text, or a damaged one.")
        self.recent.append(line)
        return line


def recognised(file: Path, names: Sequence[str]) -> CsvFile:
    """`file` with its encoding and delimiter.

    Parameters
    ----------
    names : sequence of str
        Of columns that its header should have; the delimiter with which it has most of them is the likeliest.

    Raises
    ------
    BadData
        When it cannot be read, or is no text.
    """
    encoding, encoding_name = _encoding(file)
    with _open(file, encoding) as stream:
        sample: list[str] = []
        size = 0
        for line in _Lines(stream, file):
            if line.strip() or sample:
                sample.append(line)
                size += len(line)
            if len(sample) == SAMPLE_LINES or size > SAMPLE_CHARACTERS:
                break
        else:
            sample.append("\n")  # the last row is whole
    usual = "," if file.suffix.lower() == ".csv" else "\t"
    separator = _SEPARATOR_LINE.fullmatch(sample[0])
    if separator:
        found = CsvFile(file, encoding, separator[1], first_line=2)
    else:
        by_score = {_score(sample, delimiter, names, usual): delimiter for delimiter in DELIMITERS}
        found = CsvFile(file, encoding, by_score[max(by_score)])
        if _single_quoted(sample[0], found.delimiter):
            found = CsvFile(file, encoding, found.delimiter, "'")
    ways = []
    if found.delimiter != usual and not separator:
        ways.append(f"with {DELIMITERS[found.delimiter]} between its cells")
    if found.quote != '"':
        ways.append("with ' as quotation mark")
    if encoding_name != "UTF-8":
        ways.append(f"as {encoding_name}")
    doubt = "" if encoding_name.startswith("UTF") else ", as it is no UTF-8; save it so if texts look wrong"
    notes = (f"{file} is read {', '.join(ways)}{doubt}.",) if ways else ()
    return CsvFile(file, encoding, found.delimiter, found.quote, found.first_line, notes)


def _open(file: Path, encoding: str) -> TextIO:
    try:
        return file.open(encoding=encoding, newline="")
    except OSError as error:
        raise BadData(f"cannot read {file}: {error.strerror}.") from error


def _encoding(file: Path) -> tuple[str, str]:
    """The codec that reads all of `file`, and its name for people."""
    try:
        with file.open("rb") as stream:
            head = stream.read(4096)
            kind = other_kind(head)
            if kind:
                raise BadData(f"{file} is no CSV file but {kind}.")
            for mark, (codec, name) in _MARKS.items():
                if head.startswith(mark):
                    return (codec, name) if _decodes(file, codec) else _refuse(file, f"ends or breaks off as {name}")
            even, odd = head[::2].count(0), head[1::2].count(0)
            if even + odd and abs(even - odd) > len(head) // 3:  # text of two bytes a character, without a mark
                codec = "utf-16-be" if even > odd else "utf-16-le"
                return (codec, "UTF-16") if _decodes(file, codec) else _refuse(file, "is no text")
            if 0 in head:
                _refuse(file, "holds zero bytes: it is no text")
        if _decodes(file, "utf-8"):
            return "utf-8", "UTF-8"
        if b"\r" in head and b"\n" not in head:  # Excel on a Mac ends its lines so, and writes in that encoding
            return "mac_roman", "Mac Roman"
        return ("cp1252", "Windows-1252") if _decodes(file, "cp1252") else ("latin-1", "Latin-1")
    except OSError as error:
        raise BadData(f"cannot read {file}: {error.strerror}.") from error


def _refuse(file: Path, why: str) -> NoReturn:
    raise BadData(f"{file} {why}; save it as CSV in UTF-8.")


def _decodes(file: Path, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    with file.open("rb") as stream:
        try:
            while block := stream.read(2**20):
                decoder.decode(block)
                if 0 in block and codec.startswith("utf-8"):
                    return True  # the line that holds it is named when it is read
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _score(sample: list[str], delimiter: str, names: Sequence[str], usual: str) -> tuple[int, bool, bool, int]:
    """How well `delimiter` suits: known columns, rows of equal length, whether it is the usual one, columns."""
    try:
        rows = list(csv.reader(sample, delimiter=delimiter, skipinitialspace=delimiter != "\t"))
    except csv.Error:
        return -1, False, delimiter == usual, 0
    rows = [row for row in rows[:-1] or rows if any(map(str.strip, row))] or [[]]
    header = {clean_name(cell).casefold() for cell in rows[0]}
    width = len(rows[0])
    even = width > 1 and all(len(row) == width or not any(row[width:]) and len(row) > width for row in rows)
    return sum(name.casefold() in header for name in names), even, delimiter == usual, width


def clean_name(text: str) -> str:
    """The name of a column in a line, without what is round it: spaces of any kind, marks of byte order, quotes."""
    name = _CONTROL.sub(" ", text).strip().strip("\ufeff\u200b").strip()
    while len(name) > 1 and name[0] == name[-1] and name[0] in "\"'`":
        name = name[1:-1].strip()
    return name


def _single_quoted(header: str, delimiter: str) -> bool:
    cells = [cell.strip() for cell in header.split(delimiter)]
    return all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)
