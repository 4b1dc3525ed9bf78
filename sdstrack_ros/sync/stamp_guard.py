"""Refuses stamps that cannot be, and single images that jump in time, before they reach the synchronizer.

One glitched stamp must not cost the target: a stream's time jumps only once a second image says so.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sdstrack_ros.messages.stamps import NS_PER_S, impossible_stamp, to_ns

if TYPE_CHECKING:
    from sdstrack_ros.sync.types import SyncConfig

STEPS = 5  # of which the median is a stream's rhythm
# After so many images in a row that fit neither the known time nor each other, the next one sets the time.
MAX_SUSPECTS = 3
# An image that is stamped by the node's clock may come so much late, behind others or before them.
LATE_S = 1.0


@dataclass(slots=True)
class _Timeline:
    """Where the time of one stream is: its newest stamp, when that arrived, and the images that jumped since."""

    newest_ns: int
    arrival_ns: int
    began_ns: int
    late_ns: int = 0  # that much after its stamp the newest one arrived, as far as the node's clock tells
    steps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=STEPS))
    jumped_at_ns: int | None = None
    # The newest stamp before images that only a pause explained; None once an ordinary one has come after them.
    before_pause_ns: int | None = None
    suspects: list[tuple[int, int]] = field(default_factory=list)

    def accept(self, stamp_ns: int, arrival_ns: int, after_pause: bool) -> None:
        if stamp_ns > self.newest_ns:
            self.steps_ns.append(stamp_ns - self.newest_ns)
            if not after_pause:
                self.before_pause_ns = None
            elif self.before_pause_ns is None:
                self.before_pause_ns = self.newest_ns
        self.newest_ns = max(self.newest_ns, stamp_ns)
        self.arrival_ns = arrival_ns
        self.suspects.clear()

    def note_late(self, clock_ns: int | None) -> None:
        late_ns = (clock_ns or 0) - self.newest_ns
        self.late_ns = late_ns if 0 < late_ns <= round(LATE_S * NS_PER_S) else 0

    def jump(self, stamp_ns: int, arrival_ns: int) -> None:
        # The step from the old time to the new one is no rhythm: as one it would let any later outlier pass.
        self.steps_ns.clear()
        since = [stamp_ns - suspect_ns for suspect_ns, _ in self.suspects if suspect_ns < stamp_ns]
        if since:
            self.steps_ns.append(min(since))
        self.newest_ns, self.arrival_ns, self.jumped_at_ns = stamp_ns, arrival_ns, arrival_ns
        self.before_pause_ns = None
        self.suspects.clear()


class StampGuard:
    """Judges the stamp of every message of the streams that are paired; not thread-safe.

    An image jumps when its stamp lies `jump_back_s` before the newest of its stream, or further ahead of it than the
    time that has passed since (or the stream's rhythm, where a recording is played fast) and `jump_back_s` explain.
    Where the newest one came late, as an image does that a busy camera, network or node held up, the next one may be as
    far ahead as that was late by the node's clock, which says so only of cameras that are stamped by it. Any other jump
    is an outlier, and refused, until another image confirms the new time: a later one of its stream, or one of the
    other stream that is later by more than the skew of a pair. A pair that was stamped by one glitch confirms nothing.
    The first image of a stream is judged by the time of the other one, where that has led alone for `color_dead_s`.

    After a pause any stamp within the pause is plausible, so the first image may be an outlier that was believed. Where
    later ones continue from before the pause, as those do that were held up together, time did not go back: they are
    refused until they have passed that image, and the target stays.
    """

    def __init__(self, config: SyncConfig, max_clock_offset_s: float = 0.0) -> None:
        """Begin without any message.

        Args:
            config: of which jump_back_s and max_skew_s apply.
            max_clock_offset_s: largest distance of a stamp from the node's clock; 0 does not compare them.

        """
        self.config = config
        self.max_clock_offset_s = max_clock_offset_s
        self._lines: dict[str, _Timeline] = {}

    def refusal(self, stream: str, stamp: Any, arrival_ns: int, clock_ns: int | None = None) -> str:
        """Say why a message cannot be used.

        Args:
            stream: the name of its stream.
            stamp: header.stamp.
            arrival_ns: when it arrived, on a steady clock.
            clock_ns: the time of the node's clock; None or 0 where there is none.

        Returns:
            The reason; '' for a message that may go on to the synchronizer.

        """
        reason = impossible_stamp(stamp)
        if reason:
            return reason
        stamp_ns = to_ns(stamp)
        if clock_ns and self.max_clock_offset_s and abs(stamp_ns - clock_ns) > self.max_clock_offset_s * NS_PER_S:
            return (
                f"header.stamp is {(stamp_ns - clock_ns) / NS_PER_S:+.3f} s from the node's clock; expected at most"
                f" {self.max_clock_offset_s:g} s (max_clock_offset_s): synchronize the clocks"
            )
        line = self._lines.get(stream) or self._begin(stream, arrival_ns)
        if line is None:
            line = self._lines[stream] = _Timeline(stamp_ns, arrival_ns, arrival_ns)
            line.note_late(clock_ns)
            return ""
        ahead_ns = stamp_ns - line.newest_ns
        passed_ns = arrival_ns - line.arrival_ns + line.late_ns
        if -self.config.ns("jump_back_s") <= ahead_ns <= self._reach_ns(line, passed_ns):
            line.accept(stamp_ns, arrival_ns, after_pause=ahead_ns > self._reach_ns(line, 0))
            line.note_late(clock_ns)
            return ""
        if line.before_pause_ns is not None and line.before_pause_ns <= stamp_ns < line.newest_ns:
            return (
                f"header.stamp is {-ahead_ns / NS_PER_S:.3f} s before that of the first image after a pause; refused"
                " until the images have passed it"
            )
        if self._is_confirmed(line, stamp_ns, arrival_ns):
            line.jump(stamp_ns, arrival_ns)
            line.note_late(clock_ns)
            return ""
        line.suspects.append((stamp_ns, arrival_ns))
        return (
            f"header.stamp jumps by {ahead_ns / NS_PER_S:+.3f} s; refused as an outlier until a second image confirms"
            " the new time"
        )

    def _begin(self, stream: str, arrival_ns: int) -> _Timeline | None:
        """A stream that begins once the other one leads alone continues that one's time; None for any other."""
        for other in self._lines.values():
            if arrival_ns - other.began_ns > round(self.config.color_dead_s * NS_PER_S):
                self._lines[stream] = _Timeline(other.newest_ns, other.arrival_ns, arrival_ns)
                return self._lines[stream]
        return None

    def _reach_ns(self, line: _Timeline, elapsed_ns: int) -> int:
        rhythm_ns = round(statistics.median(line.steps_ns)) if line.steps_ns else 0
        return self.config.ns("jump_back_s") + max(elapsed_ns, rhythm_ns)

    def _is_confirmed(self, line: _Timeline, stamp_ns: int, arrival_ns: int) -> bool:
        if len(line.suspects) >= MAX_SUSPECTS:
            return True
        for other in self._lines.values():
            least_ns = 0 if other is line else self.config.ns("max_skew_s")
            for suspect_ns, at_ns in other.suspects:
                if least_ns < stamp_ns - suspect_ns <= self._reach_ns(line, arrival_ns - at_ns):
                    return True
            followed = other.jumped_at_ns is not None and other.jumped_at_ns >= line.arrival_ns
            reach_ns = self._reach_ns(other, arrival_ns - other.arrival_ns)
            if other is not line and followed and abs(stamp_ns - other.newest_ns) <= reach_ns:
                return True
        return False
