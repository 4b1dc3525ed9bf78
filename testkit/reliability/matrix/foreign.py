"""Messages that no healthy camera sends: stamps of another age, huge pictures, long and hostile texts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import Image

from sdstrack_ros.messages.header_texts import MAX_NAME
from testkit.reliability.matrix.bench import number
from testkit.reliability.matrix.outcome import Counted, Row
from testkit.ros.camera import image_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from testkit.reliability.matrix.bench import Bench

RGB, AUX = "/rgb/image_raw", "/aux/image_raw"
GLITCH_NS = (2**31 - 1) * 1_000_000_000
LONG_TEXT = "A" * 10_000_000
ESCAPES = "\x1b[2J\x1b]0;owned\x07rgb8\nfake log line \u202e"
MAX_STATUS_BYTES = 64 * 1024


def color(width: int = 320, height: int = 240, encoding: str = "rgb8", stamp_ns: int = 0) -> Image:
    """A grey colour image, stamped now unless a stamp is given."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    message = image_message(pixels, "rgb8", stamp_ns or time.time_ns())
    message.encoding = encoding
    return message


def depth(width: int = 320, height: int = 240, stamp_ns: int = 0) -> Image:
    """A depth image of a wall, stamped now unless a stamp is given."""
    return image_message(np.full((height, width), 4000, np.uint16), "16UC1", stamp_ns or time.time_ns())


def send(bench: Bench, topic: str, message: Image) -> None:
    """Publish one image beside those of the cameras."""
    publisher = bench.ros.publisher(Image, topic)
    bench.until(lambda: publisher.get_subscription_count() > 0, 30, f"the subscription of {topic}")
    publisher.publish(message)
    bench.spin(0.3)


def outliers(*topics: str) -> Callable[[Bench], list[Counted]]:
    """One image more on each topic, stamped in 2038."""

    def act(bench: Bench) -> list[Counted]:
        before = bench.values()
        for topic in topics:
            send(bench, topic, color(stamp_ns=GLITCH_NS) if topic == RGB else depth(stamp_ns=GLITCH_NS))
        refused = [f"{topic.split('/')[1]}.rejected" for topic in topics]
        bench.until(lambda: all(number(bench.values(), key) > number(before, key) for key in refused), 60, "refusals")
        answers = len(bench.answers)
        bench.until(lambda: len(bench.answers) >= answers + 15, 60, "answers after the outliers")
        now = bench.values()
        counts = [Counted(key, 1, number(now, key) - number(before, key)) for key in refused]
        rewinds = number(now, "frames.rewinds") - number(before, "frames.rewinds")
        same = int(now["target_id"] == before["target_id"])
        return [*counts, Counted("rewinds", 0, rewinds), Counted("the target stays", 1, same)]

    return act


def large_pictures(bench: Bench) -> None:
    """Ten raw pairs of 3840 x 2160."""
    for _ in range(10):
        stamp_ns = time.time_ns()
        send(bench, RGB, color(3840, 2160, stamp_ns=stamp_ns))
        send(bench, AUX, depth(3840, 2160, stamp_ns=stamp_ns))


def texts(encoding: str) -> Callable[[Bench], list[Counted]]:
    """Colour images with this text as their encoding, and as their frame_id."""

    def act(bench: Bench) -> list[Counted]:
        before = number(bench.values(), "rgb.rejected")

        def rejected() -> int:
            return number(bench.values(fresh=False), "rgb.rejected") - before

        for _ in range(150):  # a newer frame may take its place before it is decoded, on a busy machine for long
            send(bench, RGB, color(encoding=encoding))
            bench.values()
            if rejected():
                break
        by_encoding, named = rejected(), color()
        named.header.frame_id = encoding
        send(bench, RGB, named)
        if len(encoding) > MAX_NAME:
            bench.until(lambda: rejected() > by_encoding, 60, "the refusal of a frame_id")  # megabytes take a while
        bench.values()
        said = bench.ros.messages["/tracker/status"][-1]
        parts = [said.message, *(text for pair in said.values for text in (pair.key, pair.value))]
        size = sum(len(text.encode()) for text in parts)
        raw = sum(not text.isprintable() for text in parts)
        log = bench.node.output[-200_000:]
        return [
            Counted("encodings refused", 1, min(1, by_encoding)),
            Counted("texts with control characters", 0, raw),
            Counted("statuses above 64 KB", 0, int(size > MAX_STATUS_BYTES)),
            Counted("escapes in the log", 0, log.count("\x1b]0;owned")),
        ]

    return act


def foreign_rows() -> list[Row]:
    """Rows on a node for colour + depth."""
    return [
        Row("one outlier", "one colour image stamped 2038", outliers(RGB), r"refused as an outlier", boxes_flow=0.8),
        Row(
            "outlier on both streams", "one pair stamped 2038", outliers(RGB, AUX), r"refused as an outlier",
            boxes_flow=0.8,
        ),
        Row(
            "raw 4K", "10 pairs of 3840 x 2160 between the others", large_pictures,
            r"changed its size|images of different size", within=60, memory_mb=500,
        ),
        Row("long texts", "encoding and frame_id of 10 MB", texts(LONG_TEXT), r"\(10000000 characters\)", within=60),
        Row("terminal escapes", "encoding that clears a terminal", texts(ESCAPES), r"\\x1b\[2J"),
    ]  # fmt: skip
