"""Recordings of two cameras as drivers really send: clocks, rates, phases, gaps, glitches, and everything unusable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sdstrack_ros.bags.storage.opening import IMAGE, typestore
from sdstrack_ros.messages.stamps import NS_PER_S
from testkit.bags.scenes import custom_bag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T0_S = 1_700_000_000.0
RGB, AUX = "/color", "/aux"
BYTES_PER_PIXEL = {"rgb8": 3, "16UC1": 2, "mono16": 2, "rgba16": 8, "nv12": 1.5, "nv24": 3}


@dataclass(frozen=True)
class Camera:
    """One source of images: it stamps by the recording's clock plus `clock_s`, and is recorded `late_s` after that.

    Attributes:
        edit: changes image number i before it is written; returns False to leave it out.
    """

    topic: str
    hz: float = 15.0
    clock_s: float = 0.0
    late_s: float = 0.0
    phase_s: float = 0.0
    frame_id: str = "cam"
    size: tuple[int, int] = (16, 12)
    encoding: str = "mono8"
    edit: Callable[[int, Any], object] = field(default=lambda i, image: None)

    def messages(self, seconds: float) -> list[tuple[str, str, int, Any]]:
        """(topic, type, time of recording in ns, image) of that many seconds."""
        types, found = typestore().types, []
        for i in range(round(seconds * self.hz)):
            taken_s = T0_S + self.phase_s + i / self.hz
            at = round((taken_s + self.clock_s) * NS_PER_S)
            width, height = self.size
            stamp = types["builtin_interfaces/msg/Time"](at // NS_PER_S, at % NS_PER_S)
            header = types["std_msgs/msg/Header"](stamp, self.frame_id)
            per_pixel = BYTES_PER_PIXEL.get(self.encoding, 1)
            data = np.random.default_rng(i).integers(0, 256, round(width * height * per_pixel), dtype=np.uint8)
            step = width if self.encoding.startswith("nv") else round(width * per_pixel)
            image = types[IMAGE](header, height, width, self.encoding, 0, step, data)
            if self.edit(i, image) is not False:
                found.append((self.topic, IMAGE, round((taken_s + self.late_s) * NS_PER_S), image))
        return found


def record(path: Path, *cameras: Camera, seconds: float = 2.0) -> Path:
    """Write what these cameras send."""
    messages = [message for camera in cameras for message in camera.messages(seconds)]
    return custom_bag(path, sorted(messages, key=lambda message: message[2]))


COLOR, DEPTH = Camera(RGB, encoding="rgb8"), Camera(AUX, encoding="16UC1")


def _unstamped(every: int) -> Callable[[int, Any], None]:
    def edit(i: int, image: Any) -> None:
        if i % every == 0:
            image.header.stamp.sec = image.header.stamp.nanosec = 0

    return edit


def _moved(by_s: int, chosen: Callable[[int], bool]) -> Callable[[int, Any], None]:
    def edit(i: int, image: Any) -> None:
        if chosen(i):
            image.header.stamp.sec += by_s

    return edit


def _set(name: str, value: Any, chosen: Callable[[int], bool] = lambda i: True) -> Callable[[int, Any], None]:
    def edit(i: int, image: Any) -> None:
        if chosen(i):
            setattr(image, name, value)

    return edit


def _color(**changes: Any) -> Camera:
    return Camera(RGB, **{"encoding": "rgb8", **changes})


def _depth(**changes: Any) -> Camera:
    return Camera(AUX, **{"encoding": "16UC1", **changes})


# Cameras by what is special about them: every one is read, or refused image by image, live as from the recording.
KINDS: dict[str, tuple[Camera, ...]] = {
    "in step": (COLOR, DEPTH),
    "colour alone": (COLOR,),
    "depth misses a third": (COLOR, _depth(edit=lambda i, image: i % 3 > 0)),
    "depth stops": (COLOR, _depth(edit=lambda i, image: i < 20)),
    "slow depth": (COLOR, _depth(hz=5.0)),
    "fast depth": (COLOR, _depth(hz=45.0)),
    "half a period apart": (COLOR, _depth(phase_s=0.03)),
    "another clock behind": (COLOR, _depth(clock_s=-3.2)),
    "another clock ahead": (COLOR, _depth(clock_s=3600.0)),
    "clock since boot": (COLOR, _depth(clock_s=5 - T0_S)),
    "no stamps": (_color(edit=_unstamped(1)), _depth(edit=_unstamped(1))),
    "stamps missing": (_color(edit=_unstamped(3)), _depth(edit=_unstamped(3))),
    "one stamp jumps": (_color(edit=_moved(1000, lambda i: i == 9)), DEPTH),
    "one stamp jumps back": (_color(edit=_moved(-1000, lambda i: i == 9)), DEPTH),
    "negative stamps": (_color(edit=_moved(-2_000_000_000, lambda i: i % 5 == 0)), DEPTH),
    "the clock is set": tuple(camera(edit=_moved(-60, lambda i: i >= 15)) for camera in (_color, _depth)),
    "two cameras on one topic": (COLOR, _color(phase_s=0.02, frame_id="rear", size=(32, 24)), DEPTH),
    "each image twice": (COLOR, COLOR, DEPTH, DEPTH),
    "unknown encoding": (_color(edit=_set("encoding", "yuv420_odd", lambda i: i % 4 == 0)), DEPTH),
    "ten megabytes of text": (_color(edit=_set("encoding", "A" * 10_000_000, lambda i: i == 5)), DEPTH),
    "a frame_id too long": (_color(frame_id="f" * 300), DEPTH),
    "truncated": (COLOR, _depth(edit=_set("data", np.zeros(7, np.uint8), lambda i: i % 2 == 0))),
    "wrong step": (_color(edit=_set("step", 3, lambda i: i % 6 == 0)), DEPTH),
    "empty images": (_color(edit=_set("width", 0, lambda i: i % 6 == 0)), DEPTH),
    "colour on the depth topic": (COLOR, Camera(AUX, encoding="rgb8")),
    "depth on the colour topic": (Camera(RGB, encoding="16UC1"), DEPTH),
    "nv12": (Camera(RGB, encoding="nv12"), DEPTH),
    "nv24 of odd width": (Camera(RGB, encoding="nv24", size=(17, 12)), DEPTH),
    "rgba16": (Camera(RGB, encoding="rgba16"), DEPTH),
    "another size halfway": (COLOR, _color(phase_s=2.0, size=(32, 24)), DEPTH, _depth(phase_s=2.0)),
}
