from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.frame import Modality
from sdstrack_ros.messages.image_codec import CodecError, decode
from testkit.image_messages import compressed, noise

PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
SUFFIXES = (".jpg", ".png", ".webp", ".tiff")


def test_png_is_lossless_in_colour_grey_and_sixteen_bit() -> None:
    rgb = noise("rgb8")
    png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    for form in ("png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8"):
        np.testing.assert_array_equal(decode(compressed(form, png)).color(), rgb)
    np.testing.assert_array_equal(decode(compressed("rgb8; png compressed rgb8", png)).color(), rgb[..., ::-1])
    grey16 = noise("mono16")
    png16 = cv2.imencode(".png", grey16)[1].tobytes()
    np.testing.assert_array_equal(decode(compressed("mono16; png compressed ", png16)).pixels, grey16)
    np.testing.assert_array_equal(decode(compressed("16UC1; png compressed ", png16)).auxiliary(Modality.DEPTH), grey16)


def test_jpeg_is_close_in_the_right_channel_order() -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:] = (200, 100, 30)
    jpeg = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
    for form in ("jpeg", "rgb8; jpeg compressed bgr8"):
        assert np.abs(decode(compressed(form, jpeg)).color().astype(int) - rgb).max() <= 4
    padded = jpeg + bytes(100)
    assert decode(compressed("jpeg", padded)).color().shape == rgb.shape


def test_a_compressed_bayer_mosaic_is_demosaicked() -> None:
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[::2, ::2] = 255
    png = cv2.imencode(".png", mosaic)[1].tobytes()
    color = decode(compressed("bayer_rggb8; png compressed bayer_rggb8", png)).color()
    assert color[3:5, 3:5].reshape(-1, 3).mean(0).tolist() == [255, 0, 0]


def test_compressed_depth_in_millimetres_is_exact() -> None:
    depth = noise("16UC1")
    data = bytes(12) + cv2.imencode(".png", depth)[1].tobytes()
    for form in ("16UC1; compressedDepth", "16UC1; compressedDepth png"):
        np.testing.assert_array_equal(decode(compressed(form, data)).auxiliary(Modality.DEPTH), depth)


def test_compressed_float_depth_undoes_the_inverse_quantisation() -> None:
    depth = np.random.default_rng(1).uniform(0.4, 9.5, (12, 16)).astype(np.float32)
    z0, maximum = 100.0, 10.0  # image_transport's default quantisation and range
    a = z0 * (z0 + 1.0)
    b = 1.0 - a / maximum
    stored = np.round(a / depth + b).astype(np.uint16)
    stored[0, 0] = 0
    data = struct.pack("<iff", 0, a, b) + cv2.imencode(".png", stored)[1].tobytes()
    out = decode(compressed("32FC1; compressedDepth png", data)).auxiliary(Modality.DEPTH)
    assert out.dtype == np.float32
    assert np.isnan(out[0, 0])
    step = depth**2 / a  # metres that one quantisation step means at that depth
    assert (np.abs(out - depth)[1:] <= step[1:]).all()


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("jpeg", b"", "neither jpeg nor png"),
        ("jpeg", b"hello world, this is text", "neither jpeg nor png"),
        (
            "png",
            PNG_HEAD + b"\xff" * 8 + b"\x08\x02\0\0\0" + bytes(8) + b"IEND" + bytes(4),
            "pixels; expected 1 to",
        ),
        ("png", PNG_HEAD + bytes(8) + b"\x08\x64\0\0\0" + bytes(8) + b"IEND" + bytes(4), "broken png: depth 8, colour"),
        ("png", PNG_HEAD.replace(b"IHDR", b"IDAT") + bytes(60), "broken png: its first chunk is b'IDAT'"),
        (
            "png",
            PNG_HEAD + b"\0\0\0\x08" * 2 + b"\x08\x02\0\0\0" + bytes(4) + b"\x7f\0\0\0IDAT" + b"IEND" * 9,
            r"truncated png: \d+ bytes, a chunk reaches to 2130706",
        ),
        ("jpeg", b"\xff\xd8\xff\xe0\x00\x10" + bytes(50) + b"\xff\xd9", "no frame header"),
        ("16UC1; compressedDepth", b"\0" * 12, "compressedDepth of 12 bytes"),
        ("16UC1; compressedDepth rvl", b"\0" * 40, "RVL image of 0 x 0 pixels"),
        ("webp", b"RIFF\xff\0\0\0WEBPVP8L" + bytes(30), "truncated webp"),
        ("webp", b"RIFF\x20\0\0\0WEBPABCD" + bytes(30), "broken webp"),
        ("tiff", b"II*\0\xff\xff\0\0" + bytes(30), "truncated tiff"),
        ("tiff", b"II*\0\x08\0\0\0" + bytes(30), "broken tiff"),
    ],
)
def test_bytes_that_are_not_an_image_are_refused(form: str, data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=f"cam: .*{message}"):
        decode(compressed(form, data), "cam")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_images_are_refused(suffix: str) -> None:
    data = cv2.imencode(suffix, noise("rgb8", 40, 50))[1].tobytes()
    for keep in (3, 10, len(data) // 2, len(data) - 12):
        with pytest.raises(CodecError):
            decode(compressed("jpeg", data[:keep]))


@settings(max_examples=120, deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), suffix=st.sampled_from(SUFFIXES))
def test_damaged_images_raise_nothing_but_a_codec_error(place: int, value: int, suffix: str) -> None:
    data = bytearray(cv2.imencode(suffix, noise("rgb8", 16, 16))[1].tobytes())
    data[place % len(data)] = value
    with contextlib.suppress(CodecError):
        decode(compressed("jpeg", bytes(data))).color()


@pytest.mark.parametrize("suffix", [".webp", ".tiff"])
def test_webp_and_tiff_are_read_as_png_is(suffix: str) -> None:
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    kind = suffix[1:]
    for name in ("rgb8", "mono8") if suffix == ".webp" else ("rgb8", "mono8", "mono16"):
        pixels = noise(name, 24, 32)
        stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        data = cv2.imencode(suffix, stored, lossless)[1].tobytes()
        decoded = decode(compressed(f"{name}; {kind} compressed {'bgr8' if pixels.ndim == 3 else ''}", data))
        expected = decode(compressed("png", cv2.imencode(".png", stored)[1].tobytes())).color()
        np.testing.assert_array_equal(decoded.color(), expected)
    rgba = noise("rgba8", 24, 32)
    data = cv2.imencode(suffix, rgba[..., [2, 1, 0, 3]], lossless)[1].tobytes()
    assert decode(compressed(kind, data)).color().shape == (24, 32, 3)
    lossy = cv2.imencode(".webp", np.full((32, 32, 3), (30, 100, 200), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 90])[1]
    assert np.abs(decode(compressed("webp", lossy.tobytes())).color().astype(int) - (200, 100, 30)).max() <= 6


def test_sizes_that_a_tiff_or_webp_claims_are_not_believed() -> None:
    tiff = bytearray(cv2.imencode(".tiff", noise("mono8", 24, 32))[1].tobytes())
    (directory,) = struct.unpack("<I", tiff[4:8])
    for entry in range(directory + 2, directory + 2 + 24, 12):
        if struct.unpack("<H", tiff[entry : entry + 2])[0] in (256, 257):
            tiff[entry + 2 : entry + 4] = struct.pack("<H", 4)
            tiff[entry + 8 : entry + 12] = struct.pack("<I", 60_000)
    with pytest.raises(CodecError, match="image of 60000 x 60000 pixels"):
        decode(compressed("tiff", bytes(tiff)), "cam")
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(8)
    with pytest.raises(CodecError, match="image of 16777216 x 16777216 pixels"):
        decode(compressed("webp", webp), "cam")


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xe0\x00\x02"], ids=["fill bytes", "empty segments"])
def test_a_jpeg_of_nothing_but_fillers_is_refused_at_once(filler: bytes) -> None:
    data = b"\xff\xd8" + filler * (20_000_000 // len(filler)) + b"\xff\xd9"
    begin = time.process_time()
    with pytest.raises(CodecError, match="broken jpeg: no frame header"):
        decode(compressed("jpeg", data))
    assert time.process_time() - begin < 1.0


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    whole = cv2.imencode(".jpg", noise("rgb8"))[1].tobytes()
    filled = whole[:2] + b"\xff" * 1000 + whole[2:]
    np.testing.assert_array_equal(decode(compressed("jpeg", filled)).pixels, decode(compressed("jpeg", whole)).pixels)


PEAK = """
import resource, sys
import numpy as np
from types import SimpleNamespace
from sdstrack_ros.messages.image_codec import bytes_to_decode, decode
message = SimpleNamespace(format=sys.argv[1], data=open(sys.argv[2], "rb").read())
decode(SimpleNamespace(format=sys.argv[1], data=open(sys.argv[3], "rb").read())).color()  # what the libraries need
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(message).color()
print(bytes_to_decode(message), 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [
        (".png", np.zeros((4000, 4000), np.uint8)),
        (".png", np.zeros((4000, 4000, 3), np.uint8)),
        (".png", np.zeros((4000, 4000, 4), np.uint16)),
        (".jpg", np.zeros((4000, 4000, 3), np.uint8)),
        (".webp", np.zeros((4000, 4000, 3), np.uint8)),
        (".tiff", np.zeros((4000, 4000, 3), np.uint16)),
    ],
    ids=["grey", "rgb", "rgba16", "jpeg", "webp", "tiff"],
)
def test_the_memory_that_an_image_takes_is_known_before_it_is_decompressed(
    tmp_path: Path, suffix: str, pixels: np.ndarray
) -> None:
    for name, image in (("large", pixels), ("small", pixels[:8, :8])):
        (tmp_path / name).write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    words = [sys.executable, "-c", PEAK, "rgb8; compressed bgr8", str(tmp_path / "large"), str(tmp_path / "small")]
    expected, measured = map(int, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert pixels[..., :1].size <= expected
    # Libraries have buffers of their own: some rows, and for webp the image in its own color space.
    assert measured <= 1.35 * expected + 8_000_000


@pytest.mark.parametrize(
    "form", ["rgb8; png compressed bgr8", "16UC1; compressedDepth png", "16UC1; compressedDepth rvl"]
)
def test_an_image_that_would_take_more_memory_than_allowed_is_refused_unread(form: str) -> None:
    png = cv2.imencode(".png", np.zeros((3000, 3000), np.uint16))[1].tobytes()
    message = compressed(form, bytes(12) + png if "Depth" in form else png)
    if "rvl" not in form:
        assert decode(message, "cam", 100_000_000).pixels.shape == (3000, 3000)
    with pytest.raises(CodecError, match=r"cam: an image of \d+ bytes that takes \d+ MB .* expected at most 1 MB"):
        decode(message, "cam", 1_000_000)
