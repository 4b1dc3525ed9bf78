"""Times of ROS messages as integer nanoseconds, and back. No ROS import: any class of message has the same fields."""

from __future__ import annotations

from typing import Any, Protocol

NS_PER_S = 1_000_000_000
# Why a message with a stamp of 0 is refused, live and from a recording.
UNSTAMPED = "header.stamp is 0; the driver has to fill it in, frames pair by it"


class Stamped(Protocol):
    """A message with a std_msgs/Header, or what was made of one."""

    @property
    def header(self) -> Any:
        """Its stamp and frame_id."""


def to_ns(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time or Duration."""
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def stamp_of(message: Stamped) -> int:
    """Nanoseconds of a message's header.stamp."""
    return to_ns(message.header.stamp)


def set_ns(time: Any, ns: int) -> None:
    """Write nanoseconds into a builtin_interfaces/Time or Duration."""
    time.sec, time.nanosec = divmod(ns, NS_PER_S)


def impossible_stamp(stamp: Any) -> str:
    """Why a header.stamp cannot be that of an image, in words; '' when it can."""
    seconds, nanoseconds = int(stamp.sec), int(stamp.nanosec)
    if seconds == 0 and nanoseconds == 0:
        return UNSTAMPED
    if seconds < 0 or not 0 <= nanoseconds < NS_PER_S:
        return f"header.stamp has sec {seconds} and nanosec {nanoseconds}; expected sec from 0, nanosec below 10^9"
    return ""
