"""`report.html`, `report.json` and CSV files of one or more evaluations; compares runs and published raw results."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import ckd_core
from ckd_core.errors import TrackingError
from ckd_core.evaluation.report import charts, page
from ckd_core.evaluation.report.rows import attribute_rows, curve_rows, curves, percentiles, sequence_rows, to_csv
from ckd_core.evaluation.running.manifest import read_manifest
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score_files import score_to_json
from ckd_core.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.evaluation.running.records import TrackRecord
    from ckd_core.evaluation.running.runner import RunResult
    from ckd_core.evaluation.scoring.score import BenchmarkScore, SequenceScore
    from ckd_core.frame import MultiModalFrame

WORST_MOMENTS = 12
THUMBNAIL_WIDTH = 300
MAX_TIMELINES = 60


class ReportError(TrackingError):
    """A report without content, or of evaluations that cannot stand side by side."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One sequence over time. overlaps: [N], nan where nothing is known; the rest as in `TrackRecord`."""

    record: TrackRecord
    overlaps: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame worth looking at. overlap: nan where nobody knows; jpeg: the image with both boxes drawn."""

    sequence: str
    frame: int
    overlap: float
    score: float
    state: str
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ReportRun:
    """What a run adds to its numbers. provenance: its manifest or the like, shown as it is."""

    label: str
    timelines: tuple[Timeline, ...] = ()
    moments: tuple[Moment, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def latency_ms(self) -> NDArray[np.float64]:
        """Milliseconds of all frames that were timed."""
        parts = [timeline.record.latency_ms() for timeline in self.timelines]
        values = np.concatenate(parts) if parts else np.zeros(0)
        return np.asarray(values[values > 0])


def draw_moment(frame: MultiModalFrame, truth: NDArray[np.float64] | None, box: NDArray[np.float64]) -> bytes:
    """JPEG thumbnail of a frame (colour, else auxiliary) with the annotated box green and the answer orange."""
    from ckd_core.modality import to_network_image

    if frame.rgb is not None:
        image = frame.rgb
    elif frame.aux is not None:
        image = to_network_image(frame.aux, frame.modality)
    else:
        image = np.zeros((90, 120, 3), dtype=np.uint8)
    scale = THUMBNAIL_WIDTH / image.shape[1]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:, :, ::-1].copy()
    for numbers, paint in ((truth, (115, 158, 0)), (box, (0, 94, 213))):
        if numbers is not None and np.isfinite(numbers).all():
            x, y, w, h = (round(float(value) * scale) for value in numbers)
            cv2.rectangle(small, (x, y), (x + w, y + h), paint, 2, cv2.LINE_AA)
    done, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise ReportError("OpenCV cannot write JPEG thumbnails")
    return bytes(data)


def worst_moments(
    timelines: Sequence[Timeline],
    frame_of: Callable[[str, int], tuple[MultiModalFrame, NDArray[np.float64] | None]],
    limit: int = WORST_MOMENTS,
) -> tuple[Moment, ...]:
    """Frames of smallest overlap (of lowest score in a sequence without annotation), the worst sequences first.

    Every sequence gives about its share of `limit`, at least one, from moments apart.
    frame_of: (sequence, index) -> the frame as the tracker saw it, and the annotated box or None.
    """
    share = max(limit // max(len(timelines), 1), 1)
    found = [place for timeline in timelines for place in _worst_frames(timeline, share)]
    moments = []
    for _, index, timeline in sorted(found, key=lambda item: item[0])[:limit]:
        record = timeline.record
        frame, truth = frame_of(record.name, index)
        jpeg = draw_moment(frame, truth, record.boxes[index])
        overlap, score = float(timeline.overlaps[index]), float(record.scores[index])
        moments.append(Moment(record.name, index, overlap, score, record.states[index], jpeg))
    return tuple(moments)


def _worst_frames(timeline: Timeline, count: int) -> list[tuple[float, int, Timeline]]:
    """Up to `count` of (how good, frame, timeline), a twentieth of the sequence apart."""
    measure = timeline.overlaps if np.isfinite(timeline.overlaps).any() else timeline.record.scores
    tracked = np.arange(len(measure)) > timeline.record.start
    apart, found = max(len(measure) // 20, 5), list[tuple[float, int, Timeline]]()
    for index in np.argsort(np.where(tracked, measure, np.nan), kind="stable"):  # nan comes last
        if len(found) == count or not tracked[index] or not np.isfinite(measure[index]):
            break
        if all(abs(int(index) - other) >= apart for _, other, _ in found):
            found.append((float(measure[index]), int(index), timeline))
    return found


def report_run(result: RunResult) -> ReportRun:
    """A benchmark run with its timelines, worst moments and manifest."""
    scores = {item.name: item for item in result.score.sequences}
    timelines = tuple(
        Timeline(record, on_all_frames(len(record), scores[name])) for name, record in result.records.items()
    )

    def frame_of(name: str, index: int) -> tuple[MultiModalFrame, NDArray[np.float64]]:
        sequence = result.plan.inputs.sequences[name]
        present = result.plan.condition.presence(sequence)
        return result.plan.condition.frame(sequence, index, present), sequence.boxes[index]

    return ReportRun(
        result.plan.tracker.label, timelines, worst_moments(timelines, frame_of), read_manifest(result.plan.out)
    )


def on_all_frames(count: int, score: SequenceScore) -> NDArray[np.float64]:
    """Overlaps [count] of the scored frames, back on a sequence's own frames; nan where none was scored."""
    rule_overlaps = np.where(score.overlaps < 0, np.nan, score.overlaps)
    if len(rule_overlaps) == count:
        return rule_overlaps
    wide = np.full(count, np.nan)
    every = -(-count // len(rule_overlaps))
    if every > 1 and len(wide[::every]) == len(rule_overlaps):
        wide[::every] = rule_overlaps
    else:
        wide[-len(rule_overlaps) :] = rule_overlaps
    return wide


def write_report(
    out: Path,
    scores: Sequence[BenchmarkScore],
    runs: Sequence[ReportRun] = (),
    title: str = "Tracking evaluation",
    subtitle: str | None = None,
) -> Path:
    """Write `report.html`, `report.json`, `sequences.csv`, `curves.csv` and `attributes.csv` into a folder.

    scores: one a tracker, all of one benchmark; may be empty when `runs` have no ground truth. subtitle: one line below
    the title; None: what was scored, and by which rule.
    Raises ReportError. Returns the path of the page.
    """
    if not scores and not runs:
        raise ReportError("nothing to report: no scores and no runs")
    benchmarks = sorted({score.benchmark for score in scores})
    if len(benchmarks) > 1:
        raise ReportError(f"one page compares trackers on one benchmark, these are of {', '.join(benchmarks)}")
    labels = [score.tracker for score in scores]
    if len(set(labels)) < len(labels):
        raise ReportError(f"two evaluations have the same name: {', '.join(labels)}; rename one")
    document = {
        "title": title,
        "trackers": {score.tracker: score_to_json(score) for score in scores},
        "runs": {run.label: _run_to_json(run) for run in runs},
    }
    write_json(out / "report.json", document)
    files = {"sequences": sequence_rows(scores), "curves": curve_rows(scores), "attributes": attribute_rows(scores)}
    for name, rows in files.items():
        if len(rows) > 1:
            write_text(out / f"{name}.csv", to_csv(rows))
    path = out / "report.html"
    write_text(path, _page(scores, runs, title, subtitle))
    return path


def _run_to_json(run: ReportRun) -> dict[str, Any]:
    latency = run.latency_ms()
    return {
        "latency_ms": percentiles(latency),
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
        "provenance": run.provenance,
    }


def _page(scores: Sequence[BenchmarkScore], runs: Sequence[ReportRun], title: str, subtitle: str | None) -> str:
    sections: dict[str, str] = {}
    about = "No ground truth, so nothing is scored."
    if scores:
        rule = get_rule(scores[0].benchmark)
        frames, count = sum(item.frames for item in scores[0].sequences), len(scores[0].sequences)
        about = f"{rule.title}: {count} sequence{'s' * (count != 1)}, {frames} scored frames. Rule: {rule.source}."
        sections |= _score_sections(scores)
    for run in runs:
        mark = f": {run.label}" if len(runs) > 1 else ""
        if run.timelines:
            sections[f"Timelines{mark}"] = _timelines(run)
        if run.moments:
            sections[f"Worst moments{mark}"] = _moments(run)
    latencies = [(run, run.latency_ms()) for run in runs]
    if any(len(values) for _, values in latencies):
        sections["Latency"] = _latencies(latencies)
    origins = {run.label: run.provenance for run in runs if run.provenance}
    if origins:
        sections["Provenance"] = f"<pre>{escape(json.dumps(origins, indent=1, default=str))}</pre>"
    footer = f"sdstrack {ckd_core.__version__}; the numbers are in report.json."
    return page.page(title, about if subtitle is None else subtitle, sections, footer)


def _score_sections(scores: Sequence[BenchmarkScore]) -> dict[str, str]:
    rule = get_rule(scores[0].benchmark)
    names = list(dict.fromkeys(name for score in scores for name in score.metrics))
    summary = page.table(
        ["tracker", *names, "sequences", "missing"],
        [
            [score.tracker, *(score.metrics.get(name) for name in names), len(score.sequences), len(score.missing)]
            for score in scores
        ],
    )
    notes = [f"{score.tracker}: {note}" for score in scores for note in score.notes[:10]]
    if notes:
        summary += f"<pre>{escape(chr(10).join(notes))}</pre>"
    keys = page.legend([(charts.color(i), score.tracker) for i, score in enumerate(scores)])
    labels = ("overlap threshold", "centre error in px", "centre error / target size")
    markers = (None, rule.precision_px, 0.2)
    figures = []
    for (kind, xs, ys), x_label, marker in zip(curves(scores), labels, markers, strict=True):
        lines = [charts.Line(score.tracker, xs, ys[i], charts.color(i)) for i, score in enumerate(scores)]
        figures.append(f"<figure>{charts.line_chart(lines, x_label, kind, marker)}</figure>")
    sections = {"Summary": summary, "Curves": f'{keys}<div class="grid3">{"".join(figures)}</div>'}
    attributes = attribute_rows(scores)
    if len(attributes) > 1:
        sections["Attributes"] = page.table(attributes[0], attributes[1:], sortable=True)
    rows = sequence_rows(scores)
    body = page.table(rows[0], rows[1:], sortable=True)
    search = '<input type="search" placeholder="filter by name" data-filter="#sequences tbody tr">'
    sections["Sequences"] = f'{search}<div class="scroll" id="sequences">{body}</div>'
    return sections


def _timelines(run: ReportRun) -> str:
    keys = [(charts.COLORS[0], "score"), (charts.COLORS[3], "overlap with the annotation")]
    keys += [(color, state) for state, color in charts.STATE_COLORS.items()] + [("#56708a", "camera present")]
    parts = [page.legend(keys)]
    for index, timeline in enumerate(run.timelines[:MAX_TIMELINES]):
        record = timeline.record
        times = record.stamps - record.stamps[0]
        lines = [
            charts.Line("score", times, record.scores, charts.COLORS[0]),
            charts.Line("overlap", times, timeline.overlaps, charts.COLORS[3]),
        ]
        figure = charts.timeline_chart(times, lines, record.states, record.presence)
        known = timeline.overlaps[np.isfinite(timeline.overlaps)]
        mean = f", mean overlap {known.mean():.3f}" if len(known) else ""
        opened = " open" if index < 3 else ""
        parts.append(
            f"<details{opened}><summary><b>{escape(record.name)}</b>"
            f"<span>{len(record)} frames{mean}</span></summary>{figure}</details>"
        )
    if len(run.timelines) > MAX_TIMELINES:
        parts.append(f"<p>{len(run.timelines) - MAX_TIMELINES} more sequences are in tracks/.</p>")
    return "".join(parts)


def _moments(run: ReportRun) -> str:
    keys = page.legend([("#009e73", "annotation"), ("#d55e00", "tracker")])
    figures = [
        f'<figure><img alt="{escape(moment.sequence)} frame {moment.frame}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(moment.jpeg).decode()}">'
        f"<figcaption>{escape(moment.sequence)}, frame {moment.frame}, {_how_good(moment)}</figcaption></figure>"
        for moment in run.moments
    ]
    return f'{keys}<div class="moments">{"".join(figures)}</div>'


def _how_good(moment: Moment) -> str:
    overlap = f"overlap {moment.overlap:.2f}, " if np.isfinite(moment.overlap) else ""
    return f"{overlap}score {moment.score:.2f}, {moment.state}"


def _latencies(latencies: Sequence[tuple[ReportRun, NDArray[np.float64]]]) -> str:
    figures, rows = [], []
    for index, (run, values) in enumerate(latencies):
        if not len(values):
            continue
        chart = charts.histogram(values, "milliseconds a frame", charts.color(index))
        figures.append(f"<figure>{chart}<figcaption>{escape(run.label)}</figcaption></figure>")
        rows.append([run.label, *(f"{value:.1f}" for value in percentiles(values).values()), len(values)])
    table = page.table(["run", "p50 ms", "p90 ms", "p99 ms", "max ms", "frames"], rows)
    return f'{table}<div class="grid3">{"".join(figures)}</div>'
