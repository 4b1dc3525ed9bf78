"""Rigid transforms between frames over time, from the messages of /tf and /tf_static. No ROS import.

The node prefers tf2's own buffer where tf2_ros is installed; recordings and machines without it are read here.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.text import shown
from sdstrack_ros.messages.header_texts import MAX_NAME
from sdstrack_ros.messages.stamps import NS_PER_S, UNSTAMPED, impossible_stamp, stamp_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEEP_S = 10.0  # as long as tf2's buffer
MAX_GAP_NS = NS_PER_S  # what lies between two transforms that are further apart is not known
QUATERNION_TOLERANCE = 1e-2  # of its length; drivers send 32 bit numbers
MAX_FRAMES = 1000  # names come from outside
MAX_DEPTH = 100  # of a chain of frames; a longer one is a circle
MAX_KEPT = 20_000  # transforms of one frame; odometry at 1 kHz has half of that
MAX_DISTANCE = 1e9  # [m] of one frame from another; coordinates centred in the earth are below 1e7


class TransformError(TrackingError):
    """A transform that is not known at a time, or a message that is no transform."""


@dataclass(frozen=True, slots=True, eq=False)
class RigidTransform:
    """Takes coordinates in one frame to those in another: `rotation @ point + translation`.

    Attributes:
        rotation: [3, 3].
        translation: [3] m.
    """

    rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    translation: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    @classmethod
    def from_message(cls, message: Any) -> RigidTransform:
        """Read a geometry_msgs/Transform.

        Raises:
            TransformError: a number is not finite, the quaternion is not of length 1, or the translation no distance.
        """
        q, t = message.rotation, message.translation
        x, y, z, w = values = (float(q.x), float(q.y), float(q.z), float(q.w))
        place = (float(t.x), float(t.y), float(t.z))
        length = math.sqrt(x * x + y * y + z * z + w * w)
        if not (all(abs(value) <= MAX_DISTANCE for value in place) and abs(length - 1) <= QUATERNION_TOLERANCE):
            raise TransformError(
                f"quaternion {values}, translation {place}; expected finite numbers and a rotation, at most"
                f" {MAX_DISTANCE:g} m apart"
            )
        x, y, z, w = (value / length for value in values)
        rotation = np.array(
            (
                (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
                (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
                (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
            )
        )
        return cls(rotation, np.array(place))

    def apply(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map a point [3]."""
        return np.asarray(self.rotation @ point + self.translation)

    def after(self, first: RigidTransform) -> RigidTransform:
        """The transform that applies `first`, then this one."""
        return RigidTransform(self.rotation @ first.rotation, self.apply(first.translation))

    def inverse(self) -> RigidTransform:
        """The way back."""
        return RigidTransform(self.rotation.T, -self.rotation.T @ self.translation)

    def towards(self, other: RigidTransform, share: float) -> RigidTransform:
        """The transform at a share of the way to another: the shortest turn, and a straight line."""
        turn, _ = cv2.Rodrigues(self.rotation.T @ other.rotation)
        part, _ = cv2.Rodrigues(share * turn)
        straight = (1 - share) * self.translation + share * other.translation
        return RigidTransform(np.asarray(self.rotation @ part, dtype=np.float64), straight)

    def quaternion(self) -> tuple[float, float, float, float]:
        """Its rotation as x, y, z, w with w >= 0."""
        turn, _ = cv2.Rodrigues(self.rotation)
        angle = float(np.linalg.norm(turn))
        x, y, z = (turn.ravel() / angle * math.sin(angle / 2)).tolist() if angle > 1e-12 else (0.0, 0.0, 0.0)
        return x, y, z, math.cos(angle / 2)


@dataclass(slots=True)
class _Track:
    """The transforms of one frame by stamp, when the newest arrived, and the last one that jumped in time."""

    kept: list[tuple[int, RigidTransform]] = field(default_factory=list)
    arrival_ns: int = 0
    suspect: tuple[int, int] | None = None

    def jumps(self, stamp_ns: int, arrival_ns: int, keep_ns: int) -> bool:
        """Whether a stamp cannot follow the others, and none before it was alike; see `TransformTree.add`."""
        ahead_ns = stamp_ns - self.kept[-1][0] if self.kept else 0
        if -keep_ns <= ahead_ns <= MAX_GAP_NS + arrival_ns - self.arrival_ns:
            self.suspect = None
            return False
        before, self.suspect = self.suspect, (stamp_ns, arrival_ns)
        if before is None or not 0 <= stamp_ns - before[0] <= MAX_GAP_NS + arrival_ns - before[1]:
            return True
        self.kept.clear()
        self.suspect = None
        return False


class TransformTree:
    """The transforms of the last `KEEP_S` seconds; may be used by several threads."""

    def __init__(self, keep_s: float = KEEP_S) -> None:
        self._keep_ns = round(keep_s * NS_PER_S)
        self._lock = threading.Lock()
        self._parents: dict[str, str] = {}
        self._moving: dict[str, _Track] = {}
        self._fixed: dict[str, RigidTransform] = {}

    def add(self, message: Any, arrival_ns: int, fixed: bool = False) -> None:
        """Take a geometry_msgs/TransformStamped in.

        A frame's stamps may jump, as those of a recording that starts again do: earlier transforms are forgotten. But
        one glitched stamp must not cost them, so the first one that lies before all that is kept, or further ahead than
        the time that has passed and a second explain, is refused; a second one that follows it sets the new time.

        Args:
            message: what to take in.
            arrival_ns: when it arrived, on a steady clock, or was recorded.
            fixed: whether it holds at any time.

        Raises:
            TransformError: it is no transform, names no two frames, its stamp cannot be or jumps, or there are more
                than `MAX_FRAMES`.
        """
        parent, child = (str(name).lstrip("/") for name in (message.header.frame_id, message.child_frame_id))
        if max(len(parent), len(child)) > MAX_NAME:
            raise TransformError(
                f"transform from '{shown(child)}' to '{shown(parent)}'; expected names up to {MAX_NAME} characters"
            )
        if not parent or not child or parent == child:
            raise TransformError(f"transform from '{shown(child)}' to '{shown(parent)}'; expected two frames")
        try:
            transform = RigidTransform.from_message(message.transform)
        except TransformError as error:
            raise TransformError(f"transform from '{shown(child)}' to '{shown(parent)}' has {error}") from error
        reason = impossible_stamp(message.header.stamp)
        if reason and reason != UNSTAMPED:
            raise TransformError(f"transform from '{shown(child)}' to '{shown(parent)}': {reason}")
        stamp_ns = stamp_of(message)
        with self._lock:
            if child not in self._parents and len(self._parents) >= MAX_FRAMES:
                raise TransformError(f"'{shown(child)}' is one frame more than the {MAX_FRAMES} that are kept")
            if self._parents.get(child) != parent:
                self._moving.pop(child, None)
            self._parents[child] = parent
            if fixed:
                self._fixed[child] = transform
                return
            track = self._moving.setdefault(child, _Track())
            kept = track.kept
            if track.jumps(stamp_ns, arrival_ns, self._keep_ns):
                raise TransformError(
                    f"transform from '{shown(child)}' to '{shown(parent)}': header.stamp jumps by"
                    f" {(stamp_ns - kept[-1][0]) / NS_PER_S:+.3f} s; refused until a second one confirms the new time"
                )
            track.arrival_ns = arrival_ns
            at = bisect_left(kept, stamp_ns, key=_stamp)
            again = at < len(kept) and kept[at][0] == stamp_ns
            kept[at : at + again] = [(stamp_ns, transform)]  # a publisher whose clock stands still fills no memory
            oldest = bisect_left(kept, kept[-1][0] - self._keep_ns, key=_stamp)
            del kept[: max(oldest, len(kept) - MAX_KEPT)]

    def lookup(self, target: str, source: str, stamp_ns: int | None) -> RigidTransform:
        """Return the transform that takes coordinates in `source` to those in `target`.

        Args:
            target: name of a frame.
            source: name of a frame.
            stamp_ns: when; None takes the newest that is known of every frame between.

        Raises:
            TransformError: the frames are not connected, or not at that time.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        with self._lock:
            up, down = self._ancestors(source), self._ancestors(target)
            common = next((frame for frame in up if frame in down), None)
            if common is None:
                known = "one tree" if source in self._parents and target in self._parents else "a known frame"
                raise TransformError(f"no transform from '{shown(source)}' to '{shown(target)}'; expected {known}")
            to_common = self._climb(source, common, stamp_ns)
            return self._climb(target, common, stamp_ns).inverse().after(to_common)

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._parents and len(chain) < MAX_DEPTH:
            chain.append(self._parents[chain[-1]])
        return chain

    def _climb(self, frame: str, top: str, stamp_ns: int | None) -> RigidTransform:
        transform = RigidTransform()
        while frame != top:
            transform = self._to_parent(frame, stamp_ns).after(transform)
            frame = self._parents[frame]
        return transform

    def _to_parent(self, child: str, stamp_ns: int | None) -> RigidTransform:
        track = self._moving.get(child)
        if track is None:
            return self._fixed[child]
        kept = track.kept
        if stamp_ns is None:
            return kept[-1][1]
        after = bisect_left(kept, stamp_ns, key=_stamp)
        if after < len(kept) and kept[after][0] == stamp_ns:
            return kept[after][1]
        name = f"'{shown(child)}' in '{shown(self._parents[child])}'"
        if after == 0:
            early = (kept[0][0] - stamp_ns) / NS_PER_S
            raise TransformError(f"{name} is known only from {early:.3f} s after that time on")
        if after == len(kept):
            late = (stamp_ns - kept[-1][0]) / NS_PER_S
            raise TransformError(f"{name} is known only until {late:.3f} s before that time")
        (begin_ns, begin), (end_ns, end) = kept[after - 1], kept[after]
        if end_ns - begin_ns > MAX_GAP_NS:
            gap = (end_ns - begin_ns) / NS_PER_S
            raise TransformError(f"{name} is unknown in a gap of {gap:.3f} s around that time")
        return begin.towards(end, (stamp_ns - begin_ns) / (end_ns - begin_ns))


def _stamp(entry: tuple[int, RigidTransform]) -> int:
    return entry[0]
