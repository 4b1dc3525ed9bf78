"""Raw result files of trackers, from a folder or an archive, in any common format.

One text file per sequence: `SEQUENCE.txt` or `PREFIX_SEQUENCE.txt`, with four numbers per row (x, y, w, h), five (and a
confidence) or eight (corner points). VOT files (`SEQUENCE_001.txt` or `.bin`, whose first row is the code 1, and
`SEQUENCE_001_confidence.value`) are read too. The detected format is kept in words, to be shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.box_files import BoxFileError, BoxTable, parse_table, to_xywh
from ckd_core.evaluation.running.manifest import MANIFEST
from ckd_core.evaluation.scoring.archives import ResultsError, read_binaries, read_texts, stem_of
from ckd_core.evaluation.scoring.score import Track
from ckd_core.evaluation.scoring.vot_files import trajectory_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from ckd_core.data.box_files import Layout


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


def _is_named_after(names: Iterable[str]) -> Callable[[PurePosixPath], bool]:
    """Whether a file may belong to one of these sequences: `[PREFIX_]NAME[_001][_confidence]`."""
    known = frozenset(names)

    def named(path: PurePosixPath) -> bool:
        stem = path.stem.removesuffix("_confidence")
        ends = {stem, stem.removesuffix("_001")}
        return any(end[at:] in known for end in ends for at in range(len(end)) if at == 0 or end[at - 1] == "_")

    return named


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
    wanted = list(names)
    named = _is_named_after(wanted)
    texts = read_texts(path, named)
    for file, data in read_binaries(path, named).items():
        if file.with_suffix(".txt") not in texts:  # the toolkit reads its text first, too
            texts[file.with_suffix(".txt")] = trajectory_text(data, f"{path}: {file}")
    picked, prefix = _pick_files(texts, wanted, path)
    if not picked:
        raise ResultsError(f"no text file in {path} is named after a sequence; expected names such as {wanted[0]}.txt")
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
