"""Generated messages and damaged bytes into everything that reads a message. `make soak` tries 10,000 of each.

Whatever comes, an input is either used or refused with the package's own error; memory stays bounded.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st

from ckd_core.errors import TrackingError
from ckd_core.frame import FrameError, Modality, MultiModalFrame, check_frame
from testkit.reliability.lengths import examples, record
from testkit.reliability.messages import corpus, messages, mutations

if TYPE_CHECKING:
    from collections.abc import Callable

Image = pytest.importorskip("sensor_msgs.msg", reason="needs the ROS 2 message packages").Image

from event_camera_msgs.msg import EventPacket  # noqa: E402  # after the check that message packages are there
from geometry_msgs.msg import Point, PointStamped  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, RegionOfInterest  # noqa: E402
from vision_msgs.msg import Detection2D, Detection2DArray  # noqa: E402

from sdstrack_ros.messages.camera import CameraError, PinholeCamera  # noqa: E402
from sdstrack_ros.messages.event_window import EventDecodeError, EventWindow  # noqa: E402
from sdstrack_ros.messages.image_codec import ENCODINGS, PLANAR_ENCODINGS, CodecError, decode  # noqa: E402
from sdstrack_ros.sync.event_buffer import EventBuffer  # noqa: E402
from sdstrack_ros.sync.synchronizer import SyncConfig, SyncedSet, Synchronizer  # noqa: E402
from sdstrack_ros.tracking.target_requests import TargetError, checked_box, detection_box  # noqa: E402

SUBSCRIBED = (
    Image,
    CompressedImage,
    EventPacket,
    CameraInfo,
    Detection2D,
    RegionOfInterest,
    Point,
    PointStamped,
    Detection2DArray,
)


@st.composite
def plausible_images(draw: st.DrawFn) -> Any:
    """Image messages that fit together, so that decoding goes all the way; a few are off by one row or byte."""
    encoding = draw(st.sampled_from([*ENCODINGS, *PLANAR_ENCODINGS]))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    channels = {"rgb": 3, "bgr": 3}.get(encoding[:3], 1)
    if encoding.startswith(("rgba", "bgra")) or encoding.endswith("UC4"):
        channels = 4
    if encoding.endswith("UC3"):
        channels = 3
    wide = 2 if "16" in encoding or encoding.startswith(("yuv", "uyvy", "yuyv")) else 1
    wide = 4 if encoding.startswith("32") else wide
    step = width * channels * wide + draw(st.integers(0, 3))
    planes = {"nv12": 3, "nv21": 3, "nv24": 6}.get(encoding, 2)
    size = max(0, height * step * planes // 2 + draw(st.sampled_from([0, 0, 0, 0, -1, 1, -step])))
    data = draw(st.binary(min_size=size, max_size=size))
    return Image(
        height=height, width=width, encoding=encoding, step=step, data=data, is_bigendian=draw(st.integers(0, 1))
    )


def _use_image(message: Any) -> None:
    decoded = decode(message, "rgb")
    pixels = decoded.pixels
    assert pixels.shape[:2] == (message.height, message.width)
    assert not pixels.flags.writeable
    for modality in Modality:
        try:
            aux = decoded.auxiliary(modality)
        except CodecError:
            continue
        try:
            check_frame(MultiModalFrame(0.0, None, aux, modality))
        except FrameError as error:
            # Only sizes may be refused here: the codec promises the right dtype and layout.
            assert "at least" in str(error)
    assert decoded.color().dtype == np.uint8


def _use_compressed(message: Any) -> None:
    decoded = decode(message, "rgb")
    assert decoded.pixels.size > 0


_WINDOW = EventWindow(capacity=5000)


def _use_events(message: Any) -> None:
    _WINDOW.add(message)
    assert len(_WINDOW) <= 5000


def _use_camera(message: Any) -> None:
    camera = PinholeCamera.from_message(message)
    x, y = camera.ray(3.0, 4.0)
    assert isinstance(x, float)
    assert isinstance(y, float)
    camera.scaled(320, 240).ray(0.0, 0.0)
    camera.pixel((0.1, 0.1, 1.0))


def _use_detection(message: Any) -> None:
    checked_box(detection_box(message), (640, 480))


PNG_LIKE = st.binary(max_size=64).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail + b"IEND\xaeB`\x82")
JPEG_LIKE = st.binary(max_size=64).map(lambda middle: b"\xff\xd8\xff" + middle + b"\xff\xd9")
FORMATS = st.sampled_from(
    [
        "jpeg",
        "png",
        "rgb8; jpeg compressed bgr8",
        "16UC1; compressedDepth png",
        "16UC1; compressedDepth rvl",
        "32FC1; compressedDepth",
        "32FC1; compressedDepth rvl",
        "webp",
        "mono16; tiff compressed ",
        "",
    ]
)
SIZES = {"width": lambda: st.just(640), "height": lambda: st.just(480)}
INTRINSICS = st.lists(st.floats(1, 1e4), min_size=9, max_size=9)
WEBP_LIKE = st.binary(min_size=18, max_size=64).map(
    lambda tail: b"RIFF" + (len(tail) + 4).to_bytes(4, "little") + b"WEBP" + tail
)
TIFF_LIKE = st.binary(max_size=64).map(lambda tail: b"II*\0\x08\0\0\0\x04\0" + tail)
RVL_LIKE = st.binary(max_size=64).map(lambda tail: bytes(12) + b"\x05\0\0\0\x04\0\0\0" + tail)
READERS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "image": (messages(Image, {"encoding": lambda: st.sampled_from(ENCODINGS)}), _use_image),
    "image that fits": (plausible_images(), _use_image),
    "compressed image": (
        messages(
            CompressedImage,
            {"format": lambda: FORMATS, "data": lambda: PNG_LIKE | JPEG_LIKE | WEBP_LIKE | TIFF_LIKE | RVL_LIKE},
        ),
        _use_compressed,
    ),
    "event packet": (
        messages(EventPacket, {**SIZES, "encoding": lambda: st.sampled_from(["evt3", "mono", "libcaer_cmp"])}),
        _use_events,
    ),
    "camera info": (
        messages(
            CameraInfo,
            {
                **SIZES,
                "k": lambda: INTRINSICS,
                "distortion_model": lambda: st.sampled_from(["plumb_bob", "equidistant", "rational_polynomial"]),
            },
        ),
        _use_camera,
    ),
    "detection": (messages(Detection2D), _use_detection),
}


def _packed_images() -> dict[str, tuple[str, bytes]]:
    """Whole images of each compressed format: what `format` says, and the data."""
    pixels = np.random.default_rng(4).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    depth = np.kron(np.array([[0, 1500], [4000, 0]], np.uint16), np.ones((4, 4), np.uint16))
    # No empty pixel and 4 readings of 5, 4, 4, 5: the differences 5, -1, 0, 1 folded are 10 (two nibbles), 1, 0, 2.
    rvl = bytes(12) + struct.pack("<ii", 2, 2) + struct.pack("<I", 0x04A11020)
    return {
        ".jpg": ("jpeg", cv2.imencode(".jpg", pixels)[1].tobytes()),
        ".png": ("png", cv2.imencode(".png", pixels)[1].tobytes()),
        ".webp": ("webp", cv2.imencode(".webp", pixels)[1].tobytes()),
        ".tiff": ("tiff", cv2.imencode(".tiff", pixels)[1].tobytes()),
        "depth.png": ("16UC1; compressedDepth png", bytes(12) + cv2.imencode(".png", depth)[1].tobytes()),
        "rvl": ("16UC1; compressedDepth rvl", rvl),
    }


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".tiff", "depth.png", "rvl"])
def test_damaged_compressed_images_are_decoded_or_refused(kind: str) -> None:
    form, whole = _packed_images()[kind]
    outcomes: Counter[str] = Counter()
    tracemalloc.start()
    for data in [whole, *mutations(whole, random.Random(8), examples(400))]:
        try:
            assert decode(SimpleNamespace(format=form, data=data), "cam").pixels.size > 0
        except CodecError as error:
            assert str(error).startswith("cam: ")
            outcomes["refused"] += 1
        else:
            outcomes["used"] += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcomes["refused"] > 0
    assert outcomes["used"] > 0
    assert peak < 300 << 20
    record("fuzz", f"damaged {kind} (generated)", dict(outcomes))


@pytest.mark.parametrize("kind", READERS)
def test_generated_message_is_used_or_refused(kind: str) -> None:
    strategy, use = READERS[kind]
    outcomes: Counter[str] = Counter()
    allowed = (CodecError, EventDecodeError, CameraError, TargetError)
    for message in corpus(strategy, examples(250)):
        try:
            use(message)
        except allowed as error:
            assert str(error)
            outcomes["refused"] += 1
        else:
            outcomes["used"] += 1
    assert outcomes["refused"] > 0
    record("fuzz", f"{kind} (generated)", dict(outcomes))


@pytest.mark.parametrize("cls", SUBSCRIBED, ids=lambda cls: cls.__name__)
def test_damaged_cdr_bytes_neither_crash_nor_swell(cls: Any, capfd: pytest.CaptureFixture[str]) -> None:
    source = random.Random(f"cdr {cls.__name__}")
    outcomes: Counter[str] = Counter()
    count = examples(400)
    seeds = [serialize_message(message) for message in corpus(messages(cls), 40)]
    before_kib = _peak_kib()
    for number in range(count):
        damaged = next(iter(mutations(seeds[number % len(seeds)], source, 1)))
        try:
            message = deserialize_message(damaged, cls)
        except Exception as error:  # noqa: BLE001  # the binding has an exception of its own in every distribution
            assert "deserialize" in str(error), error
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        _read_everything(message)
    capfd.readouterr()  # Fast DDS prints one line for each; they are no news here
    assert sum(outcomes.values()) == count
    assert _peak_kib() - before_kib < 200_000, "a damaged length made the process allocate what it names"
    record("fuzz", f"{cls.__name__} (damaged CDR)", dict(outcomes))


def _read_everything(message: Any) -> None:
    """Strings, arrays and nested messages out of damaged bytes can be looked at."""
    assert repr(message)


def _peak_kib() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


STAMPS = st.integers(0, 4_000_000_000) | st.sampled_from([0, 1, 2**31 * 10**9, 2**63 - 1])
ARRIVALS = st.tuples(st.sampled_from(["color", "aux", "poll"]), STAMPS, st.integers(-50_000_000, 200_000_000))


@pytest.mark.parametrize("hold_s", [0.0, 0.2])
def test_synchronizer_accounts_for_every_arrival(hold_s: float) -> None:
    """Counters add up, nothing leaves twice, memory is bounded: for any stamps, any clock, any order."""
    config = SyncConfig(aux_hold_s=hold_s, max_pending=8)
    for arrivals in corpus(st.lists(ARRIVALS, max_size=60), examples(150)):
        synchronizer = Synchronizer(config)
        now, released = 0, []
        for kind, stamp_ns, step_ns in arrivals:
            now += step_ns  # steps back are allowed: an injected clock may be wrong
            if kind == "poll":
                released += synchronizer.poll(now)
            elif kind == "color":
                released += synchronizer.add_color(stamp_ns, now, object())
            else:
                released += synchronizer.add_aux(stamp_ns, now, object())
        released += synchronizer.poll(now + 10**12)
        _check_accounts(synchronizer, released)


def _check_accounts(synchronizer: Synchronizer, released: list[SyncedSet]) -> None:
    counters = synchronizer.counters
    colors = [id(item.color) for item in released if item.color is not None]
    fresh = [id(item.aux) for item in released if item.aux is not None and not item.aux_held]
    assert len(set(colors)) == len(colors)
    assert len(set(fresh)) == len(fresh)
    out = counters.paired + counters.held + counters.color_alone
    assert len(colors) == out
    assert counters.color_in == out + counters.color_late + counters.color_duplicate
    for epoch in {item.epoch for item in released}:
        stamps = [item.stamp_ns for item in released if item.epoch == epoch and item.color is not None]
        assert stamps == sorted(set(stamps))


def _event_packet(stamp_ns: int, count: int, seq: int, width: int = 640, height: int = 480) -> Any:
    """An EventPacket of the `mono` encoding, its events spread over the last millisecond."""
    t = np.linspace(0, 1_000_000, count).astype(np.uint64)
    x = np.arange(count, dtype=np.uint64) % np.uint64(width)
    y = np.arange(count, dtype=np.uint64) % np.uint64(height)
    words = t | (x << np.uint64(32)) | (y << np.uint64(48))
    packet = EventPacket(width=width, height=height, seq=seq, time_base=max(0, stamp_ns - 1_000_000), encoding="mono")
    packet.header.stamp.sec, packet.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    packet.events.frombytes(words.astype("<u8").tobytes())
    return packet


def test_storm_of_twenty_million_events_stays_in_bounds() -> None:
    """20 M events in one second, no colour frame to use them: the oldest go, each is counted, memory stays."""
    buffers: list[EventBuffer] = []

    def make(config: SyncConfig, counters: Any) -> EventBuffer:
        buffers.append(EventBuffer(config, counters))
        return buffers[-1]

    synchronizer = Synchronizer(SyncConfig(), make)
    packets = 100
    each = examples(2_000_000, 20_000_000) // packets
    tracemalloc.start()
    for number in range(packets):
        stamp_ns = 10**9 + number * 10**7
        synchronizer.add_aux(stamp_ns, stamp_ns, _event_packet(stamp_ns, each, number))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    window = buffers[0].window
    assert len(window) <= window.capacity
    # 13 bytes an event, twice while they are put together, and one packet with its intermediate arrays.
    assert peak < 2 * 13 * window.capacity + 80 * each + 30_000_000
    record("fuzz", "event storm (in process)", {"events": packets * each, "peak_mb": round(peak / 1e6)})


def test_bytes_of_an_event_stream_never_break_the_decoder() -> None:
    """Any bytes as evt3 or mono: decoded or refused, and the next good packet is decoded."""
    pytest.importorskip("evt3")
    window = EventWindow(capacity=100_000)
    refused = 0
    for number, data in enumerate(corpus(st.binary(max_size=2048), examples(200))):
        packet = _event_packet(10**9 + number, 0, number)
        packet.encoding = ("evt3", "mono")[number % 2]
        packet.events.frombytes(data)
        try:
            window.add(packet)
        except TrackingError:
            refused += 1
    assert window.add(_event_packet(2 * 10**9, 50, 10**6)) == 50
    assert len(window) <= window.capacity
    record("fuzz", "event bytes", {"refused": refused})
