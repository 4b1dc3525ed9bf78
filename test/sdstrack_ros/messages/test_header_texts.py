from __future__ import annotations

from typing import Any

import pytest
from sensor_msgs.msg import CompressedImage, Image

from sdstrack_ros.messages.header_texts import unusable_text


@pytest.mark.parametrize(("kind", "name"), [(Image, "encoding"), (CompressedImage, "format")])
def test_a_long_text_is_refused_before_its_message_waits(kind: Any, name: str) -> None:
    message = kind(**{name: "x" * 10_000_000})
    reason = unusable_text(message)
    assert reason.startswith(f"{name} is 'xxx")
    assert reason.endswith("(10000000 characters)'; expected up to 256 characters")
    assert reason.isprintable()


def test_a_long_frame_id_is_refused_and_common_texts_are_not() -> None:
    message = Image(encoding="rgb8")
    message.header.frame_id = "camera_color_optical_frame"
    assert unusable_text(message) == ""
    message.header.frame_id = "\x1b" * 257
    assert unusable_text(message).startswith(r"header.frame_id is '\x1b")
