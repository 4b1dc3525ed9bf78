"""The targets followed through the frames of one activation: the tracking thread's side of the node.

Requests and frames come in; outcomes and results go out. Nothing here knows of messages, topics or threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.text import shown
from ckd_core.tracking.engines import EngineFailedError
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.tracking.pictures import NotYetError, Pictures, UnusableFrameError
from sdstrack_ros.tracking.results import Ending, FrameResult, Served, TargetResult, main_target
from sdstrack_ros.tracking.source_frame import History, SourceFrame, spread
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    CandidatesRequest,
    PixelRequest,
    RemoveRequest,
    ResetRequest,
    TargetError,
    TargetRequest,
    checked_id,
    fitting_candidates,
)
from sdstrack_ros.tracking.targets import FramesTracker, Newcomer, Targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdstrack_ros.parameters.table import Settings

# How long a request waits for its frame: a detector can be faster than the synchronizer.
PENDING_S = 1.0
# Refusals in a row after which the targets are given up: the image size, for example, has changed for good.
GIVE_UP_AFTER_FRAMES = 10

StartRequest = BoxRequest | PixelRequest


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that waits for its frame, until a time of the session's clock."""

    request: TargetRequest
    until: float


@dataclass(frozen=True, slots=True)
class _Start:
    """A newcomer, and the request that its outcome concludes."""

    request: TargetRequest
    newcomer: Newcomer


class Session:
    """Owns the tracker while the node is active. Only the tracking thread calls its methods."""

    def __init__(
        self,
        tracker: FramesTracker,
        history: History,
        settings: Callable[[], Settings],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets = Targets(tracker, settings, clock)
        self._history = history
        self._settings = settings
        self._clock = clock
        self._pictures = Pictures(history, settings, clock)
        self._last_sequence = -1
        self._refusals = 0
        self._waiting: dict[str, _Waiting] = {}  # by id; '' for the target without one
        self._waiting_candidates: _Waiting | None = None

    @property
    def targets(self) -> tuple[TargetResult, ...]:
        """All targets as they were in the last frame, the oldest first; other threads may read it."""
        return self._targets.results

    @property
    def state(self) -> str:
        """TRACKING, UNCERTAIN, LOST or NONE: that of the target without an id, else of the oldest."""
        target = main_target(self.targets)
        return "NONE" if target is None else target.state.value

    @property
    def score(self) -> float:
        """Score of the same target in the last frame; 0 without a target."""
        target = main_target(self.targets)
        return 0.0 if target is None else target.score

    @property
    def target_id(self) -> str:
        """Id of the same target; '' without one."""
        target = main_target(self.targets)
        return "" if target is None else target.target_id

    def on_frame(self, source: SourceFrame) -> FrameResult | None:
        """Track into a frame; call `on_waiting` before.

        Returns:
            The result; None when the frame has already served to start or to catch up.

        Raises:
            TrackingError: the frame cannot be used; the state of the targets stays as it was.

        """
        if source.sequence <= self._last_sequence:
            return None
        try:
            return self._track(source)
        except _FrameRefusedError as error:
            if self._refusals < GIVE_UP_AFTER_FRAMES:
                raise
            reason = f"{self._refusals} frames in a row could not be used, the last because {error}"
            endings = tuple(Ending(target_id, reason) for target_id in self._targets.forget())
            return FrameResult(source, source.images(), endings=endings)

    def on_request(self, request: TargetRequest) -> list[Served]:
        """Serve a request.

        Returns:
            The outcomes of it and of the requests that it replaced; none while it waits for its frame or when it needs
            none.

        """
        served = self.on_waiting()
        if isinstance(request, CandidatesRequest):
            return [*served, *self._try(request, self._clock() + PENDING_S)]
        waiting = dict(self._waiting)
        patient = isinstance(request, BoxRequest) and request.patient
        last = self._try(request, float("inf") if patient else self._clock() + PENDING_S)
        for name, other in waiting.items():
            if self._waiting.get(name) is not other:
                reason = f"a newer request ({request}) took its place before its frame came"
                served.append(Served(other.request.refused(reason)))
        return [*served, *last]

    def on_waiting(self) -> list[Served]:
        """Serve the requests that wait for their frames, or refuse those whose time is up.

        Call it before every frame, and now and then while none comes.
        """
        waiting, candidates = tuple(self._waiting.values()), self._waiting_candidates
        self._waiting, self._waiting_candidates = {}, None
        served = []
        for one in (*waiting, *([candidates] if candidates is not None else [])):
            if self._clock() > one.until:
                served.append(Served(one.request.refused(_missing_frame(one.request))))
            else:
                served += self._try(one.request, one.until)
        return served

    def _try(self, request: TargetRequest, until: float) -> list[Served]:
        try:
            return self._serve(request)
        except NotYetError:
            self._wait(_Waiting(request, until))
            return []
        except UnusableFrameError as error:
            if isinstance(request, BoxRequest) and request.patient:
                self._wait(_Waiting(request, until))  # a broken first frame must not cost the target
                return []
            return [Served(request.refused(str(error)))]
        except TrackingError as error:
            return [Served(request.refused(str(error)))]
        except Exception as error:  # noqa: BLE001  # whatever a library raises, every request has an outcome
            return [Served(request.refused(f"{type(error).__name__}: {error}"))]

    def _wait(self, waiting: _Waiting) -> None:
        if isinstance(waiting.request, CandidatesRequest):
            self._waiting_candidates = waiting
        elif isinstance(waiting.request, StartRequest):
            self._waiting[self._slot(waiting.request.target_id)] = waiting
            self._waiting_candidates = None  # the detector's next message will come soon

    def _slot(self, target_id: str) -> str:
        """The requests of one slot take each other's place: where there is one target at most, all do."""
        return target_id if self._settings().max_targets > 1 else ""

    def _serve(self, request: TargetRequest) -> list[Served]:
        if isinstance(request, ResetRequest):
            return [self._reset(request)]
        if isinstance(request, RemoveRequest):
            return [self._remove(request)]
        if isinstance(request, CandidatesRequest):
            return self._adopt(request)
        target_id = checked_id(request.target_id)
        slot = self._slot(target_id)
        replaced = self._targets.place_of(target_id, [name for name in self._waiting if name != slot])
        frames = self._pictures.since(request.stamp_ns)
        box = request.box if isinstance(request, BoxRequest) else self._pictures.box_at_pixel(request, frames[0])
        start = _Start(request, Newcomer(target_id, request.label, box, replaced))
        self._targets.check_size(self._pictures.check_box(box, frames[0]), {replaced})
        served = self._start([start], frames)
        self._waiting.pop(slot, None)
        self._waiting_candidates = None
        return served

    def _reset(self, request: ResetRequest) -> Served:
        count = len(self._targets.forget())
        self._waiting, self._waiting_candidates = {}, None
        one_or_none = "target forgotten" if count else "there was no target"
        return Served(request.accepted(f"{count} targets forgotten" if count > 1 else one_or_none))

    def _remove(self, request: RemoveRequest) -> Served:
        target_id = checked_id(request.target_id)
        if not target_id:
            raise TargetError(f"the id is empty; expected one of: {self._targets.names() or 'none'}")
        waiting = self._waiting.pop(target_id, None)
        if waiting is None or target_id in self._targets:
            self._targets.remove(target_id)
        return Served(request.accepted(f"target {target_id} forgotten"))

    def _adopt(self, request: CandidatesRequest) -> list[Served]:
        settings = self._settings()
        if self._waiting and settings.max_targets == 1:
            return []  # a detector does not overrule what a user asked for; its next message will come soon
        if not settings.adopt_candidates:
            raise TargetError("adopt_candidates is false")
        fitting, refusals = fitting_candidates(
            request.candidates, settings.candidate_class, settings.candidate_min_score
        )
        starts: list[_Start] = []
        for candidate in fitting:
            if candidate.target_id in self._waiting:
                continue
            newcomers = [start.newcomer for start in starts]
            try:
                replaced = self._targets.place_of_candidate(candidate, newcomers, self._waiting)
            except TargetError as error:
                refusals.append(str(error))
                break
            if replaced is not None:
                name = f"'{candidate.target_id}' " if candidate.target_id else ""
                detail = f"{name}({shown(candidate.class_id) or 'no class'}, score {candidate.score:.2f})"
                label = candidate.class_id if candidate.target_id else ""
                newcomer = Newcomer(candidate.target_id, shown(label), candidate.box, replaced)
                starts.append(_Start(replace(request, detail=detail), newcomer))
            if settings.max_targets == 1:
                break
        if not fitting and not refusals and not self._waiting and self._targets.wants_any():
            wanted = f"of class '{settings.candidate_class}' " if settings.candidate_class else ""
            refusals.append(
                f"none of {len(request.candidates)} candidates is {wanted}with a score of at least"
                f" {settings.candidate_min_score}"
            )
        return self._start_candidates(request, starts, refusals)

    def _start_candidates(self, request: CandidatesRequest, starts: list[_Start], refusals: list[str]) -> list[Served]:
        usable = []
        frames = self._pictures.since(request.stamp_ns) if starts else ()
        for start in starts:
            try:
                size = self._pictures.check_box(start.newcomer.box, frames[0])
                self._targets.check_size(size, {other.newcomer.replaced for other in starts})
            except TargetError as error:
                refusals.append(str(error))
            else:
                usable.append(start)
        served = self._start(usable, frames) if usable else []
        if refusals:
            more = f"; and {len(refusals) - 1} more refusals" if len(refusals) > 1 else ""
            served.append(Served(request.refused(refusals[0] + more)))
        return served

    def _start(self, starts: list[_Start], frames: tuple[SourceFrame, ...]) -> list[Served]:
        """Start newcomers on the first frame and follow them to the newest one; only then they join the others."""
        first, *rest = frames
        images = self._pictures.of(first)
        width, height = self._pictures.size(images)
        begin = self._clock()
        newcomers = [start.newcomer for start in starts]
        fork = self._targets.begin(images, newcomers)
        rgb, aux = images.presence
        tracks = {
            newcomer.number: TrackResult(
                images.stamp, newcomer.box, 1.0, TrackState.TRACKING, rgb, aux, reference_size=(height, width)
            )
            for newcomer in newcomers
        }
        endings = self._bring_others_to(frames[-1], {newcomer.replaced for newcomer in newcomers})
        last, skipped, reason = first, 0, ""
        for source in spread(tuple(rest), self._settings().catch_up_frames):
            try:
                tracks = fork.update(self._pictures.of(source))
                last = source
            except Exception as error:  # noqa: BLE001  # the target has started; a bad frame later does not undo that
                skipped, reason = skipped + 1, str(error)
        ids = self._targets.join(fork, newcomers, tracks)
        self._refusals = 0
        self._last_sequence = max(self._last_sequence, frames[-1].sequence)
        frame_result = FrameResult(
            last, self._pictures.of(last), self.targets, tracker_s=self._clock() - begin, endings=endings
        )
        caught_up = f", caught up through {len(rest)} frames" if rest else ""
        if skipped:
            caught_up += f", {skipped} skipped: {reason}"
        outcomes = [
            start.request.accepted(f"target {target_id} at {_text(start.newcomer)}{_in_place_of(start)}{caught_up}")
            for start, target_id in zip(starts, ids, strict=True)
        ]
        return [*(Served(outcome) for outcome in outcomes[:-1]), Served(outcomes[-1], frame_result)]

    def _bring_others_to(self, newest: SourceFrame, replaced: set[str]) -> tuple[Ending, ...]:
        """Track those that stay into a frame that will not be served again."""
        if newest.sequence <= self._last_sequence or not self._targets.stay(replaced):
            return ()
        try:
            return self._track(newest).endings
        except TrackingError:  # they go on with the next frame
            return ()

    def _track(self, source: SourceFrame) -> FrameResult:
        begin = self._clock()
        self._last_sequence = max(self._last_sequence, source.sequence)
        images = self._pictures.of(source)
        decoded = self._clock()
        if not self._targets:
            return FrameResult(source, images, decode_s=decoded - begin)
        try:
            endings = self._targets.update(images)
        except EngineFailedError as error:  # says nothing about the frames, so the targets are not given up for it
            raise _FrameRefusedError(str(error)) from error
        except TrackingError as error:
            self._refusals += 1
            self._history.discard(source)
            raise _FrameRefusedError(str(error)) from error
        self._refusals = 0
        return FrameResult(source, images, self.targets, decoded - begin, self._clock() - decoded, endings)


class _FrameRefusedError(TrackingError):
    """The tracker cannot follow the targets into a frame."""


def _missing_frame(request: TargetRequest) -> str:
    stamp_ns = getattr(request, "stamp_ns", None)
    frame = "frame" if stamp_ns is None else f"frame of stamp {stamp_ns / NS_PER_S:.3f}"
    return f"no {frame} came within {PENDING_S:g} s"


def _text(newcomer: Newcomer) -> str:
    box, given = ("({:.1f}, {:.1f}, {:.1f}, {:.1f})".format(*box) for box in (newcomer.box, newcomer.given))
    return box if newcomer.box == newcomer.given else f"{box}, fitted from {given}"


def _in_place_of(start: _Start) -> str:
    """Say whose place a newcomer took, where it has another id."""
    newcomer = start.newcomer
    other = newcomer.target_id and newcomer.replaced not in {"", newcomer.target_id}
    return f", in place of target {newcomer.replaced}" if other else ""
