"""The evaluation of a recording as plain values and as a page: `result.json`, `streaming.json`, `report.html`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.evaluation.report.runs import ReportRun, Timeline, on_all_frames, worst_moments
from ckd_core.evaluation.report.write import write_report
from ckd_core.evaluation.running.records import TrackRecord
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import BenchmarkScore, GroundTruth, Track, score_benchmark
from ckd_core.files import finite
from ckd_core.tracking.result import TrackState
from sdstrack_ros.bags.scoring import INIT
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.messages.stamps import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.evaluation.scoring.metrics import TrackSummary
    from ckd_core.frame import MultiModalFrame
    from sdstrack_ros.bags.scoring import BagInput, FrameRow, OfflineReport
    from sdstrack_ros.bags.streaming import StreamingReport
    from sdstrack_ros.bags.truth import FrameTruth

EVERY_FRAME, AS_LIVE = "every frame", "as live"
NAN_BOX = (np.nan,) * 4
# Stands for a missing box: far from any object, so that the frame is a miss.
MISSED_BOX = (-1e6, -1e6, 1.0, 1.0)


def offline_json(report: OfflineReport, about: dict[str, Any]) -> dict[str, Any]:
    """Return the report as plain values, none of which differs from run to run.

    Args:
        report: what to write.
        about: what was evaluated; its keys come first.
    """
    frames = [
        {
            "stamp_ns": row.stamp_ns,
            "box": None if row.box is None else [round(value, 4) for value in row.box],
            "score": None if row.score is None else round(row.score, 6),
            "state": row.state,
            "rgb": row.rgb,
            "aux": row.aux,
            "aux_held": row.aux_held,
            **({"refused": row.refused} if row.refused else {}),
        }
        for row in report.rows
    ]
    plain: dict[str, Any] = finite(
        {
            **about,
            "summary": None if report.summary is None else asdict(report.summary),
            "failed_after_s": report.failed_after_s,
            "synchronizer": asdict(report.counters),
            "rejected": dict(sorted(report.rejections.items())),
            "warnings": list(report.remarks),
            **({"time_resets": dict(sorted(report.time_resets.items()))} if report.time_resets else {}),
            "frames": frames,
        }
    )
    return plain


def streaming_json(report: StreamingReport, offline: TrackSummary | None) -> dict[str, Any]:
    """Return the streaming report as plain values, with the difference from the offline summary."""
    costs = np.array(report.latency_s) * 1000
    gap = None if offline is None else {
        "auc": offline.auc - report.summary.auc,
        "precision": offline.precision - report.summary.precision,
    }  # fmt: skip
    plain: dict[str, Any] = finite(
        {
            "summary": asdict(report.summary),
            "predicted": asdict(report.predicted),
            "offline_minus_streaming": gap,
            "frames": report.frames,
            "tracked": report.tracked,
            "dropped": report.dropped,
            "latency": {
                "measured": report.measured,
                **{f"p{p}_ms": float(np.percentile(costs, p)) for p in (50, 95, 99)},
            },
        }
    )
    return plain


def write_bag_report(
    out: Path,
    source: BagInput,
    offline: OfflineReport,
    streaming: StreamingReport | None,
    about: dict[str, Any],
) -> Path:
    """Write `report.html` with its JSON and CSV files: every frame, and as live beside it.

    Args:
        out: folder of the files.
        source: the recording; frames for pictures are read again.
        offline: every frame.
        streaming: as live, or None.
        about: what was evaluated, for the page's details.

    Returns:
        Path of the page.
    """
    name = source.path.stem if source.path.is_file() else source.path.name
    details = about | {"synchronizer": asdict(offline.counters), "rejected": dict(sorted(offline.rejections.items()))}
    runs = [(EVERY_FRAME, offline.rows, offline.truth, details)]
    if streaming is not None:
        runs.append((AS_LIVE, streaming.rows, streaming.truth, streaming_json(streaming, offline.summary)))
    scores, report_runs = [], []
    for label, rows, truth, provenance in runs:
        score = _benchmark_score(name, rows, truth, label)
        scores += [score] if score else []
        timeline = Timeline(record_of(name, rows), _overlaps(rows, score))
        moments = worst_moments([timeline], _FrameReader(source, truth)) if label == EVERY_FRAME else ()
        report_runs.append(ReportRun(label, (timeline,), moments, provenance))
    return write_report(out, scores, report_runs, f"Recording {name}", _subtitle(source, offline))


def _subtitle(source: BagInput, offline: OfflineReport) -> str:
    count, summary = offline.counters, offline.summary
    scored = "no ground truth" if summary is None else f"{summary.frames} scored frames with the object"
    return (
        f"Colour {source.topics.rgb or 'absent'}, {source.modality.value} {source.topics.aux or 'absent'}: "
        f"{len(offline.rows)} frames ({count.paired} pairs, {count.held} with a held image, {count.color_alone} colour "
        f"alone, {count.aux_alone} without colour), {sum(offline.rejections.values())} images rejected, {scored}."
    )


def record_of(name: str, rows: Sequence[FrameRow]) -> TrackRecord:
    """Return the rows as the record of one sequence; a frame without a result is LOST with a box of nan."""
    started = [row.box is not None for row in rows]
    return TrackRecord(
        name=name,
        start=started.index(True) if any(started) else 0,
        stamps=np.array([row.stamp_ns / NS_PER_S for row in rows]),
        boxes=np.array([row.box or NAN_BOX for row in rows], dtype=np.float64),
        scores=np.array([row.score or 0.0 for row in rows]),
        states=tuple(_state(row.state) for row in rows),
        presence=np.array([(row.rgb, row.aux) for row in rows], dtype=np.bool_),
        seconds=np.array([(row.timing.crop, row.timing.network, row.timing.post) for row in rows]),
    )


def _state(state: str | None) -> str:
    if state is None:
        return TrackState.LOST.value
    return TrackState.TRACKING.value if state == INIT else state


def _benchmark_score(
    name: str, rows: Sequence[FrameRow], truth: Sequence[FrameTruth], label: str
) -> BenchmarkScore | None:
    """Score the frames that the summary counts: the annotated ones after the frame that the tracker started on."""
    first = next((index for index, row in enumerate(rows) if row.box is not None), len(rows))
    annotated = np.array([frame.annotated for frame in truth[first:]], dtype=np.bool_)
    annotated[:1] = False
    true_boxes = np.array([frame.box or NAN_BOX for frame in truth[first:]], dtype=np.float64).reshape(-1, 4)
    if not (np.isfinite(true_boxes).all(axis=1) & annotated).any():
        return None
    boxes = np.array([row.box or MISSED_BOX for row in rows[first:]], dtype=np.float64)
    rule = get_rule("folder")
    return score_benchmark(rule, [GroundTruth(name, true_boxes, labelled=annotated)], {name: Track(name, boxes)}, label)


def _overlaps(rows: Sequence[FrameRow], score: BenchmarkScore | None) -> NDArray[np.float64]:
    if score is None:
        return np.full(len(rows), np.nan)
    return on_all_frames(len(rows), score.sequences[0])


class _FrameReader:
    """Reads single frames of a recording by index, with their true boxes."""

    def __init__(self, source: BagInput, truth: Sequence[FrameTruth]) -> None:
        self._source = source
        self._truth = truth

    def __call__(self, name: str, index: int) -> tuple[MultiModalFrame, NDArray[np.float64] | None]:
        del name
        true_box = self._truth[index].box
        with open_bag(self._source.path) as bag:
            bag_frame = next(frame for at, frame in enumerate(self._source.frames(bag)) if at == index)
        return bag_frame.frame, None if true_box is None else np.array(true_box, dtype=np.float64)
