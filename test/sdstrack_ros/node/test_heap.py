from __future__ import annotations

import sys

import pytest

from sdstrack_ros.node.heap import heap_facts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's account of its heap")
MB = 1 << 20


def used() -> dict[str, float]:
    return {name.removeprefix("memory."): float(value) for name, value in heap_facts().items()}


def test_the_allocator_says_what_it_holds() -> None:
    before = used()
    kept = [bytearray(10_000) for _ in range(3000)]  # from the heap
    large = bytearray(20 * MB)  # a mapping of its own
    after = used()
    assert after["heap_used_mb"] - before["heap_used_mb"] == pytest.approx(20 + len(kept) * 10_000 / MB, rel=0.1)
    assert after["heap_mb"] >= after["heap_used_mb"] > 0
    assert after["heap_mb"] == pytest.approx(after["heap_used_mb"] + after["heap_free_mb"], rel=0.05)
    del kept, large
    assert used()["heap_used_mb"] - before["heap_used_mb"] < 5


def test_a_system_without_the_call_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdstrack_ros.node.heap._glibc", lambda: None)
    assert not [name for name in heap_facts() if "heap" in name]
