"""What `sdstrack evaluate` does: settings, tracker, scores, result files."""

from __future__ import annotations

import dataclasses
import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckd_core.boxes import parse_box
from ckd_core.evaluation.report.write import REPORT_FILES
from ckd_core.files import discard, finite, write_json, write_text
from ckd_core.frame import BoundingBox, Modality
from ckd_core.locks import folder_lock
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.report import offline_json, streaming_json, write_bag_report
from sdstrack_ros.bags.scoring import OfflineReport, ReasonCounts, bag_input, evaluate_offline
from sdstrack_ros.bags.space import KNOWN_VELOCITY, PoseEvaluation, read_space
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.bags.storage.recovery import recovered
from sdstrack_ros.bags.streaming import evaluate_streaming
from sdstrack_ros.bags.truth import EvaluationError
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.parameters.checks import settings_from, settings_from_yaml
from sdstrack_ros.sync.frame_builder import IMAGE_SHARE, aux_homography, memory_bytes, sync_config, thermal_range
from sdstrack_ros.tracking.ego_motion import camera_motion_of
from sdstrack_ros.tracking.warm_tracker import build_warm_tracker
from sdstrack_ros.tracking.weights_path import weights_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ckd_core.evaluation.scoring.metrics import TrackSummary
    from ckd_core.tracking.camera_motion import CameraMotion
    from sdstrack_ros.bags.scoring import BagInput
    from sdstrack_ros.bags.space import PoseSummary, RecordedSpace
    from sdstrack_ros.messages.transforms import RigidTransform
    from sdstrack_ros.parameters.table import Settings

RESULT_FILES = ("result.json", "boxes.txt", "streaming.json")


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """The options of `sdstrack evaluate`, where they are described.

    Attributes:
        overrides: node parameters that replace those of the file.
        recover: read what is whole of damaged MCAP files.
    """

    bag: Path
    config: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    rgb: str = ""
    aux: str = ""
    truth: str = ""
    truth_file: Path | None = None
    init_box: str | None = None
    recover: bool = False
    realtime: bool = False
    latency_s: float | None = None
    out: Path | None = None
    any_modality: bool = False


def evaluate(request: EvaluateRequest) -> Iterator[str]:
    """Evaluate, write the result files, and yield lines for the user.

    Raises:
        TrackingError: whatever the settings, the recording or the tracker refuse, or another process that writes there.
    """
    lock = nullcontext() if request.out is None else folder_lock(request.out, "sdstrack evaluate")
    with lock, recovered(request.bag, request.recover) as (bag, remarks):
        for remark in remarks:
            yield f"{request.bag}: {remark}"
        yield from _evaluate(dataclasses.replace(request, bag=bag))


def _evaluate(request: EvaluateRequest) -> Iterator[str]:
    settings = settings_from_yaml(request.config) if request.config is not None else settings_from({})
    settings = settings_from({**dataclasses.asdict(settings), **_overrides(request)})
    if settings.sync_policy != "tolerant":
        raise EvaluationError(f"sync_policy '{settings.sync_policy}' cannot be replayed; recordings need 'tolerant'")
    with open_bag(request.bag) as bag:
        recorded, remarks = {topic.name for topic in bag.topics}, bag.remarks
    for remark in remarks:
        yield f"{request.bag}: {remark}"
    source = _source(request, settings, recorded)
    yield f"{request.bag}: colour {source.topics.rgb or '-'}, {settings.modality} {source.topics.aux or '-'}"
    if source.topics.aux and not request.any_modality:
        from ckd_core.tracking.engines.origin import weights_origin

        weights = weights_path(settings.weights)
        yield from weights_origin(settings.model, weights).warnings([Modality(settings.modality)])
    init_box = parse_box(request.init_box) if request.init_box is not None else _init_box(settings)
    warm = build_warm_tracker(settings)
    with open_bag(request.bag) as bag:
        space = read_space(bag)
    warm.tracker.camera_motion = _camera_motion(settings, space)
    poses = None if space is None else PoseEvaluation(space, settings)
    offline = evaluate_offline(
        source, warm.tracker, request.truth_file, init_box, poses.observe if poses is not None else lambda *_: None
    )
    yield from _describe(offline)
    pose_summary = None if poses is None else poses.summary()
    if poses is not None:
        yield from _describe_poses(pose_summary, poses.complaints)
    about = {
        "bag": request.bag.name,
        "topics": dataclasses.asdict(source.topics),
        "truth_file": None if request.truth_file is None else request.truth_file.name,
        "modality": settings.modality,
        **({"any_modality": True} if request.any_modality else {}),
        "model": warm.model,
        "engine": warm.engine,
        "device": warm.device,
        "synchronisation": dataclasses.asdict(source.sync),
        "ego_motion": settings.ego_motion,
        **({} if pose_summary is None else {"pose": finite(dataclasses.asdict(pose_summary))}),
    }
    if request.out is not None:
        discard(request.out / name for name in (*RESULT_FILES, *REPORT_FILES))
        write_json(request.out / "result.json", offline_json(offline, about))
        write_text(request.out / "boxes.txt", "".join(_box_line(row.box) for row in offline.rows))
    if not request.realtime:
        if request.out is not None:
            yield f"wrote {write_bag_report(request.out, source, offline, None, about)}"
        return
    streaming = evaluate_streaming(source, warm.tracker, request.truth_file, init_box, request.latency_s)
    report = streaming_json(streaming, offline.summary)
    if request.out is not None:
        write_json(request.out / "streaming.json", report)
    latency = report["latency"]
    yield (
        f"as live ({'measured' if streaming.measured else 'stated'} latency p50 {latency['p50_ms']:.1f} ms): "
        f"{_score_text(streaming.summary)}, {streaming.tracked} of {streaming.frames} frames tracked, "
        f"{streaming.dropped} dropped"
    )
    yield f"as live, moved on to each frame's time: {_score_text(streaming.predicted)}"
    if offline.summary is not None:
        price = offline.summary.auc - streaming.summary.auc
        gain = streaming.predicted.auc - streaming.summary.auc
        yield f"price of being late: AUC {price:+.4f}; prediction gains {gain:+.4f}"
    if request.out is not None:
        yield f"wrote {write_bag_report(request.out, source, offline, streaming, about)}"


def _overrides(request: EvaluateRequest) -> dict[str, Any]:
    """The request's parameters; weights that it names bring their network along where it names none."""
    weights = weights_path(str(request.overrides.get("weights", "")))
    if weights is None or "model" in request.overrides:
        return request.overrides
    from ckd_core.tracking.engines.origin import model_of

    return {**request.overrides, "model": model_of(None, weights)}


def _source(request: EvaluateRequest, settings: Settings, recorded: set[str]) -> BagInput:
    packets = settings.modality == Modality.EVENT.value and settings.event_input == "packets"
    # Topics of a parameter file count if they are recorded under that name; relative names were remapped.
    rgb = request.rgb or _recorded(settings.rgb_topic, recorded)
    aux = request.aux or _recorded(settings.events_topic if packets else settings.aux_topic, recorded)
    return bag_input(
        request.bag,
        Modality(settings.modality),
        BagTopics(rgb, aux, request.truth),
        sync_config(settings),
        aux_homography(settings),
        settings.depth_unit_m,
        thermal_range(settings),
        memory_bytes(settings) // IMAGE_SHARE,
    )


def _recorded(topic: str, recorded: set[str]) -> str:
    names = (topic, f"{topic}/compressed", f"{topic}/compressedDepth")
    return next((name for name in names if name.startswith("/") and name in recorded), "")


def _init_box(settings: Settings) -> BoundingBox | None:
    box = BoundingBox(*settings.init_box)
    return box if box.w > 0 and box.h > 0 else None


def _box_line(box: BoundingBox | None) -> str:
    return ",".join("nan" if box is None else f"{value:.4f}" for value in (box or (0.0,) * 4)) + "\n"


def _score_text(summary: TrackSummary) -> str:
    return f"AUC {summary.auc:.4f}, precision {summary.precision:.4f}, lost in {summary.lost} of {summary.frames}"


def _describe(report: OfflineReport) -> Iterator[str]:
    counters = report.counters
    yield (
        f"{len(report.rows)} frames: {counters.paired} pairs, {counters.held} with a held image, "
        f"{counters.color_alone} colour alone, {counters.aux_alone} without colour"
    )
    for reason, number in sorted(report.rejections.items()):
        yield f"rejected {number} images: {reason}"
    for remark in report.remarks:
        yield f"warning: {remark}"
    for reset, number in sorted(report.time_resets.items()):
        yield f"warning: {number} times: {reset}"
    refused = ReasonCounts()
    for row in report.rows:
        if row.refused:
            refused.add(row.refused)
    for reason, number in sorted(refused.counts.items()):
        yield f"refused {number} frames: {reason}"
    if report.summary is None:
        yield "no truth to score against"
        return
    yield f"every frame: {_score_text(report.summary)}"
    failed, lasted = report.failed_after_s, (report.rows[-1].stamp_ns - report.rows[0].stamp_ns) / NS_PER_S
    yield f"time to failure: {f'more than {lasted:.1f} s, the recording' if failed is None else f'{failed:.1f} s'}"


def _camera_motion(settings: Settings, space: RecordedSpace | None) -> CameraMotion | None:
    """Return the camera's motion as the settings want it, from the recording's own transforms.

    Raises:
        EvaluationError: the recording lacks what `ego_motion` tf needs.
    """
    if settings.ego_motion == "tf" and space is None:
        raise EvaluationError(
            "ego_motion 'tf' needs a recording with camera_info, /tf and one topic of true poses; this one lacks them"
        )

    def lookup(target: str, source: str, stamp_ns: int | None) -> RigidTransform:
        assert space is not None  # noqa: S101  # checked above for the only way that asks
        return space.transforms.lookup(target, source, stamp_ns)

    return camera_motion_of(settings, lookup, lambda: None if space is None else space.camera, lambda _: None)


def _describe_poses(summary: PoseSummary | None, complaints: Sequence[str]) -> Iterator[str]:
    if summary is None:
        yield f"no pose to compare with the true ones: {complaints[-1] if complaints else 'no depth in the box'}"
        return
    coasting = "" if math.isnan(summary.coasting_rms_m) else f", unseen: {summary.coasting_rms_m:.3f} m"
    yield (
        f"poses: RMS error {summary.rms_m:.3f} m ({summary.rms_share:.1%} of the distance),"
        f" {summary.rms_deg:.2f} degrees,"
        f" {summary.inside_95:.0%} of true places inside the 95 % ellipse, {summary.frames} frames, {summary.missing}"
        f" without a pose{coasting}"
    )
    if not math.isnan(summary.velocity_rms):
        yield (
            f"velocities, a second after the first pose and later: RMS error {summary.velocity_rms:.3f} m/s,"
            f" {summary.velocity_known:.0%} of frames below {KNOWN_VELOCITY:g} m/s"
        )
