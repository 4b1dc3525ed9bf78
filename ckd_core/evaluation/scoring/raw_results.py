"""Raw result files and annotations of benchmarks, from a folder or an archive, in any common format.

One text file per sequence: `SEQUENCE.txt` or `PREFIX_SEQUENCE.txt`, with four numbers per row (x, y, w, h), five (and a
confidence) or eight (corner points). VOT files (`SEQUENCE_001.txt` whose first row is the code 1, and
`SEQUENCE_001_confidence.value`) are read too. The detected format is kept in words, to be shown.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.box_files import BoxFileError, BoxTable, parse_table, to_xywh
from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.manifest import MANIFEST
from ckd_core.evaluation.scoring.score import GroundTruth, Track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ckd_core.data.box_files import Layout
    from ckd_core.evaluation.scoring.rules import BenchmarkRule

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
_TEXT = (".txt", ".value", ".csv")
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MAX_TEXT_BYTES = 1 << 26  # 64 MiB: a million boxes; an archive that unpacks to more does not hold results
LASHER_ATTRIBUTES = (
    "NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF", "BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC",
)  # fmt: skip


class ResultsError(TrackingError):
    """Raw results or annotations that cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class ResultSet:
    """One tracker's raw results.

    Attributes:
        tracker: Its name.
        tracks: By sequence name.
        formats: Description of a format -> number of files in it.
        prefix: What all file names start with.
    """

    tracker: str
    tracks: dict[str, Track]
    formats: Counter[str]
    prefix: str = ""

    def describe(self) -> str:
        """Say what was read, e.g. 'APFNet: 245 files comma delimited, xywh, integers'."""
        formats = "; ".join(f"{count} files {text}" for text, count in self.formats.most_common())
        return f"{self.tracker}: {formats}" + (f"; file names start with {self.prefix!r}" if self.prefix else "")


def is_archive(path: Path) -> bool:
    """Whether `read_texts` opens a file of this name as an archive."""
    return path.name.lower().endswith(_ARCHIVES)


def stem_of(path: Path) -> str:
    """Name of a folder or archive without the archive's suffix."""
    for suffix in _ARCHIVES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def read_texts(path: Path) -> dict[PurePosixPath, str]:
    """All text files below a folder or inside an archive, by relative path.

    Raises:
        ResultsError: The folder or archive cannot be read, or a file in it is not text.
    """
    try:
        return {name: data.decode("utf-8-sig") for name, data in _members(path)}
    except UnicodeDecodeError as error:
        raise ResultsError(f"a file in {path} is not text: {error}") from error
    except (OSError, EOFError, ValueError, RuntimeError, tarfile.TarError, *_DAMAGED) as error:
        # RuntimeError: members that are encrypted, or compressed in a way that Python does not know.
        raise ResultsError(f"cannot read {path}: {error}") from error


def _members(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in _TEXT and file.is_file():
                yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(_TEXT):
                    _check_size(path, name, archive.getinfo(name).file_size)
                    yield PurePosixPath(name), archive.read(name)
    elif path.is_file() and is_archive(path):
        with tarfile.open(path) as bundle:
            for member in bundle:
                stream = bundle.extractfile(member) if member.isfile() and member.name.endswith(_TEXT) else None
                if stream is not None:
                    _check_size(path, member.name, member.size)
                    yield PurePosixPath(member.name), stream.read()
    else:
        raise ResultsError(f"{path} is neither a folder nor one of {', '.join(_ARCHIVES)}")


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_TEXT_BYTES:
        raise ResultsError(f"{name} in {path} unpacks to {size} bytes; a box file has at most {MAX_TEXT_BYTES}")


def _pick_files(texts: dict[PurePosixPath, str], names: Iterable[str], source: Path) -> tuple[dict[str, str], str]:
    """Text of every sequence's file, and the prefix that all file names share."""
    by_stem: dict[str, list[PurePosixPath]] = {}
    for path in texts:
        if path.suffix != ".value" and not path.stem.endswith(("_time", "_confidence", "_time_value")):
            by_stem.setdefault(path.stem, []).append(path)
    wanted = list(names)
    known = {stem[: -len(name)] for name in wanted[:20] for stem in by_stem if stem.endswith("_" + name)}
    prefixes = ["", *sorted(known)]
    suffixes = ("", "_001")
    best: tuple[str, str] = max(
        ((prefix, suffix) for prefix in prefixes for suffix in suffixes),
        key=lambda pair: sum(f"{pair[0]}{name}{pair[1]}" in by_stem for name in wanted),
    )
    picked = {}
    for name in wanted:
        paths = by_stem.get(f"{best[0]}{name}{best[1]}", [])
        if len(paths) > 1:
            raise ResultsError(f"{source} has {len(paths)} files for sequence {name}: {paths[0]}, {paths[1]}; keep one")
        if paths:
            picked[name] = texts[paths[0]]
    return picked, best[0]


def _parse_vot(text: str, source: str) -> tuple[BoxTable, str] | None:
    """A VOT result: rows of one number are codes (1 = initialised, 2 = failed, 0 = not computed)."""
    lines = text.split("\n", 1)
    if lines[0].strip() not in {"1", "1.0", "1.000000"} or len(lines) < 2:
        return None
    body = [("nan" if row.strip() in {"0", "1", "2"} else row) for row in lines[1].splitlines()]
    if not body:
        return None
    table = parse_table("\n".join(body), source)
    first = np.full((1, table.columns), np.nan)
    return replace(table, values=np.concatenate([first, table.values])), "VOT codes"


def read_results(
    path: Path | str,
    names: Iterable[str],
    layout: Layout | None = None,
    tracker: str | None = None,
    rounded: bool = False,
) -> ResultSet:
    """Read one tracker's results.

    Args:
        path: Folder or archive, or the folder of a run of `sdstrack benchmark`.
        names: The benchmark's sequences; files of others are not read.
        layout: Meaning of four or eight numbers; None: four are xywh, eight are corner points.
        tracker: Its name; None: that of the folder or archive.
        rounded: Round the numbers in the file, corner points before they become boxes (`round_results`).

    Raises:
        ResultsError: No file of a sequence, two files for one, or a file that cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ResultsError(f"no file or folder {path}; expected the results of one tracker")
    label = stem_of(path)
    if (path / MANIFEST).is_file():
        path = path / "results"
    texts = read_texts(path)
    wanted = list(names)
    picked, prefix = _pick_files(texts, wanted, path)
    if not picked:
        raise ResultsError(
            f"{path} has {len(texts)} text files, but none is named after a sequence, such as {wanted[0]}.txt"
        )
    values = {file.name: text for file, text in texts.items() if file.name.endswith("_confidence.value")}
    tracks, formats = {}, Counter[str]()
    for name, text in picked.items():
        source, scores = f"{path}: {prefix}{name}", values.get(f"{prefix}{name}_001_confidence.value")
        tracks[name], description = _track(name, text, layout, source, scores, rounded)
        formats[description] += 1
    return ResultSet(tracker or label, tracks, formats, prefix)


def _track(
    name: str, text: str, layout: Layout | None, source: str, confidence: str | None, rounded: bool
) -> tuple[Track, str]:
    try:
        vot = _parse_vot(text, source)
        table, extra = vot or (parse_table(text, source), "")
        values, scores = table.values, None
        if table.columns == 5:
            values, scores, extra = values[:, :4], values[:, 4], "fifth number = confidence"
        if confidence is not None:
            scores = _confidence_values(confidence, len(values), source)
        boxes = to_xywh(np.round(values) if rounded else values, layout, source)
    except BoxFileError as error:
        raise ResultsError(str(error)) from error
    meaning = {4: layout or "xywh", 8: "corner points"}[values.shape[1]]
    words = [f"{table.delimiter} delimited", meaning, "integers" if table.integers else "decimals", extra]
    return Track(name, boxes, scores), ", ".join(word for word in words if word)


def _confidence_values(text: str, count: int, source: str) -> NDArray[np.float64]:
    """Confidences [count] of a VOT `.value` file; its first row, of the frame with the given box, may be empty."""
    rows = text.splitlines()
    try:
        values = np.array([float(row) if row.strip() else np.nan for row in rows], dtype=np.float64)
    except ValueError as error:
        raise ResultsError(f"{source}: its _confidence.value does not hold one number per line: {error}") from error
    if len(values) != count:
        raise ResultsError(f"{source}: {len(values)} confidences for {count} boxes; must be equal")
    return values


@dataclass(slots=True)
class _TruthFiles:
    main: str | None = None
    aux: str | None = None
    rank: int = 99
    extra: dict[str, str] = field(default_factory=dict)


def _collect(texts: dict[PurePosixPath, str], rule: BenchmarkRule) -> dict[str, _TruthFiles]:
    """Annotation files by the name of their folder."""
    files: dict[str, _TruthFiles] = {}
    for file, text in texts.items():
        if file.name in rule.layout.truth:
            entry = files.setdefault(file.parent.name, _TruthFiles())
            rank = rule.layout.truth.index(file.name)
            if rank < entry.rank:
                entry.main, entry.rank = text, rank
        elif file.name in rule.layout.aux_truth:
            files.setdefault(file.parent.name, _TruthFiles()).aux = text
        elif file.name == rule.layout.absent_file:
            files.setdefault(file.parent.name, _TruthFiles()).extra["absent"] = text
    return files


def read_truths(path: Path | str, rule: BenchmarkRule, attributes: Path | None = None) -> list[GroundTruth]:
    """Read a benchmark's annotations, sorted by sequence name.

    Args:
        path: Folder or archive with `SEQUENCE.txt`, or with folders SEQUENCE that hold the benchmark's own files.
        rule: The benchmark's protocol.
        attributes: See `read_attributes`.

    Raises:
        ResultsError: There are no annotations, or they cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ResultsError(f"no file or folder {path}; expected annotations")
    texts = read_texts(path)
    files = _collect(texts, rule)
    if not any(entry.main for entry in files.values()):
        files = {file.stem: _TruthFiles(main=text) for file, text in texts.items() if file.suffix == ".txt"}
    marks = read_attributes(attributes) if attributes else {}
    truths = [
        _truth(name, entry, rule, str(path), marks.get(name, ())) for name, entry in sorted(files.items()) if entry.main
    ]
    if not truths:
        expected = f"SEQUENCE.txt files, or SEQUENCE/{rule.layout.truth[0]}"
        raise ResultsError(f"{path} has no annotations of {rule.title}: expected {expected}")
    return truths


def read_sequence_truth(folder: Path, name: str, rule: BenchmarkRule, frames: int | None = None) -> GroundTruth:
    """Read the annotation of one sequence folder as the benchmark's own numbers.

    A dataset's reader differs: it replaces absences by nan.

    Args:
        folder: The sequence.
        name: Its name.
        rule: The benchmark's protocol.
        frames: How many the opened sequence has; further rows are ignored (`Dataset.cut`). None: all rows count.

    Raises:
        ResultsError: There is no annotation, or it cannot be read.
    """
    known = (*rule.layout.truth, *rule.layout.aux_truth, rule.layout.absent_file or "")
    texts = {file: (folder / file).read_text() for file in known if file and (folder / file).is_file()}
    files = _collect({PurePosixPath(name) / file: text for file, text in texts.items()}, rule)
    if name not in files or not files[name].main:
        raise ResultsError(f"{folder} has no {' or '.join(rule.layout.truth)}")
    return _truth(name, files[name], rule, str(folder), (), frames)


def _truth(
    name: str,
    files: _TruthFiles,
    rule: BenchmarkRule,
    source: str,
    attributes: tuple[str, ...],
    frames: int | None = None,
) -> GroundTruth:
    def boxes_of(text: str) -> NDArray[np.float64]:
        table = parse_table(text, f"{source}: {name}")
        layout = rule.layout.boxes if table.columns == 4 else None
        return to_xywh(table.values, layout, f"{source}: {name}")[:frames]

    try:
        boxes = boxes_of(files.main or "")
        aux = boxes_of(files.aux) if files.aux else None
        if "absent" in files.extra:
            flags = parse_table(files.extra["absent"], f"{source}: {name}/{rule.layout.absent_file}").values[:, 0]
            if len(flags) < len(boxes):
                raise ResultsError(
                    f"{source}: {name}: {len(flags)} absence flags for {len(boxes)} boxes; expected one per box"
                )
            visible = flags[: len(boxes)] == rule.layout.present_flag  # surplus flags are ignored
            boxes = np.where(visible[:, None], boxes, np.nan)
    except BoxFileError as error:
        raise ResultsError(str(error)) from error
    return GroundTruth(name, boxes, aux, None, attributes)


def read_attributes(path: Path) -> dict[str, tuple[str, ...]]:
    """Read challenge attributes by sequence name.

    Args:
        path: Folder or archive in LasHeR's form (`SEQUENCE.txt`, one row of 19 zeros and ones) or RGBT234's form
            (`ATTRIBUTE.txt`, one zero or one per sequence, in the order of `SequencesName.txt`).

    Raises:
        ResultsError: Files that cannot be read, or are in neither form.
    """
    texts = {file.name: text for file, text in read_texts(path).items()}
    names = texts.pop("SequencesName.txt", "").split()
    attributes: dict[str, list[str]] = {}
    try:
        for file, text in sorted(texts.items()):
            flags = parse_table(text, f"{path}: {file}").values.ravel() > 0
            stem = PurePosixPath(file).stem
            if names and len(flags) == len(names):
                for name in np.array(names)[flags]:
                    attributes.setdefault(str(name), []).append(stem)
            elif len(flags) == len(LASHER_ATTRIBUTES):
                attributes[stem] = [mark for mark, flag in zip(LASHER_ATTRIBUTES, flags, strict=True) if flag]
            else:
                raise ResultsError(
                    f"{path}: {file} has {len(flags)} flags; expected {len(LASHER_ATTRIBUTES)} (LasHeR), or one for "
                    f"each of the {len(names)} lines of SequencesName.txt"
                )
    except BoxFileError as error:
        raise ResultsError(str(error)) from error
    return {name: tuple(marks) for name, marks in attributes.items()}


def find_truth(results: Path) -> Path:
    """Find annotations beside raw results: `groundtruth/` or an archive of that name.

    Raises:
        ResultsError: There are none.
    """
    for parent in (results.parent, results if results.is_dir() else results.parent.parent):
        for suffix in ("", *_ARCHIVES):
            candidate = parent / f"groundtruth{suffix}"
            if candidate.exists():
                return candidate
    raise ResultsError(
        f"no annotations beside {results}: name the dataset's folder, or a folder or archive of annotation files, "
        "with --truth"
    )
