"""One target followed through the frames of one activation: the tracking thread's side of the node.

Requests and frames come in; outcomes and results go out. Nothing here knows of messages, topics or threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.frame import FrameError
from ckd_core.text import shown
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.tracking.source_frame import History, SourceFrame, spread
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    CandidatesRequest,
    PixelRequest,
    RequestOutcome,
    ResetRequest,
    TargetError,
    TargetRequest,
    best_candidate,
    box_at_pixel,
    checked_box,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.tracker import FrameTracker
    from sdstrack_ros.parameters.table import Settings

# How long a request waits for its frame: a detector can be faster than the synchronizer.
PENDING_S = 1.0
# Refusals in a row after which a target is given up: the image size, for example, has changed for good.
GIVE_UP_AFTER_FRAMES = 10
# Detectors copy the header's stamp, so it fits to the nanosecond; half a frame period allows for rounding.
STAMP_TOLERANCE_NS = 15_000_000


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame led to.

    Attributes:
        source: the frame as it left the synchronizer.
        images: the same, decoded.
        track: None while there is no target.
        target_id: counts targets since configuration; '' without a target.
        decode_s: seconds spent on decoding.
        tracker_s: seconds spent in the tracker.
        given_up: why the target was forgotten at this frame; '' unless it was.

    """

    source: SourceFrame
    images: MultiModalFrame
    track: TrackResult | None
    target_id: str
    decode_s: float = 0.0
    tracker_s: float = 0.0
    given_up: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """The outcome of a request, and the frame that the target started on or caught up to (None: no target started)."""

    outcome: RequestOutcome
    frame_result: FrameResult | None = None


class Session:
    """Owns the tracker while the node is active. Only the tracking thread calls its methods."""

    def __init__(
        self,
        tracker: FrameTracker,
        history: History,
        settings: Callable[[], Settings],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracker = tracker
        self._history = history
        self._settings = settings
        self._clock = clock
        self._targets = 0
        self._tracking = False
        self._last: TrackResult | None = None
        self._lost_since: float | None = None
        self._size: tuple[int, int] | None = None
        self._last_sequence = -1
        self._refusals = 0
        self._pending: tuple[TargetRequest, float] | None = None

    @property
    def state(self) -> str:
        """TRACKING, UNCERTAIN, LOST or NONE."""
        return self._last.state.value if self._tracking and self._last is not None else "NONE"

    @property
    def score(self) -> float:
        """Score in the last frame; 0 without a target."""
        return self._last.score if self._tracking and self._last is not None else 0.0

    @property
    def target_id(self) -> str:
        """Number of the current target; '' without one."""
        return str(self._targets) if self._tracking else ""

    def on_frame(self, source: SourceFrame) -> FrameResult | None:
        """Track into a frame; call `on_waiting` before.

        Returns:
            The result; None when the frame has already served to start or to catch up.

        Raises:
            TrackingError: the frame cannot be used; the state of the target stays as it was.

        """
        if source.sequence <= self._last_sequence:
            return None
        try:
            return self._track(source)
        except _FrameRefusedError as error:
            if self._refusals < GIVE_UP_AFTER_FRAMES:
                raise
            self._forget()
            reason = f"{self._refusals} frames in a row could not be used, the last because {error}"
            return FrameResult(source, source.images(), None, "", given_up=reason)

    def on_request(self, request: TargetRequest) -> list[Served]:
        """Serve a request.

        Returns:
            The outcome of it and of the request that it replaced; none while it waits for its frame or when it needs
            none.

        """
        served = self.on_waiting()
        waiting = self._pending
        streamed = waiting is not None and isinstance(waiting[0], CandidatesRequest)
        if isinstance(request, CandidatesRequest) and waiting is not None and not streamed:
            return served  # a detector does not overrule what a user asked for; its next message will come soon
        patient = isinstance(request, BoxRequest) and request.patient
        last = self._try(request, float("inf") if patient else self._clock() + PENDING_S)
        if waiting is not None and not streamed and self._pending is not waiting:
            reason = f"a newer request ({request}) took its place before its frame came"
            served.append(Served(waiting[0].refused(reason)))
        return served if last is None else [*served, last]

    def on_waiting(self) -> list[Served]:
        """Serve the request that waits for its frame, or refuse it when its time is up.

        Call it before every frame, and now and then while none comes.
        """
        if self._pending is None:
            return []
        request, until = self._pending
        self._pending = None
        if self._clock() > until:
            return [Served(request.refused(_missing_frame(request)))]
        served = self._try(request, until)
        return [] if served is None else [served]

    def _try(self, request: TargetRequest, until: float) -> Served | None:
        try:
            return self._serve(request)
        except _NotYetError:
            self._pending = (request, until)
            return None
        except _UnusableError as error:
            if isinstance(request, BoxRequest) and request.patient:
                self._pending = (request, until)  # a broken first frame must not cost the target
                return None
            return Served(request.refused(str(error)))
        except TrackingError as error:
            return Served(request.refused(str(error)))
        except Exception as error:  # noqa: BLE001  # whatever a library raises, every request has an outcome
            return Served(request.refused(f"{type(error).__name__}: {error}"))

    def _serve(self, request: TargetRequest) -> Served | None:
        if isinstance(request, ResetRequest):
            return self._reset(request)
        if isinstance(request, CandidatesRequest):
            return self._adopt(request)
        if isinstance(request, PixelRequest):
            return self._start_at_pixel(request)
        return self._start(request, request.box, self._frames_since(request.stamp_ns))

    def _reset(self, request: ResetRequest) -> Served:
        had_target = self._tracking
        self._forget()
        self._pending = None
        return Served(request.accepted("target forgotten" if had_target else "there was no target"))

    def _forget(self) -> None:
        self._tracker.reset()
        self._tracking, self._last, self._lost_since = False, None, None

    def _adopt(self, request: CandidatesRequest) -> Served | None:
        settings = self._settings()
        if not settings.adopt_candidates:
            raise TargetError("adopt_candidates is false")
        if not self._wants_candidate():
            return None
        best = best_candidate(request.candidates, settings.candidate_class, settings.candidate_min_score)
        if best is None:
            wanted = f"of class '{settings.candidate_class}' " if settings.candidate_class else ""
            raise TargetError(
                f"none of {len(request.candidates)} candidates is {wanted}with a score of at least"
                f" {settings.candidate_min_score}"
            )
        adopted = replace(request, detail=f"({shown(best.class_id) or 'no class'}, score {best.score:.2f})")
        return self._start(adopted, best.box, self._frames_since(request.stamp_ns))

    def _wants_candidate(self) -> bool:
        if not self._tracking:
            return True
        lost_for = 0.0 if self._lost_since is None else self._clock() - self._lost_since
        return self._lost_since is not None and lost_for > self._settings().readopt_after_s

    def _start_at_pixel(self, request: PixelRequest) -> Served:
        settings = self._settings()
        frames = self._frames_since(None)
        images = self._images(frames[-1])
        width, height = settings.init_size
        box = box_at_pixel(images, self._image_size(images), request, (width, height))
        return self._start(request, box, frames)

    def _frames_since(self, stamp_ns: int | None) -> tuple[SourceFrame, ...]:
        newest = self._history.newest()
        span = self._history.span_ns()
        if newest is None or span is None:
            raise _NotYetError
        if stamp_ns is None:
            self._check_age(newest)
            return (newest,)
        frames = self._history.since(stamp_ns, STAMP_TOLERANCE_NS)
        if frames:
            self._check_age(newest)
            return frames
        if stamp_ns > span[1]:
            raise _NotYetError
        reach_s = (span[1] - span[0]) / NS_PER_S
        raise TargetError(
            f"no frame of stamp {stamp_ns / NS_PER_S:.3f} is kept; the history reaches {reach_s:.2f} s back from"
            f" {span[1] / NS_PER_S:.3f}"
        )

    def _check_age(self, newest: SourceFrame) -> None:
        """Refuse a target in the picture that a dead camera has left behind: by now it shows what is not there."""
        age_s, limit_s = self._clock() - newest.released, self._settings().stale_after_s
        if age_s > limit_s:
            raise TargetError(
                f"the newest frame is {age_s:.1f} s old; expected at most {limit_s:g} s (stale_after_s): images have"
                " stopped"
            )

    def _start(self, request: TargetRequest, box: BoundingBox, frames: tuple[SourceFrame, ...]) -> Served:
        first, *rest = frames
        images = self._images(first)
        checked_box(box, self._image_size(images))
        if images.rgb is None and images.aux is not None and images.aux.shape[1::-1] != self._image_size(images):
            width, height = self._image_size(images)
            raise TargetError(
                f"colour is missing, and a box in its {width} x {height} pixels has no place in the "
                f"{images.aux.shape[1]} x {images.aux.shape[0]} {images.modality.value} image; wait for colour"
            )
        begin = self._clock()
        self._tracker.start(images, box)
        self._targets += 1
        self._tracking, self._lost_since, self._pending, self._refusals = True, None, None, 0
        rgb_present, aux_present = images.presence
        width, height = self._image_size(images)
        self._last = TrackResult(
            images.stamp, box, 1.0, TrackState.TRACKING, rgb_present, aux_present, reference_size=(height, width)
        )
        frame_result = FrameResult(first, images, self._last, self.target_id, tracker_s=self._clock() - begin)
        self._last_sequence = max(self._last_sequence, first.sequence)
        caught_up = f", caught up through {len(rest)} frames" if rest else ""
        skipped, reason = 0, ""
        for source in spread(tuple(rest), self._settings().catch_up_frames):
            try:
                frame_result = self._track(source)
            except Exception as error:  # noqa: BLE001  # the target has started; a bad frame later does not undo that
                skipped, reason = skipped + 1, str(error)
        if skipped:
            caught_up += f", {skipped} skipped: {reason}"
        at = f"({box.x:.1f}, {box.y:.1f}, {box.w:.1f}, {box.h:.1f})"
        return Served(request.accepted(f"target {self.target_id} at {at}{caught_up}"), frame_result)

    def _track(self, source: SourceFrame) -> FrameResult:
        begin = self._clock()
        self._last_sequence = max(self._last_sequence, source.sequence)
        images = self._images(source)
        decoded = self._clock()
        if not self._tracking:
            return FrameResult(source, images, None, "", decode_s=decoded - begin)
        try:
            track = self._tracker.update(images)
        except TrackingError as error:
            self._refusals += 1
            raise _FrameRefusedError(str(error)) from error
        self._refusals = 0
        self._last = track
        done = self._clock()
        if track.state is not TrackState.LOST:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = done
        return FrameResult(source, images, track, self.target_id, decoded - begin, done - decoded)

    def _images(self, source: SourceFrame) -> MultiModalFrame:
        try:
            images = source.images()
        except FrameError as error:
            raise _UnusableError(str(error)) from error
        if images.rgb is not None:
            self._size = (images.rgb.shape[1], images.rgb.shape[0])  # requests need it before a target has a result
        return images

    def _image_size(self, images: MultiModalFrame) -> tuple[int, int]:
        """Width and height of the image that boxes refer to; while colour is dead, those of its last image."""
        if self._size is not None:
            return self._size
        if images.aux is None:
            raise TargetError("the frame has no image")
        return images.aux.shape[1], images.aux.shape[0]


class _FrameRefusedError(TrackingError):
    """The tracker cannot follow the target into a frame."""


class _UnusableError(TrackingError):
    """A frame whose messages hold no image."""


class _NotYetError(TargetError):
    """The frame that a request refers to has not come yet."""


def _missing_frame(request: TargetRequest) -> str:
    stamp_ns = getattr(request, "stamp_ns", None)
    frame = "frame" if stamp_ns is None else f"frame of stamp {stamp_ns / NS_PER_S:.3f}"
    return f"no {frame} came within {PENDING_S:g} s"
