"""Thermal images in degrees or signed counts: black and white by a range, or by the frame's percentiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ckd_core.data.sequences import SequenceError, read_auxiliary
from ckd_core.frame import Modality, MultiModalFrame, check_frame
from ckd_core.modality import to_network_image
from sdstrack_ros.messages.image_codec import CodecError, decode
from sdstrack_ros.parameters.checks import settings_from
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.sync.frame_builder import thermal_range
from testkit.image_messages import blank_message, compressed

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"32FC1": "<f4", "64FC1": "<f8", "16SC1": "<i2"}


def message(values: np.ndarray, encoding: str) -> Any:
    stored = values.astype(KINDS[encoding])
    height, width = values.shape
    return blank_message(
        height=height, width=width, encoding=encoding, step=width * stored.itemsize, data=stored.tobytes()
    )


def person() -> np.ndarray:
    """A person of 34 degrees in a room of 18 to 22, with one hot spot and noise."""
    room = np.random.default_rng(2).normal(20, 0.5, (48, 64))
    room[10:30, 20:30] = 34
    room[0, 0] = 400
    return room


@pytest.mark.parametrize(("encoding", "scale"), [("32FC1", 1), ("64FC1", 1), ("16SC1", 100), ("32FC1", 0.01)])
@pytest.mark.parametrize("offset", [0.0, 273.15, -60.0])
def test_percentiles_show_a_person_in_any_unit(encoding: str, scale: float, offset: float) -> None:
    image = decode(message((person() + offset * min(scale, 1)) * scale, encoding)).auxiliary(Modality.THERMAL)
    assert image.dtype == np.uint16
    shown = to_network_image(image, Modality.THERMAL)[..., 0].astype(int)
    check_frame(MultiModalFrame(0.0, None, image, Modality.THERMAL))
    assert shown[12:28, 22:28].min() == 255
    assert shown[35:, 40:].mean() < 60
    assert shown[35:, 40:].std() > 3, "the room keeps its own contrast"


@pytest.mark.parametrize("encoding", KINDS)
def test_a_range_fixes_black_and_white(encoding: str) -> None:
    values = np.array([[-30, 10, 20], [30, 40, 90]])
    image = decode(message(values, encoding)).auxiliary(Modality.THERMAL, (10.0, 40.0))
    np.testing.assert_array_equal(image, [[0, 0, 85], [170, 255, 255]])
    assert image.dtype == np.uint8
    raw = blank_message(height=1, width=3, encoding="mono16", step=6, data=np.array([0, 25, 999], "<u2").tobytes())
    np.testing.assert_array_equal(decode(raw).auxiliary(Modality.THERMAL, (10.0, 40.0)), [[0, 128, 255]])


@pytest.mark.parametrize("limits", [None, (10.0, 40.0)])
@given(
    values=arrays.arrays(
        st.sampled_from(["<f4", "<f8", "<i2"]), arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
    )
)
def test_any_values_give_an_image_or_are_refused(limits: tuple[float, float] | None, values: np.ndarray) -> None:
    encoding = next(name for name, kind in KINDS.items() if np.dtype(kind) == values.dtype)
    try:
        image = decode(message(values, encoding)).auxiliary(Modality.THERMAL, limits)
    except CodecError as error:
        assert "none of the" in str(error)
        assert not np.isfinite(values.astype(float)).any()
        return
    assert image.shape == values.shape
    assert image.dtype == (np.uint16 if limits is None else np.uint8)
    assert to_network_image(image, Modality.THERMAL).dtype == np.uint8


@pytest.mark.parametrize("encoding", ["64FC1", "16SC1"])
def test_these_encodings_carry_no_depth_and_no_colour(encoding: str) -> None:
    image = decode(message(np.ones((4, 4)), encoding), "/aux")
    with pytest.raises(CodecError, match=f"/aux: encoding '{encoding}' carries no depth; expected 16UC1"):
        image.auxiliary(Modality.DEPTH)
    with pytest.raises(CodecError, match=f"encoding '{encoding}' is not a colour image"):
        image.color()


def test_floats_come_as_tiff_too_in_messages_and_in_folders(tmp_path: Path) -> None:
    degrees = person().astype(np.float32)
    tiff = cv2.imencode(".tiff", degrees)[1]
    sent = decode(compressed("32FC1; tiff compressed ", tiff.tobytes())).auxiliary(Modality.THERMAL)
    (tmp_path / "1.tiff").write_bytes(tiff.tobytes())
    np.testing.assert_array_equal(sent, read_auxiliary(tmp_path / "1.tiff", Modality.THERMAL))
    np.testing.assert_array_equal(sent, decode(message(degrees, "32FC1")).auxiliary(Modality.THERMAL))
    (tmp_path / "2.tiff").write_bytes(cv2.imencode(".tiff", degrees * np.float32("nan"))[1].tobytes())
    with pytest.raises(SequenceError, match=r"2\.tiff: none of the 3072 temperatures is finite"):
        read_auxiliary(tmp_path / "2.tiff", Modality.THERMAL)


def test_the_parameter_is_off_unless_it_rises() -> None:
    assert thermal_range(Settings()) is None
    assert thermal_range(settings_from({"thermal_range": (10.0, 40.0)})) == (10.0, 40.0)
    with pytest.raises(Exception, match=r"thermal_range \(40.0, 10.0\) falls; expected black, white"):
        settings_from({"thermal_range": (40.0, 10.0)})
