"""From the bytes of a CSV file to rows of cells: the encoding and the delimiter are recognised, cells stay texts.

A file is read as a stream, a line at a time, and no line may be longer than `LINE_LIMIT`, so that the memory is bounded
whatever the file holds.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, NoReturn, TextIO

from feature_cache.errors import BadData
from transfer.data.remote.path import AnyPath
from transfer.file_signatures import kind_by_signature

LINE_LIMIT = 2**24  # characters: an image of 2000 x 2000 pixels in cells has fewer
SAMPLE_LINES, SAMPLE_CHARACTERS = 40, 2**20  # the sample by which the delimiter is recognised
DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
# Files of other kinds that go by the name of a table, by their signature.
_OTHERS = {
    "ZIP": "an Excel workbook or another zip archive; save the sheet as CSV, or unpack the archive",
    "OLE2": "an old Excel workbook; save the sheet as CSV",
    "gzip": "compressed by gzip; unpack it first",
    "bzip2": "compressed by bzip2; unpack it first",
    "xz": "compressed by xz; unpack it first",
    "Zstandard": "compressed by Zstandard; unpack it first",
    "Parquet": "a Parquet file; save the table as CSV",
    "Arrow": "an Arrow file; save the table as CSV",
    "HDF5": "an HDF5 file; save the table as CSV",
    "SQLite": "an SQLite database; save the table as CSV",
    "PDF": "a PDF document; save the table as CSV",
    "RTF": "a document in RTF; save the table as CSV",
    "PNG": "a PNG image",
    "JPEG": "a JPEG image",
    "GIF": "a GIF image",
    "NumPy array": "a NumPy array",
    "Git LFS pointer": "a pointer of Git LFS, not the table itself; fetch it with git lfs pull",
    "HTML": "a web page or XML, perhaps the page of an error; download the table again",
    "XML": "a web page or XML, perhaps the page of an error; download the table again",
}
_JSON = re.compile(rb'\s*(\[\s*)?\{\s*("|\})')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel may name the delimiter in such a first line
_MARKS = {
    codecs.BOM_UTF8: ("utf-8-sig", "UTF-8"),
    codecs.BOM_UTF32_LE: ("utf-32", "UTF-32"),
    codecs.BOM_UTF32_BE: ("utf-32", "UTF-32"),
    codecs.BOM_UTF16_LE: ("utf-16", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16", "UTF-16"),
}


def other_kind(head: bytes) -> str | None:
    """The kind of a file that is no table, and what to do about it; None where its first bytes do not show it.

    Parameters
    ----------
    head : bytes
        The first bytes of the file, 4096 of them if there are so many.

    Examples
    --------
    >>> other_kind(b"id,class")
    >>> other_kind(b"%PDF-1.7")
    'a PDF document; save the table as CSV'
    """
    if kind := _OTHERS.get(kind_by_signature(head) or ""):
        return kind
    if _JSON.match(head):
        return "JSON; save the table as CSV"
    return None


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose encoding and delimiter are known.

    Attributes
    ----------
    file : Path or RemotePath
        Its path in messages, which leads into an archive where its content is in memory.
    encoding : str
    delimiter, quote : str
    first_line : int
        The number of the first line that holds cells: 2 where Excel's ``sep=;`` is in the first one.
    notes : tuple of str
        What was guessed, a sentence each.
    content : bytes, optional
        The content, where the file is inside an archive.
    """

    file: AnyPath
    encoding: str
    delimiter: str
    quote: str = '"'
    first_line: int = 1
    notes: tuple[str, ...] = ()
    content: bytes | None = None

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not blank, the header first, each with the number of the line that it begins in.

        Raises
        ------
        BadData
            When a line is too long or holds a zero byte, or a quotation mark is never closed.
        """
        with _open(self.file, self.content, self.encoding) as stream:
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
        """Whether the file ends inside quotation marks.

        Parameters
        ----------
        text : sequence of str
            The lines of its last row.
        """
        try:
            list(self._reader(iter(text), strict=True))
        except csv.Error as error:
            return "unexpected end" in str(error)
        return False


@dataclass
class _Lines:
    """The lines of a text, which may not be too long.

    Attributes
    ----------
    number : int
        The number of the last line that was read.
    recent : list of str
        The lines that were read since this list was last emptied.
    """

    stream: TextIO
    file: AnyPath
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


def recognised(file: AnyPath, names: Sequence[str], content: bytes | None = None) -> CsvFile:
    """A CSV file with its encoding and delimiter, which are guessed from its content.

    Parameters
    ----------
    file : Path or RemotePath
    names : sequence of str
        Columns that the header should have: the delimiter with which it has most of them is the likeliest.
    content : bytes, optional
        The content, where the file is inside an archive.

    Raises
    ------
    BadData
        When the file cannot be read, or is no text.
    """
    encoding, encoding_name = _encoding(file, content)
    with _open(file, content, encoding) as stream:
        sample: list[str] = []
        size = 0
        for line in _Lines(stream, file):
            if line.strip() or sample:
                sample.append(line)
                size += len(line)
            if len(sample) == SAMPLE_LINES or size > SAMPLE_CHARACTERS:
                break
        else:
            sample.append("\n")  # the end of the file was reached, and so the last row is complete
    usual = "," if file.suffix.lower() == ".csv" else "\t"
    quote, first_line, ways = '"', 1, []
    if separator := _SEPARATOR_LINE.fullmatch(sample[0]):
        delimiter, first_line = separator[1], 2
    else:
        by_score = {_score(sample, candidate, names, usual): candidate for candidate in DELIMITERS}
        delimiter = by_score[max(by_score)]
        if delimiter != usual:
            ways.append(f"with {DELIMITERS[delimiter]} between its cells")
        if _single_quoted(sample[0], delimiter):
            quote = "'"
            ways.append("with ' as quotation mark")
    if encoding_name != "UTF-8":
        ways.append(f"as {encoding_name}")
    doubt = "" if encoding_name.startswith("UTF") else ", as it is no UTF-8; save it so if texts look wrong"
    notes = (f"{file} is read {', '.join(ways)}{doubt}.",) if ways else ()
    return CsvFile(file, encoding, delimiter, quote, first_line, notes, content)


def _open(file: AnyPath, content: bytes | None, encoding: str) -> TextIO:
    try:
        return io.TextIOWrapper(_binary(file, content), encoding, newline="")
    except OSError as error:
        raise BadData(f"cannot read {file}: {error.strerror}.") from error


def _binary(file: AnyPath, content: bytes | None) -> BinaryIO:
    return file.open("rb") if content is None else io.BytesIO(content)


def _encoding(file: AnyPath, content: bytes | None) -> tuple[str, str]:
    """The codec that can read all of the file, and the name of the encoding in messages."""
    try:
        with _binary(file, content) as stream:
            head = stream.read(4096)
            kind = other_kind(head)
            if kind:
                raise BadData(f"{file} is no CSV file but {kind}.")
            for mark, (codec, name) in _MARKS.items():
                if head.startswith(mark):
                    return (
                        (codec, name)
                        if _decodes(file, content, codec)
                        else _refuse(file, f"ends or breaks off as {name}")
                    )
            even, odd = head[::2].count(0), head[1::2].count(0)
            if even + odd and abs(even - odd) > len(head) // 3:  # two bytes a character, without a mark
                codec = "utf-16-be" if even > odd else "utf-16-le"
                return (codec, "UTF-16") if _decodes(file, content, codec) else _refuse(file, "is no text")
            if 0 in head:
                _refuse(file, "holds zero bytes: it is no text")
        if _decodes(file, content, "utf-8"):
            return "utf-8", "UTF-8"
        if b"\r" in head and b"\n" not in head:  # as Excel for Mac writes
            return "mac_roman", "Mac Roman"
        return ("cp1252", "Windows-1252") if _decodes(file, content, "cp1252") else ("latin-1", "Latin-1")
    except OSError as error:
        raise BadData(f"cannot read {file}: {error.strerror}.") from error


def _refuse(file: AnyPath, why: str) -> NoReturn:
    raise BadData(f"{file} {why}; save it as CSV in UTF-8.")


def _decodes(file: AnyPath, content: bytes | None, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    with _binary(file, content) as stream:
        try:
            while block := stream.read(2**20):
                decoder.decode(block)
                if 0 in block and codec.startswith("utf-8"):
                    return True  # the line with the zero byte is reported when it is read
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _score(sample: list[str], delimiter: str, names: Sequence[str], usual: str) -> tuple[int, bool, bool, int]:
    """How well a delimiter suits: known columns, rows of equal length, whether it is usual, number of columns."""
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
    """The name of a column without what surrounds it: white space, marks of byte order, quotation marks.

    Examples
    --------
    >>> clean_name(' "class" ')
    'class'
    """
    name = _CONTROL.sub(" ", text).strip().strip("\ufeff\u200b").strip()
    while len(name) > 1 and name[0] == name[-1] and name[0] in "\"'`":
        name = name[1:-1].strip()
    return name


def _single_quoted(header: str, delimiter: str) -> bool:
    cells = [cell.strip() for cell in header.split(delimiter)]
    return all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)
