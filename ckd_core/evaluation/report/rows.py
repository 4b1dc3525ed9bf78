"""The numbers of a report as plain rows, for the page and for the CSV files alike."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.text import csv_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.evaluation.scoring.score import BenchmarkScore


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Median, 90th and 99th percentile and maximum; empty without values."""
    if not len(values):
        return {}
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 90, 99)} | {
        "max": round(float(values.max()), 3)
    }


def metric_names(scores: Sequence[BenchmarkScore]) -> list[str]:
    """Names of the numbers that every sequence has."""
    return list(dict.fromkeys(name for score in scores for item in score.sequences for name in item.metrics))


def sequence_rows(scores: Sequence[BenchmarkScore]) -> list[list[Any]]:
    """A header and one row per sequence: name, frames, then every metric of every tracker."""
    names = metric_names(scores)
    header = [
        "sequence",
        "frames",
        *(f"{score.tracker} {name}" if len(scores) > 1 else name for score in scores for name in names),
    ]
    by_name = [{item.name: item for item in score.sequences} for score in scores]
    rows: list[list[Any]] = [header]
    for sequence in dict.fromkeys(name for table in by_name for name in table):
        scored = [table.get(sequence) for table in by_name]
        frames = next(item.frames for item in scored if item)
        rows.append([sequence, frames, *(item.metrics[name] if item else None for item in scored for name in names)])
    return rows


def attribute_rows(scores: Sequence[BenchmarkScore]) -> list[list[Any]]:
    """A header and one row per challenge attribute: number of sequences, then the metrics over them."""
    names = metric_names(scores)
    header = [
        "attribute",
        "sequences",
        *(f"{score.tracker} {name}" if len(scores) > 1 else name for name in names for score in scores),
    ]
    rows: list[list[Any]] = [header]
    for attribute in sorted({name for score in scores for name in score.per_attribute}):
        count = max(sum(attribute in item.attributes for item in score.sequences) for score in scores)
        cells = [score.per_attribute.get(attribute, {}).get(name) for name in names for score in scores]
        rows.append([attribute, count, *cells])
    return rows


def curve_rows(scores: Sequence[BenchmarkScore]) -> list[list[Any]]:
    """A header and one row per threshold of every curve."""
    rows: list[list[Any]] = [["curve", "threshold", *(score.tracker for score in scores)]]
    for kind, xs, ys in curves(scores):
        rows += [[kind, round(float(x), 4), *(float(y[i]) for y in ys)] for i, x in enumerate(xs)]
    return rows


def curves(scores: Sequence[BenchmarkScore]) -> list[tuple[str, NDArray[np.float64], list[NDArray[np.float64]]]]:
    """Name, thresholds and each tracker's values of the three curves."""
    if not scores:
        return []
    rule = get_rule(scores[0].benchmark)
    return [
        ("success", rule.success_thresholds, [score.success_curve for score in scores]),
        ("precision", rule.thresholds, [score.precision_curve for score in scores]),
        ("normalized precision", rule.normalized_thresholds, [score.normalized_curve for score in scores]),
    ]


def to_csv(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV; None becomes an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        texts = [f"{cell:.6f}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row]
        writer.writerow([csv_cell(text) for text in texts])
    return stream.getvalue()
