from __future__ import annotations

import sys
from array import array
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.frame import Modality
from sdstrack_ros.messages.image_codec import ENCODINGS, PLANAR_ENCODINGS, CodecError, decode, encode
from testkit.image_messages import blank_message, noise


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_round_trip_through_a_message_is_exact_and_a_view(encoding: str) -> None:
    pixels = noise(encoding)
    message = encode(pixels, encoding, blank_message())
    decoded = decode(message, "rgb/image_raw")
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype == pixels.dtype
    assert np.shares_memory(decoded.pixels, np.frombuffer(message.data, np.uint8))
    assert not decoded.pixels.flags.writeable


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(["rgb8", "mono8", "mono16", "16UC1", "32FC1", "bgra8"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    big=st.booleans(),
)
def test_step_and_byte_order_are_honoured(encoding: str, height: int, width: int, padding: int, big: bool) -> None:
    pixels = noise(encoding, height, width)
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xee" * padding for row in stored]
    message = blank_message(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=len(rows[0]),
        data=array("B", b"".join(rows)),
    )
    decoded = decode(message)
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype.isnative
    assert decoded.pixels.flags.aligned


def test_colour_orders_give_the_same_dense_rgb() -> None:
    rgb = noise("rgb8")
    alpha = np.full((*rgb.shape[:2], 1), 9, np.uint8)
    sent = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "8UC3": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], 2),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], 2),
    }
    for encoding, pixels in sent.items():
        message = encode(pixels, encoding, blank_message())
        color = decode(message).color()
        np.testing.assert_array_equal(color, rgb, err_msg=encoding)
        assert color.strides == (24, 3, 1), encoding
        assert np.shares_memory(color, np.frombuffer(message.data, np.uint8)) == (encoding == "rgb8")


def test_grey_as_colour_repeats() -> None:
    color = decode(encode(noise("mono8"), "mono8", blank_message())).color()
    assert color.shape == (6, 8, 3)
    assert (color == noise("mono8")[..., None]).all()


def test_sixteen_bit_colour_keeps_the_upper_byte() -> None:
    pixels = noise("rgb16")
    np.testing.assert_array_equal(
        decode(encode(pixels, "rgb16", blank_message())).color(), (pixels >> 8).astype(np.uint8)
    )


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_bayer_of_one_colour_comes_back_as_that_colour(pattern: str, bits: int, channel: int) -> None:
    mosaic = np.zeros((8, 8), f"u{bits // 8}")
    for place, letter in enumerate(pattern):
        if "rgb".index(letter) == channel:
            mosaic[place // 2 :: 2, place % 2 :: 2] = (1 << bits) - 1
    color = decode(encode(mosaic, f"bayer_{pattern}{bits}", blank_message())).color()
    inner = color[2:-2, 2:-2].reshape(-1, 3).mean(0)
    assert inner[channel] == 255
    assert inner[[c for c in range(3) if c != channel]].max() == 0


@pytest.mark.parametrize(("encoding", "luma"), [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)])
def test_yuv422_reads_luma_and_chroma_from_the_right_bytes(encoding: str, luma: int) -> None:
    pixels = np.empty((4, 6, 2), np.uint8)
    pixels[..., luma], pixels[..., 1 - luma] = 81, 90  # BT.601 pure red: Y 81, U 90, V 240
    pixels[:, 1::2, 1 - luma] = 240
    color = decode(encode(pixels, encoding, blank_message())).color()
    assert np.abs(color.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 23}, "step 23 is less than a row"),
        ({"step": 0}, "step 0 is less"),
        ({"height": 7}, "144 bytes of data, but height 7 x step 24 = 168"),
        ({"height": 0}, "empty image"),
        ({"width": 0}, "empty image"),
        ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "is less than a row"),
        ({"height": 2**32 - 1}, "bytes of data"),
        ({"data": array("B")}, "0 bytes of data"),
        ({"encoding": "rgb64"}, "unknown encoding 'rgb64'"),
        ({"encoding": ""}, "unknown encoding ''"),
        ({"encoding": "yuv422", "width": 7}, "odd"),
        ({"encoding": "bayer_rggb8", "width": 2, "height": 6}, "too few"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused_and_its_topic_named(change: dict[str, Any], reason: str) -> None:
    message = encode(noise("rgb8"), "rgb8", blank_message())
    vars(message).update(change)
    with pytest.raises(CodecError, match=f"cam/image: .*{reason}"):
        decode(message, "cam/image")


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(0, 2**32 - 1) | st.integers(0, 8),
    width=st.integers(0, 2**32 - 1) | st.integers(0, 8),
    step=st.integers(0, 2**32 - 1) | st.integers(0, 40),
    encoding=st.sampled_from([*ENCODINGS, *PLANAR_ENCODINGS, "nonsense"]),
    size=st.integers(0, 400),
)
def test_any_fields_give_an_image_or_a_codec_error(
    height: int, width: int, step: int, encoding: str, size: int
) -> None:
    message = blank_message(height=height, width=width, step=step, encoding=encoding, data=array("B", bytes(size)))
    try:
        decoded = decode(message, "t")
        assert decoded.pixels.shape[:2] == (height, width)
        decoded.auxiliary(Modality.THERMAL)
        assert decoded.color().shape == (height, width, 3)
    except CodecError as error:
        assert str(error).startswith("t: ")


def test_each_modality_accepts_only_its_encodings() -> None:
    def aux(encoding: str, modality: Modality) -> np.ndarray:
        return decode(encode(noise(encoding), encoding, blank_message()), "aux").auxiliary(modality)

    assert aux("16UC1", Modality.DEPTH).dtype == np.uint16
    assert aux("mono16", Modality.DEPTH).dtype == np.uint16
    assert aux("32FC1", Modality.DEPTH).dtype == np.float32
    assert aux("mono8", Modality.THERMAL).shape == (6, 8)
    assert aux("16UC1", Modality.THERMAL).dtype == np.uint16
    assert aux("bgr8", Modality.THERMAL).shape == (6, 8, 3)
    assert aux("mono8", Modality.EVENT).shape == (6, 8, 3)
    for encoding, modality in [
        ("rgb8", Modality.DEPTH), ("mono8", Modality.DEPTH), ("64FC1", Modality.DEPTH), ("16UC1", Modality.EVENT),
    ]:  # fmt: skip
        with pytest.raises(CodecError, match=f"aux: encoding '{encoding}'"):
            aux(encoding, modality)


def test_a_depth_topic_on_the_colour_input_is_explained() -> None:
    with pytest.raises(CodecError, match="is a depth topic remapped"):
        decode(encode(noise("16UC1"), "16UC1", blank_message()), "rgb").color()


def test_cv_bridge_decodes_unknown_encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    class CvBridge:
        def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> np.ndarray:
            requests.append((message.encoding, desired_encoding))
            if message.encoding == "broken":
                raise RuntimeError("no such conversion")
            return np.full((2, 2, 3), 7, np.uint8)

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))
    assert (decode(blank_message(encoding="p010", height=2, width=2), "cam").color() == 7).all()
    assert requests == [("p010", "rgb8")]
    reason = r"cam: unknown encoding 'broken' \(and cv_bridge cannot convert it to rgb8: no such conversion\); "
    with pytest.raises(CodecError, match=reason + "expected one of: rgb8, bgr8, .*, nv24$"):
        decode(blank_message(encoding="broken"), "cam")


@pytest.mark.parametrize(
    ("pixels", "encoding", "reason"),
    [
        (np.zeros((2, 2), np.uint8), "rgb8", "is not an image of encoding 'rgb8'"),
        (np.zeros((2, 2, 3), np.float32), "rgb8", "is not an image of encoding 'rgb8'"),
        (np.zeros((0, 2, 3), np.uint8), "rgb8", "empty array"),
        (np.zeros((2, 2), np.uint8), "rgb", "unknown encoding 'rgb'"),
    ],
)
def test_arrays_that_do_not_fit_are_not_sent(pixels: np.ndarray, encoding: str, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        encode(pixels, encoding, blank_message())


def test_a_strided_array_is_sent_in_its_own_order() -> None:
    pixels = noise("rgb8")[::2, ::-1, ::-1]
    np.testing.assert_array_equal(decode(encode(pixels, "rgb8", blank_message())).pixels, pixels)


def test_real_messages_carry_images() -> None:
    sensor = pytest.importorskip("sensor_msgs.msg")
    from rclpy.serialization import deserialize_message, serialize_message

    pixels = noise("32FC1")
    sent = serialize_message(encode(pixels, "32FC1", sensor.Image()))
    np.testing.assert_array_equal(decode(deserialize_message(sent, sensor.Image)).pixels, pixels)
    jpeg = cv2.imencode(".png", noise("rgb8"))[1].tobytes()
    message = sensor.CompressedImage(format="png", data=jpeg)
    assert decode(deserialize_message(serialize_message(message), sensor.CompressedImage)).color().shape == (6, 8, 3)


@pytest.mark.parametrize("text", ["A" * 5_000_000, "\x1b[2J\x1b]0;owned\x07rgb8\nfake log line"])
def test_errors_show_texts_of_messages_short_and_escaped(text: str) -> None:
    raw = blank_message()
    raw.encoding, raw.height, raw.width, raw.step, raw.data = text, 2, 2, 6, bytes(12)
    compressed = SimpleNamespace(format=text, data=b"RIFFwebp")
    depth = SimpleNamespace(format=f"{text}; compressedDepth png", data=bytes(20))
    for message in (raw, compressed, depth):
        with pytest.raises(CodecError) as refusal:
            decode(message, "/rgb")
        assert len(str(refusal.value)) < 1000
        assert str(refusal.value).isprintable()


def planar(rgb: np.ndarray, encoding: str, padding: int = 0) -> Any:
    """A message of luminance and chrominance planes, converted by OpenCV."""
    height, width = rgb.shape[:2]
    if encoding == "nv24":
        whole = cv2.cvtColor(np.kron(rgb, np.ones((2, 2, 1), np.uint8)), cv2.COLOR_RGB2YUV_I420).ravel()
        luma = whole[: 4 * height * width].reshape(2 * height, 2 * width)[::2, ::2]
        u, v = whole[4 * height * width :].reshape(2, height, width)
        chroma = np.stack([u, v], axis=2).reshape(height, 2 * width)
    else:
        whole = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).ravel()
        luma = whole[: height * width].reshape(height, width)
        u, v = whole[height * width :].reshape(2, -1)
        chroma = np.stack([u, v] if encoding == "nv12" else [v, u], axis=1).reshape(height // 2, width)
    step = width + padding
    rows = [np.pad(luma, ((0, 0), (0, padding)), constant_values=7).ravel()]
    rows.append(np.pad(chroma, ((0, 0), (0, step * chroma.shape[1] // width - chroma.shape[1]))).ravel())
    data = array("B", np.concatenate(rows).tobytes())
    return blank_message(height=height, width=width, encoding=encoding, step=step, data=data)


@pytest.mark.parametrize("encoding", PLANAR_ENCODINGS)
@pytest.mark.parametrize("padding", [0, 16])
def test_planes_of_luminance_and_chrominance_give_the_colours(encoding: str, padding: int) -> None:
    blocks = np.random.default_rng(2).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    rgb = np.kron(blocks, np.ones((2, 2, 1), np.uint8))  # chrominance has half the resolution
    message = planar(rgb, encoding, padding)
    color = decode(message).color()
    assert color.dtype == np.uint8
    assert np.abs(color.astype(int) - rgb).max() <= 4
    assert decode(message).auxiliary(Modality.THERMAL).shape == rgb.shape
    with pytest.raises(CodecError, match="carries no depth"):
        decode(message).auxiliary(Modality.DEPTH)


@pytest.mark.parametrize("encoding", PLANAR_ENCODINGS)
def test_planes_of_wrong_lengths_and_odd_sizes_are_refused_by_name(encoding: str) -> None:
    def changed(**fields: Any) -> Any:
        message = planar(np.zeros((4, 6, 3), np.uint8), encoding)
        vars(message).update(fields)
        return message

    whole = changed().data
    for data in (whole[:-1], whole + array("B", b"x"), array("B")):
        with pytest.raises(CodecError, match=f"cam: {len(data)} bytes of data, but '{encoding}' of height 4"):
            decode(changed(data=data), "cam")
    for fields in ({"step": 5}, {"width": 8}, {"width": 0}, {"height": 0}, {"height": 2**32 - 2}):
        with pytest.raises(CodecError, match=r"cam: .{10}"):
            decode(changed(**fields), "cam")
    if encoding != "nv24":
        for fields in ({"width": 5}, {"height": 3}):
            with pytest.raises(CodecError, match=f"'{encoding}' stores pixels in squares of 2 x 2"):
                decode(changed(**fields), "cam")


@pytest.mark.parametrize("encoding", ["rgba16", "bgra16", "16UC3", "16UC4"])
def test_sixteen_bit_colour_with_alpha_or_by_its_opencv_name(encoding: str) -> None:
    pixels = noise(encoding)
    color = decode(encode(pixels, encoding, blank_message())).color()
    rgb = pixels[..., :3] if encoding == "rgba16" else pixels[..., 2::-1]
    np.testing.assert_array_equal(color, (rgb >> 8).astype(np.uint8))
