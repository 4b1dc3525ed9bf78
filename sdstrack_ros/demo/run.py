"""The main job on one command: a recording, the real node, a table, a video and a picture.

The recording is a synthetic scene, or whatever the caller names: a bag, or a folder of images with its true boxes.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import center_error, overlap, precision_at, success_auc
from ckd_core.files import atomic_path, write_json
from ckd_core.frame import BoundingBox, Modality
from sdstrack_ros.bags.frames import BagFrame, BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.storage import EVENT_PACKET, open_bag
from sdstrack_ros.bags.truth import read_truth_boxes
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.demo.live_replay import LiveBox, LiveReplay, replay
from sdstrack_ros.demo.pictures import Shot, write_sheet, write_video

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MODALITY_NAMES = {"rgbd": Modality.DEPTH, "rgbt": Modality.THERMAL, "rgbe": Modality.EVENT}
DEMO_FRAMES = 150
DEMO_FPS = 15.0
DEMO_SIZE = (640, 480)
DEMO_SEED = 6


class DemoError(TrackingError):
    """A recording that cannot be played and scored."""


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """A bag with what is needed to track and score it: topics, the box to start on, true boxes by stamp."""

    bag: Path
    modality: Modality
    topics: BagTopics
    init: BoundingBox
    truth: dict[int, BoundingBox | None]
    fps: float
    event_input: str = "image"


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The table of a run. Errors and overlaps are over the frames with a true box, after the first.

    A frame without an answer counts with the last box before it: what a robot would have had at that moment.
    """

    frames_in: int
    frames_answered: int
    boxes_out: int
    dropped_by_node: int
    lost_in_transport: int
    success_auc: float
    precision_20px: float
    center_error_px: float
    latency_p50_ms: float
    latency_p95_ms: float
    model: str
    engine: str
    device: str


def demo_synthetic_recording(modality: Modality, folder: Path) -> DemoRecording:
    """Write the embedded default: somebody walks among others; smoke drifts over the colour camera of `rgbt`."""
    from ckd_core.data.synthetic import clip

    scene = clip(
        DEMO_SEED,
        modality,
        DEMO_FRAMES,
        DEMO_SIZE,
        DEMO_FPS,
        trouble="smoke" if modality is Modality.THERMAL else "none",
    )
    boxes = [BoundingBox(*row) if np.isfinite(row).all() else None for row in scene.boxes]
    bag = folder / "recording"
    shutil.rmtree(bag, ignore_errors=True)
    write_bag(bag, scene.frames, boxes, events=scene.events)
    return open_demo_recording(bag, modality)


def demo_folder_recording(sequence_folder: Path, folder: Path, fps: float = 30.0) -> DemoRecording:
    """Write a folder of images (visible/ + infrared|depth|event/, groundtruth.txt) as a bag of `fps` Hz."""
    from dataclasses import replace

    from ckd_core.data.sequences import open_sequence

    sequence = open_sequence(sequence_folder)
    frames = (replace(sequence.frame(i), stamp=i / fps) for i in range(len(sequence)))
    boxes = [BoundingBox(*row) if np.isfinite(row).all() else None for row in sequence.boxes]
    bag = folder / "recording"
    shutil.rmtree(bag, ignore_errors=True)
    write_bag(bag, frames, boxes)
    return open_demo_recording(bag, sequence.modality)


def open_demo_recording(
    bag: Path,
    modality: Modality,
    init: BoundingBox | None = None,
    truth_file: Path | None = None,
    topics: BagTopics | None = None,
) -> DemoRecording:
    """A recording as it is; the true boxes come from its ground-truth topic or, one line a colour frame, from a file.

    Errors: DemoError without a box to start on; BagError for a recording that cannot be read.
    """
    with open_bag(bag) as opened:
        chosen = choose_topics(opened, modality, topics)
        stamps = [frame.stamp_ns for frame in read_bag_frames(opened, chosen, modality)]
        packets = any(topic.name == chosen.aux and topic.type_name == EVENT_PACKET for topic in opened.topics)
        truth: dict[int, BoundingBox | None] = {}
        if truth_file is not None:
            truth = _truth_from_file(truth_file, stamps)
        elif chosen.truth:
            truth = {entry.stamp_ns: entry.box for entry in read_truth_boxes(opened, chosen.truth)}
    if not stamps:
        raise DemoError(f"{bag}: no frame of {chosen.rgb or 'a colour topic'} could be read")
    start = init or truth.get(stamps[0])
    if start is None:
        raise DemoError(f"{bag}: no box to start on; the first frame has no true box, give one: --init x,y,w,h")
    duration = (stamps[-1] - stamps[0]) / 1e9
    fps = (len(stamps) - 1) / duration if duration > 0 else DEMO_FPS
    return DemoRecording(bag, modality, chosen, start, truth, fps, "packets" if packets else "image")


def _truth_from_file(path: Path, stamps: list[int]) -> dict[int, BoundingBox | None]:
    from ckd_core.data.sequences import read_ground_truth

    rows = read_ground_truth(path)
    if len(rows) != len(stamps):
        raise DemoError(f"{path}: {len(rows)} boxes for {len(stamps)} colour frames; one line a frame is needed")
    return {
        stamp: BoundingBox(*row) if np.isfinite(row).all() else None for stamp, row in zip(stamps, rows, strict=True)
    }


def run_demo(
    recording: DemoRecording,
    out: Path,
    parameters: Mapping[str, object],
    progress: Callable[[int], object] = int,
    rate: float = 1.0,
) -> DemoSummary:
    """Play the recording through the node, score what came back, write boxes, video, picture and summary to `out`.

    parameters: of the node, over those that the recording gives. rate: speed of play.
    """
    x, y, w, h = recording.init
    settings = {
        "modality": recording.modality.value,
        "init_box": f"[{x}, {y}, {w}, {h}]",
        "event_input": recording.event_input,
        **parameters,
    }
    live = replay(recording.bag, recording.topics, settings, out, progress, rate)
    with open_bag(recording.bag) as opened:
        frames = list(read_bag_frames(opened, recording.topics, recording.modality))
    answers = {answer.stamp_ns: answer for answer in live.answers}
    summary = summarize_demo(recording, [frame.stamp_ns for frame in frames], live)
    _write_boxes(out / "boxes.csv", frames, answers, recording.truth)
    _write_pictures(out, frames, answers, recording, summary)
    write_json(out / "summary.json", asdict(summary))
    return summary


def summarize_demo(recording: DemoRecording, stamps: list[int], live: LiveReplay) -> DemoSummary:
    """Score the answers against the recording's true boxes."""
    answers = {answer.stamp_ns: answer for answer in live.answers}
    predicted, true = [], []
    last = recording.init
    for stamp in stamps[1:]:
        answer = answers.get(stamp)
        if answer is not None and answer.box is not None:
            last = answer.box
        box = recording.truth.get(stamp)
        if box is not None:
            # an empty answer is a miss: the node said that it does not know
            missed = answer is not None and answer.box is None
            predicted.append((np.nan,) * 4 if missed else last)
            true.append(box)
    overlaps, errors = np.zeros(0), np.zeros(0)
    if true:
        ours, theirs = np.array(predicted, dtype=np.float64), np.array(true, dtype=np.float64)
        overlaps, errors = overlap(ours, theirs), center_error(ours, theirs)
    known = errors[np.isfinite(errors)]
    dropped = int(live.status.get("frames.dropped", 0))
    received = int(live.status.get("frames.frames", 0))
    return DemoSummary(
        frames_in=len(stamps),
        frames_answered=len(answers),
        boxes_out=sum(answer.box is not None for answer in answers.values()),
        dropped_by_node=dropped,
        lost_in_transport=max(0, len(stamps) - received),
        success_auc=round(success_auc(overlaps), 4) if len(overlaps) else float("nan"),
        precision_20px=round(precision_at(errors), 4) if len(errors) else float("nan"),
        center_error_px=round(float(np.median(known)), 2) if len(known) else float("nan"),
        latency_p50_ms=float(live.status.get("latency_ms.total.p50", "nan")),
        latency_p95_ms=float(live.status.get("latency_ms.total.p95", "nan")),
        model=live.status.get("model", ""),
        engine=live.status.get("engine", ""),
        device=live.status.get("device", ""),
    )


def _write_boxes(
    path: Path, frames: list[BagFrame], answers: Mapping[int, LiveBox], truth: Mapping[int, BoundingBox | None]
) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["stamp_ns", "x", "y", "w", "h", "score", "true_x", "true_y", "true_w", "true_h"])
        for frame in frames:
            answer, true = answers.get(frame.stamp_ns), truth.get(frame.stamp_ns)
            box = answer.box if answer is not None else None
            score = f"{answer.score:.4f}" if answer is not None else ""
            writer.writerow([frame.stamp_ns, *_cells(box), score, *_cells(true)])


def _cells(box: BoundingBox | None) -> list[str]:
    return [""] * 4 if box is None else [f"{value:.2f}" for value in box]


def _write_pictures(
    out: Path, frames: list[BagFrame], answers: Mapping[int, LiveBox], recording: DemoRecording, summary: DemoSummary
) -> None:
    """Write overlay.mp4 with every frame and contact_sheet.png with a few; true boxes in white."""
    shots = []
    for frame in frames:
        answer = answers.get(frame.stamp_ns)
        box, score = (answer.box, answer.score) if answer is not None else (None, 0.0)
        shots.append(Shot(frame.frame, answer is not None, box, score, recording.truth.get(frame.stamp_ns)))
    write_video(out / "overlay.mp4", shots, recording.fps)
    found = f"{summary.boxes_out} boxes in {summary.frames_in} frames"
    scored = f", success AUC {summary.success_auc:.2f}" if recording.truth else ""
    title = f"{summary.model}, colour + {recording.modality.value}: {found}{scored} (green: tracker, white: truth)"
    write_sheet(out / "contact_sheet.png", shots, title)
