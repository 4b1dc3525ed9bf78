"""From raw files to numbers: what `sdstrack score` does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ckd_core.data.box_files import LAYOUTS, Layout
from ckd_core.data.datasets import open_dataset
from ckd_core.data.sequences import SequenceError
from ckd_core.evaluation.scoring.annotations import find_truth, read_truths
from ckd_core.evaluation.scoring.archives import ResultsError, stem_of
from ckd_core.evaluation.scoring.attributes import read_attributes
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import BenchmarkScore, score_benchmark
from ckd_core.files import write_json
from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ckd_core.data.datasets import Dataset
    from ckd_core.evaluation.scoring.attributes import Attributes
    from ckd_core.evaluation.scoring.rules import BenchmarkRule
    from ckd_core.evaluation.scoring.score import GroundTruth

MISSING = ("error", "skip", "zero")


def score_files(
    results: Sequence[Path],
    benchmark: str,
    truth: Path | None = None,
    attributes: Path | None = None,
    layout: str | None = None,
    missing: str = "error",
    echo: Callable[[str], object] = lambda _: None,
) -> list[BenchmarkScore]:
    """Score several trackers' raw files.

    A tracker has the name of its folder or archive; equal names get that of their parent folder as a prefix.

    Args:
        results: Folders or archives, one per tracker.
        benchmark: Name of the rule.
        truth: Annotations; None: `groundtruth` beside the first results.
        attributes: Challenge attributes, see `read_attributes`.
        layout: Meaning of four or eight numbers, as in `sdstrack score --help`.
        missing: Sequences without results, as in `sdstrack score --help`.
        echo: Receives one line per finding.

    Raises:
        ResultsError: Files that cannot be read, or an unknown layout.
        ScoreError: Results that the benchmark's rule does not allow.
    """
    rule = get_rule(benchmark)
    if layout is not None and layout not in LAYOUTS:
        raise ResultsError(f"unknown layout {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if missing not in MISSING:
        raise ResultsError(f"missing={missing!r}; expected one of {', '.join(MISSING)}")
    absent = next((path for path in results if not path.exists()), None)
    if absent:
        raise ResultsError(f"no file or folder {absent}; expected results, one per tracker")
    labels = _labels(results)
    place = truth or find_truth(results[0])
    truths = read_truths(place, rule, attributes)
    if attributes is not None:
        _check_attributes(read_attributes(attributes, rule), {item.name for item in truths}, attributes, echo)
    unsized: tuple[str, ...] = ()
    if rule.long_term:
        truths, unsized = _with_sizes(truths, place, rule)
    frames = sum(len(item.boxes) for item in truths)
    echo(f"{rule.title}: {len(truths)} sequences, {frames} frames; {rule.source}")
    scores = []
    names, form = [t.name for t in truths], cast("Layout | None", layout)
    for path, label in zip(results, labels, strict=True):
        result_set = read_results(path, names, form, label, rounded=rule.round_results)
        echo(result_set.describe())
        choice = cast("Literal['error', 'skip', 'zero']", missing)
        score = score_benchmark(rule, truths, result_set.tracks, result_set.tracker, choice)
        score = replace(score, notes=(*unsized, *score.notes))
        for note in score.notes[:5]:
            echo(f"  note: {note}")
        if len(score.notes) > 5:
            echo(f"  and {len(score.notes) - 5} more notes (all in the JSON)")
        if score.missing:
            how = "left out" if missing == "skip" else "counted as zero"
            echo(f"  {len(score.missing)} sequences without results, {how}: {', '.join(score.missing[:5])}")
        scores.append(score)
    return scores


def _check_attributes(marks: Attributes, names: set[str], path: Path, echo: Callable[[str], object]) -> None:
    """Say which sequences have no flags, and which attributes have no sequences.

    Raises:
        ResultsError: The flags are of other sequences.
    """
    unmarked = sorted(names - set(marks.marks))
    if len(unmarked) == len(names):
        raise ResultsError(
            f"{path} marks {len(marks.marks)} sequences, none of which is among the {len(names)} of this benchmark; "
            f"expected names such as {unmarked[0]}"
        )
    if unmarked:
        echo(f"  {len(unmarked)} sequences have no attributes in {path}: {', '.join(unmarked[:5])}")
    unused = marks.unused(names)
    if unused:
        echo(f"  no sequence has the attribute {', '.join(unused)}")


def _with_sizes(
    truths: Sequence[GroundTruth], place: Path, rule: BenchmarkRule
) -> tuple[list[GroundTruth], tuple[str, ...]]:
    """The annotations with the sizes of their images where `place` is a dataset, and a note where it is not one."""
    try:
        dataset = open_dataset(rule.layout.name, place, cut=True)
    except SequenceError:  # annotations without images, the usual case
        dataset = None
    sized = [replace(item, size=_image_size(item.name, dataset)) for item in truths]
    unknown = sum(item.size is None for item in sized)
    note = (
        f"boxes that leave the image are not cut at its border in {unknown} of {len(truths)} sequences, unlike in "
        f"{rule.title}'s toolkit and in `sdstrack benchmark`: --truth has no images of them, give the dataset's folder"
    )
    return sized, (note,) if unknown else ()


def _image_size(name: str, dataset: Dataset | None) -> tuple[int, int] | None:
    """(width, height) of a sequence's images; None where the dataset does not have them."""
    try:
        return None if dataset is None else dataset.image_size(name)
    except SequenceError:
        return None


def _labels(results: Sequence[Path]) -> list[str]:
    """A unique name for every tracker.

    Raises:
        ResultsError: Two have the same name.
    """
    stems = [stem_of(path.absolute()) for path in results]
    labels = [
        stem if stems.count(stem) == 1 else f"{path.absolute().parent.name}/{stem}"
        for path, stem in zip(results, stems, strict=True)
    ]
    label, count = Counter(labels).most_common(1)[0]
    if count > 1:
        same = [str(path) for path, name in zip(results, labels, strict=True) if name == label]
        raise ResultsError(f"{' and '.join(same)} would both be called {label}; give each tracker a name of its own")
    return labels


def print_scores(scores: Sequence[BenchmarkScore], split: str | None = None) -> None:
    """Print a table with one row per tracker; `split` is that of the dataset, where it is known."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    names = list(dict.fromkeys(name for score in scores for name in score.metrics))
    table = Table("tracker", *names, "sequences", title=f"{get_rule(scores[0].benchmark).title} {split or ''}".strip())
    for score in scores:
        cells = [f"{score.metrics[name]:.4f}" if name in score.metrics else "" for name in names]
        table.add_row(escape(shown(score.tracker)), *cells, str(len(score.sequences)))
    Console().print(table)


def score_to_json(score: BenchmarkScore) -> dict[str, object]:
    """All numbers of one tracker as plain JSON values, without the errors per frame."""
    rule = get_rule(score.benchmark)
    document: dict[str, object] = {
        "benchmark": score.benchmark,
        "rule": rule.source,
        "metrics": score.metrics,
        "curves": {
            "precision": {"x": rule.thresholds.tolist(), "y": np.round(score.precision_curve, 6).tolist()},
            "normalized": {
                "x": rule.normalized_thresholds.tolist(),
                "y": np.round(score.normalized_curve, 6).tolist(),
            },
            "success": {"x": rule.success_thresholds.tolist(), "y": np.round(score.success_curve, 6).tolist()},
        },
        "per_attribute": score.per_attribute,
        "sequences": {
            item.name: {"frames": item.frames, "attributes": list(item.attributes), **item.metrics}
            for item in score.sequences
        },
        "missing": list(score.missing),
        "notes": list(score.notes),
    }
    return document


def write_scores(scores: Sequence[BenchmarkScore], path: Path) -> None:
    """Write all trackers' numbers as JSON, atomically."""
    write_json(path, {"trackers": {score.tracker: score_to_json(score) for score in scores}})
