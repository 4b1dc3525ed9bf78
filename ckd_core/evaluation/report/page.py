"""The report as one HTML page, from `templates/report.html`: everything inline, nothing fetched."""

from __future__ import annotations

import base64
import json
from dataclasses import astuple, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

import ckd_core
from ckd_core.evaluation.report import charts
from ckd_core.evaluation.report.rows import attribute_rows, curves, percentiles, sequence_rows
from ckd_core.evaluation.scoring.rules import get_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckd_core.evaluation.report.runs import Moment, ReportRun, Timeline
    from ckd_core.evaluation.scoring.score import BenchmarkScore

MAX_TIMELINES = 60
MAX_NOTES = 10  # per tracker
BOXES_NOTE = (
    "Success AUC of the track, with the annotated sizes around its own centres, and with its own sizes around the "
    "annotated centres; medians of reported / annotated width and height. The frame of the initial box does not count."
)
STATES_NOTE = (
    "False tracking: share of TRACKING frames with an overlap below 0.1. Shyness: share of the frames in view that are "
    "not TRACKING with an overlap above 0.5. Searches: from a lost box, or a target's return, to TRACKING with an "
    "overlap above 0.5. Each rule is in docs/evaluation.md."
)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    Attributes:
        heading: Its title, also in the navigation.
        block: Name of the template's macro that shows it.
        data: What the macro takes.

    """

    heading: str
    block: str
    data: dict[str, Any]


def noted_table(heading: str, note: str, rows: Sequence[Any]) -> Section:
    """A table of dataclasses of one kind, one column per field, below a note on them."""
    header = [field.name.replace("_", " ") for field in fields(rows[0])]
    data = {"note": note, "id": heading.lower(), "header": header, "rows": [astuple(row) for row in rows]}
    return Section(heading, "noted", data)


def format_number(value: float | None) -> str:
    """A number for a table cell."""
    if value is None or value != value:
        return "n/a"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ckd_core.evaluation.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = format_number
    return environment.get_template("report.html")


def render_page(
    scores: Sequence[BenchmarkScore],
    runs: Sequence[ReportRun],
    title: str,
    subtitle: str | None,
    first: Sequence[Section] = (),
) -> str:
    """The whole document.

    Args:
        scores: One per tracker; may be empty.
        runs: What runs add to the numbers.
        title: Heading of the page.
        subtitle: Line below it; None: what was scored, and by which rule.
        first: Parts before all others.

    """
    return _template().render(
        title=title,
        subtitle=_scored_by(scores) if subtitle is None else subtitle,
        sections=[*first, *_score_sections(scores), *_run_sections(runs)],
        footer=f"sdstrack {ckd_core.__version__}; the numbers are in report.json.",
    )


def _scored_by(scores: Sequence[BenchmarkScore]) -> str:
    if not scores:
        return "No ground truth, so nothing is scored."
    rule = get_rule(scores[0].benchmark)
    frames, count = sum(item.frames for item in scores[0].sequences), len(scores[0].sequences)
    return f"{rule.title}: {count} sequence{'s' * (count != 1)}, {frames} scored frames. Rule: {rule.source}."


def _score_sections(scores: Sequence[BenchmarkScore]) -> Iterator[Section]:
    if not scores:
        return
    names = list(dict.fromkeys(name for score in scores for name in score.metrics))
    summary = [
        [score.tracker, *(score.metrics.get(name) for name in names), len(score.sequences), len(score.missing)]
        for score in scores
    ]
    notes = [f"{score.tracker}: {note}" for score in scores for note in score.notes[:MAX_NOTES]]
    header = ["tracker", *names, "sequences", "missing"]
    yield Section("Summary", "summary", {"header": header, "rows": summary, "notes": notes})
    yield Section("Curves", "curves", _curves(scores))
    for heading, rows in (("Attributes", attribute_rows(scores)), ("Sequences", sequence_rows(scores))):
        if len(rows) > 1:
            yield Section(heading, heading.lower(), {"header": rows[0], "rows": rows[1:]})


def _curves(scores: Sequence[BenchmarkScore]) -> dict[str, Any]:
    x_labels = ("overlap threshold", "centre error in px", "centre error / target size")
    markers = (None, get_rule(scores[0].benchmark).precision_px, 0.2)
    drawings = []
    for (kind, xs, ys), x_label, marker in zip(curves(scores), x_labels, markers, strict=True):
        lines = [charts.Line(score.tracker, xs, ys[i], charts.color(i)) for i, score in enumerate(scores)]
        drawings.append(charts.line_chart(lines, x_label, kind, marker))
    return {"legend": [(charts.color(i), score.tracker) for i, score in enumerate(scores)], "charts": drawings}


def _run_sections(runs: Sequence[ReportRun]) -> Iterator[Section]:
    if boxes := [row for run in runs for row in run.boxes]:
        yield noted_table("Boxes", BOXES_NOTE, boxes)
    if states := [row for run in runs for row in run.states]:
        yield noted_table("States", STATES_NOTE, states)
    for run in runs:
        mark = f": {run.label}" if len(runs) > 1 else ""
        if run.timelines:
            yield Section(f"Timelines{mark}", "timelines", _timelines(run.timelines))
        if run.moments:
            yield Section(f"Worst moments{mark}", "moments", _moments(run.moments))
    timed = [(index, run) for index, run in enumerate(runs) if len(run.latency_ms())]
    if timed:
        yield Section("Latency", "latency", _latency(timed))
    origins = {run.label: run.provenance for run in runs if run.provenance}
    if origins:
        yield Section("Provenance", "provenance", {"text": json.dumps(origins, indent=1, default=str)})


def _timelines(timelines: Sequence[Timeline]) -> dict[str, Any]:
    keys = [(charts.COLORS[0], "score"), (charts.COLORS[3], "overlap with the annotation")]
    keys += [(color, state) for state, color in charts.STATE_COLORS.items()]
    keys.append((charts.PRESENT_COLOR, "camera present"))
    items = [_timeline(timeline) for timeline in timelines[:MAX_TIMELINES]]
    return {"legend": keys, "timelines": items, "omitted": max(len(timelines) - MAX_TIMELINES, 0)}


def _timeline(timeline: Timeline) -> dict[str, Any]:
    record = timeline.record
    times = record.stamps - record.stamps[0]
    lines = [
        charts.Line("score", times, record.scores, charts.COLORS[0]),
        charts.Line("overlap", times, timeline.overlaps, charts.COLORS[3]),
    ]
    known = timeline.overlaps[np.isfinite(timeline.overlaps)]
    return {
        "name": record.name,
        "frames": len(record),
        "overlap": float(known.mean()) if len(known) else None,
        "chart": charts.timeline_chart(times, lines, record.states, record.presence),
    }


def _moments(moments: Sequence[Moment]) -> dict[str, Any]:
    items = [
        {
            "sequence": moment.sequence,
            "frame": moment.frame,
            "overlap": moment.overlap if np.isfinite(moment.overlap) else None,
            "score": moment.score,
            "state": moment.state,
            "jpeg": base64.b64encode(moment.jpeg).decode(),
        }
        for moment in moments
    ]
    return {"legend": [(charts.COLORS[2], "annotation"), (charts.COLORS[1], "tracker")], "moments": items}


def _latency(timed: Sequence[tuple[int, ReportRun]]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    drawings = []
    for index, run in timed:
        values = run.latency_ms()
        drawings.append((run.label, charts.histogram(values, "milliseconds per frame", charts.color(index))))
        rows.append([run.label, *(f"{value:.1f}" for value in percentiles(values).values()), len(values)])
    return {"header": ["run", "p50 ms", "p90 ms", "p99 ms", "max ms", "frames"], "rows": rows, "charts": drawings}
