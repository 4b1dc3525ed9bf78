from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sdstrack_ros
from sdstrack_ros.node.log import Log

HOSTILE = "\x1b[2J\x1b]0;owned\x07rgb8\n[INFO] forged" + "A" * 1_000_000


class Node:
    """A node that keeps its log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def get_logger(self) -> Any:
        return self

    def info(self, text: str, throttle_duration_sec: float = 0.0) -> None:
        self.lines.append(text)

    warning = error = info


@pytest.mark.parametrize("severity", ["info", "info_seldom", "warning", "error"])
def test_every_line_is_short_and_printable(severity: str) -> None:
    node = Node()
    getattr(Log(node), severity)(HOSTILE)
    getattr(Log(node), severity)("configured")
    first, second = node.lines
    assert len(first) < 1100
    assert first.isprintable()
    assert second == "configured"


def test_nothing_else_writes_into_the_log() -> None:
    package = Path(sdstrack_ros.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "get_logger(" in path.read_text()] == ["log.py"]
