from __future__ import annotations

import resource
import subprocess
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


FAULTS_OF_COPIES = """
import resource, sys
from sdstrack_ros.node.heap import room_for_images, steady_heap
image = bytes(int(sys.argv[1]))
steady_heap()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [bytearray(image) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
mapped = faults()
room_for_images(len(image))
faults()
print(mapped, faults())
"""


def faults_of_copies(nbytes: int) -> tuple[int, int]:
    """Page faults of 30 copies of an image, before and after `room_for_images`."""
    command = [sys.executable, "-c", FAULTS_OF_COPIES, str(nbytes)]
    before, after = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(before), int(after)


def test_copies_of_a_large_image_reuse_memory() -> None:
    pages = 3840 * 2160 * 3 // resource.getpagesize()
    before, after = faults_of_copies(3840 * 2160 * 3)
    assert before > pages  # some systems fault in several pages at once
    assert after < pages / 10
    before, after = faults_of_copies(40 * MB)  # more than glibc allows
    assert after > before / 2


def test_a_system_without_the_call_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdstrack_ros.node.heap._glibc", lambda: None)
    assert not [name for name in heap_facts() if "heap" in name]
