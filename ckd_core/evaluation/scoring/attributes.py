"""Challenge attributes (fast, dark, occluded, ...) of sequences, in the forms in which benchmarks publish them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.box_files import BoxFileError, parse_table
from ckd_core.evaluation.scoring.archives import ResultsError, read_texts
from ckd_core.files import regular
from ckd_core.text import shown

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from numpy.typing import NDArray

    from ckd_core.evaluation.scoring.rules import BenchmarkRule

    Texts = dict[PurePosixPath, str]

# The order of the flags in one file per sequence, as the benchmarks' own toolkits have it.
FLAG_ORDER = {
    "lasher": (
        "NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF", "BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV",
        "ARC",
    ),
    "visevent": (
        "CM", "ROT", "DEF", "FOC", "LI", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "FM", "NMO", "IV", "OE", "BOM",
    ),
}  # fmt: skip
NAME_LIST = "SequencesName.txt"
NAME_COLUMNS = ("sequence", "SequencesName")  # of a table; the second is what VTUAV's AttrMat_*.mat calls it
FORMS = (
    f"SEQUENCE.txt with a row of flags (LasHeR: 19, VisEvent: 17), ATTRIBUTE.txt beside {NAME_LIST} (RGBT234, RGBT210, "
    "GTOT), SEQUENCE/ATTRIBUTE.tag with a flag per frame (DepthTrack), or one .csv: sequence,ATTRIBUTE,... (any)"
)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Challenge attributes of a benchmark.

    Attributes:
        names: All of them, in the benchmark's order; also those that no sequence has.
        marks: Those of each sequence, by its name.
    """

    names: tuple[str, ...]
    marks: dict[str, tuple[str, ...]]

    def unused(self, sequences: set[str]) -> tuple[str, ...]:
        """Attributes that none of these sequences has."""
        used = {mark for name, marks in self.marks.items() if name in sequences for mark in marks}
        return tuple(name for name in self.names if name not in used)


def read_attributes(path: Path, rule: BenchmarkRule) -> Attributes:
    """Read challenge attributes in any of `FORMS`.

    Raises:
        ResultsError: Files that cannot be read, are in none of the forms, or are another benchmark's.
    """
    if path.is_file() and path.suffix == ".csv":
        return _from_csv(regular(path).read_text(encoding="utf-8-sig"), path)
    texts = read_texts(path)
    tags = {file: text for file, text in texts.items() if file.suffix == ".tag"}
    try:
        if tags:
            return _from_tags(tags, path)
        lists = [file for file in texts if file.name == NAME_LIST]
        files = {file: text for file, text in texts.items() if file.suffix == ".txt" and file.name != NAME_LIST}
        if lists:
            return _from_attribute_files(files, texts[lists[0]].split(), path)
        if not files:
            raise ResultsError(f"{path} has no attributes: expected {FORMS}")
        return _from_sequence_files(files, rule, path)
    except BoxFileError as error:
        raise ResultsError(str(error)) from error


def _flags(text: str, source: str, expected: str) -> NDArray[np.bool_]:
    if not text.strip():
        raise ResultsError(f"{source} has no flags; expected {expected}")
    return np.asarray(parse_table(text, source).values.ravel() > 0)


def _from_sequence_files(files: Texts, rule: BenchmarkRule, path: Path) -> Attributes:
    """One row of flags per sequence, in the benchmark's order."""
    order = FLAG_ORDER.get(rule.name)
    if order is None:
        known = " and ".join(FLAG_ORDER)
        raise ResultsError(
            f"{path}: the order of flags in SEQUENCE.txt is known of {known}, not of {rule.title}; expected {FORMS}"
        )
    marks = {}
    for file, text in sorted(files.items()):
        flags = _flags(text, f"{path}: {file.name}", f"{len(order)} ({rule.title})")
        if len(flags) != len(order):
            owners = [name for name, names in FLAG_ORDER.items() if len(names) == len(flags)]
            hint = f", and this may be {owners[0]}'s" if owners else ""
            raise ResultsError(
                f"{path}: {file.name} has {len(flags)} flags; expected {len(order)} ({rule.title}){hint}, or one for "
                f"each line of a {NAME_LIST}"
            )
        name = file.stem.removesuffix("_attribute")
        marks[name] = tuple(mark for mark, flag in zip(order, flags, strict=True) if flag)
    return Attributes(order, marks)


def _from_attribute_files(files: Texts, names: list[str], path: Path) -> Attributes:
    """One file per attribute, one flag per sequence in the order of the list."""
    marks: dict[str, list[str]] = {name: [] for name in names}
    for file, text in sorted(files.items()):
        expected = f"one for each of the {len(names)} lines of {NAME_LIST}"
        flags = _flags(text, f"{path}: {file.name}", expected)
        if len(flags) != len(names):
            raise ResultsError(f"{path}: {file.name} has {len(flags)} flags; expected {expected}")
        for name in np.array(names)[flags]:
            marks[str(name)].append(file.stem)
    return Attributes(tuple(sorted(file.stem for file in files)), {name: tuple(own) for name, own in marks.items()})


def _from_tags(files: Texts, path: Path) -> Attributes:
    """VOT's form: one file per sequence and attribute, a flag per frame; one tagged frame is enough."""
    marks: dict[str, list[str]] = {}
    for file, text in sorted(files.items()):
        own = marks.setdefault(file.parent.name, [])
        own += [file.stem] if _flags(text, f"{path}: {file}", "one per frame").any() else []
    return Attributes(tuple(sorted({file.stem for file in files})), {name: tuple(own) for name, own in marks.items()})


def _from_csv(text: str, path: Path) -> Attributes:
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row] or [[]]
    named = [index for index, cell in enumerate(header) if cell in NAME_COLUMNS]
    if len(header) < 2 or len(named) != 1:
        raise ResultsError(f"{path} begins with {shown(','.join(header))!r}; expected a header sequence,ATTRIBUTE,...")
    order = header[: named[0]] + header[named[0] + 1 :]
    marks = {}
    for number, row in enumerate(rows, start=2):
        flags = row[: named[0]] + row[named[0] + 1 :]
        if len(row) != len(header) or not set(flags) <= {"0", "1"}:
            raise ResultsError(
                f"{path} line {number} is {shown(','.join(row))!r}; expected a name and {len(order)} flags, 0 or 1"
            )
        marks[row[named[0]]] = tuple(mark for mark, flag in zip(order, flags, strict=True) if flag == "1")
    return Attributes(tuple(order), marks)
