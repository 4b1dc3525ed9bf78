"""Text files of boxes: one row per frame, four or eight numbers, any one delimiter.

Benchmarks and trackers disagree on delimiter, number format, line ends and corner order. The reader detects and reports
them, and refuses what it would have to guess.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import shown

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Layout = Literal["xywh", "corners", "polygon"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space"}


class BoxFileError(TrackingError):
    """A text file that does not hold one box per line."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """Content of a box file.

    Attributes:
        values: [N, C] float64, nan where the file says nan.
        delimiter: "comma", "semicolon", "tab", "space", or "none" for one column.
        integers: Whether every number is written without a decimal point.
    """

    values: NDArray[np.float64]
    delimiter: str
    integers: bool

    @property
    def columns(self) -> int:
        """Numbers per row."""
        return int(self.values.shape[1])

    def describe(self) -> str:
        """Describe the format in words, e.g. 'tab delimited, 4 integers per line, 120 lines'."""
        kind = "integers" if self.integers else "numbers"
        return f"{self.delimiter} delimited, {self.columns} {kind} per line, {len(self.values)} lines"


def _line_delimiter(line: str) -> str:
    """Find the delimiter of one line; spaces beside another delimiter do not count."""
    signs = [sign for sign in (",", ";", "\t") if sign in line]
    if len(signs) > 1:
        return "mixed"
    if signs:
        return signs[0]
    return " " if " " in line else ""


def parse_table(text: str, source: str) -> BoxTable:
    """Read a table of numbers.

    Blank lines are allowed at the end only. A lone `nan` in a wider table is a row of nan, and an empty field is nan.

    Args:
        text: The file's content.
        source: Its name, for messages.

    Raises:
        BoxFileError: There are no rows, mixed delimiters, words, or rows of different length.
    """
    text = text.lstrip("\ufeff")
    integers = not any(mark in text for mark in (".", "e", "E", "n", "N"))
    regular = _parse_regular(text)
    if regular is not None:
        return BoxTable(regular[0], _DELIMITERS.get(regular[1], "none"), integers)
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise BoxFileError(f"{source} is empty; expected one box per line")
    lines = [line.strip(" \r") for line in lines]
    sign = next(filter(None, map(_line_delimiter, lines)), "")
    if sign == "mixed":
        raise BoxFileError(
            f"{source} line 1 mixes delimiters: '{shown(lines[0])}'; use one of comma, tab, space, semicolon"
        )
    return BoxTable(_parse_rows(lines, sign, source), _DELIMITERS.get(sign, "none"), integers)


_NUMBER_BYTES = np.zeros(256, dtype=np.bool_)
_NUMBER_BYTES[list(b"0123456789+-.eE")] = True
_BLANK_BYTES = np.zeros(256, dtype=np.bool_)
_BLANK_BYTES[list(b" \r\n")] = True


def _parse_regular(text: str) -> tuple[NDArray[np.float64], str] | None:
    """Values and delimiter of a regular table, all in numpy; None for anything else.

    Regular: one delimiter, only finite numbers, the same count on every line. `_parse_rows` reads the rest, slowly.
    """
    text = text.rstrip()
    if not text or not text.isascii():
        return None
    signs = [sign for sign in (",", ";", "\t") if sign in text]
    if len(signs) > 1:
        return None
    sign = signs[0] if signs else " "
    data = np.frombuffer(f"\n{text}\n".encode(), dtype=np.uint8)
    delimiter, number = data == ord(sign), _NUMBER_BYTES[data]
    if not (number | delimiter | _BLANK_BYTES[data]).all():
        return None
    starts = np.flatnonzero(number[1:] & ~number[:-1]) + 1
    breaks = np.flatnonzero(data == ord("\n"))
    per_line = np.diff(np.searchsorted(starts, breaks))
    width = int(per_line[0])
    if width == 0 or (per_line != width).any():
        return None
    if signs and (np.diff(np.searchsorted(np.flatnonzero(delimiter), breaks)) != width - 1).any():
        return None
    if "." in text or "e" in text or "E" in text:
        values = _decimals(text.replace(sign, " "))
    else:
        values = _integers(data, starts, np.flatnonzero(number[:-1] & ~number[1:]) + 1)
    if values is None or values.size != len(starts):
        return None
    return values.reshape(-1, width), sign if width > 1 else ""


def _decimals(text: str) -> NDArray[np.float64] | None:
    """Numbers between blanks; None when one of them is not a number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy only warns when it stops at a word such as 1.2.3
            return np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None


def _integers(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Integers between `starts` and `ends` of ASCII `data`, one digit of all at a time; None for a stray sign."""
    first = data[starts]
    signed = (first == ord("-")) | (first == ord("+"))
    digits = ends - starts - signed
    if digits.min() < 1 or digits.max() > 15:
        return None
    values = np.zeros(len(starts), dtype=np.float64)
    for place in range(int(digits.max()), 0, -1):
        inside = digits >= place
        digit = data[ends[inside] - place].astype(np.float64) - ord("0")
        if digit.min() < 0:
            return None
        values[inside] = values[inside] * 10 + digit
    return np.where(first == ord("-"), -values, values)


def _parse_rows(lines: list[str], sign: str, source: str) -> NDArray[np.float64]:
    """Read row by row, for tables with gaps and for the message about a broken one."""
    rows: list[list[float] | None] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            raise BoxFileError(
                f"{source} line {number} is empty; every frame needs a line (nan where the object is absent)"
            )
        own_sign = _line_delimiter(line)
        if own_sign not in ("", sign):
            raise BoxFileError(
                f"{source} line {number} is {_DELIMITERS.get(own_sign, own_sign)} delimited, line 1 is "
                f"{_DELIMITERS[sign]} delimited; expected one delimiter"
            )
        fields = [field.strip() for field in line.split(sign)] if sign.strip() or sign == "\t" else line.split()
        if len(fields) == 1 and fields[0].lower() == "nan":
            rows.append(None)
            continue
        try:
            rows.append([float(field) if field else float("nan") for field in fields])
        except ValueError as error:
            raise BoxFileError(
                f"{source} line {number} is not numbers: {line[:60]!r}; expected e.g. 10,20,30,40"
            ) from error
    widths = {len(row) for row in rows if row is not None}
    if len(widths) > 1:
        width = len(next(row for row in rows if row is not None))
        number = next(i for i, row in enumerate(rows, start=1) if row is not None and len(row) != width)
        raise BoxFileError(
            f"{source} line {number} has {len(rows[number - 1] or [])} numbers, line 1 has {width}; "
            "expected as many in every line"
        )
    width = widths.pop() if widths else 4
    return np.array([[np.nan] * width if row is None else row for row in rows], dtype=np.float64)


def read_table(path: Path) -> BoxTable:
    """Read a table of numbers from a file; see `parse_table`.

    Raises:
        BoxFileError: The file cannot be read, or `parse_table` refuses it.
    """
    try:
        text = regular(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BoxFileError(f"no file {path}; expected a text file of boxes") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BoxFileError(f"cannot read {path} as text: {error}") from error
    return parse_table(text, str(path))


def to_xywh(
    values: NDArray[np.float64], layout: Layout | None = None, source: str = "box table", inclusive: bool = False
) -> NDArray[np.float64]:
    """Convert a table [N, C] to boxes [N, 4] xywh.

    Args:
        values: The table.
        layout: "xywh"; "corners" (left, top, right, bottom in any corner order: min and max are used); "polygon" (eight
            numbers: the enclosing rectangle). None: "xywh" for four columns, "polygon" for eight.
        source: Name of the table, for messages.
        inclusive: Whether the right and bottom corner belong to the box, so that width = right - left + 1.

    Raises:
        BoxFileError: The number of columns does not fit the layout.
    """
    columns = values.shape[1]
    chosen = layout or {4: "xywh", 8: "polygon"}.get(columns)
    fits = {"xywh": 4, "corners": 4, "polygon": 8}
    if chosen is None or fits.get(chosen) != columns:
        raise BoxFileError(f"{source} has {columns} numbers per line; expected 4 (xywh or corners) or 8 (polygon)")
    if chosen == "xywh":
        return values
    xs, ys = values[:, 0::2], values[:, 1::2]
    low = np.stack([xs.min(axis=1), ys.min(axis=1)], axis=1)
    high = np.stack([xs.max(axis=1), ys.max(axis=1)], axis=1)
    return np.concatenate([low, high - low + float(inclusive)], axis=1)
