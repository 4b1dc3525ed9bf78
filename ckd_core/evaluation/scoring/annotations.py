"""Annotations of benchmarks, from a folder or an archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.box_files import BoxFileError, parse_table, to_xywh
from ckd_core.data.datasets import distinct_names
from ckd_core.data.layouts import DatasetError
from ckd_core.evaluation.scoring.archives import ARCHIVES, ResultsError, read_texts
from ckd_core.evaluation.scoring.attributes import read_attributes
from ckd_core.evaluation.scoring.score import GroundTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.evaluation.scoring.rules import BenchmarkRule


TOOLKIT_TRUTH, TOOLKIT_ABSENT = "gt_rect", "absent"  # folders of one file per sequence (LaSOT's and VisEvent's toolkit)


@dataclass(slots=True)
class _TruthFiles:
    main: str | None = None
    aux: str | None = None
    rank: int = 99
    extra: dict[str, str] = field(default_factory=dict)


def _collect(texts: dict[PurePosixPath, str], rule: BenchmarkRule) -> dict[str, _TruthFiles]:
    """Annotation files by the name of their sequence, as `distinct_names` gives it."""
    files: dict[PurePosixPath, _TruthFiles] = {}
    for file, text in texts.items():
        if file.name in rule.layout.truth:
            entry = files.setdefault(file.parent, _TruthFiles())
            rank = rule.layout.truth.index(file.name)
            if rank < entry.rank:
                entry.main, entry.rank = text, rank
        elif file.name in rule.layout.aux_truth:
            files.setdefault(file.parent, _TruthFiles()).aux = text
        elif file.name == rule.layout.absent_file:
            files.setdefault(file.parent, _TruthFiles()).extra[file.name] = text
        elif file.suffix == ".txt" and file.parent.name == TOOLKIT_TRUTH:
            files.setdefault(PurePosixPath(file.stem), _TruthFiles()).main = text
        elif file.suffix == ".txt" and file.parent.name == TOOLKIT_ABSENT:
            files.setdefault(PurePosixPath(file.stem), _TruthFiles()).extra[TOOLKIT_ABSENT] = text
    try:
        return dict(zip(distinct_names(files), files.values(), strict=True))
    except DatasetError as error:
        raise ResultsError(str(error)) from error


def read_truths(path: Path | str, rule: BenchmarkRule, attributes: Path | None = None) -> list[GroundTruth]:
    """Read a benchmark's annotations, sorted by sequence name.

    Args:
        path: Folder or archive with `SEQUENCE.txt`, with folders SEQUENCE that hold the benchmark's own files, or a
            toolkit's `annos` (`gt_rect/SEQUENCE.txt`, and `absent/SEQUENCE.txt` where 1 means absent); or the folder
            of a single sequence.
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
    alone = files.pop("", None)
    if alone is not None:  # the folder is itself a sequence: named as a benchmark of it names its results
        files[path.resolve().name if path.is_dir() else path.stem] = alone
    if not any(entry.main for entry in files.values()):
        files = {file.stem: _TruthFiles(main=text) for file, text in texts.items() if file.suffix == ".txt"}
    marks = read_attributes(attributes, rule).marks if attributes else {}
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
    texts = {file: (folder / file).read_text(encoding="utf-8") for file in known if file and (folder / file).is_file()}
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
        for file, text in files.extra.items():
            flags = parse_table(text, f"{source}: {name}/{file}").values[:, 0]
            if len(flags) < len(boxes):
                raise ResultsError(
                    f"{source}: {name}: {len(flags)} absence flags for {len(boxes)} boxes; expected one per box"
                )
            flags = flags[: len(boxes)]  # surplus flags are ignored
            visible = flags != 1 if file == TOOLKIT_ABSENT else flags == rule.layout.present_flag
            boxes = np.where(visible[:, None], boxes, np.nan)
    except BoxFileError as error:
        raise ResultsError(str(error)) from error
    return GroundTruth(name, boxes, aux, None, attributes, flagged=bool(files.extra))


def find_truth(results: Path) -> Path:
    """Find annotations beside raw results: `groundtruth/` or an archive of that name.

    Raises:
        ResultsError: There are none.
    """
    for parent in (results.parent, results if results.is_dir() else results.parent.parent):
        for suffix in ("", *ARCHIVES):
            candidate = parent / f"groundtruth{suffix}"
            if candidate.exists():
                return candidate
    raise ResultsError(
        f"no annotations beside {results}: name the dataset's folder, or a folder or archive of annotation files, "
        "with --truth"
    )
