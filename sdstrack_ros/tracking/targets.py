"""The targets that are followed, by id: who may start, who is replaced, who is given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.tracking.merging import MERGE_FRAMES, Merging, coincide, moved_along
from sdstrack_ros.tracking.results import Ending, TargetResult
from sdstrack_ros.tracking.target_requests import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.target_requests import Candidate


class FramesTracker(Protocol):
    """Follows several targets from frame to frame, as `ckd_core.tracking.multi.MultiTracker` does."""

    def fork(self) -> FramesTracker:
        """Return a tracker without targets on the same engine."""

    def start(self, frame: MultiModalFrame, boxes: Mapping[int, BoundingBox]) -> dict[int, BoundingBox]:
        """Forget everything and follow `boxes`; returns those that it starts on, which may fit better."""

    def join(self, fork: Any) -> None:
        """Take over the targets of what `fork` returned."""

    def remove(self, target: int) -> None:
        """Stop following a target."""

    def update(self, frame: MultiModalFrame) -> dict[int, TrackResult]:
        """Follow all targets into the next frame."""

    def reset(self) -> None:
        """Forget all targets and the stream."""


@dataclass(slots=True)
class _Target:
    """A target that is followed; `newcomer` says how it came, `lost_since` is None while it is not LOST."""

    target_id: str
    newcomer: Newcomer
    named: bool
    track: TrackResult
    lost_since: float | None = None


@dataclass(slots=True)
class Newcomer:
    """A target that has not joined the others yet.

    Attributes:
        target_id: '' lets the targets choose a number for it.
        label: its class; '' takes that of the parameter.
        box: where it is in the first frame; what the tracker starts on, once it has started.
        given: where the request says that it is.
        replaced: the id of the target whose place it takes; '' for none.
        number: the target's, once it has started.

    """

    target_id: str
    label: str
    box: BoundingBox
    replaced: str = ""
    number: int = field(default=0, init=False)
    given: BoundingBox = field(init=False)

    def __post_init__(self) -> None:
        self.given = self.box


class Targets:
    """Owns the tracker while the node is active. Only the tracking thread calls its methods.

    Attributes:
        results: all targets as they were in the last frame, the oldest first; other threads may read it.

    """

    def __init__(self, tracker: FramesTracker, settings: Callable[[], Settings], clock: Callable[[], float]) -> None:
        self.results: tuple[TargetResult, ...] = ()
        self._tracker = tracker
        self._settings = settings
        self._clock = clock
        self._targets: dict[str, _Target] = {}
        self._merging = Merging()
        self._number = 0  # of the last target
        self._count = 0  # the last number that was an id

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, target_id: str) -> bool:
        return target_id in self._targets

    def place_of(self, target_id: str, waiting: Collection[str] = ()) -> str:
        """Return the id of the target whose place a request takes; '' for a place of its own.

        A request without an id replaces the target that has none. Where there is one target at most, every request
        replaces it.

        Args:
            target_id: the request's; '' when it has none.
            waiting: ids of targets that are about to start.

        Raises:
            TargetError: there is no place left.

        """
        limit = self._settings().max_targets
        if target_id in self._targets:
            return target_id
        if limit == 1 and len(self._targets) == 1:
            return next(iter(self._targets))
        unnamed = next((name for name, target in self._targets.items() if not target.named), "")
        if not target_id and unnamed:
            return unnamed
        taken = dict.fromkeys(
            [*self._targets, *(name or "one without an id" for name in waiting if name or not unnamed)]
        )
        if len(taken) >= limit:
            raise TargetError(f"max_targets is {limit}, and so many are followed: {', '.join(taken)}")
        return ""

    def place_of_candidate(
        self, candidate: Candidate, newcomers: Collection[Newcomer], waiting: Collection[str]
    ) -> str | None:
        """Return what `place_of` does for a detection, or None where it is not wanted.

        It is not wanted while its target is followed well, and where another target already is. When there is no place
        left, it takes that of the target that has been LOST the longest.

        Args:
            candidate: the detection.
            newcomers: what is about to start.
            waiting: ids of targets that will start when their frame comes.

        Raises:
            TargetError: there is no place left, and no target has been LOST for long enough.

        """
        if any(coincide(candidate.box, newcomer.box) for newcomer in newcomers):
            return None
        others = [newcomer.target_id for newcomer in newcomers if not newcomer.replaced]
        try:
            replaced = self.place_of(candidate.target_id, [*others, *waiting])
        except TargetError:
            taken = {newcomer.replaced for newcomer in newcomers}
            lost = [name for name, target in self._targets.items() if self._long_lost(target) and name not in taken]
            if not lost:
                raise
            replaced = min(lost, key=lambda name: self._targets[name].lost_since or 0.0)
        if replaced and not self._long_lost(self._targets[replaced]):
            return None
        if any(target.visible and self._is_on(candidate.box, target) for target in self.results):
            return None
        return replaced

    def _is_on(self, box: BoundingBox, target: TargetResult) -> bool:
        """Whether a detector's box shows a target; it may be as loose as the box that the target was started by."""
        newcomer = self._targets[target.target_id].newcomer
        loose = moved_along(target.box, newcomer.box, newcomer.given)
        return coincide(box, target.box) or coincide(box, loose)

    def wants_any(self) -> bool:
        """Whether there is no target, or one that has been LOST for so long that a detection may replace it."""
        return not self._targets or any(self._long_lost(target) for target in self._targets.values())

    def stay(self, replaced: Collection[str]) -> bool:
        """Whether any target stays when these are replaced."""
        return any(name not in replaced for name in self._targets)

    def check_size(self, size: tuple[int, int], replaced: Collection[str]) -> None:
        """Check that a newcomer sees images of the (width, height) in which the targets that stay are followed.

        Raises:
            TargetError: it does not.

        """
        for name, target in self._targets.items():
            known = target.track.reference_size
            if name not in replaced and known is not None and (known[1], known[0]) != size:
                raise TargetError(
                    f"the image is {size[0]} x {size[1]}, but target {name} is followed in {known[1]} x {known[0]}; "
                    "wait until it is given up, or forget it by ~/remove or ~/reset"
                )

    def begin(self, images: MultiModalFrame, newcomers: Collection[Newcomer]) -> FramesTracker:
        """Start newcomers on a frame, apart from the others; `join` makes them targets.

        Raises:
            TrackingError: the tracker refuses the frame or a box.

        """
        for newcomer in newcomers:
            self._number += 1
            newcomer.number = self._number
        fork = self._tracker.fork()
        boxes = fork.start(images, {newcomer.number: newcomer.given for newcomer in newcomers})
        for newcomer in newcomers:
            newcomer.box = boxes[newcomer.number]
        return fork

    def join(
        self, fork: FramesTracker, newcomers: Collection[Newcomer], tracks: Mapping[int, TrackResult]
    ) -> tuple[str, ...]:
        """Make newcomers targets, in the places of those that they replace.

        Args:
            fork: has followed them.
            newcomers: its targets.
            tracks: where they are, by number.

        Returns:
            Their ids.

        Raises:
            TrackingError: the tracker cannot follow them together with the others; nothing has changed.

        """
        replaced = {newcomer.replaced for newcomer in newcomers if newcomer.replaced}
        unnamed = {"", *(name for name, target in self._targets.items() if not target.named)}
        if self.stay(replaced):
            self._tracker.join(fork)
            self._remove(replaced)
        else:  # the tracker begins anew where the fork is
            self._remove(replaced)
            self._tracker.join(fork)
        ids = []
        for newcomer in newcomers:
            track, named = tracks[newcomer.number], newcomer.target_id not in unnamed
            target = _Target(self._id_of(newcomer), newcomer, named, track)
            self._note(target, track)
            self._targets[target.target_id] = target
            ids.append(target.target_id)
        self._publish()
        return tuple(ids)

    def update(self, images: MultiModalFrame) -> tuple[Ending, ...]:
        """Follow all targets into a frame; return those that were given up because they have become one with another.

        Raises:
            TrackingError: the tracker refuses the frame; nothing has changed.

        """
        tracks = self._tracker.update(images)
        for target in self._targets.values():
            self._note(target, tracks[target.newcomer.number])
        self._publish()
        visible = {target.number: target for target in self.results if target.visible}
        merged = self._merging.observe({number: target.box for number, target in visible.items()})
        endings = tuple(
            Ending(
                visible[younger].target_id,
                f"it has become one with target {visible[older].target_id}, which is older: their boxes have coincided"
                f" for {MERGE_FRAMES} frames",
            )
            for younger, older in merged.items()
        )
        self._remove(ending.target_id for ending in endings)
        self._publish()
        return endings

    def remove(self, target_id: str) -> None:
        """Forget one target.

        Raises:
            TargetError: there is none of that id.

        """
        if target_id not in self._targets:
            raise TargetError(f"there is no target '{target_id}'; there is: {self.names() or 'none'}")
        self._remove([target_id])
        if not self._targets:
            self._tracker.reset()
        self._publish()

    def forget(self) -> tuple[str, ...]:
        """Forget all targets; return their ids."""
        ids = tuple(self._targets)
        self._tracker.reset()
        self._targets.clear()
        self._publish()
        return ids

    def names(self) -> str:
        """The ids, for people."""
        return ", ".join(self._targets)

    def _remove(self, target_ids: Iterable[str]) -> None:
        for target_id in target_ids:
            self._tracker.remove(self._targets.pop(target_id).newcomer.number)

    def _id_of(self, newcomer: Newcomer) -> str:
        """The newcomer's own id, or the next number that no target has had."""
        if not newcomer.target_id:
            self._count += 1
        elif newcomer.target_id.isdecimal():
            self._count = max(self._count, int(newcomer.target_id))
        return newcomer.target_id or str(self._count)

    def _note(self, target: _Target, track: TrackResult) -> None:
        target.track = track
        if track.state is not TrackState.LOST:
            target.lost_since = None
        elif target.lost_since is None:
            target.lost_since = self._clock()

    def _long_lost(self, target: _Target) -> bool:
        since = target.lost_since
        return since is not None and self._clock() - since > self._settings().readopt_after_s

    def _publish(self) -> None:
        label = self._settings().label
        self.results = tuple(
            TargetResult(
                target.target_id, target.newcomer.label or label, target.track, target.newcomer.number, target.named
            )
            for target in self._targets.values()
        )
