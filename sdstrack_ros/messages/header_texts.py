"""Texts that messages bring along: outputs repeat them, and messages that wait keep them in memory. No ROS import."""

from __future__ import annotations

from typing import Any

from ckd_core.text import shown

MAX_NAME = 256  # no frame of a robot and no encoding has a longer name


def unusable_text(message: Any) -> str:
    """Why a message of a camera cannot be used because of its texts, in words; '' when it can."""
    named = (
        ("header.frame_id", message.header.frame_id),
        ("encoding", getattr(message, "encoding", "")),
        ("format", getattr(message, "format", "")),
    )
    for name, value in named:
        text = str(value)
        if len(text) > MAX_NAME:
            return f"{name} is '{shown(text)}'; expected up to {MAX_NAME} characters"
    return ""
