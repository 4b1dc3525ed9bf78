from __future__ import annotations

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ckd_core.frame import Modality
from sdstrack_ros.messages.image_codec import CodecError, decode
from sdstrack_ros.messages.rvl import RvlError, decode_rvl
from testkit.image_messages import compressed


def encode_rvl(picture: np.ndarray) -> bytes:
    """Write an image number by number, from the description of the format."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while number > 7:
            nibbles.append(number & 7 | 8)
            number >>= 3
        nibbles.append(number)

    values = [int(value) for value in picture.ravel()]
    at = before = 0
    while at < len(values):
        begin = at
        while at < len(values) and values[at] == 0:
            at += 1
        put(at - begin)
        begin = at
        while at < len(values) and values[at] != 0:
            at += 1
        put(at - begin)
        for value in values[begin:at]:
            step, before = value - before, value
            put(2 * step if step >= 0 else -2 * step - 1)
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return struct.pack("<ii", picture.shape[1], picture.shape[0]) + struct.pack(f"<{len(words)}I", *words)


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@settings(max_examples=120, deadline=None)
@given(
    npst.arrays(
        np.uint16,
        npst.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0, 0, 1, 1500, 1501, 4000, 32_768, 65_535]) | st.integers(0, 65_535),
    )
)
def test_any_image_comes_back_exactly(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_rvl(as_array(encode_rvl(picture))), picture)


def test_values_above_32767_also_come_as_differences_of_signed_numbers() -> None:
    """The published encoder subtracts signed 16-bit numbers."""
    picture = np.array([[40_000, 1, 65_535, 30_000]], np.uint16)
    signed = encode_rvl(picture.astype(np.int16).astype(np.int32))
    np.testing.assert_array_equal(decode_rvl(as_array(signed)), picture)


def test_depth_images_in_millimetres_and_in_metres() -> None:
    depth = np.full((24, 32), 4000, np.uint16)
    depth[5:10, 5:15], depth[0] = 1500, 0
    data = bytes(12) + encode_rvl(depth)
    image = decode(compressed("16UC1; compressedDepth rvl", data)).auxiliary(Modality.DEPTH)
    np.testing.assert_array_equal(image, depth)
    data = struct.pack("<iff", 0, 10_100.0, -1009.0) + encode_rvl(depth)
    metres = decode(compressed("32FC1; compressedDepth rvl", data)).auxiliary(Modality.DEPTH)
    assert metres[6, 6] == pytest.approx(10_100 / 2509)
    assert np.isnan(metres[0]).all()


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4), (1 << 30, 1 << 30), (4097, 4096)])
def test_absurd_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CodecError, match=rf"cam: RVL image of {size[0]} x {size[1]} pixels"):
        decode(compressed("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<ii", *size) + bytes(40)), "cam")


def test_nothing_is_allocated_for_a_size_that_the_stream_does_not_fill() -> None:
    data = as_array(struct.pack("<ii", 4096, 4096) + b"\x44\x44\x44\x44" * 4)
    tracemalloc.start()
    with pytest.raises(RvlError, match=r"truncated RVL|broken RVL"):
        decode_rvl(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_truncated_streams_are_refused() -> None:
    data = encode_rvl(np.random.default_rng(1).integers(0, 3000, (9, 11)).astype(np.uint16))
    for keep in range(len(data) - 4):
        with pytest.raises(RvlError):
            decode_rvl(as_array(data[:keep]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 20), st.integers(1, 20))
def test_any_stream_is_an_image_or_refused(stream: bytes, width: int, height: int) -> None:
    with contextlib.suppress(RvlError):
        assert decode_rvl(as_array(struct.pack("<ii", width, height) + stream)).shape == (height, width)
