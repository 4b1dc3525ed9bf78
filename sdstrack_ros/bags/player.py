"""Play a rosbag2 recording over ROS without rosbag2: its bytes are published unchanged, at the pace of the recording.

rclpy is imported when playback starts; messages are neither deserialised nor rebuilt.
"""

from __future__ import annotations

import importlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdstrack_ros.bags.storage.opening import Bag, BagError, BagTopic, open_bag
from sdstrack_ros.messages.stamps import NS_PER_S, set_ns, to_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CLOCK_HZ = 100
MAX_GAP_S = 1.0  # that is waited for where the recording holds nothing
MAX_SLEEP_S = 0.02  # so that an interrupt is noticed at once
QUEUE_DEPTH = 10
EVENT_QUEUE_DEPTH = 1000
LATCHED_QUEUE_DEPTH = 100  # as tf2's listener has for /tf_static, where every part of a robot sends its own message
CLOCK_TOPIC = "/clock"
ACKNOWLEDGEMENT_TIMEOUT_S = 1.0
# A publisher hears of a subscription before that hears of the publisher and takes its messages: by milliseconds, on a
# machine whose cores are all busy by more than a second. A best-effort subscription never tells.
MUTUAL_DISCOVERY_S = 2.0
# A best-effort subscription sends no receipt; the last messages lie in the player's shared memory until it reads them.
PARTING_S = 0.5


@dataclass(frozen=True, slots=True)
class PlayReport:
    """What was played.

    Attributes:
        messages: number of published messages by topic.
        passes: complete passes through the recording.
        skipped: topics that were left out.
    """

    messages: dict[str, int]
    passes: int
    skipped: tuple[str, ...]


def message_type(type_name: str) -> Any:
    """Return the message class of 'package/msg/Name'.

    Raises:
        BagError: the package is not installed.
    """
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        debian = f"ros-$ROS_DISTRO-{package.replace('_', '-')}"
        raise BagError(f"type {type_name} is not installed here (apt: {debian})") from error


def play(
    path: Path | str,
    *,
    rate: float = 1.0,
    loop: bool = False,
    start_s: float = 0.0,
    duration_s: float | None = None,
    clock: bool = True,
    topics: Sequence[str] = (),
    wait_s: float = 0.0,
    wait_for: Sequence[str] = (),
    gaps: bool = False,
    on_skip: Callable[[str, str], object] | None = None,
    on_remark: Callable[[str], object] | None = None,
) -> PlayReport:
    """Publish a recording until it ends, is interrupted (SIGINT), or endlessly with `loop`.

    Args:
        path: rosbag2 folder, or a single .mcap or .db3 file.
        rate: speed; 2 is twice as fast.
        loop: start again at the end.
        start_s: where to start, in seconds from the beginning of the recording.
        duration_s: how much to play, in seconds of recording time; None plays to the end.
        clock: publish /clock at 100 Hz for nodes with use_sim_time, and leave out a recorded one.
        topics: play only these; empty plays all.
        wait_s: wait at most this long for the topics of `wait_for` to have a subscriber, then play without.
        wait_for: topics that are waited for; empty waits for all that are played.
        gaps: wait as long as the recording did; otherwise at most a second where it holds nothing.
        on_skip: called with each topic that is left out, and why: its message type is not installed, or it is the
            clock that the player publishes itself.
        on_remark: called with everything that is out of order about the recording.

    Raises:
        BagError: the recording cannot be read, a topic of `topics` or `wait_for` is not recorded, one of `topics` is
            not installed, or an option is out of range.
    """
    for name, value, good in (
        ("rate", rate, math.isfinite(rate) and rate > 0),
        ("start_s", start_s, math.isfinite(start_s) and start_s >= 0),
        ("duration_s", duration_s, duration_s is None or (math.isfinite(duration_s) and duration_s > 0)),
    ):
        if not good:
            raise BagError(f"{name} = {value}; expected a finite number {'from' if name == 'start_s' else 'above'} 0")
    with open_bag(path) as bag:
        if on_remark is not None:
            for remark in bag.remarks:
                on_remark(remark)
        for name in (*topics, *wait_for):
            bag.topic(name)
        selected = [topic for topic in bag.topics if not topics or topic.name in topics]
        begin_ns = bag.start_ns + round(start_s * NS_PER_S)
        end_ns = bag.end_ns if duration_s is None else min(bag.end_ns, begin_ns + round(duration_s * NS_PER_S))
        if begin_ns >= end_ns:
            length_s = (bag.end_ns - bag.start_ns) / NS_PER_S
            raise BagError(f"{bag.path} has nothing to play from {start_s} s on; it is {length_s:.2f} s long")
        player = _Player(bag, begin_ns, end_ns, rate, clock, gaps)
        skipped: list[str] = []
        passes = 0
        try:
            for topic in selected:
                try:
                    player.advertise(topic)
                except BagError as error:
                    if topic.name in topics:
                        raise
                    skipped.append(topic.name)
                    if on_skip is not None:
                        on_skip(topic.name, str(error))
            player.wait_for_subscribers(wait_s, wait_for)
            while player.run_once():
                passes += 1
                if not loop:
                    break
        except KeyboardInterrupt:
            pass  # an interrupt ends playback; the report covers what was played
        finally:
            player.close()
        if player.longest_gap_ns and on_remark is not None:
            on_remark(
                f"waits of up to {player.longest_gap_ns / NS_PER_S:.1f} s, where the recording holds nothing, were cut "
                f"to {MAX_GAP_S:g} s; --gaps plays them"
            )
        return PlayReport(player.counts, passes, tuple(skipped))


class _Player:
    """A node that publishes one recording."""

    def __init__(self, bag: Bag, begin_ns: int, end_ns: int, rate: float, clock: bool, gaps: bool) -> None:
        import rclpy

        self._bag = bag
        self._begin_ns, self._end_ns, self._rate = begin_ns, end_ns, rate
        self._longest_ns = None if gaps else round(MAX_GAP_S * rate * NS_PER_S)
        self._left_out_ns = 0
        self.longest_gap_ns = 0  # that was left out
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("bag_player", context=self._context, enable_rosout=False)
        self._publishers: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self._clock: Any = None
        if clock:
            clock_type = message_type("rosgraph_msgs/msg/Clock")
            self._clock = self._node.create_publisher(clock_type, CLOCK_TOPIC, 1)
            self._clock_message = clock_type()

    def close(self) -> None:
        """Leave the network once subscribers have received everything; undoes what `__init__` does."""
        import rclpy
        from rclpy.duration import Duration

        if self._context.ok() and any(publisher.get_subscription_count() for publisher in self._publishers.values()):
            time.sleep(PARTING_S)
        for publisher in self._publishers.values():
            if self._context.ok():
                publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGEMENT_TIMEOUT_S))
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def advertise(self, topic: BagTopic) -> None:
        """Announce a topic: reliable, as a robot's publishers should be (REP 2003), and latched if it was recorded so.

        Raises:
            BagError: its type is not installed, or it is the clock that the player publishes itself.
        """
        from rclpy.qos import DurabilityPolicy, QoSProfile

        if self._clock is not None and topic.name == CLOCK_TOPIC:
            raise BagError(
                f"{CLOCK_TOPIC} comes from the player; to play the recorded one, switch the player's clock off"
            )
        qos = QoSProfile(depth=EVENT_QUEUE_DEPTH if topic.type_name.endswith("/EventPacket") else QUEUE_DEPTH)
        if topic.latched:
            qos = QoSProfile(depth=LATCHED_QUEUE_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publishers[topic.name] = self._node.create_publisher(message_type(topic.type_name), topic.name, qos)
        self.counts[topic.name] = 0

    def wait_for_subscribers(self, seconds: float, topics: Sequence[str]) -> None:
        """Wait until these topics have a subscriber, all of them without any, at most `seconds`."""
        awaited = [publisher for name, publisher in self._publishers.items() if not topics or name in topics]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._context.ok():
            if all(publisher.get_subscription_count() for publisher in awaited):
                time.sleep(MUTUAL_DISCOVERY_S)
                return
            time.sleep(MAX_SLEEP_S)

    def run_once(self) -> bool:
        """Play the part once.

        Returns:
            False when interrupted.
        """
        wall = time.monotonic()
        self._left_out_ns, before_ns = 0, self._begin_ns
        for message in self._bag.messages(list(self._publishers), self._begin_ns, self._end_ns):
            self._leave_out(before_ns, message.time_ns)
            before_ns = message.time_ns
            if not self._sleep_until(message.time_ns, wall):
                return False
            self._publishers[message.topic].publish(message.data)
            self.counts[message.topic] += 1
        self._leave_out(before_ns, self._end_ns)
        return self._sleep_until(self._end_ns, wall)

    def _leave_out(self, before_ns: int, next_ns: int) -> None:
        """Shorten a gap in the recording: its clock jumps to a second before the next message."""
        if self._longest_ns is not None and next_ns - before_ns > self._longest_ns:
            self._left_out_ns += next_ns - before_ns - self._longest_ns
            self.longest_gap_ns = max(self.longest_gap_ns, next_ns - before_ns)

    def _sleep_until(self, time_ns: int, wall: float) -> bool:
        """Wait for a moment of the recording while /clock ticks.

        Returns:
            False when interrupted.
        """
        while self._context.ok():
            elapsed_s = (time.monotonic() - wall) * self._rate
            begin_ns = self._begin_ns + self._left_out_ns
            remaining_s = ((time_ns - begin_ns) / NS_PER_S - elapsed_s) / self._rate
            self._tick(min(begin_ns + int(elapsed_s * NS_PER_S), time_ns))
            if remaining_s <= 0:
                return True
            time.sleep(min(remaining_s, 1 / CLOCK_HZ if self._clock else MAX_SLEEP_S))
        return False

    def _tick(self, time_ns: int) -> None:
        if self._clock is None:
            return
        stamp = self._clock_message.clock
        if to_ns(stamp) == time_ns:
            return
        set_ns(stamp, time_ns)
        self._clock.publish(self._clock_message)
