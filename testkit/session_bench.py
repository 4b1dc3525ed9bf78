"""A session of the node without ROS: a recording tracker, a clock that the test moves, and frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.sync.frame_builder import FrameBuilder
from sdstrack_ros.sync.types import Sample, SyncedSet
from sdstrack_ros.tracking.results import FrameResult
from sdstrack_ros.tracking.session import Session
from sdstrack_ros.tracking.source_frame import History, SourceFrame
from sdstrack_ros.tracking.target_requests import BoxRequest, TargetRequest
from testkit.ros.camera import image_message

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE = (640, 480)
PERIOD_NS = 33_000_000
BOX = BoundingBox(200.0, 180.0, 60.0, 40.0)


def text_of(box: BoundingBox) -> str:
    """The box as outcomes print it."""
    return f"({', '.join(f'{value:.1f}' for value in box)})"


COLOR = np.zeros((480, 640, 3), np.uint8)
DEPTH = np.full((480, 640), 4000, np.uint16)
DEPTH[180:220, 200:260] = 1500
COLOR_MESSAGE, DEPTH_MESSAGE = image_message(COLOR, "rgb8", 0), image_message(DEPTH, "16UC1", 0)
BROKEN_MESSAGE = image_message(COLOR, "no_such_encoding", 0)


def scene() -> MultiModalFrame:
    """A frame whose depth shows one near surface, `BOX`."""
    return MultiModalFrame(0.0, COLOR, DEPTH, Modality.DEPTH)


def source_frame(index: int, color: Any = COLOR_MESSAGE, aux: Any = DEPTH_MESSAGE, now: float = 0.0) -> SourceFrame:
    """Frame `index` of a stream, released at `now` seconds; None where a camera sent nothing."""
    stamp_ns, now_ns = (index + 1) * PERIOD_NS, round(now * 1e9)
    rgb, depth = (None if message is None else Sample(stamp_ns, now_ns, message) for message in (color, aux))
    return SourceFrame(index, SyncedSet(stamp_ns, rgb, depth, False, 0, 0, now_ns), FrameBuilder(Modality.DEPTH))


def broken_frame(index: int) -> SourceFrame:
    """Frame `index` of a stream, without any image that can be used."""
    return source_frame(index, BROKEN_MESSAGE, None)


class Script:
    """What a tracker and its forks record, and the states and errors that the test sets; by the number of the target.

    Attributes:
        state: of every target that `states` does not name.
        fitted: the box that every target starts on; None: the given one.
        error: raised by `update`.
        refusal: raised by `start`.

    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.seen: list[tuple[int, tuple[int, ...]]] = []  # frame and targets of each `update`
        self.state = TrackState.TRACKING
        self.states: dict[int, TrackState] = {}
        self.boxes: dict[int, BoundingBox] = {}
        self.fitted: BoundingBox | None = None
        self.error: Exception | None = None
        self.refusal: Exception | None = None


class Recorder:
    """A tracker that records which frames it receives and returns what the script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.targets: dict[int, BoundingBox] = {}

    def fork(self) -> Recorder:
        """Another tracker under the same script."""
        return Recorder(self.script)

    def start(self, frame: MultiModalFrame, boxes: Mapping[int, BoundingBox]) -> dict[int, BoundingBox]:
        """Record the frame, or raise `refusal`."""
        if self.script.refusal is not None:
            raise self.script.refusal
        self.script.calls.append(("start", index_of(frame)))
        self.targets = {name: self.script.fitted or box for name, box in boxes.items()}
        return self.targets

    def join(self, fork: Recorder) -> None:
        """Take the targets of a fork."""
        self.targets |= fork.targets

    def remove(self, target: int) -> None:
        """Forget a target."""
        del self.targets[target]

    def update(self, frame: MultiModalFrame) -> dict[int, TrackResult]:
        """Record the frame, or raise `error`; boxes stay where they are."""
        script = self.script
        if script.error is not None:
            raise script.error
        script.calls.append(("update", index_of(frame)))
        script.seen.append((index_of(frame), tuple(self.targets)))
        return {
            number: TrackResult(
                frame.stamp, script.boxes.get(number, box), 0.9, script.states.get(number, script.state)
            )
            for number, box in self.targets.items()
        }

    def reset(self) -> None:
        """Record the call."""
        self.script.calls.append(("reset", -1))
        self.targets = {}


def id_of(result: FrameResult) -> str:
    """Id of the only target."""
    (target,) = result.targets
    return target.target_id


def index_of(frame: MultiModalFrame) -> int:
    """Which frame of the stream this is."""
    return round(frame.stamp * 1e9 / PERIOD_NS) - 1


class Bench:
    """A session, its history, a clock that the test moves, and frames."""

    def __init__(self, **settings: object) -> None:
        self.tracker = Script()
        self.history = History(30)
        self.settings = replace(Settings(), **settings)  # type: ignore[arg-type]  # names and types are the test's
        self.now = 0.0
        self.session = Session(Recorder(self.tracker), self.history, lambda: self.settings, lambda: self.now)

    def arrive(self, source: SourceFrame | int) -> SourceFrame:
        """A frame leaves the synchronizer; the tracking thread has not served it yet."""
        if isinstance(source, int):
            source = source_frame(source, now=self.now)
        self.history.append(source)
        return source

    def frame(self, source: SourceFrame | int) -> tuple[list[str], Any]:
        """A frame arrives and is served; returns the outcomes of the requests that waited, and the frame's result."""
        arrived = self.arrive(source)
        outcomes = [str(served.outcome) for served in self.session.on_waiting()]
        return outcomes, self.session.on_frame(arrived)

    def serve(self, request: TargetRequest) -> list[str]:
        """Outcomes of a request and of the one that it replaced."""
        return [str(served.outcome) for served in self.session.on_request(request)]

    def ask(self, request: TargetRequest) -> str:
        """Outcome of a request; '' while it waits, or when it needs none."""
        outcomes = self.serve(request)
        assert len(outcomes) <= 1
        return outcomes[0] if outcomes else ""

    def started(self, request: TargetRequest) -> Any:
        """The result of the frame that a target started on, or caught up to."""
        (served,) = self.session.on_request(request)
        assert served.outcome.accepted, str(served.outcome)
        return served.frame_result


PLACES = {name: BoundingBox(100.0 * index, 40.0 * index, 50.0, 60.0) for index, name in enumerate("abcdefgh", 1)}


def box_request(name: str, stamp_ns: int | None = None, box: BoundingBox | None = None) -> BoxRequest:
    """A request for a target of that name, by default at its place."""
    return BoxRequest("init_box", box or PLACES[name], stamp_ns, target_id=name, detail=f"'{name}'")


def several(*names: str, **settings: Any) -> Bench:
    """A bench on which these targets have started in frame 0."""
    bench = Bench(**{"max_targets": 4, **settings})
    bench.frame(0)
    for name in names:
        assert bench.ask(box_request(name)).startswith(f"init_box '{name}' accepted: target {name} at ")
    return bench


def ids(result: FrameResult) -> list[str]:
    """The targets of a result, the oldest first."""
    return [target.target_id for target in result.targets]
