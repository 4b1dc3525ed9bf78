"""A report's files: one page for people, and the same numbers as JSON and CSV."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.evaluation.report.page import render_page
from ckd_core.evaluation.report.rows import attribute_rows, curve_rows, percentiles, sequence_rows, to_csv
from ckd_core.evaluation.report.runs import ReportError, ReportRun
from ckd_core.evaluation.scoring.score_files import score_to_json
from ckd_core.files import discard, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckd_core.evaluation.report.page import Section
    from ckd_core.evaluation.scoring.score import BenchmarkScore

REPORT_FILES = ("report.html", "report.json", "sequences.csv", "curves.csv", "attributes.csv")


def write_report(
    out: Path,
    scores: Sequence[BenchmarkScore],
    runs: Sequence[ReportRun] = (),
    title: str = "Tracking evaluation",
    subtitle: str | None = None,
    first: Sequence[Section] = (),
) -> Path:
    """Write `report.html`, `report.json`, `sequences.csv`, `curves.csv` and `attributes.csv` into a folder.

    Args:
        out: The folder.
        scores: One per tracker, all of one benchmark; may be empty when `runs` have no ground truth.
        runs: What runs add to the numbers.
        title: Heading of the page.
        subtitle: One line below the title; None: what was scored, and by which rule.
        first: Parts of the page before all others.

    Returns:
        Path of the page.

    Raises:
        ReportError: Nothing to report, scores of several benchmarks, or two of one name.

    """
    if not scores and not runs:
        raise ReportError("nothing to report: no scores and no runs; expected at least one")
    benchmarks = sorted({score.benchmark for score in scores})
    if len(benchmarks) > 1:
        raise ReportError(f"these are of {', '.join(benchmarks)}; expected one benchmark per page")
    labels = [score.tracker for score in scores]
    if len(set(labels)) < len(labels):
        raise ReportError(f"two evaluations have the same name: {', '.join(labels)}; rename one")
    document = {
        "title": title,
        "trackers": {score.tracker: score_to_json(score) for score in scores},
        "runs": {run.label: _run_to_json(run) for run in runs},
    }
    discard(out / name for name in REPORT_FILES)
    write_json(out / "report.json", document)
    files = {"sequences": sequence_rows(scores), "curves": curve_rows(scores), "attributes": attribute_rows(scores)}
    for name, rows in files.items():
        if len(rows) > 1:
            write_text(out / f"{name}.csv", to_csv(rows))
    path = out / "report.html"
    write_text(path, render_page(scores, runs, title, subtitle, first))
    return path


def _run_to_json(run: ReportRun) -> dict[str, Any]:
    return {
        "latency_ms": percentiles(run.latency_ms()),
        "sequences": {
            timeline.record.name: {
                "states": {state: timeline.record.states.count(state) for state in sorted(set(timeline.record.states))},
                "frames_with_colour": int(timeline.record.presence[:, 0].sum()),
                "frames_with_auxiliary": int(timeline.record.presence[:, 1].sum()),
                "mean_score": float(np.mean(timeline.record.scores)),
            }
            for timeline in run.timelines
        },
        "worst_moments": [
            {"sequence": moment.sequence, "frame": moment.frame, "overlap": moment.overlap, "score": moment.score}
            for moment in run.moments
        ],
        "boxes": [asdict(row) for row in run.boxes],
        "states": [asdict(row) for row in run.states],
        "provenance": run.provenance,
    }
