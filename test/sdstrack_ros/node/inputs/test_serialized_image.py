"""Images read from the bytes of the wire, against rclpy's own reading."""

from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sdstrack_ros.node.inputs.serialized_image import SerializedImageError, read_image
from sdstrack_ros.sync.types import Sample

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
UINT32 = st.integers(0, 2**32 - 1)
IMAGES = st.builds(
    lambda stamp, frame_id, height, width, encoding, big, step, data: Image(
        header=Header(stamp=stamp, frame_id=frame_id), height=height, width=width, encoding=encoding, is_bigendian=big,
        step=step, data=array("B", data),
    ),
    st.builds(lambda sec, nanosec: Time(sec=sec, nanosec=nanosec), st.integers(-(2**31), 2**31 - 1), UINT32),
    TEXT, UINT32, UINT32, TEXT, st.integers(0, 255), UINT32, st.binary(max_size=40),
)  # fmt: skip


def fields(message: Any) -> tuple[Any, ...]:
    """What a message says."""
    return (
        message.header, message.height, message.width, message.encoding, message.is_bigendian, message.step,
        bytes(message.data),
    )  # fmt: skip


@given(message=IMAGES)
def test_every_image_reads_as_rclpy_wrote_it(message: Image) -> None:
    assert fields(read_image(serialize_message(message))) == fields(message)


@given(message=IMAGES, share=st.floats(0, 1))
def test_an_image_that_ends_early_is_refused(message: Image, share: float) -> None:
    whole = serialize_message(message)
    used = len(whole) if message.data else len(whole.rstrip(b"\0"))  # rmw may pad the end
    with pytest.raises(SerializedImageError, match=r"the image"):
        read_image(whole[: int(share * min(used, len(whole) - 4))])


@given(data=st.binary(max_size=200))
def test_other_bytes_are_an_image_or_refused(data: bytes) -> None:
    for envelope in (b"\x00\x01\x00\x00", b"\x00\x00\x00\x00", b""):
        try:
            image = read_image(envelope + data)
        except SerializedImageError:
            continue
        assert len(image.data) <= len(data)


def test_bytes_in_the_other_order_read_alike() -> None:
    little = serialize_message(Image(header=Header(stamp=Time(sec=7, nanosec=9), frame_id="lens"), height=1, width=3))
    big = bytearray(little)
    big[1] = 0
    # stamp, length of the frame's name, height, width, length of the encoding; the name takes five bytes of eight
    for at in (4, 8, 12, 24, 28, 32):
        big[at : at + 4] = struct.pack(">I", *struct.unpack_from("<I", little, at))
    image = read_image(bytes(big))
    assert (image.header.stamp.sec, image.header.frame_id, image.height, image.width) == (7, "lens", 1, 3)


def test_pixels_are_not_copied_and_all_that_they_keep_alive_is_counted() -> None:
    message = serialize_message(Image(data=array("B", range(200)))) + bytes(1000)
    image = read_image(message)
    assert image.data.obj is message
    assert image.data.readonly
    assert Sample(0, 0, image).nbytes == len(message) > 1200


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "representation is 0x; expected plain CDR"),
        (b"\x00\x03\x00\x00" + bytes(60), "representation is 0x0003"),
        (b"\x00\x01\x00\x00" + bytes(8) + b"\xff\xff\xff\x7f" + bytes(60), "ends after 76 bytes, within its fields"),
        (b"\x00\x01\x00\x00" + bytes(8) + b"\x02\x00\x00\x00\xff\x00" + bytes(60), "not UTF-8"),
        (b"\x00\x01\x00\x00" + bytes(32) + b"\x09\x00\x00\x00" + bytes(8), "states 9 bytes of pixels; 8 came"),
    ],
)
def test_a_refusal_says_why(message: bytes, reason: str) -> None:
    with pytest.raises(SerializedImageError, match=reason):
        read_image(message)
