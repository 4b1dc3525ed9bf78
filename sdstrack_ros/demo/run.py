"""What `sdstrack demo` does: play a recording through the real node, score it, write a table, a video and a picture.

The recording is a synthetic scene, a bag, or a folder of images with its true boxes.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.sequences import open_sequence, read_ground_truth
from ckd_core.data.synthetic import clip
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import center_error, overlap, precision_at, success_auc
from ckd_core.files import atomic_path, write_json
from ckd_core.frame import BoundingBox, Modality
from sdstrack_ros.bags.frames import BagFrame, BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.space import RecordedSpace, read_space
from sdstrack_ros.bags.storage.opening import EVENT_PACKET, open_bag
from sdstrack_ros.bags.truth import read_truth_boxes
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.demo.live_replay import LiveBox, LiveReplay, replay
from sdstrack_ros.demo.pictures import Shot, write_sheet, write_video
from sdstrack_ros.demo.plan import Plan
from sdstrack_ros.messages.transforms import TransformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)
MODALITY_NAMES = {"rgbd": Modality.DEPTH, "rgbt": Modality.THERMAL, "rgbe": Modality.EVENT}
DEMO_FRAMES = 150
DEMO_FPS = 15.0
DEMO_SIZE = (640, 480)
DEMO_SEED = 6


class DemoError(TrackingError):
    """A recording that cannot be played and scored."""


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """A bag with what is needed to track and score it.

    Attributes:
        bag: folder of the recording.
        modality: of the auxiliary camera.
        topics: what to play.
        init: box to start on.
        truth: true box by stamp, None where the object is absent; empty when nothing is known.
        fps: frames per second.
        event_input: the node's parameter: image or packets.
        space: calibration, transforms and true poses; None where the recording lacks them.
    """

    bag: Path
    modality: Modality
    topics: BagTopics
    init: BoundingBox
    truth: dict[int, BoundingBox | None]
    fps: float
    event_input: str = "image"
    space: RecordedSpace | None = None


RESULT_FILES = ("boxes.csv", "overlay.mp4", "contact_sheet.png", "summary.json")


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The table of a run.

    Overlaps and errors are over the frames with a true box, after the first. A frame without a result counts with the
    last box before it: what a robot would have had at that moment. `pose_error_m` is None without true poses.
    """

    frames_in: int
    frames_answered: int
    boxes_out: int
    dropped_by_node: int
    lost_in_transport: int
    success_auc: float
    precision_20px: float
    center_error_px: float
    pose_error_m: float | None
    latency_p50_ms: float
    latency_p95_ms: float
    model: str
    engine: str
    device: str


def demo_synthetic_recording(modality: Modality, folder: Path) -> DemoRecording:
    """Write the default recording: a person walks among others, with smoke before the colour camera for thermal."""
    scene = clip(
        DEMO_SEED,
        modality,
        DEMO_FRAMES,
        DEMO_SIZE,
        DEMO_FPS,
        trouble="smoke" if modality is Modality.THERMAL else "none",
        movement="drive" if modality is Modality.DEPTH else None,  # only depth shows what becomes of it in space
    )
    boxes = [BoundingBox(*row) if np.isfinite(row).all() else None for row in scene.boxes]
    bag = folder / "recording"
    shutil.rmtree(bag, ignore_errors=True)
    write_bag(bag, scene.frames, boxes, events=scene.events, space=scene.space)
    return open_demo_recording(bag, modality)


def demo_folder_recording(sequence_folder: Path, folder: Path, fps: float = 30.0) -> DemoRecording:
    """Write a folder of images (visible/ + infrared|depth|event/, groundtruth.txt) as a bag of `fps` Hz."""
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
    """Open an existing recording.

    Args:
        bag: rosbag2 folder, or a single .mcap or .db3 file.
        modality: of the auxiliary camera.
        init: box to start on; None takes the true box of the first frame.
        truth_file: true boxes, one line per colour frame; None takes the recording's truth topic.
        topics: what to play; topics that are not named are found.

    Raises:
        DemoError: there is no frame or no box to start on, or the truth file has another number of lines.
        BagError: the recording cannot be read.
    """
    with open_bag(bag) as recording:
        for remark in recording.remarks:
            logger.warning("%s: %s", bag, remark)
        complete = choose_topics(recording, modality, topics)
        stamps = [frame.stamp_ns for frame in read_bag_frames(recording, complete, modality)]
        packets = any(topic.name == complete.aux and topic.type_name == EVENT_PACKET for topic in recording.topics)
        truth: dict[int, BoundingBox | None] = {}
        if truth_file is not None:
            truth = _truth_from_file(truth_file, stamps)
        elif complete.truth:
            truth = {entry.stamp_ns: entry.box for entry in read_truth_boxes(recording, complete.truth)}
        space = read_space(recording)
    if not stamps:
        raise DemoError(f"{bag}: no frame of {complete.rgb or 'a colour topic'} could be read")
    start = init or truth.get(stamps[0])
    if start is None:
        raise DemoError(f"{bag}: no box to start on: the first frame has no true box; pass one: --init x,y,w,h")
    duration = (stamps[-1] - stamps[0]) / 1e9
    fps = (len(stamps) - 1) / duration if duration > 0 else DEMO_FPS
    return DemoRecording(bag, modality, complete, start, truth, fps, "packets" if packets else "image", space)


def _truth_from_file(path: Path, stamps: list[int]) -> dict[int, BoundingBox | None]:
    rows = read_ground_truth(path)
    if len(rows) != len(stamps):
        raise DemoError(f"{path}: {len(rows)} boxes for {len(stamps)} colour frames; expected one line per frame")
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
    """Play a recording through the node, score its boxes, and write boxes, video, picture and summary to `out`.

    Args:
        recording: what to play.
        out: folder of the files.
        parameters: of the node; they override those that the recording implies.
        progress: called with the number of results so far.
        rate: playback speed.

    Raises:
        LiveReplayError: the node or the player fails.
        DemoPictureError: no frame has an image, or a picture cannot be written.
    """
    x, y, w, h = recording.init
    settings = {
        "modality": recording.modality.value,
        "init_box": f"[{x}, {y}, {w}, {h}]",
        "event_input": recording.event_input,
        **({} if recording.space is None else {"target_frame": recording.space.frame_id}),
        **parameters,
    }
    live = replay(recording.bag, recording.topics, settings, out, progress, rate)
    with open_bag(recording.bag) as opened:
        frames = list(read_bag_frames(opened, recording.topics, recording.modality))
    results = {result.stamp_ns: result for result in live.results}
    summary = summarize_demo(recording, [frame.stamp_ns for frame in frames], live)
    _write_boxes(out / "boxes.csv", frames, results, recording.truth)
    _write_pictures(out, frames, results, recording, summary, live)
    write_json(out / "summary.json", asdict(summary))
    return summary


def summarize_demo(recording: DemoRecording, stamps: list[int], live: LiveReplay) -> DemoSummary:
    """Score the node's boxes against the recording's true boxes.

    Args:
        recording: the true boxes and the box to start on.
        stamps: of all frames.
        live: what the node published.
    """
    results = {result.stamp_ns: result for result in live.results}
    predicted, true = [], []
    last = recording.init
    for stamp in stamps[1:]:
        result = results.get(stamp)
        if result is not None and result.box is not None:
            last = result.box
        box = recording.truth.get(stamp)
        if box is not None:
            # An empty message is a miss: the node reported that it does not see the target.
            missed = result is not None and result.box is None
            predicted.append((np.nan,) * 4 if missed else last)
            true.append(box)
    overlaps, errors = np.zeros(0), np.zeros(0)
    if true:
        boxes, true_boxes = np.array(predicted, dtype=np.float64), np.array(true, dtype=np.float64)
        overlaps, errors = overlap(boxes, true_boxes), center_error(boxes, true_boxes)
    finite_errors = errors[np.isfinite(errors)]
    dropped = int(live.status.get("frames.dropped", 0))
    received = int(live.status.get("frames.frames", 0))
    return DemoSummary(
        frames_in=len(stamps),
        frames_answered=len(results),
        boxes_out=sum(result.box is not None for result in results.values()),
        dropped_by_node=dropped,
        lost_in_transport=max(0, len(stamps) - received),
        success_auc=round(success_auc(overlaps), 4) if len(overlaps) else float("nan"),
        precision_20px=round(precision_at(errors), 4) if len(errors) else float("nan"),
        center_error_px=round(float(np.median(finite_errors)), 2) if len(finite_errors) else float("nan"),
        pose_error_m=_pose_error(recording.space, live),
        latency_p50_ms=float(live.status.get("latency_ms.total.p50", "nan")),
        latency_p95_ms=float(live.status.get("latency_ms.total.p95", "nan")),
        model=live.status.get("model", ""),
        engine=live.status.get("engine", ""),
        device=live.status.get("device", ""),
    )


def _write_boxes(
    path: Path, frames: list[BagFrame], results: Mapping[int, LiveBox], truth: Mapping[int, BoundingBox | None]
) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["stamp_ns", "x", "y", "w", "h", "score", "true_x", "true_y", "true_w", "true_h"])
        for frame in frames:
            result, true = results.get(frame.stamp_ns), truth.get(frame.stamp_ns)
            box = result.box if result is not None else None
            score = f"{result.score:.4f}" if result is not None else ""
            writer.writerow([frame.stamp_ns, *_cells(box), score, *_cells(true)])


def _cells(box: BoundingBox | None) -> list[str]:
    return [""] * 4 if box is None else [f"{value:.2f}" for value in box]


def _write_pictures(
    out: Path,
    frames: list[BagFrame],
    results: Mapping[int, LiveBox],
    recording: DemoRecording,
    summary: DemoSummary,
    live: LiveReplay,
) -> None:
    """Write overlay.mp4 with every frame and contact_sheet.png with a few; true boxes in white."""
    shots = [Shot(frame.frame, results.get(frame.stamp_ns), recording.truth.get(frame.stamp_ns)) for frame in frames]
    write_video(out / "overlay.mp4", shots, recording.fps)
    counts = f"{summary.boxes_out} boxes in {summary.frames_in} frames"
    score = f", success AUC {summary.success_auc:.2f}" if recording.truth else ""
    title = f"{summary.model}, colour + {recording.modality.value}: {counts}{score} (green: tracker, white: truth)"
    stamps = [frame.stamp_ns for frame in frames]
    plan = None if recording.space is None else _plan(recording.space, live, stamps)
    write_sheet(out / "contact_sheet.png", shots, title, plan)


def _pose_error(space: RecordedSpace | None, live: LiveReplay) -> float | None:
    """Root of the mean squared distance [m] of the node's poses from the true ones; None without either."""
    if space is None or live.pose_frame != space.frame_id:
        return None
    errors = [np.linalg.norm(space.true_poses[s] - place) for s, place in live.poses.items() if s in space.true_poses]
    return round(float(np.sqrt(np.mean(np.square(errors)))), 3) if errors else None


def _plan(space: RecordedSpace, live: LiveReplay, stamps: list[int]) -> Plan:
    """What the scene looks like from above."""
    camera = []
    for stamp in stamps:
        with contextlib.suppress(TransformError):  # a recording may begin before its transforms do
            camera.append(space.transforms.lookup(space.frame_id, space.camera_frame, stamp).translation)
    followed = [live.poses[stamp] for stamp in sorted(live.poses)] if live.pose_frame == space.frame_id else []
    true = [space.true_poses[stamp] for stamp in sorted(space.true_poses)]
    return Plan(*(np.array(places, dtype=np.float64).reshape(-1, 3)[:, :2] for places in (followed, true, camera)))
