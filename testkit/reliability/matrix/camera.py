"""A colour and an auxiliary camera in a process of their own that can misbehave on command.

Commands arrive as JSON lines on stdin ({"set": {...}} or {"report": true}), reports leave as JSON lines on stdout.
Images are rendered once and only their stamps change, so that the process costs little.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import random
import select
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from event_camera_msgs.msg import EventPacket
from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from testkit.ros.camera import image_message

NS = 1_000_000_000
# Of reliable queues at both ends: more than a row that counts its messages sends, so that a busy machine loses none.
DEPTH = 150
CYCLE = 30
SQUARE = 50


@dataclass(frozen=True)
class Script:
    """What the cameras do from now on; the defaults are a healthy robot.

    Attributes:
        rate_hz: frames per second of both cameras.
        aux_rate_hz: of the auxiliary camera, where it has a rhythm of its own; 0 where it films with colour.
        rgb: whether colour is sent.
        aux: whether auxiliary images are sent.
        jitter_s: stamps of either stream are late by a random time of up to this.
        aux_offset_s: of the auxiliary camera's clock.
        aux_drift: of the same clock, in seconds per second from the moment it is set.
        shift_s: added to all stamps.
        loop_s: stamps start again after this time, as in a looped recording; 0 never.
        swap: neighbouring colour frames change places.
        repeat: every message is sent twice.
        frozen_stamp: stamps stand still.
        zero_stamp: all stamps are 0.
        content: scene, frozen, black, white, nan, inf, blind (depth is 0 everywhere, colour as ever).
        rgb_encoding: what the colour message claims, true or not.
        aux_encoding: the same of the auxiliary message.
        scale: of the images' size.
        events_per_s: sent as EventPackets of 10 ms each.
        info: camera_info: ok, none, zero, odd, tall (of an image of another shape).
        tf: transform from odom to the camera: ok, none, late (by a second), future (by an hour), skewed (no rotation),
            jumps (by 3 m, every 1.5 s).
    """

    rate_hz: float = 15.0
    aux_rate_hz: float = 0.0
    rgb: bool = True
    aux: bool = True
    jitter_s: float = 0.0
    aux_offset_s: float = 0.0
    aux_drift: float = 0.0
    shift_s: float = 0.0
    loop_s: float = 0.0
    swap: bool = False
    repeat: bool = False
    frozen_stamp: bool = False
    zero_stamp: bool = False
    content: str = "scene"
    rgb_encoding: str = "rgb8"
    aux_encoding: str = "16UC1"
    scale: float = 1.0
    events_per_s: float = 0.0
    info: str = "ok"
    tf: str = "ok"


class Sensors:
    """Publishers and images that are ready to send."""

    def __init__(
        self, node: Any, width: int, height: int, reliable: bool, events: bool, aux_size: tuple[int, int] | None = None
    ) -> None:
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=DEPTH if reliable else 10, reliability=policy)
        self._node = node
        self._rgb = node.create_publisher(Image, "/rgb/image_raw", qos)
        self._aux = None if events else node.create_publisher(Image, "/aux/image_raw", qos)
        self._events = node.create_publisher(EventPacket, "/aux/events", QoSProfile(depth=200, reliability=policy))
        self._info = node.create_publisher(CameraInfo, "/camera_info", qos)
        self._tf = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self._width, self._height = width, height
        self._aux_size = aux_size or (width, height)
        self._random = random.Random(11)
        self._ready: dict[Any, Any] = {}
        self._held: list[tuple[Any, Any]] = []
        self._packets: dict[int, bytes] = {}
        self.script = Script()
        self.sent = {"rgb": 0, "aux": 0, "events": 0, "info": 0}
        self.publish_ms: deque[float] = deque(maxlen=300)  # of the last colour images, from stamp to middleware
        self.moments = 0
        self.last_stamp_ns = 0
        self._set_at = time.monotonic()
        self._packet_seq = 0
        self._frozen_ns = 0

    def set(self, changes: dict[str, Any]) -> None:
        """Follow another script from now on."""
        self.script = dataclasses.replace(Script(), **changes)
        self._set_at = time.monotonic()
        self._frozen_ns = time.time_ns()
        self._flush()

    def report(self) -> dict[str, float]:
        """Counts of the messages sent, the last stamp, and how long colour images took to leave."""
        publish_ms = float(np.percentile(self.publish_ms, 99)) if self.publish_ms else 0.0
        times = {"last_stamp_ns": self.last_stamp_ns, "publish_p99_ms": round(publish_ms, 1)}
        return {**self.sent, "moments": self.moments, **times}

    def shoot(self) -> None:
        """Publish one frame of each camera."""
        script = self.script
        stamp_ns = self._stamp()
        self.last_stamp_ns = stamp_ns
        self.moments += 1
        if script.tf != "none":
            self._tf.publish(self._mounting(stamp_ns))
        if script.rgb:
            late = int(self._random.uniform(0, script.jitter_s) * NS)
            begin = time.monotonic()
            self._send(self._rgb, "rgb", self._image("rgb"), stamp_ns + late)
            self.publish_ms.append((time.monotonic() - begin) * 1e3)
        if not script.aux_rate_hz:
            self.shoot_aux(stamp_ns)
        if self.moments % 15 == 1 and script.info != "none":
            self._info.publish(self._calibration())
            self.sent["info"] += 1

    def shoot_aux(self, stamp_ns: int | None = None) -> None:
        """Publish an auxiliary image, at the time of a colour image or now."""
        script = self.script
        stamp_ns = self._stamp() if stamp_ns is None else stamp_ns
        if script.aux and self._aux is not None:
            late = int(self._random.uniform(0, script.jitter_s) * NS)
            drift = script.aux_drift * (time.monotonic() - self._set_at)
            self._send(self._aux, "aux", self._image("aux"), stamp_ns + late + int((script.aux_offset_s + drift) * NS))

    def shoot_events(self, period_s: float) -> None:
        """Publish the events of the last `period_s` in packets of `mono` words."""
        count = int(self.script.events_per_s * period_s)
        message = EventPacket(width=self._width, height=self._height, encoding="mono")
        stamp_ns = time.time_ns()
        message.seq, self._packet_seq = self._packet_seq, self._packet_seq + 1
        message.time_base = stamp_ns - int(period_s * NS)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS)
        message.events.frombytes(self._words(count, period_s))
        self._events.publish(message)
        self.sent["events"] += count

    def _words(self, count: int, period_s: float) -> bytes:
        if count not in self._packets:
            source = np.random.default_rng(5)
            t = np.linspace(0, period_s * NS * 0.99, count).astype(np.uint64)
            x = source.integers(0, self._width, count, dtype=np.uint64)
            y = source.integers(0, self._height, count, dtype=np.uint64)
            self._packets[count] = (t | (x << np.uint64(32)) | (y << np.uint64(48))).astype("<u8").tobytes()
        return self._packets[count]

    def _stamp(self) -> int:
        script = self.script
        if script.zero_stamp:
            return 0
        if script.frozen_stamp:
            return self._frozen_ns
        now_ns = time.time_ns() + int(script.shift_s * NS)
        if script.loop_s:
            elapsed = time.monotonic() - self._set_at
            now_ns -= int((elapsed // script.loop_s) * script.loop_s * NS)
        return now_ns

    def _send(self, publisher: Any, name: str, message: Any, stamp_ns: int) -> None:
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(max(0, stamp_ns), NS)
        times = 2 if self.script.repeat else 1
        if self.script.swap and name == "rgb":
            # The next frame overtakes this one. Images are shared, so the one that waits keeps only its stamp.
            if not self._held:
                self._held.append((publisher, stamp_ns))
                return
            publisher.publish(message)
            self.sent[name] += 1
            _, stamp_ns = self._held.pop()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS)
        for _ in range(times):
            publisher.publish(message)
            self.sent[name] += 1

    def _flush(self) -> None:
        self._held.clear()

    def _image(self, stream: str) -> Any:
        script = self.script
        phase = 0 if script.content == "frozen" else self.moments % CYCLE
        key = (stream, phase, script.content, script.scale, script.rgb_encoding, script.aux_encoding)
        if key not in self._ready:
            if len(self._ready) > 4 * CYCLE:
                self._ready.clear()
            pixels, encoding = self._pixels(stream, phase)
            message = image_message(pixels, "mono8" if pixels.dtype == np.uint8 else "16UC1", 0)
            message.encoding = encoding
            self._ready[key] = message
        return self._ready[key]

    def _pixels(self, stream: str, phase: int) -> tuple[Any, str]:
        script = self.script
        size = (self._width, self._height) if stream == "rgb" else self._aux_size
        width, height = (int(side * script.scale) for side in size)
        source = np.random.default_rng(7)
        left, top, side, _ = (int(value * script.scale) for value in self.box(phase))
        inside = np.s_[top : top + side, left : left + side]
        if stream == "rgb":
            pixels = source.integers(0, 120, (height, width, 3), dtype=np.uint8)
            pixels[inside] = source.integers(130, 256, (side, side, 3), dtype=np.uint8)
            if script.content in ("black", "white"):
                pixels[:] = 0 if script.content == "black" else 255
            return pixels, script.rgb_encoding
        depth = np.full((height, width), 4000, np.uint16)
        depth[inside] = 1500
        if script.content in ("black", "white"):
            depth[:] = 0 if script.content == "black" else 65535
        if script.content == "blind":
            depth[:] = 0
        if script.aux_encoding == "32FC1" or script.content in ("nan", "inf"):
            metres = depth.astype(np.float32) / 1000
            if script.content in ("nan", "inf"):
                metres[:] = math.nan if script.content == "nan" else math.inf
            return metres, "32FC1"
        return depth, script.aux_encoding

    def box(self, phase: int) -> tuple[int, int, int, int]:
        """Box of the square: x, y, w, h. It moves there and back, so that the cycle has no jump."""
        step = min(phase, CYCLE - phase)
        return self._width // 4 + 4 * step, self._height // 4 + 2 * step, SQUARE, SQUARE

    def _mounting(self, stamp_ns: int) -> TFMessage:
        """The camera's place in odom, a metre above the ground."""
        script = self.script
        stamp_ns += {"late": -NS, "future": 3600 * NS}.get(script.tf, 0)
        transform = TransformStamped(child_frame_id="camera_color_optical_frame")
        transform.header.frame_id = "odom"
        transform.header.stamp.sec, transform.header.stamp.nanosec = divmod(max(0, stamp_ns), NS)
        q, t = transform.transform.rotation, transform.transform.translation
        q.x, q.y, q.z, q.w = -0.5, 0.5, -0.5, 0.9 if script.tf == "skewed" else 0.5
        t.z = 1.0
        if script.tf == "jumps":
            t.x = 3.0 * (int((time.monotonic() - self._set_at) / 1.5) % 2)
        return TFMessage(transforms=[transform])

    def _calibration(self) -> CameraInfo:
        info = CameraInfo(width=self._width, height=self._height, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.frame_id = "camera_color_optical_frame"
        info.k = [300.0, 0.0, self._width / 2, 0.0, 300.0, self._height / 2, 0.0, 0.0, 1.0]
        if self.script.info == "tall":
            info.height *= 2
        if self.script.info == "zero":
            info.k = [0.0] * 9
        if self.script.info == "odd":
            info.d = [0.1, 0.2, 0.3]
        return info


def main() -> None:
    """Run until stdin closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--best-effort", action="store_true")
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--aux-width", type=int, default=0, help="0: as the colour images")
    parser.add_argument("--aux-height", type=int, default=0)
    options = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node(f"cameras_{os.getpid()}", enable_rosout=False)
    aux_size = (options.aux_width or options.width, options.aux_height or options.height)
    sensors = Sensors(node, options.width, options.height, not options.best_effort, options.events, aux_size)
    _say({"ready": True, "box": sensors.box(0)})
    due = due_events = due_aux = time.monotonic()
    buffer = b""
    while True:
        now = time.monotonic()
        dues = [due, *([due_events] if sensors.script.events_per_s else [])]
        wait = max(0.0, min([*dues, *([due_aux] if sensors.script.aux_rate_hz else [])]) - now)
        readable, _, _ = select.select([0], [], [], wait)
        if readable:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                if "set" in command:
                    sensors.set(command["set"])
                    due = due_events = due_aux = time.monotonic()
                # Every command is answered, so that the test knows when it takes effect.
                _say(sensors.report())
        now = time.monotonic()
        if now >= due:
            sensors.shoot()
            due = max(due + 1 / sensors.script.rate_hz, now - 0.2)
        if sensors.script.aux_rate_hz and now >= due_aux:
            sensors.shoot_aux()
            due_aux = max(due_aux + 1 / sensors.script.aux_rate_hz, now - 0.2)
        if sensors.script.events_per_s and now >= due_events:
            sensors.shoot_events(0.01)
            due_events = max(due_events + 0.01, now - 0.2)
    rclpy.try_shutdown()


def _say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
