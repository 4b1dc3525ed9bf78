"""Tracking one target through the frames of one activation: the tracking thread's side, without ROS.

Requests and frames come in, answers go out. Nothing here knows about messages, topics or threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.frame import FrameError
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.tracking.source_frame import History, SourceFrame, spread
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    CandidatesRequest,
    PixelRequest,
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

# A request whose frame has not come yet is kept for so long: detectors can be faster than the synchronizer.
PENDING_S = 1.0
# A target whose frames the tracker refuses so often in a row (an image size that changed for good) is given up.
GIVE_UP_AFTER_FRAMES = 10
# Detectors copy the header's stamp, so it fits to the nanosecond; half of this frame period allows for rounding.
STAMP_TOLERANCE_NS = 15_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What one frame led to.

    result: None while there is no target.
    target_id: counts targets since configuration, '' without a target.
    decode_s, tracker_s: seconds spent.
    """

    source: SourceFrame
    images: MultiModalFrame
    result: TrackResult | None
    target_id: str
    decode_s: float = 0.0
    tracker_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: taken, or refused and why; `answer` is the frame that it started on or caught up to."""

    taken: bool
    text: str
    answer: Answer | None = None


class Session:
    """Owns the tracker while the node is active. All methods are for the tracking thread alone."""

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
        self._answered = -1
        self._refusals = 0
        self._pending: tuple[TargetRequest, float] | None = None

    @property
    def state(self) -> str:
        """TRACKING, UNCERTAIN, LOST or NONE."""
        return self._last.state.value if self._tracking and self._last is not None else "NONE"

    @property
    def score(self) -> float:
        """Score of the last answer, 0 without a target."""
        return self._last.score if self._tracking and self._last is not None else 0.0

    @property
    def target_id(self) -> str:
        """Number of the present target, '' without one."""
        return str(self._targets) if self._tracking else ""

    def on_frame(self, source: SourceFrame) -> tuple[list[Reply], Answer | None]:
        """Track into a frame, after `on_waiting`.

        Returns what there is to say, and the answer; no answer when the frame was already used to start or to catch up.

        Raises:
            TrackingError: the frame cannot be used; the target's state stays as it was.

        """
        if source.sequence <= self._answered:
            return [], None
        try:
            return [], self._answer(source)
        except _RefusedError as error:
            if self._refusals < GIVE_UP_AFTER_FRAMES:
                raise
            self._forget()
            text = f"target forgotten: {self._refusals} frames in a row could not be used, the last because {error}"
            return [Reply(False, text)], Answer(source, source.images(), None, "")

    def on_request(self, request: TargetRequest) -> list[Reply]:
        """Meet a request; returns the replies to it and to the one whose place it took.

        No reply: it waits for its frame, or needs none.
        """
        replies = self.on_waiting()
        waiting = self._pending
        streamed = waiting is not None and isinstance(waiting[0], CandidatesRequest)
        if isinstance(request, CandidatesRequest) and waiting is not None and not streamed:
            return replies  # a detector does not overrule what somebody asked for; its next message is on its way
        patient = isinstance(request, BoxRequest) and request.patient
        reply = self._try(request, float("inf") if patient else self._clock() + PENDING_S)
        if waiting is not None and not streamed and self._pending is not waiting:
            reason = f"a newer request ({request.origin}) took its place before its frame came"
            replies.append(Reply(False, f"{waiting[0].origin} refused: {reason}"))
        return replies if reply is None else [*replies, reply]

    def on_waiting(self) -> list[Reply]:
        """Meet the request that waits for its frame, or refuse it when its time is up.

        Call it before every frame, and now and then while none comes.
        """
        if self._pending is None:
            return []
        request, until = self._pending
        self._pending = None
        if self._clock() > until:
            return [Reply(False, f"{request.origin} refused: {_missing_frame(request)}")]
        reply = self._try(request, until)
        return [] if reply is None else [reply]

    def _try(self, request: TargetRequest, until: float) -> Reply | None:
        try:
            return self._meet(request)
        except _NotYetError:
            self._pending = (request, until)
            return None
        except _UnusableError as error:
            if isinstance(request, BoxRequest) and request.patient:
                self._pending = (request, until)  # a first frame that is broken must not cost the target
                return None
            return Reply(False, f"{request.origin} refused: {error}")
        except TrackingError as error:
            return Reply(False, f"{request.origin} refused: {error}")
        except Exception as error:  # noqa: BLE001  # whatever a library raises, who asked gets an answer
            return Reply(False, f"{request.origin} refused: {type(error).__name__}: {error}")

    def _meet(self, request: TargetRequest) -> Reply | None:
        if isinstance(request, ResetRequest):
            return self._reset(request)
        if isinstance(request, CandidatesRequest):
            return self._adopt(request)
        if isinstance(request, PixelRequest):
            return self._start_at_pixel(request)
        return self._start(request.origin, request.box, self._frames_since(request.stamp_ns))

    def _reset(self, request: ResetRequest) -> Reply:
        had = self._tracking
        self._forget()
        self._pending = None
        return Reply(True, f"{request.origin} taken: " + ("target forgotten" if had else "there was no target"))

    def _forget(self) -> None:
        self._tracker.reset()
        self._tracking, self._last, self._lost_since = False, None, None

    def _adopt(self, request: CandidatesRequest) -> Reply | None:
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
        origin = f"{request.origin} ({best.class_id or 'no class'}, score {best.score:.2f})"
        return self._start(origin, best.box, self._frames_since(request.stamp_ns))

    def _wants_candidate(self) -> bool:
        if not self._tracking:
            return True
        lost_for = 0.0 if self._lost_since is None else self._clock() - self._lost_since
        return self._lost_since is not None and lost_for > self._settings().readopt_after_s

    def _start_at_pixel(self, request: PixelRequest) -> Reply:
        settings = self._settings()
        frames = self._frames_since(None)
        images = self._images(frames[-1])
        width, height = settings.init_size
        box = box_at_pixel(images, self._image_size(images), request, (width, height))
        return self._start(request.origin, box, frames)

    def _frames_since(self, stamp_ns: int | None) -> tuple[SourceFrame, ...]:
        newest = self._history.newest()
        span = self._history.span_ns()
        if newest is None or span is None:
            raise _NotYetError
        if stamp_ns is None:
            return (newest,)
        frames = self._history.since(stamp_ns, STAMP_TOLERANCE_NS)
        if frames:
            return frames
        if stamp_ns > span[1]:
            raise _NotYetError
        oldest_s = (span[1] - span[0]) / 1e9
        raise TargetError(
            f"no frame of stamp {stamp_ns / 1e9:.3f} is kept; the history reaches {oldest_s:.2f} s back from"
            f" {span[1] / 1e9:.3f}"
        )

    def _start(self, origin: str, box: BoundingBox, frames: tuple[SourceFrame, ...]) -> Reply:
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
        answer = Answer(first, images, self._last, self.target_id, tracker_s=self._clock() - begin)
        self._answered = max(self._answered, first.sequence)
        caught_up = f", caught up through {len(rest)} frames" if rest else ""
        left_out, reason = 0, ""
        for source in spread(tuple(rest), self._settings().catch_up_frames):
            try:
                answer = self._answer(source)
            except Exception as error:  # noqa: BLE001  # the target has begun; what one frame brings does not undo that
                left_out, reason = left_out + 1, str(error)
        if left_out:
            caught_up += f", {left_out} left out: {reason}"
        return Reply(True, f"{origin} taken: target {self.target_id} at {_text(box)}{caught_up}", answer)

    def _answer(self, source: SourceFrame) -> Answer:
        begin = self._clock()
        self._answered = max(self._answered, source.sequence)
        images = self._images(source)
        decoded = self._clock()
        if not self._tracking:
            return Answer(source, images, None, "", decode_s=decoded - begin)
        try:
            result = self._tracker.update(images)
        except TrackingError as error:
            self._refusals += 1
            raise _RefusedError(str(error)) from error
        self._refusals = 0
        self._last = result
        done = self._clock()
        if result.state is not TrackState.LOST:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = done
        return Answer(source, images, result, self.target_id, decoded - begin, done - decoded)

    def _images(self, source: SourceFrame) -> MultiModalFrame:
        try:
            images = source.images()
        except FrameError as error:
            raise _UnusableError(str(error)) from error
        if images.rgb is not None:
            self._size = (images.rgb.shape[1], images.rgb.shape[0])  # requests need it before a target has a result
        return images

    def _image_size(self, images: MultiModalFrame) -> tuple[int, int]:
        """Width and height of the image that boxes refer to; while colour is dead, what it last was."""
        if self._size is not None:
            return self._size
        if images.aux is None:
            raise TargetError("the frame has no image")
        return images.aux.shape[1], images.aux.shape[0]


class _RefusedError(TrackingError):
    """The tracker cannot follow the target into a frame."""


class _UnusableError(TrackingError):
    """A frame whose messages hold no image."""


class _NotYetError(TargetError):
    """The frame that a request refers to has not come yet."""


def _missing_frame(request: TargetRequest) -> str:
    stamp_ns = getattr(request, "stamp_ns", None)
    frame = "frame" if stamp_ns is None else f"frame of stamp {stamp_ns / 1e9:.3f}"
    return f"no {frame} came within {PENDING_S:g} s"


def _text(box: BoundingBox) -> str:
    return f"({box.x:.1f}, {box.y:.1f}, {box.w:.1f}, {box.h:.1f})"
